"""What the stack's scripts share: its outputs, and clients that reach AWS or the emulator."""

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

STACK = os.environ.get("STACK", "bucket-functions")
EMULATOR = "http://127.0.0.1:4566"
EMULATED = {
    "AWS_ENDPOINT_URL": EMULATOR,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAM_CLI_TELEMETRY": "0",
}


def fail(message):
    """Ends the command with one sentence that says what to do."""
    sys.exit(f"error: {message}")


def use_emulator():
    """Points every client of this process at the emulator, whatever account its environment names."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ.update(EMULATED)


def client(service, **options):
    """A client of the configured account, or of the emulator."""
    if os.environ.get("AWS_ENDPOINT_URL") and service == "s3":
        options.setdefault("config", Config(s3={"addressing_style": "path"}))
    return boto3.client(service, **options)


def outputs(stack=STACK):
    """The outputs of the deployed stack, by name."""
    try:
        stacks = client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except (BotoCoreError, ClientError) as error:
        fail(f"the stack {stack} cannot be looked at ({error}); deploy it first (make deploy or make deploy-local).")
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
