#!/usr/bin/env python3
"""Writes tests/golden/training: small models trained by PyTorch in double precision, for tests/train/test_training_golden.c.

Written from the formulas in docs/numerics.md, with PyTorch's own layers, autograd and AdamW; it shares no code with the library.
Each case is NAME.safetensors (the initial weights, under the library's parameter names) and NAME.json (the model, the optimizer, the
tokens, and per step the loss, the gradient's norm before clipping and the learning rate).

    /usr/bin/python3 tools/make_golden_training.py        # Debian: apt-get install python3-torch
"""
import json
import math
import pathlib
import struct

import torch
import torch.nn.functional as F

STEPS, BATCH, LENGTH = 16, 4, 12
OPTIMIZER = dict(steps=STEPS, batch=BATCH, context=LENGTH, lr=0.004, lr_min=0.1, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1,
                 clip=1.0, warmup=4)
CASES = {
    "gpt2_sink": dict(preset="gpt2-nano", attention="sink", schedule="cosine", V=29, C=24, H=2, KV=2, F=40, L=2, window=0),
    "opt_clipped": dict(preset="opt-mini", attention="clipped:gamma=-0.02,zeta=1.03", schedule="linear", V=23, C=18, H=3, KV=3, F=32,
                        L=2, window=0),
    "llama_softmax1_gated": dict(preset="llama-260k", attention="softmax1+gated:kind=all_heads", schedule="constant", V=31, C=24, H=4,
                                 KV=2, F=28, L=2, window=7),
}


def initial_weights(case, generator):
    """Our parameter names, and values that f32 holds exactly."""
    V, C, H, KV, FF = (case[k] for k in ("V", "C", "H", "KV", "F"))
    D = C // H
    llama = case["preset"].startswith("llama")
    w = {}

    def normal(name, rows, cols=None, std=0.08, mean=0.0):
        shape = (rows,) if cols is None else (rows, cols)
        w[name] = (mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)).float().double()

    def norm(name):
        normal(name + ".g", C, std=0.1, mean=1.0)
        if not llama:
            normal(name + ".b", C, std=0.1)

    normal("wte", V, C, std=0.3)
    if not llama:
        normal("wpe", LENGTH + (2 if case["preset"].startswith("opt") else 0), C, std=0.1)
    for layer in range(case["L"]):
        p = f"blocks.{layer}."
        norm(p + "norm1")
        normal(p + "wqkv", (H + 2 * KV) * D, C, std=0.2)
        if not llama:
            normal(p + "bqkv", (H + 2 * KV) * D)
        if case["attention"] == "sink":
            normal(p + "sinks", H, std=0.7)
        if "all_heads" in case["attention"]:
            normal(p + "gate.w1", H, C, std=0.2)
            normal(p + "gate.b1", H, std=0.5)
        normal(p + "wo", C, H * D, std=0.2)
        if not llama:
            normal(p + "bo", C)
        norm(p + "norm2")
        normal(p + "ffn.w1", 2 * FF if llama else FF, C, std=0.2)
        if not llama:
            normal(p + "ffn.b1", FF)
        normal(p + "ffn.w2", C, FF, std=0.2)
        if not llama:
            normal(p + "ffn.b2", C)
    norm("normf")
    return w


def make_tokens(V, generator):
    """Learnable: most tokens follow from the one before."""
    tokens = torch.zeros(STEPS, BATCH, LENGTH + 1, dtype=torch.long)
    tokens[:, :, 0] = torch.randint(V, (STEPS, BATCH), generator=generator)
    for t in range(LENGTH):
        noise = torch.randint(V, (STEPS, BATCH), generator=generator)
        known = torch.rand((STEPS, BATCH), generator=generator) < 0.8
        tokens[:, :, t + 1] = torch.where(known, (7 * tokens[:, :, t] + 3) % V, noise)
    return tokens


def rms_norm(x, g, eps=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * g


def rotate(x, theta=10000.0):
    """[B, H, T, D]: Hugging Face's rotate_half."""
    T, D = x.shape[-2:]
    inverse = theta ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    angles = torch.outer(torch.arange(T, dtype=torch.float64), inverse)
    cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)
    half = torch.cat([-x[..., D // 2:], x[..., :D // 2]], -1)
    return x * cos + half * sin


def attention(case, w, p, x):
    B, T, C = x.shape
    H, KV, D = case["H"], case["KV"], C // case["H"]
    qkv = F.linear(x, w[p + "wqkv"], w.get(p + "bqkv"))
    q, k, v = qkv.split([H * D, KV * D, KV * D], -1)
    q = q.view(B, T, H, D).transpose(1, 2)
    k = k.view(B, T, KV, D).transpose(1, 2)
    v = v.view(B, T, KV, D).transpose(1, 2)
    if case["preset"].startswith("llama"):
        q, k = rotate(q), rotate(k)
    k, v = (z.repeat_interleave(H // KV, dim=1) for z in (k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(D)
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    visible = (j <= i) & ((j > i - case["window"]) if case["window"] else True)
    scores = scores.masked_fill(~visible, -math.inf)
    spec = case["attention"]
    if spec == "sink":
        column = w[p + "sinks"].view(1, H, 1, 1).expand(B, H, T, 1)
        weights = torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]
    elif spec.startswith("softmax1"):
        weights = torch.softmax(F.pad(scores, (0, 1)), -1)[..., :-1]
    else:
        keys = dict(item.split("=") for item in spec.split(":")[1].split(","))
        zeta, gamma = float(keys["zeta"]), float(keys["gamma"])
        weights = torch.clamp((zeta - gamma) * torch.softmax(scores, -1) + gamma, 0, 1)
    o = weights @ v
    if "gated" in spec:
        gate = torch.sigmoid(F.linear(x, w[p + "gate.w1"], w[p + "gate.b1"]))
        o = o * gate.transpose(1, 2).unsqueeze(-1)
    return F.linear(o.transpose(1, 2).reshape(B, T, C), w[p + "wo"], w.get(p + "bo"))


def loss_of(case, w, tokens):
    """Mean over all targets; the head is the embedding table in all three."""
    x, y = tokens[:, :-1], tokens[:, 1:]
    llama = case["preset"].startswith("llama")

    def norm(name, h):
        return rms_norm(h, w[name + ".g"]) if llama else F.layer_norm(h, (case["C"],), w[name + ".g"], w[name + ".b"], 1e-5)

    h = w["wte"][x]
    if not llama:
        h = h + w["wpe"][torch.arange(LENGTH) + (2 if case["preset"].startswith("opt") else 0)]
    for layer in range(case["L"]):
        p = f"blocks.{layer}."
        h = h + attention(case, w, p, norm(p + "norm1", h))
        up = F.linear(norm(p + "norm2", h), w[p + "ffn.w1"], w.get(p + "ffn.b1"))
        if llama:
            gate, up = up.chunk(2, -1)
            up = F.silu(gate) * up
        elif case["preset"].startswith("opt"):
            up = F.relu(up)
        else:
            up = F.gelu(up, approximate="tanh")
        h = h + F.linear(up, w[p + "ffn.w2"], w.get(p + "ffn.b2"))
    logits = norm("normf", h) @ w["wte"].T
    return F.cross_entropy(logits.reshape(-1, case["V"]), y.reshape(-1))


def rate(case, step):
    o = OPTIMIZER
    if step <= o["warmup"]:
        return o["lr"] * step / o["warmup"]
    progress = (step - o["warmup"]) / (o["steps"] - o["warmup"])
    if case["schedule"] == "constant":
        return o["lr"]
    share = 1 - progress if case["schedule"] == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return o["lr"] * (o["lr_min"] + (1 - o["lr_min"]) * share)


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, t in tensors.items():
        raw = t.detach().float().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/training"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, case) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(20 + number)
        w = initial_weights(case, generator)
        tokens = make_tokens(case["V"], generator)
        write_safetensors(folder / f"{name}.safetensors", w)
        for t in w.values():
            t.requires_grad_()
        o = OPTIMIZER
        groups = [{"params": [t for t in w.values() if t.dim() == 2], "weight_decay": o["weight_decay"]},
                  {"params": [t for t in w.values() if t.dim() == 1], "weight_decay": 0.0}]
        adamw = torch.optim.AdamW(groups, lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["eps"])
        steps = []
        for step in range(1, STEPS + 1):
            for group in adamw.param_groups:
                group["lr"] = rate(case, step)
            adamw.zero_grad()
            loss = loss_of(case, w, tokens[step - 1])
            loss.backward()
            norm = math.sqrt(sum(float(t.grad.pow(2).sum()) for t in w.values()))
            for t in w.values():
                t.grad.mul_(min(1.0, o["clip"] / norm))
            adamw.step()
            steps.append({"loss": loss.item(), "grad_norm": norm, "lr": rate(case, step)})
        final = math.sqrt(sum(float(t.detach().pow(2).sum()) for t in w.values()))
        record = {"made_by": f"tools/make_golden_training.py, PyTorch {torch.__version__}, float64", "preset": case["preset"],
                  "overrides": f"vocab={case['V']},context={LENGTH},width={case['C']},heads={case['H']},kv-heads={case['KV']},"
                               f"ffn={case['F']},layers={case['L']},window={case['window']}",
                  "attention": case["attention"], "schedule": case["schedule"], "optimizer": OPTIMIZER, "tokens": tokens.tolist(),
                  "steps": steps, "final_weight_norm": final}
        (folder / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")).replace('"steps":[', '\n"steps":[') + "\n")
        print(name, "loss", steps[0]["loss"], "->", steps[-1]["loss"], "grad norm", steps[0]["grad_norm"], "->", steps[-1]["grad_norm"])


if __name__ == "__main__":
    main()
