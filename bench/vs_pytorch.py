#!/usr/bin/env python3
"""Training beside PyTorch: the same model, batch, threads and f32, in alternating runs on this machine.

    python3 bench/vs_pytorch.py [--quick] [--presets LIST] [--python PATH]... [--mode eager,compile] [--rounds N] [--append FILE]

Prints the PyTorch versions, then one line per preset (and per PyTorch and mode, where several are asked for): tokens/s of each side (median
over the rounds, with their range), peak memory of the processes, and last our tokens/s over theirs. Both sides do the whole step: batch,
forward, loss, backward, gradient clipping, AdamW. The PyTorch model is written here after the architecture (nanoGPT's choices), with
F.scaled_dot_product_attention where the version has it. Every --python names an interpreter that imports torch; a version that cannot
compile says so and is left out of that mode.

With --append every line also becomes a row of a table in FILE as soon as it is there, so that presets and modes can be run one at a time, and
a run that is stopped loses only what it was at. Progress goes to stderr.

Memory is the largest resident size of each process (VmHWM), the interpreter and PyTorch's own libraries included, since a user pays for
them; "net of imports" takes away from PyTorch's what its process held before the model was made, and from ours nothing.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# preset: (layers, heads, width, ffn, activation, bias, tied), batch, context, vocab
PRESETS = {
    "gpt2-nano": ((3, 3, 48, 192, "gelu", True, True), 32, 64, 96),
    "gpt2-mini": ((6, 6, 384, 1536, "gelu", True, True), 16, 256, 96),
    "gpt2-small": ((12, 12, 768, 3072, "gelu", True, True), 4, 256, 50257),
    "bb-1l": ((1, 1, 256, 1024, "relu", False, False), 32, 256, 67),
    "words-mini": ((4, 2, 192, 768, "relu", False, False), 32, 128, 4096),
}
STEPS = {"gpt2-nano": 60, "gpt2-mini": 8, "gpt2-small": 4, "bb-1l": 12, "words-mini": 12}


# ---- PyTorch's side: a process of its own, so that every version, mode and preset starts alike and has a peak of its own


def peak_kb():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def torch_side(preset, mode, threads):
    """Answers every line "STEPS" on stdin with a line of JSON: tokens/s and peak kB."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    class Block(nn.Module):
        def __init__(self, heads, width, ffn, act, bias):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
            self.up, self.down = nn.Linear(width, ffn, bias=bias), nn.Linear(ffn, width, bias=bias)
            self.act = F.relu if act == "relu" else lambda h: F.gelu(h, approximate="tanh")

        def forward(self, x, mask):
            B, T, C = x.shape
            q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, dim=2))
            if hasattr(F, "scaled_dot_product_attention"):
                o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                s = (q @ k.transpose(-2, -1)) * (1.0 / (q.shape[-1] ** 0.5))
                o = F.softmax(s.masked_fill(mask[:T, :T], float("-inf")), dim=-1) @ v
            x = x + self.out(o.transpose(1, 2).reshape(B, T, C))
            return x + self.down(self.act(self.up(self.norm2(x))))

    class Model(nn.Module):
        def __init__(self, shape, context, vocab):
            super().__init__()
            layers, heads, width, ffn, act, bias, tied = shape
            self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block(heads, width, ffn, act, bias) for _ in range(layers))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)
            if tied:
                self.head.weight = self.wte.weight
            self.register_buffer("mask", torch.triu(torch.ones(context, context, dtype=torch.bool), 1))

        def forward(self, x, y):
            h = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h, self.mask)
            logits = self.head(self.norm(h))
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))

    shape, batch, context, vocab = PRESETS[preset]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    before = peak_kb()
    model = Model(shape, context, vocab)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    fused = {"fused": True} if int(torch.__version__.split(".")[0]) >= 2 else {}  # one pass over the parameters, where it is offered
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99),
                                  **fused)
    run = torch.compile(model) if mode == "compile" else model
    data = torch.randint(0, vocab, (1 << 20,))

    def train_step():
        at = torch.randint(0, len(data) - context - 1, (batch,))
        x = torch.stack([data[i : i + context] for i in at])
        y = torch.stack([data[i + 1 : i + context + 1] for i in at])
        loss = run(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for line in sys.stdin:
        seconds = []
        for step in range(int(line) + 2):  # two to warm up
            start = time.perf_counter()
            train_step()
            if step >= 2:
                seconds.append(time.perf_counter() - start)
        print(json.dumps({"rate": batch * context / statistics.median(seconds), "peak": peak_kb(), "before": before}), flush=True)


class Torch:
    """One interpreter in one mode; for one preset at a time a process that waits for its turns."""

    def __init__(self, python, mode, threads):
        self.python, self.mode, self.threads = python, mode, threads
        code = "import torch; print(torch.__version__, hasattr(torch, 'compile'))"
        try:
            done = subprocess.run([python, "-c", code], capture_output=True, text=True)
        except OSError as e:
            sys.exit(f"vs_pytorch.py: cannot run '{python}': {e.strerror}")
        if done.returncode:
            sys.exit(f"vs_pytorch.py: '{python}' cannot import torch ({done.stderr.strip().splitlines()[-1]}); install python3-torch (Debian) "
                     "or torch (PyPI), or name another interpreter with --python")
        self.version, compiles = done.stdout.split()
        self.works = mode == "eager" or compiles == "True"
        self.why = "this version has no torch.compile"

    def begin(self, preset):
        command = [self.python, os.path.abspath(__file__), "--side", preset, "--mode", self.mode, "--threads", str(self.threads)]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def run(self, steps):
        """The answer, or None: this mode does not work here."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.log.seek(0)
        self.works, self.why = False, (self.log.read().strip().splitlines() or ["it ended without a word"])[-1]
        return None

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


# ---- ours


def write_text(folder, vocab):
    """Random text that gives exactly `vocab` tokens: letters for characters, made-up words for the word preset."""
    rng = random.Random(1)
    path = os.path.join(folder, f"text{vocab}.txt")
    if vocab > 256:
        words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6)) for _ in range(vocab)]
        text = " ".join(rng.choice(words) for _ in range(200000))
    else:
        letters = [chr(33 + i) for i in range(vocab - 2)]
        text = "\n".join("".join(rng.choice(letters) for _ in range(80)) for _ in range(4000))
    with open(path, "w") as f:
        f.write(text)
    return path


def ghostmax_run(preset, steps, program, threads, folder):
    _, batch, context, vocab = PRESETS[preset]
    data = ["--data", "bb"] if preset.startswith("bb") else ["--data", write_text(folder, vocab)]
    if vocab > 256:
        data += ["--tokens", "words", "--vocab", str(vocab)]
    elif not preset.startswith("bb"):
        data += ["--tokens", "chars"]
    out = tempfile.mkdtemp(dir=folder)
    command = [program, "train", *data, "--model", preset, "--steps", str(steps + 2), "--batch", str(batch), "--context", str(context),
               "--log-every", "1", "--warmup", "1", "--eval-sequences", "1", "--threads", str(threads), "--quiet", "--out", out + "/run"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"vs_pytorch.py: this failed: {' '.join(command)}")
    with open(out + "/run/metrics.jsonl") as f:
        lines = [json.loads(line) for line in f]
    seconds = statistics.median(line["step_seconds"] for line in lines[2:])
    shutil.rmtree(out)
    return {"rate": batch * context / seconds, "peak": usage.ru_maxrss}


HEADER = ("| preset | batch | PyTorch | ours, tokens/s | PyTorch's | ours over PyTorch's | memory, MB | of PyTorch's | net of imports | rounds |\n"
          "|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n")


def append_row(path, row):
    """A row at the end of the table, which begins with its header."""
    new = not os.path.exists(path) or os.path.getsize(path) == 0
    with open(path, "a") as f:
        f.write((HEADER if new else "") + row + "\n")


class Progress:
    """What runs now and how long what has run took, on stderr."""

    def __init__(self, total):
        self.total, self.done, self.start = total, 0, time.monotonic()

    def run(self, what, work):
        begin = time.monotonic()
        self.done += 1
        print(f"[{self.done} of {self.total}, {begin - self.start:.0f} s] {what} ...", end="", file=sys.stderr, flush=True)
        result = work()
        print(f" {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
        return result


def range_of(runs):
    rates = [run["rate"] for run in runs]
    return f"{statistics.median(rates):,.0f} tokens/s ({min(rates):,.0f}..{max(rates):,.0f})", statistics.median(rates)


def compare(preset, sides, rounds, args, folder, progress):
    _, batch, context, _ = PRESETS[preset]
    ours, theirs = [], {side: [] for side in sides}
    for side in sides:
        side.begin(preset)
    try:
        for i in range(rounds):
            name = f"{preset}, round {i + 1} of {rounds}"
            for side in sides:
                if side.works:
                    theirs[side].append(progress.run(f"{name}: PyTorch {side.version} {side.mode}", lambda: side.run(STEPS[preset])))
            ours.append(progress.run(f"{name}: ghostmax", lambda: ghostmax_run(preset, STEPS[preset], args.ghostmax, args.threads, folder)))
    finally:
        for side in sides:
            side.end()
    text, a = range_of(ours)
    for side, runs in theirs.items():
        if not side.works:
            continue
        other, b = range_of(runs)
        mine, peak, net = max(r["peak"] for r in ours), max(r["peak"] for r in runs), max(r["peak"] - r["before"] for r in runs)
        print(f"{preset:<12} B={batch} T={context}: ghostmax {text}, PyTorch {side.version} {side.mode} {other}, memory "
              f"{mine >> 10:,} of {peak >> 10:,} MB {mine / peak:.2f} (net of imports {mine / net:.2f}), {a / b:.2f}x", flush=True)
        if args.append:
            append_row(args.append, f"| {preset} | {batch} x {context} | {side.version} {side.mode} | {a:,.0f} | {b:,.0f} | {a / b:.2f} | "
                                    f"{mine >> 10:,} of {peak >> 10:,} | {mine / peak:.2f} | {mine / net:.2f} | {rounds} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="gpt2-nano, gpt2-mini and words-mini, fewer rounds")
    parser.add_argument("--presets", help="comma list; default: " + ",".join(PRESETS))
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter that has torch; repeat for several (default: this one)")
    parser.add_argument("--mode", default="eager", help="eager, compile or eager,compile (default eager)")
    parser.add_argument("--rounds", type=int, help="alternating runs of each side (default 3, quick 2)")
    parser.add_argument("--append", metavar="FILE", help="also add every line to the table in FILE, which begins one where there is none")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ghostmax", default=os.path.join(os.path.dirname(__file__), "..", "build", "ghostmax"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return torch_side(args.side, args.mode, args.threads)
    presets = args.presets.split(",") if args.presets else ["gpt2-nano", "gpt2-mini", "words-mini"] if args.quick else list(PRESETS)
    for name in presets:
        if name not in PRESETS:
            parser.error(f"unknown preset '{name}'; there are {', '.join(PRESETS)}")
    modes = args.mode.split(",")
    for mode in modes:
        if mode not in ("eager", "compile"):
            parser.error(f"unknown mode '{mode}'; there are eager and compile")
    if not os.access(args.ghostmax, os.X_OK):
        sys.exit(f"vs_pytorch.py: '{args.ghostmax}' cannot be run; run make, or name it with --ghostmax")
    sides = [Torch(python, mode, args.threads) for python in args.python or [sys.executable] for mode in modes]
    versions = dict.fromkeys(side.version for side in sides)
    print(f"PyTorch {' and '.join(versions)}, {' and '.join(modes)}, {args.threads} threads, f32")
    rounds = args.rounds or (2 if args.quick else 3)
    progress = Progress(len(presets) * rounds * (1 + sum(side.works for side in sides)))
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            compare(preset, [side for side in sides if side.works], rounds, args, folder, progress)
    for side in sides:
        if not side.works:
            print(f"PyTorch {side.version} {side.mode}: left out: {side.why}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nvs_pytorch.py: stopped; what had its line stays")
