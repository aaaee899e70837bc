"""Deploys the built template into MiniStack on this machine: CloudFormation with the SAM transform, no account.

The emulator goes on running at http://127.0.0.1:4566 until `make stop-local`.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import common

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
STATE = ROOT / ".aws-sam" / "local"
ARTIFACTS = "bucket-functions-artifacts"
PORT = common.EMULATOR.rsplit(":", 1)[1]


def answers():
    try:
        with urllib.request.urlopen(f"{common.EMULATOR}/_ministack/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop():
    """Ends the emulator that an earlier run started."""
    pid_file = STATE / "pid"
    if pid_file.exists():
        pid = int(pid_file.read_text())
        try:
            os.kill(pid, 15)
            for _ in range(100):
                os.kill(pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            pass
        pid_file.unlink()


def start():
    """Starts an empty emulator in the background and waits until it answers."""
    if answers():
        common.fail(f"something answers at {common.EMULATOR} already; end it, then try again.")
    STATE.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **common.EMULATED,
        "GATEWAY_PORT": PORT,
        "BIND_HOST": "127.0.0.1",
        # Tries that fail follow each other at once, so that the failure path can be seen to its end.
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",
        "PATH": f"{TOOLS / 'stack' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    log = open(STATE / "ministack.log", "wb")
    process = subprocess.Popen(
        [TOOLS / "stack" / "bin" / "ministack"],
        env=environment, cwd=STATE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )
    (STATE / "pid").write_text(str(process.pid))
    for _ in range(300):
        if answers():
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    common.fail(f"MiniStack does not start; its log is {STATE / 'ministack.log'}.")


def sam(*arguments):
    command = [TOOLS / "sam" / "bin" / "sam", *arguments]
    environment = {**os.environ, "PATH": f"{TOOLS / 'sam' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    # SAM's builder looks for the binaries below the project.
    environment.pop("CARGO_TARGET_DIR", None)
    if subprocess.run([str(part) for part in command], cwd=ROOT, env=environment).returncode:
        common.fail(f"sam {arguments[0]} failed; what it said stands above.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="deploy what was built before")
    parser.add_argument("--stop", action="store_true", help="end the emulator and do nothing else")
    parser.add_argument("parameters", nargs="*", help="Name=Value, parameters of the stack")
    arguments = parser.parse_args()
    common.use_emulator()
    stop()
    if arguments.stop:
        return
    if not shutil.which("cargo"):
        common.fail("cargo is missing; install Rust from https://rustup.rs.")
    # Emulated functions run on this machine, so they are built for it.
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    parameters = [f"Architecture={architecture}", "StorePathStyle=true", *arguments.parameters]
    if not arguments.no_build:
        sam("build", "--parameter-overrides", *parameters)
    start()
    common.client("s3").create_bucket(Bucket=ARTIFACTS)
    sam(
        "deploy", "--stack-name", common.STACK, "--s3-bucket", ARTIFACTS, "--no-resolve-s3", "--no-confirm-changeset",
        "--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "--parameter-overrides", *parameters,
    )
    width = max(map(len, (outputs := common.outputs())))
    for name, value in sorted(outputs.items()):
        print(f"{name:{width}}  {value}")
    print(f"The stack {common.STACK} stands at {common.EMULATOR}; make test-stack proves it, make stop-local ends it.")


if __name__ == "__main__":
    sys.exit(main())
