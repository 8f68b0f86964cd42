#!/usr/bin/env python3
"""What a training step costs on P = 1, 2, 4 ranks of one machine, beside docs/cluster.md's model of it: a table for that file.

    python3 bench/mpi_cost.py [--write docs/cluster.md] [--steps N] [--ranks 1,2,4] [--ghostmax build/ghostmax]

Each line is an `mpirun -n P ghostmax train` of N + 5 steps, one thread a rank; printed is the shortest step, and the median. Up to one rank a
core every rank is bound to its own. Past that the machine is oversubscribed: ranks take turns on the cores, a rank that waits for a message
gives its turn away, and no P can be faster than P = cores, so such a line tells what sharing costs and nothing about scaling.

The model, for one machine: nobody else carries the bytes, cores copy and add what ranks exchange, so nothing of it is hidden and

    step(P) = (C + 8N (P-1) / b) / min(P, cores)

with C the line's own step at P = 1 and N its parameters. b, the bytes a core moves a second, is taken from one line: the one of nearly
messages alone, at P = 2. All others are predictions. What a message costs beside its bytes (a in docs/cluster.md) is below 0.1 ms here.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from page import Place

CORES = len(os.sched_getaffinity(0))
LINES = {"--batch 8": ["--batch", "8"], "--batch 4 --context 8: almost only messages": ["--batch", "4", "--context", "8"]}
MESSAGES = "--batch 4 --context 8: almost only messages"

UNTIMED = 5  # a run's first steps


def steps_of(args, line, ranks, folder):
    """Seconds of every timed step, and the model's parameters."""
    out = tempfile.mkdtemp(dir=folder) + "/run"
    place = ["--bind-to", "core"] if ranks <= CORES else ["--bind-to", "none", "--oversubscribe"]
    command = [args.mpirun, *place, "-n", str(ranks)] if ranks > 1 else []
    command += [args.ghostmax, "train", "--data", "bb", "--model", args.model, *LINES[line], "--steps", str(args.steps + UNTIMED), "--log-every", "1",
                "--eval-sequences", "4", "--measure-every", "0", "--threads", "1", "--quiet", "--out", out]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"mpi_cost.py: this failed: {' '.join(command)}\n{done.stderr.strip()}")
    with open(out + "/metrics.jsonl") as f:
        seconds = [json.loads(text)["step_seconds"] for text in f][UNTIMED:]
    with open(out + "/train.json") as f:
        return seconds, json.load(f)["model"]["params"]


def measure(args):
    """{(line, P): (shortest, median)}, N."""
    found, parameters = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for line in LINES:
            for ranks in args.ranks:
                seconds, parameters = steps_of(args, line, ranks, folder)
                found[line, ranks] = min(seconds), statistics.median(seconds)
                print(f"  {line}, P = {ranks}: {1e3 * found[line, ranks][0]:.3g} ms, median {1e3 * found[line, ranks][1]:.3g}", file=sys.stderr, flush=True)
    return found, parameters


def table_of(args, found, parameters):
    share = lambda ranks: min(ranks, CORES)
    exchanged = share(2) * found[MESSAGES, 2][0] - found[MESSAGES, 1][0]  # seconds of one core, P = 2
    rate = 8 * parameters / exchanged if exchanged > 0 else float("inf")
    rows = ["| `ghostmax train --data bb --model " + args.model + "` | P | ranks a core | ms a step | median | the model | over it |",
            "|---|---:|---:|---:|---:|---:|---:|"]
    for (line, ranks), (shortest, median) in found.items():
        model = (found[line, 1][0] + 8 * parameters * (ranks - 1) / rate) / share(ranks)
        given = ranks == 1 or (line, ranks) == (MESSAGES, 2)
        rows.append(f"| {line} | {ranks} | {max(1, ranks / CORES):g} | {1e3 * shortest:.3g} | {1e3 * median:.3g} | "
                    + ("given |  |" if given else f"{1e3 * model:.3g} | {shortest / model - 1:+.0%} |"))
    head = (f"{parameters / 1e6:.3g}M parameters, {CORES} cores, one thread a rank, the shortest of {args.steps} steps. From the line of messages at P = 2: "
            f"b = {rate / 1e9:.2g} GB/s a core.")
    return head + "\n\n" + "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", help="put the table between FILE's mpi_cost marks")
    parser.add_argument("--steps", type=int, default=60, help="timed steps of each run (default 60)")
    parser.add_argument("--ranks", default="1,2,4", help="numbers of ranks, 1 and 2 among them (default 1,2,4)")
    parser.add_argument("--model", default="bb-1l")
    parser.add_argument("--ghostmax", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "ghostmax"))
    args = parser.parse_args()
    args.ranks, args.mpirun = sorted({int(x) for x in args.ranks.split(",")}), shutil.which("mpirun")
    if args.steps < 1 or not {1, 2} <= set(args.ranks) or args.ranks[-1] > 4:
        parser.error("--steps must be at least 1, --ranks 1 and 2 and at most 4 (a batch of 4 has no more to share)")
    if not args.mpirun:
        sys.exit("mpi_cost.py: there is no mpirun (apt-get install openmpi-bin)")
    place = Place(args.write, "mpi_cost") if args.write else None
    table = table_of(args, *measure(args))
    print(table)
    if place:
        place.put(table)


if __name__ == "__main__":
    main()
