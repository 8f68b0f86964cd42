"""Our files in the libraries that made their formats: every tensor of a safetensors file and of a GGUF file, number by number.
Usage: interop_formats.py SOURCE BUILD"""
import importlib.metadata
import os

import gguf
import numpy
import safetensors
import safetensors.numpy

from interop import check, convert, path, trained

print("safetensors", safetensors.__version__, "gguf", importlib.metadata.version("gguf"))

model = trained("softmax1", "--attention", "softmax1", "--no-bos")
said = convert(model, path("hf"), "--to", "hf")
convert(model, path("f32.gguf"), "--to", "gguf")
with safetensors.safe_open(path("hf", "model.safetensors"), framework="numpy") as file:
    check(file.metadata()["format"] == "pt", f"safetensors: {len(file.keys())} tensors")
    weights = {name: file.get_tensor(name) for name in file.keys()}
zero = said["zero_token"]
table = weights["model.embed_tokens.weight"]
check(table.shape == (zero + 1, 64) and not table[zero].any() and table[:zero].any(1).all(), "the zero token's row is zero, no other is")
own = safetensors.numpy.load_file(os.path.join(model, "model.safetensors"))
check(all((weights[name][:len(own[name])] == own[name]).all() for name in own) and own.keys() == weights.keys(), "all else is the model's")

reader = gguf.GGUFReader(path("f32.gguf"))
tensors = {tensor.name: tensor.data for tensor in reader.tensors}
check((tensors["token_embd.weight"] == table).all(), f"gguf: {len(tensors)} tensors; the same embeddings")
check((tensors["blk.1.ffn_down.weight"] == weights["model.layers.1.mlp.down_proj.weight"]).all(), "the same feed-forward weights")
# llama.cpp turns neighbours where Hugging Face turns halves: rows of q and k take turns, v's stay
heads, dim = 8, 8
q = weights["model.layers.0.self_attn.q_proj.weight"].reshape(heads, 2, dim // 2, 64).swapaxes(1, 2).reshape(64, 64)
check((tensors["blk.0.attn_q.weight"] == q).all(), "q's rows in llama.cpp's order")
check((tensors["blk.0.attn_v.weight"] == weights["model.layers.0.self_attn.v_proj.weight"]).all(), "v's rows as they are")

convert(model, path("q8.gguf"), "--to", "gguf", "--dtype", "q8_0")
for tensor in gguf.GGUFReader(path("q8.gguf")).tensors:
    exact = tensors[tensor.name].astype(numpy.float64)
    back = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(exact.shape)
    if tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0:
        # half a step, and the scale itself is an f16: 127 * 2**-11 of a step more
        steps = numpy.abs(exact).reshape(-1, 32).max(1).repeat(32).reshape(exact.shape) / 127
        check((numpy.abs(back - exact) <= 0.57 * steps).all(), f"q8_0 {tensor.name}: within half a step", quiet=True)
check(True, "q8_0: every number within half a step of its block")
