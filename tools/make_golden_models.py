#!/usr/bin/env python3
"""Writes tests/golden/models/: tiny checkpoints in Hugging Face's layout and the logits they must give.

The models are computed here from the checkpoints' own tensors, in double precision with plain PyTorch operations, from the published
definitions of GPT-2, OPT and LLaMA. The stock folders (gpt2, opt, llama) were also loaded with Hugging Face transformers, which gave the
same logits (run with --check where transformers is installed). The files are written byte by byte, without the safetensors package.

Usage: tools/make_golden_models.py [--check]     (needs python3-torch)
"""
import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "models")
V, T, B = 23, 9, 2


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    for name, x in tensors.items():
        raw = x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32).numpy().tobytes()
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def fill(shapes, dtype, seed):
    """Large weights, so that attention is far from uniform and any wrong row, transpose or sign shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if "norm" in name or ".ln_" in name:
            x = (1 + 0.2 * x) if name.endswith("weight") else 0.2 * x
        elif name.endswith("bias") or name.endswith("sinks"):
            x = 0.5 * x
        elif "embed" in name or ".wte" in name or ".wpe" in name:
            x = 0.7 * x
        else:
            x = 1.5 * x / math.sqrt(shape[-1])
        tensors[name] = x.to(dtype)
    return tensors


def attend(q, k, v, sinks=None):
    """q [B,T,H,D], k, v [B,T,KV,D]. A sink is one more score, whose value is nothing."""
    H, KV, D = q.shape[2], k.shape[2], q.shape[3]
    q = q.transpose(1, 2)
    k = k.repeat_interleave(H // KV, dim=2).transpose(1, 2)
    v = v.repeat_interleave(H // KV, dim=2).transpose(1, 2)
    scores = q @ k.transpose(2, 3) / math.sqrt(D)
    scores = scores.masked_fill(torch.ones(q.shape[2], q.shape[2]).triu(1).bool(), -math.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, H, 1, 1).expand(q.shape[0], H, q.shape[2], 1)], dim=3)
    weights = torch.softmax(scores, dim=3)[..., : q.shape[2]]
    return (weights @ v).transpose(1, 2).flatten(2)


def gpt2(w, c, tokens):
    n, H = c["n_embd"], c["n_head"]
    norm = lambda x, p: F.layer_norm(x, (n,), w[p + ".weight"], w[p + ".bias"], c["layer_norm_epsilon"])
    conv1d = lambda x, p: x @ w[p + ".weight"] + w[p + ".bias"]
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        h = norm(x, p + "ln_1")
        q, k, v = (t.unflatten(2, (H, n // H)) for t in conv1d(h, p + "attn.c_attn").split(n, dim=2))
        o = attend(q, k, v, w.get(p + "attn.sinks"))
        if p + "attn.gate.fc1.weight" in w:  # one gate per channel, from the normalised input
            o = o * torch.sigmoid(h @ w[p + "attn.gate.fc1.weight"].T + w[p + "attn.gate.fc1.bias"])
        x = x + conv1d(o, p + "attn.c_proj")
        h = conv1d(norm(x, p + "ln_2"), p + "mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + conv1d(h, p + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


def opt(w, c, tokens):
    n, H = c["hidden_size"], c["num_attention_heads"]
    norm = lambda x, p: F.layer_norm(x, (n,), w[p + ".weight"], w[p + ".bias"], 1e-5)
    linear = lambda x, p: F.linear(x, w[p + ".weight"], w[p + ".bias"])
    d = "model.decoder."
    x = w[d + "embed_tokens.weight"][tokens] + w[d + "embed_positions.weight"][2 : 2 + tokens.shape[1]]
    for i in range(c["num_hidden_layers"]):
        p = f"{d}layers.{i}."
        h = norm(x, p + "self_attn_layer_norm")
        q, k, v = (linear(h, p + f"self_attn.{t}_proj").unflatten(2, (H, n // H)) for t in "qkv")
        x = x + linear(attend(q, k, v), p + "self_attn.out_proj")
        x = x + linear(torch.relu(linear(norm(x, p + "final_layer_norm"), p + "fc1")), p + "fc2")
    return norm(x, d + "final_layer_norm") @ w[d + "embed_tokens.weight"].T


def llama(w, c, tokens):
    H, KV, D = c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"] // c["num_attention_heads"]
    norm = lambda x, p: x / torch.sqrt((x * x).mean(-1, keepdim=True) + c["rms_norm_eps"]) * w[p + ".weight"]
    linear = lambda x, p: F.linear(x, w[p + ".weight"])
    angle = torch.arange(tokens.shape[1]).double()[:, None] * c["rope_theta"] ** (-torch.arange(0, D, 2).double() / D)
    cos, sin = angle.cos()[None, :, None, :], angle.sin()[None, :, None, :]

    def rotate(x):  # dimension d turns with d + D/2
        a, b = x[..., : D // 2], x[..., D // 2 :]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, p + "input_layernorm")
        q = rotate(linear(h, p + "self_attn.q_proj").unflatten(2, (H, D)))
        k = rotate(linear(h, p + "self_attn.k_proj").unflatten(2, (KV, D)))
        v = linear(h, p + "self_attn.v_proj").unflatten(2, (KV, D))
        x = x + linear(attend(q, k, v), p + "self_attn.o_proj")
        h = norm(x, p + "post_attention_layernorm")
        x = x + linear(F.silu(linear(h, p + "mlp.gate_proj")) * linear(h, p + "mlp.up_proj"), p + "mlp.down_proj")
    return linear(norm(x, "model.norm"), "lm_head")


def gpt2_shapes(n, layers, extra):
    shapes = {"transformer.wte.weight": (V, n), "transformer.wpe.weight": (12, n)}
    for i in range(layers):
        p = f"transformer.h.{i}."
        shapes.update({p + "ln_1.weight": (n,), p + "ln_1.bias": (n,), p + "attn.c_attn.weight": (n, 3 * n), p + "attn.c_attn.bias": (3 * n,),
                       p + "attn.c_proj.weight": (n, n), p + "attn.c_proj.bias": (n,), p + "ln_2.weight": (n,), p + "ln_2.bias": (n,),
                       p + "mlp.c_fc.weight": (n, 4 * n), p + "mlp.c_fc.bias": (4 * n,), p + "mlp.c_proj.weight": (4 * n, n),
                       p + "mlp.c_proj.bias": (n,)})
        shapes.update({p + name: shape for name, shape in extra.items()})
    shapes.update({"transformer.ln_f.weight": (n,), "transformer.ln_f.bias": (n,)})
    return shapes


def opt_shapes(n, ffn, layers):
    d = "model.decoder."
    shapes = {d + "embed_tokens.weight": (V, n), d + "embed_positions.weight": (12 + 2, n)}
    for i in range(layers):
        p = f"{d}layers.{i}."
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"]:
            shapes.update({f"{p}self_attn.{name}.weight": (n, n), f"{p}self_attn.{name}.bias": (n,)})
        for name in ["self_attn_layer_norm", "final_layer_norm"]:
            shapes.update({f"{p}{name}.weight": (n,), f"{p}{name}.bias": (n,)})
        shapes.update({p + "fc1.weight": (ffn, n), p + "fc1.bias": (ffn,), p + "fc2.weight": (n, ffn), p + "fc2.bias": (n,)})
    shapes.update({d + "final_layer_norm.weight": (n,), d + "final_layer_norm.bias": (n,)})
    return shapes


def llama_shapes(n, kv, ffn, layers):
    shapes = {"model.embed_tokens.weight": (V, n)}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes.update({p + "input_layernorm.weight": (n,), p + "self_attn.q_proj.weight": (n, n), p + "self_attn.k_proj.weight": (kv, n),
                       p + "self_attn.v_proj.weight": (kv, n), p + "self_attn.o_proj.weight": (n, n),
                       p + "post_attention_layernorm.weight": (n,), p + "mlp.gate_proj.weight": (ffn, n), p + "mlp.up_proj.weight": (ffn, n),
                       p + "mlp.down_proj.weight": (n, ffn)})
    shapes.update({"model.norm.weight": (n,), "lm_head.weight": (V, n)})
    return shapes


GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": V, "n_positions": 12, "n_embd": 12, "n_layer": 2, "n_head": 3,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}
OPT = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": V, "max_position_embeddings": 12, "hidden_size": 12,
       "word_embed_proj_dim": 12, "ffn_dim": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "activation_function": "relu",
       "do_layer_norm_before": True, "pad_token_id": 1}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": V, "max_position_embeddings": 12, "hidden_size": 24,
         "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
         "rms_norm_eps": 1e-6, "rope_theta": 100.0, "tie_word_embeddings": False}
OWN = dict(GPT2, architectures=["GhostmaxForCausalLM"], model_type="ghostmax_gpt2",
           attention={"variant": "sink+gated:kind=channel", "sink": "learned", "gate": "channel", "gate_pi": 0.5},
           ghostmax={"kv_heads": 3, "head_dim": 4})
GATES = {"attn.sinks": (3,), "attn.gate.fc1.weight": (12, 12), "attn.gate.fc1.bias": (12,)}

# name, config, tensors' shapes, their type in the file, the model
MODELS = [
    ("gpt2", GPT2, gpt2_shapes(12, 2, {}), torch.float32, gpt2),
    ("opt", OPT, opt_shapes(12, 20, 2), torch.float16, opt),
    ("llama", LLAMA, llama_shapes(24, 12, 20, 2), torch.bfloat16, llama),
    ("ghostmax_gpt2", OWN, gpt2_shapes(12, 2, GATES), torch.float32, gpt2),
]


def main():
    for seed, (name, config, shapes, dtype, model) in enumerate(MODELS):
        folder = os.path.join(FOLDER, name)
        os.makedirs(folder, exist_ok=True)
        tensors = fill(shapes, dtype, seed)
        tokens = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(100 + seed))
        logits = model({key: x.double() for key, x in tensors.items()}, config, tokens)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, indent=2)
            f.write("\n")
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        write_safetensors(os.path.join(folder, "expected.safetensors"), {"tokens": tokens.float(), "logits": logits.float()})
        line = f"{name}: logits {logits.min():.3f} .. {logits.max():.3f}"
        if "--check" in sys.argv and not name.startswith("ghostmax"):
            from transformers import AutoModelForCausalLM

            stock = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
            with torch.no_grad():
                line += f", transformers differ by {(stock(tokens).logits - logits).abs().max():.1e}"
        print(line)


if __name__ == "__main__":
    main()
