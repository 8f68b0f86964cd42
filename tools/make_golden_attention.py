#!/usr/bin/env python3
"""Writes tests/golden/attention.txt: attention, its variants, gates and their gradients as PyTorch's autograd has them, in float64 from
inputs that float32 holds exactly. Needs python3-torch. Run from the repository's root:

    python3 tools/make_golden_attention.py > tests/golden/attention.txt

A case is a line `case NAME`, then lines `FIELD COUNT VALUES...`, row-major. tests/ops/test_golden_attention.c reads it."""

import math
import sys

import torch

torch.manual_seed(2023)
torch.set_default_dtype(torch.float64)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float32).double().requires_grad_()


def case(name, **fields):
    print("case", name)
    for field, value in fields.items():
        values = torch.as_tensor(value, dtype=torch.float64).detach().flatten().tolist()
        print(field, len(values), *(format(v, ".9g") for v in values))


def visible(T, S, causal, window):
    position = torch.arange(S - T, S)[:, None]
    key = torch.arange(S)[None, :]
    seen = torch.ones(T, S, dtype=torch.bool)
    if causal:
        seen &= key <= position
    if window:
        seen &= key > position - window
    return seen


def attention(name, B, T, S, H, KV, D, causal, window=0, n=0.0, learned=False, gamma=0.0, zeta=1.0):
    """softmax over the scores and one more logit: ln n, a learned one, or none; then Bondarenko et al.'s stretch and clip."""
    q, k, v, dout = random(B, T, H, D), random(B, S, KV, D), random(B, S, KV, D), random(B, T, H, D)
    sinks = random(H)
    heads = lambda x: x.repeat_interleave(H // KV, dim=2).permute(0, 2, 1, 3)
    scores = q.permute(0, 2, 1, 3) @ heads(k).transpose(-2, -1) / math.sqrt(D)
    scores = scores.masked_fill(~visible(T, S, causal, window), -math.inf)
    logit = sinks[None, :, None, None].expand(B, H, T, 1)
    if not learned:
        logit = logit * 0 + (math.log(n) if n else -math.inf)
    everything = torch.cat([scores, logit], dim=-1)
    p = torch.softmax(everything, dim=-1)[..., :-1]
    w = torch.clip((zeta - gamma) * p + gamma, 0, 1)
    o = (w @ heads(v)).permute(0, 2, 1, 3)
    o.backward(dout)
    case(name, shape=[B, T, S, H, KV, D, causal, window], sink=[math.log(n) if n else -math.inf], clip=[zeta - gamma, gamma],
         learned=[learned], q=q, k=k, v=v, sinks=sinks, dout=dout, o=o, lse=torch.logsumexp(everything, dim=-1), dq=q.grad, dk=k.grad,
         dv=v.grad, dsinks=sinks.grad if learned else torch.zeros(H))


def multihead(name, B, T, C, H, causal):
    """torch.nn.MultiheadAttention's own add_zero_attn: an extra key and value of zeros, which is softmax1."""
    layer = torch.nn.MultiheadAttention(C, H, bias=False, add_zero_attn=True, batch_first=True)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(p.float().double())
    x, dy = random(B, T, C), random(B, T, C)
    mask = torch.full((T, T), -math.inf).triu(1) if causal else None
    y, weights = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
    y.backward(dy)
    case(name, shape=[B, T, C, H, causal], x=x, w_in=layer.in_proj_weight, w_out=layer.out_proj.weight, dy=dy, y=y, null_mass=weights[..., -1],
         dx=x.grad, dw_in=layer.in_proj_weight.grad, dw_out=layer.out_proj.weight.grad)


def gate(name, kind, R, C, H, D, hidden):
    x, o, dgated = random(R, C), random(R, H, D), random(R, H, D)
    slices = x.view(R, H, C // H)
    parameters = {}
    if kind == "linear":
        parameters = dict(w1=random(H, C // H), b1=random(H))
        logit = (slices * parameters["w1"]).sum(-1) + parameters["b1"]
    elif kind == "mlp":
        parameters = dict(w1=random(H, hidden, C // H), b1=random(H, hidden), w2=random(H, hidden), b2=random(H))
        z = torch.relu(torch.einsum("rhi,hui->rhu", slices, parameters["w1"]) + parameters["b1"])
        logit = (z * parameters["w2"]).sum(-1) + parameters["b2"]
    else:
        units = H if kind == "all_heads" else H * D
        parameters = dict(w1=random(units, C), b1=random(units))
        logit = torch.nn.functional.linear(x, parameters["w1"], parameters["b1"])
    g = torch.sigmoid(logit)
    gated = o * (g.view(R, H, D) if kind == "channel" else g[..., None])
    gated.backward(dgated)
    case(name, shape=[R, C, H, D, hidden if kind == "mlp" else 0], x=x, o=o, dgated=dgated, g=g, gated=gated, dx=x.grad, do=o.grad,
         **parameters, **{"d" + n: p.grad for n, p in parameters.items()})


print(f"# PyTorch {torch.__version__}, by tools/{sys.argv[0].split('/')[-1]}; float64 from float32 inputs")
for causal in (False, True):
    multihead("multihead_causal" if causal else "multihead", B=2, T=5, C=12, H=3, causal=causal)
attention("softmax", B=2, T=5, S=5, H=2, KV=2, D=3, causal=True)
attention("softmax1", B=2, T=5, S=5, H=2, KV=2, D=3, causal=True, n=1)
attention("softmax1_decode", B=1, T=2, S=9, H=4, KV=2, D=5, causal=True, n=1)
attention("softmax_half", B=1, T=6, S=6, H=2, KV=1, D=4, causal=False, n=0.5)
attention("sink", B=2, T=7, S=7, H=4, KV=2, D=3, causal=True, learned=True)
attention("sink_window", B=2, T=9, S=11, H=2, KV=1, D=4, causal=True, window=3, learned=True)
attention("clipped", B=2, T=8, S=8, H=2, KV=2, D=4, causal=True, gamma=-0.03, zeta=1.03)
attention("clipped_strong", B=1, T=8, S=8, H=2, KV=2, D=4, causal=False, gamma=-0.2)
attention("clipped_sink", B=2, T=8, S=8, H=2, KV=1, D=4, causal=True, learned=True, gamma=-0.1, zeta=1.2)
for kind in ("linear", "mlp", "all_heads", "channel"):
    gate("gate_" + kind, kind, R=4, C=12, H=3, D=4, hidden=4)
