"""Dollars per million, from what measure.py measured: compute by billed time and memory, and counted requests.

A function that uses one thread gets memory / 1,769 MB of a processor, and never more than one. So an invocation's
billed time is its processor time by that share, and what it waits for S3.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FULL_PROCESSOR_MB = 1769
SIZES = [128, 256, 512, 1024, 1769, 2048, 3008]
PRICES = {
    "lambda_arm64_gb_second": 0.0000133334, "lambda_x86_64_gb_second": 0.0000166667, "lambda_request": 0.20e-6,
    "PUT": 0.005e-3, "LIST": 0.005e-3, "COPY": 0.005e-3, "GET": 0.0004e-3, "HEAD": 0.0004e-3, "TAG": 0.0004e-3,
    "PUT_TAG": 0.005e-3, "DELETE": 0.0,
}
# What S3 takes to answer a function in its region, in milliseconds: an assumption. A listing is of 1,000 keys.
WAIT_MS = {"PUT": 25, "LIST": 100, "COPY": 60, "GET": 15, "HEAD": 10, "TAG": 10, "PUT_TAG": 15, "DELETE": 15}
# What S3 lets go of, per second and partition (S3 User Guide, performance guidelines): no sweep of one prefix is faster.
DELETES_PER_SECOND = 3500
# Memory that a function needs beside what was measured: the platform's own share, and room for a larger picture.
HEADROOM = 1.5
# The longest that Lambda lets an invocation take, in milliseconds.
LONGEST_MS = 900_000


def processor(memory_mb):
    """The share of a processor that one thread gets."""
    return min(1, memory_mb / FULL_PROCESSOR_MB)


def store_price(requests):
    return sum(PRICES[kind] * count for kind, count in requests.items())


class Table:
    """A price per million at each size of memory."""

    def __init__(self, title, work, arguments):
        self.title, self.work, self.arguments, self.rows = title, work, arguments, {}
        for size in SIZES:
            if size >= work["peak_mb"] * HEADROOM:
                billed_ms, invocations = self.billed(size)
                compute = billed_ms / 1000 * size / 1024 * PRICES[f"lambda_{arguments.architecture}_gb_second"]
                parts = [1e6 * part for part in (compute, PRICES["lambda_request"] * invocations, store_price(work["requests"]))]
                self.rows[size] = (billed_ms, *parts, sum(parts))
        self.cheapest = min(self.rows, key=self.price)

    def billed(self, size):
        """Milliseconds that one of the million takes, and how many invocations."""
        waits = sum(WAIT_MS[kind] * count for kind, count in self.work["requests"].items())
        # Starting is billed as well; at a start a function has a full processor, whatever its memory.
        return self.work["cpu_ms"] / processor(size) + waits + self.arguments.cold * self.work["start_cpu_ms"], 1

    def price(self, size):
        return self.rows[size][-1]

    def figures(self):
        work = self.work
        return (
            f"{work['cpu_ms']:.1f} ms of a processor, {work['start_cpu_ms']:.0f} ms to start, {work['peak_mb']:.0f} MB at its peak; "
            + ", ".join(f"{count:g} {kind}" for kind, count in work["requests"].items())
        )

    def show(self):
        print(f"### {self.title}\n\n{self.figures()}.\n")
        print("| memory, MB | billed, ms | compute | invocations | S3 | together |\n| --- | --- | --- | --- | --- | --- |")
        for size, (billed_ms, *parts) in self.rows.items():
            print(f"| {size} | {billed_ms:.0f} | " + " | ".join(f"${part:.2f}" for part in parts) + " |")
        print(f"\nCheapest: {self.cheapest} MB, ${self.price(self.cheapest):.2f} per million.\n")


class SweepTable(Table):
    """A million objects swept, in as many invocations as their time takes; the figures are those of a whole sweep."""

    def billed(self, size):
        work = self.work
        waits = work["requests"].get("LIST", 0) * WAIT_MS["LIST"]
        # Deletes go out side by side and while the next page is asked for; S3's own rate is what remains of them.
        billed_ms = max(work["cpu_ms"] / processor(size), 1000 / DELETES_PER_SECOND) + waits
        return billed_ms, math.ceil(billed_ms * 1e6 / LONGEST_MS) / 1e6

    def figures(self):
        work = self.work
        requests = ", ".join(f"{count * 1e6:.0f} {kind}" for kind, count in work["requests"].items())
        return (
            f"{work['cpu_ms'] * 1e3:.0f} s of a processor, {work['peak_mb']:.0f} MB at its peak; {requests}; "
            f"from a sweep of {work['objects']:,} objects"
        )

    def show(self):
        print(f"### {self.title}\n\n{self.figures()}.\n")
        print("| memory, MB | billed, s | compute | invocations | S3 | together |\n| --- | --- | --- | --- | --- | --- |")
        for size, (billed_ms, *parts) in self.rows.items():
            print(f"| {size} | {billed_ms * 1e3:.0f} | " + " | ".join(f"${part:.4f}" for part in parts) + " |")
        print(f"\nCheapest: {self.cheapest} MB, ${self.price(self.cheapest):.4f} per million.\n")


def mean(values):
    return statistics.fmean(values.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", nargs="?", type=Path, default=HERE / "measured.json", help="what measure.py wrote")
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument("--cold", type=float, default=0.01, help="the share of invocations that start a process (0.01)")
    parser.add_argument(
        "--bench", type=Path,
        help="what make bench wrote (target/bench/pictures.json): milliseconds and peaks of its pictures in the place of "
        "those of measure.py, for both sides; they leave out what S3's client takes",
    )
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text())
    if arguments.bench:
        for side in ("ours", "sharp"):
            measured[side] |= benched(json.loads(arguments.bench.read_text())["pictures"], side)

    def table(title, side, kind=Table, **changes):
        made = kind(title, {**measured[side], **changes}, arguments)
        made.show()
        return made

    ours = measured["ours"]
    avatars = table("A million avatars", "ours", cpu_ms=mean(ours["cpu_ms"]))
    table(
        "A million uploads whose avatar stands already", "ours", cpu_ms=ours["unchanged_cpu_ms"],
        requests=ours["unchanged_requests"],
    )
    if "sharp" in measured:
        sharp = measured["sharp"]
        peer = table("A million avatars by Node and sharp", "sharp", cpu_ms=mean(sharp["cpu_ms"]))
        compare(avatars, peer)
    if "accepted" in measured:
        table("A million checked uploads, accepted", "accepted")
        table("A million checked uploads, rejected and quarantined", "rejected")
    if "swept" in measured:
        swept = measured["swept"]
        each = {kind: count / swept["objects"] for kind, count in swept["requests"].items()}
        table("A million objects swept", "swept", SweepTable, cpu_ms=swept["cpu_ms"] / swept["objects"], requests=each)


def benched(pictures, side):
    """What make bench measured of one side: milliseconds by picture, and the highest peak."""
    peaks = [picture["memory"][side] / 2**20 for picture in pictures if picture["memory"][side]]
    return {"cpu_ms": {picture["name"]: picture[side]["ms"] for picture in pictures}} | ({"peak_mb": max(peaks)} if peaks else {})


def compare(ours, peer):
    """What is saved, with S3's price and without."""
    best, other = ours.price(ours.cheapest), peer.price(peer.cheapest)
    print(f"Ours is {1 - best / other:.0%} cheaper, S3's own price included, each at its cheapest size.\n")
    compute, others = ours.rows[ours.cheapest][1], peer.rows[peer.cheapest][1]
    print(f"Its compute is {1 - compute / others:.0%} cheaper. Of a processor it takes "
          f"{1 - ours.work['cpu_ms'] / peer.work['cpu_ms']:.0%} less.\n")


if __name__ == "__main__":
    sys.exit(main())
