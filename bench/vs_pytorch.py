#!/usr/bin/env python3
"""Training speed beside PyTorch: the same model, batch, threads and f32, in alternating runs on this machine.

    python3 bench/vs_pytorch.py [--quick] [--threads N] [--ghostmax build/ghostmax]

Prints PyTorch's version, then one line per preset: tokens/s of each (median over the rounds, with the spread), and ours over theirs.
Both sides do the whole step: batch, forward, loss, backward, gradient clipping, AdamW. PyTorch runs eager with fused attention where its
version has it; the model is written here after the architecture (nanoGPT's choices), not imported.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except ImportError:
    sys.exit("vs_pytorch.py: PyTorch is missing; install python3-torch (Debian) or torch (PyPI)")

# preset: (layers, heads, width, ffn, activation, bias, tied), batch, context, vocab
PRESETS = {
    "gpt2-nano": ((3, 3, 48, 192, "gelu", True, True), 32, 64, 96),
    "gpt2-mini": ((6, 6, 384, 1536, "gelu", True, True), 16, 256, 96),
    "gpt2-small": ((12, 12, 768, 3072, "gelu", True, True), 4, 256, 96),
    "bb-1l": ((1, 1, 256, 1024, "relu", False, False), 32, 256, 67),
    "words-mini": ((4, 2, 192, 768, "relu", False, False), 32, 128, 4096),
}
STEPS = {"gpt2-nano": 60, "gpt2-mini": 8, "gpt2-small": 4, "bb-1l": 12, "words-mini": 12}


class Block(nn.Module):
    def __init__(self, heads, width, ffn, act, bias):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.up, self.down = nn.Linear(width, ffn, bias=bias), nn.Linear(ffn, width, bias=bias)
        self.act = act

    def forward(self, x, mask):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, dim=2))
        if hasattr(F, "scaled_dot_product_attention"):
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            s = (q @ k.transpose(-2, -1)) * (1.0 / (q.shape[-1] ** 0.5))
            o = F.softmax(s.masked_fill(mask[:T, :T], float("-inf")), dim=-1) @ v
        x = x + self.out(o.transpose(1, 2).reshape(B, T, C))
        h = self.up(self.norm2(x))
        h = F.relu(h) if self.act == "relu" else F.gelu(h)
        return x + self.down(h)


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


def torch_run(preset, steps):
    shape, batch, context, vocab = PRESETS[preset]
    torch.manual_seed(1)
    model = Model(shape, context, vocab)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99))
    data = torch.randint(0, vocab, (1 << 20,))
    seconds = []
    for step in range(steps + 2):  # two to warm up
        start = time.perf_counter()
        at = torch.randint(0, len(data) - context - 1, (batch,))
        x = torch.stack([data[i : i + context] for i in at])
        y = torch.stack([data[i + 1 : i + context + 1] for i in at])
        loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    return batch * context / statistics.median(seconds)


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
    if vocab == 4096:
        data += ["--tokens", "words", "--vocab", "4096"]
    elif not preset.startswith("bb"):
        data += ["--tokens", "chars"]
    out = tempfile.mkdtemp(dir=folder)
    command = [program, "train", *data, "--model", preset, "--steps", str(steps + 2), "--batch", str(batch), "--context", str(context),
               "--log-every", "1", "--warmup", "1", "--eval-sequences", "1", "--threads", str(threads), "--quiet", "--out", out + "/run"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(out + "/run/train.json") as f:
        json.load(f)
    with open(out + "/run/metrics.jsonl") as f:
        lines = [json.loads(line) for line in f]
    return batch * context / statistics.median(line["step_seconds"] for line in lines[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="gpt2-nano, gpt2-mini and words-mini, fewer rounds")
    parser.add_argument("--presets", help="comma list; default: " + ",".join(PRESETS))
    parser.add_argument("--rounds", type=int, help="alternating runs of each side (default 3, quick 2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ghostmax", default=os.path.join(os.path.dirname(__file__), "..", "build", "ghostmax"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}, eager, {args.threads} threads, f32")
    presets = args.presets.split(",") if args.presets else ["gpt2-nano", "gpt2-mini", "words-mini"] if args.quick else list(PRESETS)
    rounds = args.rounds or (2 if args.quick else 3)
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            _, batch, context, _ = PRESETS[preset]
            ours, theirs = [], []
            for _ in range(rounds):
                theirs.append(torch_run(preset, STEPS[preset]))
                ours.append(ghostmax_run(preset, STEPS[preset], args.ghostmax, args.threads, folder))
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"{preset:<12} B={batch} T={context}: ghostmax {a:,.0f} tokens/s ({min(ours):,.0f}..{max(ours):,.0f}), "
                  f"PyTorch {b:,.0f} ({min(theirs):,.0f}..{max(theirs):,.0f}), {a / b:.2f}x", flush=True)


if __name__ == "__main__":
    main()
