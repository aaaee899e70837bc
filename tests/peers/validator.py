"""The validator's checks as a Python Lambda handler makes them: boto3, PyJWT, filetype.

It is a Lambda runtime of its own, as short as can be, and is run beside the real validator by
`make bench-validator`.
"""

import http.client
import json
import os
from urllib.parse import unquote_plus

import boto3
import filetype
import jwt
from botocore.config import Config

MAX_SIZE = 10 << 20
keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(os.environ["TICKET_KEYS"])["keys"]}
s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))


def verdict(record):
    bucket, stored = record["s3"]["bucket"]["name"], record["s3"]["object"]
    key = unquote_plus(stored["key"])
    if not 0 < stored["size"] <= MAX_SIZE or key.count("/") < 1 or ".." in key:
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


invocation = "/2018-06-01/runtime/invocation/"
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", invocation + "next")
    response = api.getresponse()
    event = json.loads(response.read())
    answer = {"outcomes": [{"status": verdict(event["Records"][0])}]}
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"{invocation}{request_id}/response", body=json.dumps(answer))
    api.getresponse().read()
