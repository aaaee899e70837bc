"""Makes an S3 Batch Operations job that sends the objects that are there already to a function.

The manifest is written from a listing (or a given one is used), to backfill/ in the audit bucket; the job
waits to be confirmed unless --yes says so. Its report of every object stands beside the manifest.
"""

import argparse
import datetime
import io
import json
import sys
import urllib.parse
import uuid

from botocore.exceptions import BotoCoreError, ClientError

import common

FUNCTIONS = {
    "avatar-transcoder": ("AvatarTranscoderName", "UploadBucketName"),
    "upload-validator": ("UploadValidatorName", "FilesBucketName"),
}
PART = 16 << 20


def manifest_lines(bucket, prefix):
    """CSV lines as Batch Operations reads them: the bucket and the form-encoded key."""
    pages = common.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for found in page.get("Contents", []):
            if not (found["Key"].endswith("/") and found["Size"] == 0):
                yield f"{bucket},{urllib.parse.quote_plus(found['Key'], safe='/')}\n"


def write_manifest(lines, bucket, key):
    """Streams the lines into an object, in parts; answers how many there are and the object's tag."""
    s3, count, parts, part = common.client("s3"), 0, [], io.BytesIO()
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, ContentType="text/csv")["UploadId"]

    def send():
        tag = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=len(parts) + 1, Body=part.getvalue()
        )["ETag"]
        parts.append({"ETag": tag, "PartNumber": len(parts) + 1})
        part.seek(0)
        part.truncate()

    try:
        for line in lines:
            part.write(line.encode())
            count += 1
            if part.tell() >= PART:
                send()
        if part.tell() or not parts:
            send()
        done = s3.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )
    except BaseException:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise
    return count, done["ETag"].strip('"')


def job(arguments, outputs, account, function_arn, manifest, tag, name):
    """What create_job is asked."""
    if manifest.endswith(".json"):
        spec = {"Format": "S3InventoryReport_CSV_20161130"}
    else:
        spec = {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]}
    return {
        "AccountId": account,
        "ClientRequestToken": str(uuid.uuid4()),
        "ConfirmationRequired": not arguments.yes,
        "Description": f"{common.STACK}: {arguments.function} over {arguments.prefix or 'everything'}"[:256],
        "Operation": {
            "LambdaInvoke": {
                "FunctionArn": function_arn, "InvocationSchemaVersion": "2.0", "UserArguments": {"reason": "backfill"},
            }
        },
        "Manifest": {"Spec": spec, "Location": {"ObjectArn": manifest, "ETag": tag}},
        "Report": {
            "Enabled": True, "Bucket": f"arn:aws:s3:::{outputs['AuditBucketName']}", "Prefix": f"backfill/{name}",
            "Format": "Report_CSV_20180820", "ReportScope": "AllTasks",
        },
        "Priority": arguments.priority,
        "RoleArn": outputs["BackfillRoleArn"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function", choices=sorted(FUNCTIONS))
    parser.add_argument("--prefix", default="", help="only keys that begin so")
    parser.add_argument("--manifest", help="s3://bucket/key of a manifest that is there: CSV, or an inventory's .json")
    parser.add_argument("--priority", type=int, default=10)
    parser.add_argument("--yes", action="store_true", help="start at once, without confirming the job")
    parser.add_argument("--dry-run", action="store_true", help="write the manifest, and show the job without making it")
    parser.add_argument("--local", action="store_true", help="the emulator of make deploy-local")
    arguments = parser.parse_args()
    if arguments.local:
        common.use_emulator()
    outputs = common.outputs()
    name_output, bucket_output = FUNCTIONS[arguments.function]
    audit = outputs["AuditBucketName"]
    name = f"{arguments.function}-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
    try:
        if arguments.manifest:
            bucket, _, key = arguments.manifest.removeprefix("s3://").partition("/")
            if (bucket, key.partition("/")[0]) != (audit, "backfill"):
                common.fail(f"the job may read manifests below s3://{audit}/backfill/ only; copy it there first.")
            tag = common.client("s3").head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
            print(f"manifest  {arguments.manifest}")
        else:
            bucket, key = audit, f"backfill/{name}.csv"
            count, tag = write_manifest(manifest_lines(outputs[bucket_output], arguments.prefix), bucket, key)
            print(f"manifest  s3://{bucket}/{key}, {count} objects of {outputs[bucket_output]}/{arguments.prefix}")
            if count == 0:
                common.fail("there is no object to send; give another --prefix.")
        account = common.client("sts").get_caller_identity()["Account"]
        function = common.client("lambda").get_function(FunctionName=outputs[name_output])
        wanted = job(
            arguments, outputs, account, function["Configuration"]["FunctionArn"], f"arn:aws:s3:::{bucket}/{key}", tag, name
        )
        if arguments.dry_run:
            print(json.dumps(wanted, indent=2))
            return
        made = common.client("s3control").create_job(**wanted)["JobId"]
    except (BotoCoreError, ClientError) as error:
        common.fail(f"the job cannot be made: {error}")
    print(f"job       {made}; its report goes to s3://{audit}/backfill/{name}/")
    if not arguments.yes:
        print(
            "It waits to be confirmed: aws s3control update-job-status "
            f"--account-id {account} --job-id {made} --requested-job-status Ready"
        )


if __name__ == "__main__":
    sys.exit(main())
