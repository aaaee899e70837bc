"""The validator's checks as a Python Lambda handler makes them: boto3, PyJWT, filetype.

Reads a configuration and then events from standard input, one JSON line each, and answers each by a line. It is
run beside the real validator by `make bench-validator`.
"""

import json
import sys
from urllib.parse import unquote_plus

import boto3
import filetype
import jwt
from botocore.config import Config

config = json.loads(sys.stdin.readline())
keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(config["jwks"])["keys"]}
s3 = boto3.client(
    "s3",
    endpoint_url=config["endpoint"],
    region_name=config["region"],
    aws_access_key_id=config["access_key_id"],
    aws_secret_access_key=config["secret_access_key"],
    config=Config(s3={"addressing_style": "path"}),
)


def verdict(record):
    bucket, stored = record["s3"]["bucket"]["name"], record["s3"]["object"]
    key = unquote_plus(stored["key"])
    if not 0 < stored["size"] <= config["max_size"] or key.count("/") < 1 or ".." in key:
        return "rejected"
    head = s3.head_object(Bucket=bucket, Key=key, IfMatch=stored["eTag"])
    token = head["Metadata"].get("ticket", "")
    try:
        kid = jwt.get_unverified_header(token)["kid"]
        claims = jwt.decode(token, keys[kid], algorithms=[keys[kid].algorithm_name], audience=bucket)
    except (jwt.PyJWTError, KeyError):
        return "rejected"
    leading = s3.get_object(Bucket=bucket, Key=key, IfMatch=stored["eTag"], Range="bytes=0-4095")["Body"].read()
    kind = filetype.guess(leading)
    fits = (
        claims["sub"] == key
        and kind is not None
        and kind.mime == head["ContentType"] == claims.get("content_type", kind.mime)
        and stored["size"] <= claims.get("max_size", stored["size"])
    )
    if not fits:
        return "rejected"
    s3.put_object_tagging(
        Bucket=bucket, Key=key, Tagging={"TagSet": [{"Key": "upload-status", "Value": "accepted"}]}
    )
    return "accepted"


print("ready", flush=True)
for line in sys.stdin:
    print(verdict(json.loads(line)["Records"][0]), flush=True)
