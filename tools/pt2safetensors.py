#!/usr/bin/env python3
"""nanoGPT's and llama2.c's training checkpoints (ckpt.pt) as Hugging Face folders, which ghostmax and transformers load.

    tools/pt2safetensors.py out/ckpt.pt my-model [--dtype f32|f16|bf16] [--force]

Both write a dict with the weights under "model" and the sizes under "model_args". torch.compile's "_orig_mod." before names is removed. The
file is opened with weights_only, so that nothing in it is executed. Needs torch (python3-torch, or pip install torch); safetensors is written
here, byte by byte.
"""
import argparse
import json
import os
import pickle
import struct
import sys
import types

try:
    import torch
except ImportError:
    sys.exit("pt2safetensors: needs PyTorch: apt-get install python3-torch, or pip install torch")


def fail(message):
    sys.exit(f"pt2safetensors: {message}")


class Restricted(pickle.Unpickler):
    """What weights_only means, for PyTorch 1: its own cannot read floating-point numbers. Nothing but tensors is made."""
    ALLOWED = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}

    def find_class(self, module, name):
        if (module, name) in self.ALLOWED or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not a tensor")


def load(path):
    if int(torch.__version__.split(".")[0]) >= 2:
        how = {"weights_only": True}
    else:  # it takes no unpickler from outside
        how = {}
        torch.serialization.pickle = types.SimpleNamespace(Unpickler=Restricted, UnpicklingError=pickle.UnpicklingError, __name__="pickle")
    try:
        checkpoint = torch.load(path, map_location="cpu", **how)
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        fail(f"cannot read '{path}': {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        fail(f"'{path}' is no training checkpoint: a dict with the weights under 'model' is expected")
    sizes = checkpoint.get("model_args")
    if not isinstance(sizes, dict):
        fail(f"'{path}' has no 'model_args': it does not say the model's sizes")
    weights = {}
    for name, x in checkpoint["model"].items():
        name = name[len("_orig_mod."):] if name.startswith("_orig_mod.") else name
        if not isinstance(x, torch.Tensor):
            fail(f"'{name}' in '{path}' is not a tensor")
        weights[name] = x
    return weights, sizes


class Source:
    """The checkpoint's tensors, taken out one by one with their shapes checked; what is left over is an error."""

    def __init__(self, weights):
        self.left = dict(weights)

    def take(self, name, *shape):
        if name not in self.left:
            fail(f"tensor '{name}' is missing")
        x = self.left.pop(name)
        if tuple(x.shape) != shape:
            fail(f"tensor '{name}' is {list(x.shape)} where the sizes say {list(shape)}")
        return x

    def drop(self, name):
        self.left.pop(name, None)

    def __contains__(self, name):
        return name in self.left

    def finish(self):
        if self.left:
            fail(f"tensor '{sorted(self.left)[0]}' has no place in such a model ({len(self.left)} left over)")


def size(sizes, name):
    value = sizes.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        fail(f"model_args: '{name}' is {value!r}, it must be a positive whole number")
    return value


def nano_gpt(weights, sizes):
    L, H, C, V, T = (size(sizes, k) for k in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size"))
    bias = bool(sizes.get("bias", True))
    s, out = Source(weights), {}

    def linear(to, name, rows, cols):  # Conv1D keeps [in, out]
        out[f"{to}.weight"] = s.take(f"{name}.weight", rows, cols).t()
        out[f"{to}.bias"] = s.take(f"{name}.bias", rows) if bias else torch.zeros(rows)

    def norm(to, name):
        out[f"{to}.weight"] = s.take(f"{name}.weight", C)
        out[f"{to}.bias"] = s.take(f"{name}.bias", C) if bias else torch.zeros(C)

    out["transformer.wte.weight"] = s.take("transformer.wte.weight", V, C)
    out["transformer.wpe.weight"] = s.take("transformer.wpe.weight", T, C)
    for i in range(L):
        h = f"transformer.h.{i}"
        norm(f"{h}.ln_1", f"{h}.ln_1")
        linear(f"{h}.attn.c_attn", f"{h}.attn.c_attn", 3 * C, C)
        linear(f"{h}.attn.c_proj", f"{h}.attn.c_proj", C, C)
        norm(f"{h}.ln_2", f"{h}.ln_2")
        linear(f"{h}.mlp.c_fc", f"{h}.mlp.c_fc", 4 * C, C)
        linear(f"{h}.mlp.c_proj", f"{h}.mlp.c_proj", C, 4 * C)
        s.drop(f"{h}.attn.bias")  # the mask, kept by builds without flash attention
    norm("transformer.ln_f", "transformer.ln_f")
    head = s.take("lm_head.weight", V, C) if "lm_head.weight" in s else out["transformer.wte.weight"]
    tied = torch.equal(head, out["transformer.wte.weight"])
    if not tied:
        out["lm_head.weight"] = head
    s.finish()
    return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": V, "n_positions": T, "n_ctx": T, "n_embd": C,
            "n_layer": L, "n_head": H, "n_inner": 4 * C, "activation_function": "gelu", "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": tied}, out


def llama2c(weights, sizes):
    L, H, C, V, T = (size(sizes, k) for k in ("n_layers", "n_heads", "dim", "vocab_size", "max_seq_len"))
    KV = size(sizes, "n_kv_heads") if sizes.get("n_kv_heads") is not None else H
    if C % H or (C // H) % 2:
        fail(f"model_args: a width of {C} and {H} heads: heads must divide it into even parts")
    D = C // H
    s, out = Source(weights), {}
    F = weights["layers.0.feed_forward.w1.weight"].shape[0] if "layers.0.feed_forward.w1.weight" in weights else 0

    def halves(x, heads):
        """llama2.c turns neighbours (2i, 2i + 1) of a head by one angle, Hugging Face i and i + D/2: the rows change places."""
        return x.view(heads, D // 2, 2, C).transpose(1, 2).reshape(heads * D, C)

    out["model.embed_tokens.weight"] = s.take("tok_embeddings.weight", V, C)
    for i in range(L):
        a, b = f"model.layers.{i}", f"layers.{i}"
        out[f"{a}.input_layernorm.weight"] = s.take(f"{b}.attention_norm.weight", C)
        out[f"{a}.self_attn.q_proj.weight"] = halves(s.take(f"{b}.attention.wq.weight", C, C), H)
        out[f"{a}.self_attn.k_proj.weight"] = halves(s.take(f"{b}.attention.wk.weight", KV * D, C), KV)
        out[f"{a}.self_attn.v_proj.weight"] = s.take(f"{b}.attention.wv.weight", KV * D, C)
        out[f"{a}.self_attn.o_proj.weight"] = s.take(f"{b}.attention.wo.weight", C, C)
        out[f"{a}.post_attention_layernorm.weight"] = s.take(f"{b}.ffn_norm.weight", C)
        out[f"{a}.mlp.gate_proj.weight"] = s.take(f"{b}.feed_forward.w1.weight", F, C)
        out[f"{a}.mlp.down_proj.weight"] = s.take(f"{b}.feed_forward.w2.weight", C, F)
        out[f"{a}.mlp.up_proj.weight"] = s.take(f"{b}.feed_forward.w3.weight", F, C)
        s.drop(f"{b}.attention.mask")
    out["model.norm.weight"] = s.take("norm.weight", C)
    head = s.take("output.weight", V, C) if "output.weight" in s else out["model.embed_tokens.weight"]
    tied = torch.equal(head, out["model.embed_tokens.weight"])
    if not tied:
        out["lm_head.weight"] = head
    s.drop("freqs_cos")
    s.drop("freqs_sin")
    s.finish()
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": V, "max_position_embeddings": T, "hidden_size": C,
            "num_hidden_layers": L, "num_attention_heads": H, "num_key_value_heads": KV, "intermediate_size": F, "hidden_act": "silu",
            "rms_norm_eps": float(sizes.get("norm_eps", 1e-5)), "rope_theta": 10000.0, "tie_word_embeddings": tied}, out


TYPES = {"f32": (torch.float32, "F32", "float32"), "f16": (torch.float16, "F16", "float16"), "bf16": (torch.bfloat16, "BF16", "bfloat16")}


def write_safetensors(path, tensors, dtype):
    kind, name, _ = TYPES[dtype]
    header, parts, at = {"__metadata__": {"format": "pt"}}, [], 0
    for key, x in tensors.items():
        y = x.detach().to(kind).contiguous()
        if not torch.isfinite(y).all() and torch.isfinite(x).all():
            fail(f"tensor '{key}' has a number too large for {dtype}; choose another --dtype")
        raw = y.view(torch.int16 if y.element_size() == 2 else torch.int32).numpy().tobytes()
        header[key] = {"dtype": name, "shape": list(x.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write(path, struct.pack("<Q", len(text)) + text + b"".join(parts))


def write(path, data):
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "wb") as f:
        f.write(data)
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="example: tools/pt2safetensors.py out/ckpt.pt my-model --dtype bf16")
    parser.add_argument("checkpoint", help="ckpt.pt as nanoGPT's or llama2.c's train.py writes it")
    parser.add_argument("folder", help="the folder to write: config.json, model.safetensors")
    parser.add_argument("--dtype", choices=list(TYPES), default="f32", help="type of the weights (default f32)")
    parser.add_argument("--force", action="store_true", help="overwrite a model that is there")
    args = parser.parse_args()
    config_path, weights_path = (os.path.join(args.folder, name) for name in ("config.json", "model.safetensors"))
    for path in (config_path, weights_path):
        if os.path.exists(path) and not args.force:
            fail(f"'{path}' exists; choose another folder or say --force")
    weights, sizes = load(args.checkpoint)
    if "n_embd" in sizes:
        config, tensors = nano_gpt(weights, sizes)
    elif "dim" in sizes:
        config, tensors = llama2c(weights, sizes)
    else:
        fail(f"'{args.checkpoint}' is neither nanoGPT's (model_args has no n_embd) nor llama2.c's (no dim)")
    config["torch_dtype"] = TYPES[args.dtype][2]
    try:
        os.makedirs(args.folder, exist_ok=True)
        write_safetensors(weights_path, tensors, args.dtype)
        write(config_path, (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        fail(f"cannot write '{args.folder}': {error.strerror}")
    print(f"{args.folder}: {config['model_type']}, {sum(x.numel() for x in tensors.values())} parameters, {args.dtype}")


main()
