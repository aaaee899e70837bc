"""Proves the stack that `make deploy-local` deployed, from outside, as an app and an operator would.

What the emulator (MiniStack) cannot do stands beside the check that would need it.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from botocore.exceptions import ClientError

import backfill
import client as app
import common
import redrive

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "tests" / "fixtures" / "images"
KEY_ID, SECRET = "test-stack", b"a secret that is long enough for HS256"
MAP_OBJECTS = 5000


def wait_for(what, look, seconds=60):
    """What `look` answers as soon as it answers something."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.25)


class Stack:
    def __init__(self):
        self.outputs = common.outputs()
        for service in ("s3", "sqs", "lambda", "stepfunctions", "scheduler"):
            setattr(self, "functions" if service == "lambda" else service, common.client(service))

    def bucket(self, name):
        return self.outputs[f"{name}BucketName"]

    def head(self, bucket, key):
        try:
            return self.s3.head_object(Bucket=self.bucket(bucket), Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def keys(self, bucket, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket(bucket), Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def read(self, bucket, key):
        return self.s3.get_object(Bucket=self.bucket(bucket), Key=key)["Body"].read()

    def invoke(self, name, event):
        answer = self.functions.invoke(FunctionName=self.outputs[f"{name}Name"], Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read() or b"null")
        assert "FunctionError" not in answer, f"{name} failed: {payload}"
        return payload

    def with_variables(self, function, **changes):
        """Changes variables of a function; answers what puts them back."""
        kept = self.functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]

        def put(variables):
            self.functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

        put({**kept, **changes})
        return lambda: put(kept)

    def waiting(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queue = self.outputs["FailureQueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def run(self, machine, event, name):
        """Runs a state machine to its end; answers its output."""
        execution = self.stepfunctions.start_execution(
            stateMachineArn=machine, name=f"{name}-{time.time_ns()}", input=json.dumps(event)
        )["executionArn"]

        def ended():
            found = self.stepfunctions.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else found

        found = wait_for(f"the end of {name}", ended, 1800)
        assert found["status"] == "SUCCEEDED", f"{name}: {found['status']} {found.get('error')} {found.get('cause')}"
        return json.loads(found["output"])


def avatars(stack):
    """A picture put into the upload bucket comes back from the avatar bucket, under the address that the client computed."""
    pictures = [path for path in sorted(IMAGES.iterdir()) if path.suffix in (".png", ".jpg")]
    for path in pictures:
        content = path.read_bytes()
        address = f"u/{app.short_code(content)}.webp"
        stack.s3.put_object(Bucket=stack.bucket("Upload"), Key=f"u/{path.name}", Body=content)
        head = wait_for(address, lambda: stack.head("Avatar", address))
        body = stack.read("Avatar", address)
        assert body[:4] == b"RIFF" and body[8:12] == b"WEBP", f"{address} is no WebP"
        assert head["Metadata"]["source-md5"] == hashlib.md5(content).hexdigest(), head
        assert head["ContentType"] == "image/webp", head
        assert head["CacheControl"] == "public, max-age=31536000, immutable", head
        assert max(int(head["Metadata"][side]) for side in ("width", "height")) <= 512, head
    return f"{len(pictures)} pictures"


def refused_picture(stack):
    """An upload that is no picture is told so by tags, and makes no avatar."""
    before = set(stack.keys("Avatar"))
    stack.s3.put_object(Bucket=stack.bucket("Upload"), Key="u/note.png", Body=b"only words")

    def tags():
        found = stack.s3.get_object_tagging(Bucket=stack.bucket("Upload"), Key="u/note.png")["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    told = wait_for("the tags", tags)
    assert told == {"avatar-status": "rejected", "avatar-reason": "unsupported-type"}, told
    assert set(stack.keys("Avatar")) == before
    return told["avatar-reason"]


def tickets(stack):
    """A file with a true ticket is accepted, and a forged one lands in quarantine with its reason."""
    keys = app.jwks(SECRET, KEY_ID)
    stack.s3.put_object(Bucket=stack.bucket("Audit"), Key="config/ticket-keys.json", Body=keys.encode())
    content = (IMAGES / "astronaut.png").read_bytes()

    def upload(key, secret):
        claims = {
            "aud": stack.bucket("Files"), "sub": key, "exp": int(time.time()) + 600, "content_type": "image/*",
            "max_size": len(content), "owner": "test-stack",
        }
        put = stack.s3.put_object(
            Bucket=stack.bucket("Files"), Key=key, Body=content, ContentType="image/png",
            Metadata={"ticket": app.ticket(secret, KEY_ID, claims)},
        )
        return put["ETag"].strip('"')

    def status(key):
        try:
            found = stack.s3.get_object_tagging(Bucket=stack.bucket("Files"), Key=key)["TagSet"]
        except ClientError:
            return None
        return {tag["Key"]: tag["Value"] for tag in found}.get("upload-status")

    catalog = app.short_code(b"a catalog")
    # The named catalog of a stack that nobody has configured, from which sweeps delete after a day.
    for key in (f"{catalog}/true.png", "tempcato/true.png"):
        upload(key, SECRET)
        assert wait_for("the verdict", lambda: status(key)) == "accepted", key
    tag = upload(f"{catalog}/forged.png", b"another secret, as long as a forger likes")
    place = f"{stack.bucket('Files')}/{catalog}/forged.png.{tag}"
    head = wait_for(f"quarantine of {place}", lambda: stack.head("Quarantine", place))
    assert "ticket-signature" in head["Metadata"]["reasons"].split(","), head["Metadata"]
    wait_for("the end of the forged upload", lambda: stack.head("Files", f"{catalog}/forged.png") is None)
    # That nobody else may read or tag a file is the bucket's policy; the emulator does not enforce policies
    # unless it is started with AUTH=true, and tests/acceptance/template.rs holds the policy itself to it.
    return head["Metadata"]["reasons"]


def batch(stack):
    """Objects that are there already go through the same function: the event of a Batch Operations job, and its answer."""
    listed = list(backfill.manifest_lines(stack.bucket("Upload"), "u/"))
    key = next(line for line in listed if "astronaut" in line).split(",")[1].strip()
    event = {
        "invocationSchemaVersion": "2.0", "invocationId": "1", "job": {"id": "1", "userArguments": {}},
        "tasks": [{"taskId": "one", "s3Key": key, "s3VersionId": None, "s3Bucket": stack.bucket("Upload")}],
    }
    result = stack.invoke("AvatarTranscoder", event)["results"][0]
    assert (result["taskId"], result["resultCode"]) == ("one", "Succeeded"), result
    # The emulator has no S3 Batch Operations; so the job is shown, and not made.
    command = [sys.executable, str(Path(__file__).with_name("backfill.py")), "avatar-transcoder", "--local", "--dry-run"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    wanted = json.loads(shown.stdout[shown.stdout.index("{"):])
    assert wanted["RoleArn"] == stack.outputs["BackfillRoleArn"], wanted
    return f"{len(listed)} objects in the manifest"


def schedule(stack):
    """The schedule's target sweeps, and leaves a report."""
    found = stack.scheduler.get_schedule(Name=f"{common.STACK}-sweep")
    before = set(stack.keys("Audit", "sweeps/"))
    # Named anew: the emulator fires a schedule for one moment once per name, also after it was deleted.
    own = {"Name": f"test-stack-sweep-{time.time_ns()}", "FlexibleTimeWindow": {"Mode": "OFF"}}
    # The same target, in a moment instead of in an hour.
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 3))
    stack.scheduler.create_schedule(
        ScheduleExpression=f"at({moment})", ScheduleExpressionTimezone="UTC", Target=found["Target"], **own
    )
    try:
        new = wait_for("a report", lambda: [
            key for key in set(stack.keys("Audit", "sweeps/")) - before if key.endswith("summary.json")
        ], 120)
    finally:
        stack.scheduler.delete_schedule(Name=own["Name"])
    return new[0]


def sweep_loop(stack):
    """The state machine sweeps until nothing is left, in plan mode: nothing is deleted."""
    before = stack.keys("Upload")
    output = stack.run(stack.outputs["SweepLoopArn"], {}, "sweep-loop")
    assert output["complete"] is True, output
    assert stack.keys("Upload") == before
    return f"{len(output['outcomes'])} rules"


def distributed_map(stack):
    """A Distributed Map goes over 5,000 objects and deletes the expired ones."""
    prefix, files = "tempcato/many/", stack.bucket("Files")
    machine = stack.stepfunctions.describe_state_machine(stateMachineArn=stack.outputs["SweepMapArn"])
    definition = json.loads(machine["definition"])
    # The emulator ignores ItemBatcher and hands out each item alone. A selector makes a batch of one of it, so that
    # reader, tolerance, retries and function are the deployed ones, and only the size of a batch is not.
    over = definition["States"]["OverListing"]
    batcher = over.pop("ItemBatcher")
    assert batcher["MaxItemsPerBatch"] == 1000, batcher
    over["ItemSelector"] = {
        "BatchInput": batcher["BatchInput"],
        "Items.$": "States.Array($$.Map.Item.Value)",
    }
    sweeper = over["ItemProcessor"]["States"]["SweepBatch"]["Parameters"]["FunctionName"]
    # Written without events: it is the map that is proved here, and not the validator 5,000 times.
    notifications = stack.s3.get_bucket_notification_configuration(Bucket=files)
    notifications.pop("ResponseMetadata", None)
    stack.s3.put_bucket_notification_configuration(Bucket=files, NotificationConfiguration={})
    policy = {
        "version": 1, "mode": "apply", "limits": {"max_deletes": 100000, "max_delete_ratio": 1},
        "rules": [{"id": "temp-catalog", "bucket": files, "prefix": prefix, "expire_after": "1s"}],
    }
    put_back = stack.with_variables(sweeper, SWEEP_POLICY=json.dumps(policy), SWEEP_MODE="apply")
    copy = None
    try:
        with ThreadPoolExecutor(16) as pool:
            put = lambda n: stack.s3.put_object(Bucket=files, Key=f"{prefix}{n:05}", Body=b"x")
            list(pool.map(put, range(MAP_OBJECTS)))
        assert (found := len(stack.keys("Files", prefix))) == MAP_OBJECTS, f"{found} objects before the map"
        time.sleep(2)
        copy = stack.stepfunctions.create_state_machine(
            name="test-stack-map", definition=json.dumps(definition), roleArn=machine["roleArn"]
        )["stateMachineArn"]
        stack.run(copy, {"rule": "temp-catalog", "bucket": files, "prefix": prefix}, "sweep-map")
        left = stack.keys("Files", prefix)
        assert not left, f"{len(left)} objects are left, such as {left[:3]}"
    finally:
        put_back()
        stack.s3.put_bucket_notification_configuration(Bucket=files, NotificationConfiguration=notifications)
        if copy:
            stack.stepfunctions.delete_state_machine(stateMachineArn=copy)
    return f"{MAP_OBJECTS} objects"


def failure_path(stack):
    """An invocation that keeps failing ends in the failure queue, and `make redrive` brings it back."""
    assert stack.waiting() == 0, f"{stack.waiting()} messages wait in the failure queue before the test"
    # Made another upload by a few bytes after its end, at every run.
    content = (IMAGES / "astronaut.png").read_bytes() + str(time.time_ns()).encode()
    address = f"z/{app.short_code(content)}.webp"
    function = stack.outputs["AvatarTranscoderName"]
    put_back = stack.with_variables(function, AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")
    queue = stack.outputs.get("UploadQueueUrl")
    if queue:
        # With Trigger=queue a record that fails is hidden for six time-outs before its next try.
        stack.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "2"})
    try:
        stack.s3.put_object(Bucket=stack.bucket("Upload"), Key="z/late.png", Body=content)
        wait_for("a message in the failure queue", stack.waiting, 180)
        assert stack.head("Avatar", address) is None, f"{address} stands already"
    finally:
        put_back()
    assert redrive.redrive(stack.outputs["FailureQueueUrl"]) == (1, 0)
    wait_for(address, lambda: stack.head("Avatar", address))
    assert stack.waiting() == 0
    return address


CHECKS = [avatars, refused_picture, tickets, batch, schedule, sweep_loop, distributed_map, failure_path]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    names = [check.__name__ for check in CHECKS]
    parser.add_argument("checks", nargs="*", metavar="check", help=f"which ones ({', '.join(names)}); all if none is named")
    wanted = parser.parse_args().checks
    if unknown := set(wanted) - set(names):
        common.fail(f"there is no check {', '.join(sorted(unknown))}; there are {', '.join(names)}.")
    common.use_emulator()
    stack, failed = Stack(), 0
    for check in CHECKS:
        if wanted and check.__name__ not in wanted:
            continue
        started = time.monotonic()
        try:
            said = check(stack)
            print(f"ok      {check.__name__} ({said}, {time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    if failed:
        common.fail(f"{failed} of the checks failed; the emulator's log is .aws-sam/local/ministack.log.")


if __name__ == "__main__":
    sys.exit(main())
