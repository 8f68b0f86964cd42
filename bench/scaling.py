#!/usr/bin/env python3
"""What a training step costs against T, C, L, V and threads: a table in docs/performance.md and a plot beside it.

    python3 bench/scaling.py [--write docs/performance.md] [--plot docs/scaling.svg] [--steps N] [--ghostmax build/ghostmax]

Each line is a run of `ghostmax train` on made-up words, 2,048 tokens a step, from one shape of which one number changes. Printed are the
shortest time of a step, that time over the line before it, and the growth of what the step computes (6 flops per weight of a product and token,
14 D per pair of query and key).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from vs_pytorch import write_text

TOKENS, HEAD = 2048, 64
BASE = {"T": 256, "C": 256, "L": 4, "V": 1024, "threads": min(2, os.cpu_count())}
SWEEPS = {"T": [64, 128, 256, 512, 1024, 2048], "C": [64, 128, 256, 512, 1024], "L": [1, 2, 4, 8, 16], "V": [512, 1024, 2048, 4096, 8192, 16384]}
BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"


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


def plot(curves):
    """One panel per sweep, both axes logarithmic; the dashed line grows as the flops do."""
    import math
    width, height, margin = 190, 190, 46
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(curves) * (width + margin) + 20} {height + 80}" '
             'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for index, (name, points) in enumerate(curves.items()):
        left, bottom = index * (width + margin) + margin, height + 30
        ideal = [(x, points[0][1] * work / points[0][2]) for x, _, work in points]
        values = [y for _, y, _ in points] + [y for _, y in ideal]
        x0, x1 = math.log(points[0][0]), math.log(points[-1][0])
        y0, y1 = math.log(min(values)), math.log(max(values))
        at = lambda x, y: (left + (math.log(x) - x0) / ((x1 - x0) or 1) * width, bottom - (math.log(y) - y0) / ((y1 - y0) or 1) * height)
        line = lambda data: " ".join("%.1f,%.1f" % at(x, y) for x, y in data)
        parts.append(f'<path d="M{left},30V{bottom}H{left + width}" fill="none" stroke="#888"/>')
        parts.append(f'<polyline points="{line(ideal)}" fill="none" stroke="#999" stroke-dasharray="4 3"/>')
        parts.append(f'<polyline points="{line([p[:2] for p in points])}" fill="none" stroke="#1660b0" stroke-width="2"/>')
        for x, y, _ in points:
            px, py = at(x, y)
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="#1660b0"/><text x="{px:.1f}" y="{bottom + 14}" text-anchor="middle">{x}</text>')
        for y in (min(values), max(values)):
            parts.append(f'<text x="{left - 4}" y="{at(points[0][0], y)[1] + 4:.1f}" text-anchor="end">{1e3 * y:.3g}</text>')
        parts.append(f'<text x="{left + width / 2}" y="{bottom + 32}" text-anchor="middle">{name}</text>')
    parts.append('<text x="46" y="16">ms per training step of 2,048 tokens; dashed: as the flops grow from the first point</text></svg>')
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", help="put the table between FILE's scaling marks")
    parser.add_argument("--plot", metavar="FILE", help="write the plot there, as SVG")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each run (default 7)")
    parser.add_argument("--ghostmax", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "ghostmax"))
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    sweeps = dict(SWEEPS, threads=sorted({1, *(2**i for i in range(1, 8) if 2**i <= os.cpu_count()), os.cpu_count()}))
    head = f"Otherwise {', '.join(f'{k} = {v}' for k, v in BASE.items())}, heads of {HEAD}, {TOKENS:,} tokens a step.\n\n"
    rows, curves = ["| varied | value | ms a step | tokens/s | time grew | flops grew | Gflop/s |", "|---|---:|---:|---:|---:|---:|---:|"], {}
    print(head + "\n".join(rows), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, values in sweeps.items():
            curves[name] = []
            for value in values:
                shape = dict(BASE, **{name: value})
                seconds, work = step_seconds(args, shape, folder), flops(shape)
                share = work / value if name == "threads" else work  # threads: the ideal is a share of the work each
                grew = [f"{seconds / curves[name][-1][1]:.2f}", f"{share / curves[name][-1][2]:.2f}"] if curves[name] else ["", ""]
                curves[name].append((value, seconds, share))
                rows.append(f"| {name} | {value} | {1e3 * seconds:.3g} | {TOKENS / seconds:,.0f} | {grew[0]} | {grew[1]} | {1e-9 * work / seconds:.0f} |")
                print(rows[-1], flush=True)
    table = head + "\n".join(rows)
    if args.plot:
        table += f"\n\n![ms a step; dashed: as the flops grow]({os.path.basename(args.plot)})"
    if args.write:
        with open(args.write) as f:
            text = f.read()
        if BEGIN not in text or END not in text:
            sys.exit(f"scaling.py: '{args.write}' has no place for the table: {BEGIN} and {END}")
        text = text[: text.index(BEGIN) + len(BEGIN)] + "\n" + table + "\n" + text[text.index(END) :]
        with open(args.write + ".new", "w") as f:
            f.write(text)
        os.replace(args.write + ".new", args.write)
    if args.plot:
        with open(args.plot + ".new", "w") as f:
            f.write(plot(curves))
        os.replace(args.plot + ".new", args.plot)


if __name__ == "__main__":
    main()
