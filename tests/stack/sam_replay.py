"""Replays events by `sam local invoke`: the built binaries in real containers, against the embedded S3.

Each event gets an S3 of its own, in which stands what the event names. An outcome is printed for every record,
and every request that the function made is counted.
"""

import argparse
import ipaddress
import json
import os
import platform
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common

ROOT = Path(__file__).resolve().parents[2]
SAM = ROOT / ".tools" / "sam" / "bin" / "sam"
IMAGE = "public.ecr.aws/lambda/provided:al2023"
FUNCTIONS = {
    "avatar-transcoder": "AvatarTranscoder",
    "upload-validator": "UploadValidator",
    "expiry-sweeper": "ExpirySweeper",
}
POLICY = {"version": 1, "rules": [{"id": "originals", "bucket": "uploads", "whole_bucket": True, "expire_after": "7d"}]}


def function_for(event):
    """The function that an event is for: what names no object is a sweep, and what lies in `files` is checked."""
    schedule = event.get("detail-type") == "Scheduled Event" if isinstance(event, dict) else False
    objects = isinstance(event, list) or any(key in event for key in ("Records", "tasks", "events", "data", "bucket", "Service"))
    objects = objects or (isinstance(event, dict) and (event.get("source") == "aws.s3" or "oss" in event))
    if schedule or not objects:
        return "expiry-sweeper"
    records = event.get("Records", []) if isinstance(event, dict) else []
    buckets = {record.get("s3", {}).get("bucket", {}).get("name") for record in records}
    return "upload-validator" if "files" in buckets else "avatar-transcoder"


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True)


def prepare(template):
    """Sees that there are Docker, the base image and the built functions."""
    if not shutil.which("docker") or docker("info").returncode:
        common.fail("Docker does not answer; start it (on Linux: dockerd, as root), then try again.")
    if not SAM.exists():
        common.fail("SAM is missing; install the deployment tools by: make tools")
    if not template.exists():
        common.fail("nothing was built for Lambda; do it by: make build-lambda")
    if docker("image", "inspect", IMAGE).returncode:
        print(f"pulling {IMAGE}", flush=True)
        if docker("pull", IMAGE).returncode:
            print("the registry cannot be reached", flush=True)
            if subprocess.run([Path(__file__).with_name("base_image.sh")]).returncode:
                common.fail("there is no base image, and none could be made.")


class Forward(socketserver.BaseRequestHandler):
    """Hands a container's connection on to this machine's own loopback, where the embedded S3 listens."""

    def handle(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as far:
            pump = threading.Thread(target=self.copy, args=(self.request, far), daemon=True)
            pump.start()
            self.copy(far, self.request)
            pump.join(5)

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def reachable(endpoint):
    """The endpoint as a container reaches it, and what has to be closed afterwards."""
    port = int(endpoint.rsplit(":", 1)[1])
    if platform.system() != "Linux":
        return f"http://host.docker.internal:{port}", lambda: None
    network = json.loads(docker("network", "inspect", "bridge", "--format", "{{json (index .IPAM.Config 0)}}").stdout)
    # The bridge's own address on this machine: by default the first of its network.
    gateway = network.get("Gateway") or str(ipaddress.ip_network(network["Subnet"])[1])
    server = socketserver.ThreadingTCPServer((gateway, 0), Forward)
    server.port, server.daemon_threads = port, True
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def close():
        server.shutdown()
        server.server_close()

    return f"http://{gateway}:{server.server_address[1]}", close


class Served:
    """The embedded S3 with the objects of one event."""

    def __init__(self, local_cloud, event):
        self.process = subprocess.Popen(
            [local_cloud, "serve", event], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        if not line:
            common.fail(f"{local_cloud} does not serve {event}.")
        self.told = json.loads(line)

    def requests(self):
        """The requests since the last time."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        """The requests since the last time; nothing is served any more."""
        rest, _ = self.process.communicate()
        return json.loads(rest)


def variables(told, function):
    """What leads the function to the embedded S3; bucket names have no meaning before a stack is deployed."""
    buckets = told["buckets"]
    ours = {
        "AvatarTranscoder": {name: buckets[name] for name in ("AVATAR_BUCKET", "UPLOAD_BUCKET")},
        "UploadValidator": {
            **{name: buckets[name] for name in ("QUARANTINE_BUCKET", "AUDIT_BUCKET")},
            "TICKET_KEYS": "", "TICKET_REQUIRED": "false",
        },
        "ExpirySweeper": {
            "AUDIT_BUCKET": buckets["AUDIT_BUCKET"], "SWEEP_POLICY": json.dumps(POLICY), "SWEEP_POLICY_URI": "",
        },
    }[function]
    return {"AVATAR_BASE_URL": "https://avatars.example.com", **ours} if function == "AvatarTranscoder" else ours


def with_endpoint(template, endpoint):
    """The template with one more variable: SAM hands on only those that a template names."""
    text = template.read_text()
    line = re.compile(r"^( +)STORE_PATH_STYLE:", re.MULTILINE)
    changed, count = line.subn(lambda found: f"{found[1]}AWS_ENDPOINT_URL_S3: {endpoint}\n{found[0]}", text)
    if not count:
        common.fail(f"{template} does not look as expected: it sets no STORE_PATH_STYLE.")
    beside = template.with_name("replay.yaml")
    beside.write_text(changed)
    return beside


def replay(local_cloud, template, path, function):
    """The answer of one invocation, how many requests it made, and whether it succeeded."""
    served = Served(local_cloud, path)
    told = served.told
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    endpoint, close = reachable(told["endpoint"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({FUNCTIONS[function]: variables(told, FUNCTIONS[function])}, file)
        file.flush()
        command = [
            SAM, "local", "invoke", FUNCTIONS[function], "--template-file", with_endpoint(template, endpoint), "--event", path, "--skip-pull-image",
            "--env-vars", file.name, "--parameter-overrides",
            f"Architecture={architecture}", "StorePathStyle=true", "Cdn=false",
        ]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": told["access_key_id"], "AWS_SECRET_ACCESS_KEY": told["secret_access_key"],
            "AWS_DEFAULT_REGION": told["region"], "AWS_REGION": told["region"],
            "AWS_EC2_METADATA_DISABLED": "true", "SAM_CLI_TELEMETRY": "0",
        }
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            environment.pop(name, None)
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    close()
    requests = served.end()
    lines = [line for line in ran.stdout.splitlines() if line.strip()]
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None, requests, ran.stderr
    return answer, requests, ran.stderr


def told(answer):
    """An answer in a few words: one per record."""
    if not isinstance(answer, dict):
        return [str(answer)]
    if "errorType" in answer:
        return [f"failed {answer['errorType']}: {answer['errorMessage']}"]
    if "results" in answer:
        return [f"{one['resultCode']} {one['resultString']}" for one in answer["results"]]
    lines = []
    for one in answer.get("outcomes", []):
        what = one.get("avatar", {}).get("key") or one.get("reason", {}).get("code") or one.get("sweep", {}).get("rule") or ""
        lines.append(f"{one['status']} {what}".strip())
    if "batchItemFailures" in answer:
        lines.append(f"{len(answer['batchItemFailures'])} of the batch to be delivered again")
    return lines or [json.dumps(answer)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="*", type=Path, help="files; all of events/ if none is named")
    parser.add_argument("--function", choices=sorted(FUNCTIONS), help="the one to invoke; by the kind of event if not named")
    parser.add_argument("--local-cloud", default=ROOT / "target" / "debug" / "local-cloud", help="the built local-cloud")
    parser.add_argument("--template", type=Path, default=ROOT / ".aws-sam" / "build" / "template.yaml", help="the built template")
    parser.add_argument("--logs", action="store_true", help="show what SAM and the function say")
    arguments = parser.parse_args()
    prepare(arguments.template)
    failed = 0
    for path in arguments.events or sorted((ROOT / "events").glob("*.json")):
        function = arguments.function or function_for(json.loads(path.read_text()))
        started = time.monotonic()
        answer, requests, log = replay(arguments.local_cloud, arguments.template, path.resolve(), function)
        seconds = time.monotonic() - started
        if arguments.logs or answer is None:
            print(log, file=sys.stderr)
        if answer is None:
            failed += 1
            print(f"{path.name:34} {function}: no answer", flush=True)
            continue
        print(f"{path.name:34} {function}, {len(requests)} requests, {seconds:.1f} s", flush=True)
        for line in told(answer):
            print(f"    {line}", flush=True)
    if failed:
        common.fail(f"{failed} events had no answer.")


if __name__ == "__main__":
    sys.exit(main())
