"""Measures what an invocation costs a processor: the release binaries, and the same work in Node with sharp.

Each function runs as its own process behind a Runtime API in this script, against the embedded S3, warm, with a
different picture every time. Processor time is the process's own as the kernel counts it, so what else the machine does
matters little. Writes JSON for cost.py.
"""

import argparse
import http.server
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import boto3
from botocore.config import Config

import common
from sam_replay import Served

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "tests" / "fixtures" / "images"
UPLOADS, AVATARS = "measured-uploads", "measured-avatars"
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


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
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60000),
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
        started = time.monotonic()
        self.events.put(event)
        kind, answer = self.answers.get(timeout=120)
        if kind == "error":
            common.fail(f"an invocation failed: {answer}")
        return answer, (time.monotonic() - started) * 1000


def cpu_ms(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def main_thread_ms(pid):
    """What the first thread has used, finer than the kernel's ticks: enough for a start, which has no other."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def peak_mb(pid):
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(command, variables, told, pictures, rounds):
    """Processor milliseconds per invocation and picture, what a start takes, and the peak of memory."""
    runtime = Runtime()
    environment = {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "AWS_LAMBDA_RUNTIME_API": runtime.address,
        "AWS_LAMBDA_FUNCTION_NAME": "measured", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_LOG_GROUP_NAME": "measured", "AWS_LAMBDA_LOG_STREAM_NAME": "1",
        "AWS_REGION": told["region"], "AWS_ACCESS_KEY_ID": told["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": told["secret_access_key"], "AWS_ENDPOINT_URL_S3": told["endpoint"], **variables,
    }
    s3 = store(told)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not runtime.asked.wait(60):
            common.fail(f"{command[0]} does not ask for an event.")
        start_ms, per_picture, wall, again = main_thread_ms(process.pid), {}, {}, []
        for name, content in pictures.items():
            events = []
            for number in range(rounds + 2):
                key = f"u/{number}-{name}"
                # A few bytes behind a picture's end make another upload of the same work.
                body = content + uuid.uuid4().bytes
                tag = s3.put_object(Bucket=UPLOADS, Key=key, Body=body)["ETag"].strip('"')
                record = {
                    "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                    "eventTime": "2026-11-01T12:00:00.000Z",
                    "s3": {"bucket": {"name": UPLOADS}, "object": {"key": key, "size": len(body), "eTag": tag}},
                }
                events.append({"Records": [record]})
            for event in events[:2]:
                runtime.invoke(event)
            before, times = cpu_ms(process.pid), []
            for event in events[2:]:
                answer, took = runtime.invoke(event)
                if answer["outcomes"][0]["status"] != "stored":
                    common.fail(f"{name} was not stored: {answer}")
                times.append(took)
            per_picture[name] = round((cpu_ms(process.pid) - before) / rounds, 1)
            wall[name] = round(statistics.median(times), 1)
            before = cpu_ms(process.pid)
            for event in events * 4:
                runtime.invoke(event)
            again.append((cpu_ms(process.pid) - before) / len(events * 4))
        return {
            "start_cpu_ms": round(start_ms, 1), "cpu_ms": per_picture, "wall_ms": wall,
            "unchanged_cpu_ms": round(statistics.fmean(again), 2),
            "peak_mb": round(peak_mb(process.pid), 1),
        }
    finally:
        process.kill()
        process.wait()


def store(told):
    return boto3.client(
        "s3", endpoint_url=told["endpoint"], region_name=told["region"], aws_access_key_id=told["access_key_id"],
        aws_secret_access_key=told["secret_access_key"], config=Config(s3={"addressing_style": "path"}),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True, help="the avatar function's release binary")
    parser.add_argument("--local-cloud", type=Path, default=ROOT / "target" / "debug" / "local-cloud")
    parser.add_argument("--sharp", type=Path, help="a folder in which npm has installed sharp and @aws-sdk/client-s3")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("images", nargs="*", type=Path, help="pictures; those of the tests if none is named")
    arguments = parser.parse_args()
    images = arguments.images or sorted(path for path in IMAGES.iterdir() if path.suffix in (".png", ".jpg"))
    pictures = {path.name: path.read_bytes() for path in images}
    served = Served(arguments.local_cloud, ROOT / "events" / "s3-put.json")
    result = {"rounds": arguments.rounds, "bytes": {name: len(content) for name, content in pictures.items()}}
    try:
        s3 = store(served.told)
        for bucket in (UPLOADS, AVATARS):
            s3.create_bucket(Bucket=bucket)
        variables = {"AVATAR_BUCKET": AVATARS, "STORE_PATH_STYLE": "true"}
        result["ours"] = measure([arguments.binary.resolve()], variables, served.told, pictures, arguments.rounds)
        if arguments.sharp:
            variables["NODE_PATH"] = str(arguments.sharp.resolve() / "node_modules")
            command = ["node", str(Path(__file__).with_name("sharp_peer.cjs"))]
            result["sharp"] = measure(command, variables, served.told, pictures, arguments.rounds)
    finally:
        served.end()
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
