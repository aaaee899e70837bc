# Every command a person needs. `make` alone lists them.

CARGO ?= cargo
LOCAL_CLOUD = $(CARGO) run --quiet --package tests --bin local-cloud --
FUNCTION ?= avatar-transcoder
PORT ?= 9000

.DEFAULT_GOAL := help
.PHONY: help run test dev replay lint build test-clients test-contract fuzz toolchain binaries

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: binaries ## shows the main job, end to end; IMAGES=folder takes your pictures
	@$(LOCAL_CLOUD) run $(if $(IMAGES),--images "$(IMAGES)") $(if $(OUT),--out "$(OUT)") $(if $(LOGS),--logs)

test: toolchain ## runs every test, the end-to-end ones on the real binaries included
	$(CARGO) test --workspace

dev: binaries ## keeps the local cloud running for any S3 client; PORT=9000
	@$(LOCAL_CLOUD) dev --port $(PORT) $(if $(LOGS),--logs)

replay: binaries ## gives one event to one function; EVENT=events/s3-put.json FUNCTION=avatar-transcoder
	@test -n "$(EVENT)" || { echo "error: name an event, such as EVENT=events/s3-put.json" >&2; exit 2; }
	@$(LOCAL_CLOUD) replay "$(EVENT)" --function $(FUNCTION)

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

test-clients: ## checks the README's example in JavaScript; needs Node
	@command -v node >/dev/null || { echo "error: the example runs in Node; install it from https://nodejs.org" >&2; exit 2; }
	node tests/clients/short_code.mjs

test-contract: binaries ## holds an S3 server against what we rely on; ENDPOINT=http://… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
	@test -n "$(ENDPOINT)" || { echo "error: name a server by ENDPOINT=http://… and its key by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" >&2; exit 2; }
	@$(LOCAL_CLOUD) contract --endpoint "$(ENDPOINT)" --access-key-id "$$AWS_ACCESS_KEY_ID" --secret-access-key "$$AWS_SECRET_ACCESS_KEY"

fuzz: ## fuzzes what strangers send, a minute each; needs nightly Rust and cargo-fuzz
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "error: install cargo-fuzz by: cargo install cargo-fuzz" >&2; exit 2; }
	cd tests/fuzz && for target in event media_type transcode; do $(CARGO) +nightly fuzz run --fuzz-dir . $$target -- -max_total_time=60 || exit 1; done

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
