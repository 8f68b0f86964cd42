#!/usr/bin/env python3
"""What a training step costs against T, C, L, V and threads: a table in docs/performance.md and a plot beside it.

    python3 bench/scaling.py [--only T,C] [--write docs/performance.md] [--plot docs/scaling.svg] [--steps N] [--ghostmax build/ghostmax]

Each line is a run of `ghostmax train` on made-up words, 2,048 tokens a step, from one shape of which one number changes. Printed are the
shortest time of a step, that time over the line before it, and the growth of what the step computes (6 flops per weight of a product and token,
14 D per pair of query and key). 24 runs, some four minutes on two cores. What is written is written at the end, whole or not at all.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time

from page import Place, replace_file
from vs_pytorch import write_text

TOKENS, HEAD = 2048, 64
BASE = {"T": 256, "C": 256, "L": 4, "V": 1024, "threads": min(2, os.cpu_count())}
SWEEPS = {"T": [64, 128, 256, 512, 1024, 2048], "C": [64, 128, 256, 512, 1024], "L": [1, 2, 4, 8, 16], "V": [512, 1024, 2048, 4096, 8192, 16384]}


def flops(shape):
    weights = shape["L"] * 12 * shape["C"] ** 2 + shape["V"] * shape["C"]
    return TOKENS * (6 * weights + shape["L"] * 14 * shape["C"] * (shape["T"] + 1) / 2)


def step_seconds(args, shape, folder):
    out = tempfile.mkdtemp(dir=folder) + "/run"
    command = [args.ghostmax, "train", "--data", write_text(folder, shape["V"]), "--tokens", "words", "--vocab", str(shape["V"]), "--model",
               "gpt2-mini", "--layers", str(shape["L"]), "--width", str(shape["C"]), "--heads", str(shape["C"] // HEAD), "--ffn",
               str(4 * shape["C"]), "--context", str(shape["T"]), "--batch", str(TOKENS // shape["T"]), "--steps", str(args.steps + 2),
               "--warmup", "1", "--log-every", "1", "--eval-sequences", "1", "--threads", str(shape["threads"]), "--quiet", "--out", out]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"scaling.py: this failed: {' '.join(command)}")
    with open(out + "/metrics.jsonl") as f:
        seconds = [json.loads(line)["step_seconds"] for line in f]
    return min(seconds[2:])


NAMES = {"T": "context T", "C": "width C", "L": "layers L", "V": "vocabulary V", "threads": "threads"}
INK, BLUE, GREY, GRID = "#24292f", "#0b62c4", "#6e7781", "#e3e6ea"


def short(n):
    return f"{n >> 10}k" if n >= 1024 and n % 1024 == 0 else str(n)


def ticks(low, high):
    """Round numbers between two times: of few digits, but three of them at least."""
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        inside = [d * 10**e for e in range(-2, 6) for d in digits if low <= d * 10**e <= high]
        if len(inside) >= 3:
            break
    return inside


def panel(name, points, left, top, width, height):
    """One sweep, both axes logarithmic; dashed: its flops at the best rate that the sweep reached."""
    best = max(work / seconds for _, seconds, work in points)
    measured = [(x, 1e3 * seconds) for x, seconds, _ in points]
    ideal = [(x, 1e3 * work / best) for x, _, work in points]
    low, high = 0.8 * min(y for _, y in ideal), 1.25 * max(y for _, y in measured)
    x0, x1 = math.log(points[0][0]), math.log(points[-1][0]) if len(points) > 1 else math.log(points[0][0]) + 1

    def at(x, y):
        return (left + 12 + (math.log(x) - x0) / (x1 - x0) * (width - 24),
                top + height * (1 - math.log(y / low) / math.log(high / low)))

    def line(data, style):
        return f'<polyline points="{" ".join("%.1f,%.1f" % at(x, y) for x, y in data)}" fill="none" {style}/>'

    parts = [f'<text x="{left}" y="{top - 12}" font-weight="600">{NAMES[name]}</text>']
    for y in ticks(low, high):
        parts.append(f'<path d="M{left},{at(points[0][0], y)[1]:.1f}h{width}" stroke="{GRID}"/>'
                     f'<text x="{left - 8}" y="{at(points[0][0], y)[1] + 4:.1f}" text-anchor="end" fill="{GREY}">{y:g}</text>')
    parts.append(f'<path d="M{left},{top + height}h{width}" stroke="{GREY}"/>')
    parts += [line(ideal, f'stroke="{GREY}" stroke-width="1.5" stroke-dasharray="5 4"'), line(measured, f'stroke="{BLUE}" stroke-width="2"')]
    for x, y in measured:
        px, py = at(x, y)
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{BLUE}"><title>{name} = {x}: {y:.4g} ms</title></circle>'
                     f'<text x="{px:.1f}" y="{top + height + 19}" text-anchor="middle" fill="{GREY}">{short(x)}</text>')
    return parts


def plot(curves):
    """The sweeps' panels, three in a row, and what the lines are."""
    width, height, gap_x, gap_y, columns = 240, 170, 62, 74, 3
    legend = len(curves)  # its cell
    rows = legend // columns + 1
    corner = lambda i: (52 + i % columns * (width + gap_x), 36 + i // columns * (height + gap_y))
    total_x, total_y = 52 + columns * (width + gap_x) - gap_x + 16, rows * (height + gap_y) - 6
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_x}" height="{total_y}" viewBox="0 0 {total_x} {total_y}" '
             f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">', '<rect width="100%" height="100%" fill="white"/>']
    for i, (name, points) in enumerate(curves.items()):
        parts += panel(name, points, *corner(i), width, height)
    x, y = corner(legend)
    parts += [f'<text x="{x}" y="{y + 14}" font-weight="600">ms per training step</text>',
              f'<text x="{x}" y="{y + 34}" fill="{GREY}">{TOKENS:,} tokens; both axes logarithmic</text>',
              f'<path d="M{x},{y + 58}h34" stroke="{BLUE}" stroke-width="2"/><circle cx="{x + 17}" cy="{y + 58}" r="3.5" fill="{BLUE}"/>',
              f'<text x="{x + 44}" y="{y + 62}">measured</text>',
              f'<path d="M{x},{y + 82}h34" stroke="{GREY}" stroke-width="1.5" stroke-dasharray="5 4"/>',
              f'<text x="{x + 44}" y="{y + 86}">its flops, at the best rate</text><text x="{x + 44}" y="{y + 103}">that the panel reaches</text></svg>']
    return "\n".join(parts) + "\n"


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", help="put the table between FILE's scaling marks")
    parser.add_argument("--plot", metavar="FILE", help="write the plot there, as SVG")
    parser.add_argument("--only", metavar="LIST", help=f"of the sweeps {','.join(NAMES)}")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each run (default 7)")
    parser.add_argument("--ghostmax", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "ghostmax"))
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    if not os.access(args.ghostmax, os.X_OK):
        sys.exit(f"scaling.py: '{args.ghostmax}' cannot be run; run make, or name it with --ghostmax")
    cores = os.cpu_count()
    sweeps = dict(SWEEPS, threads=sorted({1, *(2**i for i in range(1, 8) if 2**i <= cores), cores}))
    chosen = args.only.split(",") if args.only else list(sweeps)
    for name in chosen:
        if name not in sweeps:
            parser.error(f"there is no sweep '{name}'; there are {', '.join(sweeps)}")
    place = Place(args.write, "scaling") if args.write else None
    head = f"Otherwise {', '.join(f'{k} = {v}' for k, v in BASE.items())}, heads of {HEAD}, {TOKENS:,} tokens a step.\n\n"
    rows, curves = ["| varied | value | ms a step | tokens/s | time grew | flops grew | Gflop/s |", "|---|---:|---:|---:|---:|---:|---:|"], {}
    print(head + "\n".join(rows), flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            curves[name] = []
            for value in sweeps[name]:
                shape = dict(BASE, **{name: value})
                seconds, work = step_seconds(args, shape, folder), flops(shape)
                share = work / value if name == "threads" else work  # threads: the ideal is a share of the work each
                grew = [f"{seconds / curves[name][-1][1]:.2f}", f"{share / curves[name][-1][2]:.2f}"] if curves[name] else ["", ""]
                curves[name].append((value, seconds, share))
                rows.append(f"| {name} | {value} | {milliseconds(seconds)} | {TOKENS / seconds:,.0f} | {grew[0]} | {grew[1]} | {1e-9 * work / seconds:.0f} |")
                print(rows[-1], flush=True)
    print(f"scaling.py: {len(rows) - 2} runs in {time.monotonic() - start:.0f} s", file=sys.stderr)
    table = head + "\n".join(rows)
    if args.plot:
        replace_file(args.plot, plot(curves))
        table += f"\n\n![Milliseconds a step against T, C, L, V and threads]({os.path.basename(args.plot)})"
    if place:
        place.put(table)


if __name__ == "__main__":
    main()
