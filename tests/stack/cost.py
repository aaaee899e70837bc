"""Dollars per million, from what measure.py measured: compute by billed time and memory, and counted requests.

A function that uses one thread gets memory / 1,769 MB of a processor, and never more than one. So an invocation's
billed time is its processor time by that share, and what it waits for S3.
"""

import argparse
import json
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
# What S3 takes to answer a function in its region, in milliseconds: an assumption, the only one here.
WAIT_MS = {"PUT": 25, "LIST": 30, "COPY": 60, "GET": 15, "HEAD": 10, "TAG": 10, "PUT_TAG": 15, "DELETE": 15}
# Memory that a function needs beside what was measured: the platform's own share, and room for a larger picture.
HEADROOM = 1.5


def billed_ms(cpu_ms, waits_ms, memory_mb):
    return cpu_ms / min(1, memory_mb / FULL_PROCESSOR_MB) + waits_ms


def per_million(work, memory_mb, prices, architecture, cold):
    """Compute, requests of Lambda and of S3 for a million invocations, in dollars, and the billed milliseconds."""
    waits = sum(WAIT_MS[kind] * count for kind, count in work["requests"].items())
    warm = billed_ms(work["cpu_ms"], waits, memory_mb)
    # Starting is billed as well; at a start a function has a full processor, whatever its memory.
    billed = warm + cold * work["start_ms"]
    compute = billed / 1000 * memory_mb / 1024 * prices[f"lambda_{architecture}_gb_second"] * 1e6
    store = sum(prices[kind] * count for kind, count in work["requests"].items()) * 1e6
    return {"billed_ms": billed, "compute": compute, "invoke": prices["lambda_request"] * 1e6, "store": store}


def table(title, work, arguments):
    rows = [size for size in SIZES if size >= work["peak_mb"] * HEADROOM]
    print(f"### {title}\n")
    print(f"{work['cpu_ms']:.1f} ms of a processor, {work['start_ms']:.0f} ms to start, {work['peak_mb']:.0f} MB at its peak; "
          + ", ".join(f"{count:g} {kind}" for kind, count in work["requests"].items()) + ".\n")
    print("| memory, MB | billed, ms | compute | invocations | S3 | together |\n| --- | --- | --- | --- | --- | --- |")
    costs = {}
    for size in rows:
        cost = per_million(work, size, PRICES, arguments.architecture, arguments.cold)
        costs[size] = cost["compute"] + cost["invoke"] + cost["store"]
        print(f"| {size} | {cost['billed_ms']:.0f} | ${cost['compute']:.2f} | ${cost['invoke']:.2f} | ${cost['store']:.2f} "
              f"| ${costs[size]:.2f} |")
    best = min(costs, key=costs.get)
    print(f"\nCheapest: {best} MB, ${costs[best]:.2f} per million.\n")
    return costs[best]


def mean(values):
    return statistics.fmean(values.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", nargs="?", type=Path, default=HERE / "measured.json", help="what measure.py wrote")
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument("--cold", type=float, default=0.01, help="the share of invocations that start a process (0.01)")
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text())
    ours, sharp = measured["ours"], measured.get("sharp")

    def work(side, requests):
        return {
            "cpu_ms": mean(side["cpu_ms"]), "start_ms": side["start_cpu_ms"], "peak_mb": side["peak_mb"],
            "requests": requests,
        }

    stored = {"HEAD": 1, "GET": 1, "PUT": 1}
    best = table("A million avatars", work(ours, stored), arguments)
    table("A million uploads whose avatar stands already", {**work(ours, {"HEAD": 1}), "cpu_ms": ours["unchanged_cpu_ms"]}, arguments)
    if sharp:
        other = table("A million avatars by Node and sharp", work(sharp, stored), arguments)
        print(f"Ours is {1 - best / other:.0%} cheaper, S3's own price included.\n")
        processor = 1 - mean(ours["cpu_ms"]) / mean(sharp["cpu_ms"])
        print(f"Of a processor it takes {processor:.0%} less.\n")
    for title, key in [("A million checked uploads", "checked"), ("A million swept objects", "swept")]:
        if key in measured:
            table(title, measured[key], arguments)


if __name__ == "__main__":
    sys.exit(main())
