#!/usr/bin/env python3
"""Compares this build's speed with the recorded one, in ratios: percents of the machine's limits, and lines against each other.

    python3 bench/check.py [--rounds N] [--threads N] [--filter TEXT] [--ghostmax build/ghostmax]
    python3 bench/check.py --record [--table docs/performance.md]      # writes bench/record.json, and the table into that file

A record takes three rounds and one for the table, some ten minutes. A round of it that the benchmark calls noisy is run again, as often as
there are rounds; nothing is recorded of a machine that stays noisy.

Every round is one `ghostmax bench --quick --json`. A line's noise is half of what its rounds spread, or what the samples of a round spread,
whichever is more. Printed is what moved by more than three times the noise of both sides together, and by more than 5%. Exit 1: something
became slower. Absolute times are not recorded: they belong to one machine, and percents of its limits nearly do not.
"""
import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time

from page import Place, replace_file

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = os.path.join(HERE, "record.json")
LEAST = 0.05  # moves below are not worth a line


def fail(message):
    sys.exit(f"check.py: {message}")


def bench(args, *more):
    command = [args.ghostmax, "bench", "--quick", "--quiet", *more]
    if args.threads:
        command += ["--threads", str(args.threads)]
    if args.filter:
        command += ["--filter", args.filter]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except OSError as e:
        fail(f"cannot run '{args.ghostmax}': {e.strerror}; run make, or name it with --ghostmax")
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def pairs(lines):
    """Lines whose times belong together: (what, slower or newer line, its yardstick)."""
    for name in lines:
        group, _, rest = name.partition(" ")
        for kind in ("int8", "int8-head"):
            if group in ("decode", "forward") and re.search(rf" {kind}\b(?!-)", name):
                f32 = re.sub(rf" {kind}\b(?!-)", " f32", name)
                yield f"{kind} over f32: {group} {f32.partition(' ')[2].replace(' f32', '')}", name, f32
        if group == "int8":
            layer, _, size = rest.partition(",")
            yield f"int8 over f32: {rest}", name, f"products {layer} y = x W^T,{size}"


def measure_round(args):
    """One round: {what: (value, noise)}; higher is better for percents, lower for ratios of times."""
    result = json.loads(bench(args, "--json"))
    lines = {f"{line['group']} {line['name']}": line for line in result["lines"]}
    values = {}
    for name, line in lines.items():
        if line["group"] != "machine":
            values[f"percent: {name}"] = (line["percent_of_limit"], line["mad_s"] / line["median_s"])
        if "over_softmax" in line:  # the two took turns: a better ratio than that of their lines
            variant, _, shape = line["name"].partition(" ")
            interval = line["over_softmax_high"] - line["over_softmax_low"]
            values[f"ratio: {variant} over softmax: {shape}"] = (line["over_softmax"], interval / 2 / line["over_softmax"])
    for what, a, b in pairs(lines):
        if b in lines:
            a, b = lines[a], lines[b]
            values[f"ratio: {what}"] = (a["median_s"] / b["median_s"], a["mad_s"] / a["median_s"] + b["mad_s"] / b["median_s"])
    return result, values


def measure(args):
    """All rounds: the median of every value with its noise, the last round, and whether one was noisy."""
    rounds, noisy, spare = [], False, args.rounds
    while len(rounds) < args.rounds:
        begin = time.monotonic()
        result, values = measure_round(args)
        noise = result["noise"]
        again = noise["noisy"] and args.record and not args.noisy
        print(f"round {len(rounds) + 1} of {args.rounds}, {time.monotonic() - begin:.0f} s: {len(result['lines'])} lines; {noise['verdict']}"
              + ("; again" if again else ""), file=sys.stderr, flush=True)
        if again and spare == 0:
            fail("nothing recorded; record when the machine is quiet (--noisy records all the same, and says so)")
        if again:
            spare -= 1
            continue
        noisy = noisy or noise["noisy"]
        rounds.append(values)
    merged = {}
    for what in rounds[0]:
        seen = [values[what] for values in rounds if what in values]
        value = statistics.median(v for v, _ in seen)
        between = (max(v for v, _ in seen) - min(v for v, _ in seen)) / 2 / value
        merged[what] = {"value": float(f"{value:.5g}"), "noise": float(f"{max(between, statistics.median(n for _, n in seen)):.3g}")}
    return result, merged, noisy


def record(args):
    place = Place(args.table, "bench --quick") if args.table else None
    result, values, noisy = measure(args)
    replace_file(args.file, json.dumps({"schema": "ghostmax.bench-record/1", "machine": result["machine"], "rounds": args.rounds,
                                        "noisy": noisy, "values": values}, indent=1) + "\n")
    print(f"recorded {len(values)} values in {args.file}")
    if place:
        place.put("```\n" + bench(args).strip("\n") + "\n```")


def check(args):
    try:
        with open(args.file) as f:
            recorded = json.load(f)
    except OSError as e:
        fail(f"cannot read '{args.file}': {e.strerror}; `make bench-record` on a quiet machine writes it")
    result, now, _ = measure(args)
    for field in ("processor", "isa", "gemm", "threads"):
        if recorded["machine"][field] != result["machine"][field]:
            print(f"note: recorded with {field} {recorded['machine'][field]}, now {result['machine'][field]}")
    if recorded["noisy"]:
        print("note: the record was taken on a noisy machine")
    slower = faster = same = 0
    for what, old in recorded["values"].items():
        new = now.get(what)
        if new is None:
            if not args.filter:
                print(f"gone     {what}")
            continue
        change = math.log(new["value"] / old["value"]) * (1 if what.startswith("percent") else -1)
        if abs(change) <= max(LEAST, 3 * math.hypot(old["noise"], new["noise"])):
            same += 1
            continue
        slower += change < 0
        faster += change > 0
        print(f"{'slower' if change < 0 else 'faster'}   {what}: {old['value']:.4g} -> {new['value']:.4g} ({math.exp(change) - 1:+.0%})")
    for what in now:
        if what not in recorded["values"]:
            print(f"new      {what}: {now[what]['value']:.4g}")
    print(f"{same} within noise, {faster} faster, {slower} slower")
    return 1 if slower else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the record instead of comparing with it")
    parser.add_argument("--table", metavar="FILE", help="with --record: also put `bench --quick`'s table into FILE")
    parser.add_argument("--noisy", action="store_true", help="record even though the machine was noisy")
    parser.add_argument("--rounds", type=int, help="runs of the benchmark (default 1; 3 for a record)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--filter", help="only lines that contain this")
    parser.add_argument("--file", default=RECORD, help="the record (default bench/record.json)")
    parser.add_argument("--ghostmax", default=os.path.join(HERE, "..", "build", "ghostmax"))
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.record else 1)
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return record(args) if args.record else check(args)


if __name__ == "__main__":
    sys.exit(main())
