"""Measures what an invocation costs: the release binaries, and the avatar function's work in Node with sharp.

Each function runs as its own process behind a Runtime API in this script, against the embedded S3. Avatars and checks are
measured warm, with another upload every time; a sweep is measured whole. Processor time is the process's own as the
kernel counts it, so what else the machine does matters little. Requests are those that the embedded S3 saw. Writes JSON
for cost.py; what is not measured again is taken from --beside.
"""

import argparse
import collections
import http.server
import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

import client as app
import common
from sam_replay import Served

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "tests" / "fixtures" / "images"
UPLOADS, AVATARS, FILES, QUARANTINE, AUDIT = (f"measured-{name}" for name in ("uploads", "avatars", "files", "quarantine", "audit"))
KEY_ID, SECRET = "measured", b"a secret that is long enough for HS256"
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
# What S3 calls its operations, and the name of their price in cost.py.
KINDS = {
    "HeadObject": "HEAD", "GetObject": "GET", "GetObjectTagging": "TAG", "PutObject": "PUT", "PutObjectTagging": "PUT_TAG",
    "CopyObject": "COPY", "DeleteObject": "DELETE", "DeleteObjects": "DELETE", "ListObjectsV2": "LIST",
    "ListObjectVersions": "LIST", "ListMultipartUploads": "LIST", "GetBucketVersioning": "GET", "CreateMultipartUpload": "PUT",
    "UploadPart": "PUT", "CompleteMultipartUpload": "PUT", "HeadBucket": "HEAD", "GetBucketLocation": "GET",
}


class Runtime:
    """A Lambda Runtime API for one process at a time."""

    def __init__(self):
        self.events, self.answers, self.asked = queue.Queue(), queue.Queue(), threading.Event()
        runtime = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                runtime.asked.set()
                event = runtime.events.get()
                self.send_response(200)
                body = json.dumps(event).encode()
                for name, value in {
                    "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 900000),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:measured",
                    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
                    "Content-Type": "application/json", "Content-Length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                runtime.answers.put((self.path.rsplit("/", 1)[1], json.loads(body or b"null")))

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """A process that is ended in the middle of its next request is no error."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server.server_address[1]}"

    def invoke(self, event):
        self.events.put(event)
        kind, answer = self.answers.get(timeout=900)
        if kind == "error":
            common.fail(f"an invocation failed: {answer}")
        return answer


class Function:
    """A process behind a Runtime API, and what the kernel knows of it."""

    def __init__(self, command, variables, told):
        self.runtime, self.name = Runtime(), Path(command[0]).name
        environment = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "AWS_LAMBDA_RUNTIME_API": self.runtime.address,
            "AWS_LAMBDA_FUNCTION_NAME": "measured", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_LOG_GROUP_NAME": "measured", "AWS_LAMBDA_LOG_STREAM_NAME": "1",
            "AWS_REGION": told["region"], "AWS_ACCESS_KEY_ID": told["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": told["secret_access_key"], "AWS_ENDPOINT_URL_S3": told["endpoint"],
            "STORE_PATH_STYLE": "true", **variables,
        }
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        if not self.runtime.asked.wait(60):
            self.process.kill()
            common.fail(f"{self.name} does not ask for an event.")
        # What the first thread has used, finer than the kernel's ticks: enough for a start, which has no other.
        self.start_ms = int(self.read("schedstat").split()[0]) / 1e6
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def read(self, file):
        return Path(f"/proc/{self.process.pid}/{file}").read_text()

    def cpu_ms(self):
        fields = self.read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_MS

    def figures(self, **more):
        peak = next(line for line in self.read("status").splitlines() if line.startswith("VmHWM"))
        return {**more, "start_cpu_ms": round(self.start_ms, 1), "peak_mb": round(int(peak.split()[1]) / 1024, 1)}

    def cpu_of(self, events, status):
        """Processor milliseconds per event; each has to end in `status`."""
        before = self.cpu_ms()
        for event in events:
            answer = self.runtime.invoke(event)
            if answer["outcomes"][0]["status"] != status:
                common.fail(f"{self.name} answered {answer} in the place of {status}.")
        return (self.cpu_ms() - before) / len(events)


class Store:
    """The embedded S3, and what functions asked of it."""

    def __init__(self, local_cloud):
        self.served = Served(local_cloud, ROOT / "events" / "s3-put.json")
        self.told = told = self.served.told
        self.s3 = boto3.client(
            "s3", endpoint_url=told["endpoint"], region_name=told["region"], aws_access_key_id=told["access_key_id"],
            aws_secret_access_key=told["secret_access_key"],
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
        )

    def counted(self, share=1):
        """Requests by the kind of their price since the last time, but for this script's own; `share` of each."""
        counts = collections.Counter()
        for request in self.served.requests():
            if not request["user_agent"].startswith("Boto3/"):
                if request["operation"] not in KINDS:
                    common.fail(f"{request['operation']} has no price here.")
                counts[KINDS[request["operation"]]] += 1
        return {kind: round(counts[kind] / share, 3) for kind in sorted(counts)}

    def put(self, bucket, key, body, metadata=None, content_type="application/octet-stream"):
        """Puts an object; answers the event of it."""
        put = self.s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata or {}, ContentType=content_type)
        record = {
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": len(body), "eTag": put["ETag"].strip('"')}},
        }
        return {"Records": [record]}


def avatars(store, command, variables, pictures, rounds, unchanged):
    """New avatars, picture by picture, and the same uploads once more."""
    variables = {"AVATAR_BUCKET": AVATARS, **variables}
    per_picture, again, requests, requests_again = {}, [], collections.Counter(), collections.Counter()
    with Function(command, variables, store.told) as function:
        for name, content in pictures.items():
            # A few bytes behind a picture's end make another upload of the same work.
            events = [
                store.put(UPLOADS, f"u/{uuid.uuid4()}-{name}", content + uuid.uuid4().bytes) for _ in range(rounds + 2)
            ]
            function.cpu_of(events[:2], "stored")
            store.counted()
            per_picture[name] = round(function.cpu_of(events[2:], "stored"), 1)
            requests.update(store.counted(rounds * len(pictures)))
            repeated = events * 4
            again.append(function.cpu_of(repeated, unchanged))
            requests_again.update(store.counted(len(repeated) * len(pictures)))
        return function.figures(
            cpu_ms=per_picture, requests=shortened(requests), unchanged_cpu_ms=round(sum(again) / len(again), 2),
            unchanged_requests=shortened(requests_again),
        )


def shortened(counts):
    return {kind: round(count, 2) for kind, count in sorted(counts.items())}


def checks(store, binary, rounds, status, secret):
    """Checked uploads, each with a ticket of its own."""
    content = (IMAGES / "chelsea.png").read_bytes()
    variables = {
        "QUARANTINE_BUCKET": QUARANTINE, "AUDIT_BUCKET": AUDIT, "TICKET_KEYS": app.jwks(SECRET, KEY_ID), "TICKET_REQUIRED": "true",
    }
    events = []
    for _ in range(rounds + 5):
        key = f"{app.short_code(uuid.uuid4().bytes)}/me.png"
        claims = {
            "aud": FILES, "sub": key, "exp": int(time.time()) + 3600, "content_type": "image/*", "max_size": len(content),
            "owner": "measured",
        }
        ticket = app.ticket(secret, KEY_ID, claims)
        events.append(store.put(FILES, key, content, {"ticket": ticket}, "image/png"))
    with Function([binary], variables, store.told) as function:
        function.cpu_of(events[:5], status)
        store.counted()
        cpu_ms = round(function.cpu_of(events[5:], status), 2)
        return function.figures(cpu_ms=cpu_ms, requests=store.counted(rounds), uploads=rounds)


def sweep(store, binary, objects):
    """One sweep, start and report included, that deletes all `objects`."""
    bucket = f"measured-swept-{objects}"
    store.s3.create_bucket(Bucket=bucket)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.s3.put_object(Bucket=bucket, Key=f"temp/{n:09}", Body=b"x"), range(objects)))
    time.sleep(2.5)
    rule = {"id": "measured", "bucket": bucket, "prefix": "temp/", "expire_after": "1s"}
    limits = {"max_deletes": objects, "max_delete_ratio": 1}
    policy = {"version": 1, "mode": "apply", "limits": limits, "rules": [rule]}
    with Function([binary], {"AUDIT_BUCKET": AUDIT, "SWEEP_POLICY": json.dumps(policy)}, store.told) as function:
        store.counted()
        deleted, invocations, started, before = 0, 0, time.monotonic(), function.cpu_ms()
        while True:
            answer = function.runtime.invoke({})
            invocations += 1
            deleted += answer["outcomes"][0]["sweep"]["deleted"]
            if answer["complete"]:
                break
        if deleted != objects:
            common.fail(f"{deleted} of {objects} objects were deleted: {answer}")
        return function.figures(
            objects=objects, invocations=invocations, cpu_ms=round(function.cpu_ms() - before),
            wall_ms=round((time.monotonic() - started) * 1000), requests=store.counted(),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--avatar", type=Path, help="the avatar function's release binary")
    parser.add_argument("--validator", type=Path, help="the validator's")
    parser.add_argument("--sweeper", type=Path, help="the sweeper's")
    parser.add_argument("--sharp", type=Path, help="a folder in which npm has installed sharp and @aws-sdk/client-s3")
    parser.add_argument("--local-cloud", type=Path, default=ROOT / "target" / "debug" / "local-cloud")
    parser.add_argument("--beside", type=Path, help="what was measured before, for what is not measured now")
    parser.add_argument("--machine", default=f"{os.cpu_count()} cores, {platform.machine()}", help="said beside the figures")
    parser.add_argument("--rounds", type=int, default=20, help="uploads of each picture (20); ten times as many are checked")
    parser.add_argument("--objects", type=int, default=100000, help="objects to sweep (100000)")
    parser.add_argument("images", nargs="*", type=Path, help="pictures; those of the tests if none is named")
    arguments = parser.parse_args()
    result = json.loads(arguments.beside.read_text()) if arguments.beside else {}
    result["machine"] = arguments.machine
    store = Store(arguments.local_cloud)
    try:
        for bucket in (UPLOADS, AVATARS, FILES, QUARANTINE, AUDIT):
            store.s3.create_bucket(Bucket=bucket)
        if arguments.avatar or arguments.sharp:
            images = arguments.images or sorted(path for path in IMAGES.iterdir() if path.suffix in (".png", ".jpg"))
            pictures = {path.name: path.read_bytes() for path in images}
            result |= {"rounds": arguments.rounds, "bytes": {name: len(content) for name, content in pictures.items()}}
        if arguments.avatar:
            result["ours"] = avatars(store, [arguments.avatar.resolve()], {}, pictures, arguments.rounds, "unchanged")
        if arguments.sharp:
            command = ["node", str(Path(__file__).with_name("sharp_peer.cjs"))]
            variables = {"NODE_PATH": str(arguments.sharp.resolve() / "node_modules")}
            result["sharp"] = avatars(store, command, variables, pictures, arguments.rounds, "unchanged")
        if arguments.validator:
            binary, rounds = arguments.validator.resolve(), arguments.rounds * 10
            result["accepted"] = checks(store, binary, rounds, "accepted", SECRET)
            result["rejected"] = checks(store, binary, rounds, "rejected", b"another secret, as long as a forger likes")
        if arguments.sweeper:
            result["swept"] = sweep(store, arguments.sweeper.resolve(), arguments.objects)
    finally:
        store.served.end()
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
