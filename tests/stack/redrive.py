"""Brings back what waits in the failure queue: each event goes to where it failed, then its message is deleted.

Three carriers leave messages there: Lambda (an invocation record), SQS (what was received too often) and
EventBridge Scheduler (what it could not deliver). Whatever is not understood stays in the queue.
"""

import argparse
import json
import sys

from botocore.exceptions import ClientError

import common


def destination(message):
    """Where the message failed: ("function" or "queue", its name or ARN, the event as text), or None."""
    source = message.get("Attributes", {}).get("DeadLetterQueueSourceArn")
    if source:
        return "queue", source, message["Body"]
    attributes = message.get("MessageAttributes", {})
    if "TARGET_ARN" in attributes:
        return "function", attributes["TARGET_ARN"]["StringValue"], message["Body"] or "{}"
    try:
        record = json.loads(message["Body"])
        # The ARN ends in the qualifier; what is invoked again is the newest.
        function = ":".join(record["requestContext"]["functionArn"].split(":")[:7])
        return "function", function, json.dumps(record["requestPayload"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def bring_back(kind, target, event):
    if kind == "function":
        common.client("lambda").invoke(FunctionName=target, InvocationType="Event", Payload=event.encode())
    else:
        sqs = common.client("sqs")
        url = sqs.get_queue_url(QueueName=target.rsplit(":", 1)[1])["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=event)


def redrive(queue, most=None, dry_run=False):
    """Goes over what waited when it began; answers how many were brought back and how many stay."""
    sqs = common.client("sqs")
    waiting = int(
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"][
            "ApproximateNumberOfMessages"
        ]
    )
    limit = waiting if most is None else min(most, waiting)
    back, stay, seen, empty = 0, 0, set(), 0
    # Messages that fail again come back into the same queue; counting those of the beginning ends the run.
    while back + stay < limit and empty < 3:
        answer = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=min(10, limit - back - stay), WaitTimeSeconds=1,
            VisibilityTimeout=1 if dry_run else 60,
            MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"],
        )
        messages = [message for message in answer.get("Messages", []) if message["MessageId"] not in seen]
        empty = 0 if messages else empty + 1
        for message in messages:
            seen.add(message["MessageId"])
            found = destination(message)
            if found is None:
                print(f"stays     {message['MessageId']}: not a failure that is known; look at it by hand")
                stay += 1
                continue
            kind, target, event = found
            print(f"{'would go' if dry_run else 'goes'} to {target.rsplit(':', 1)[1]}: {event[:160]}")
            if not dry_run:
                try:
                    bring_back(kind, target, event)
                except ClientError as error:
                    print(f"stays     {message['MessageId']}: {error}")
                    stay += 1
                    continue
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            back += 1
    return back, stay


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", action="store_true", help="the emulator of make deploy-local")
    parser.add_argument("--dry-run", action="store_true", help="show what would be brought back")
    parser.add_argument("--most", type=int, help="no more than this many")
    arguments = parser.parse_args()
    if arguments.local:
        common.use_emulator()
    queue = common.outputs()["FailureQueueUrl"]
    back, stay = redrive(queue, arguments.most, arguments.dry_run)
    verb = "would be brought back" if arguments.dry_run else "brought back"
    print(f"{back} {verb}, {stay} stay in the failure queue.")
    return 1 if stay else 0


if __name__ == "__main__":
    sys.exit(main())
