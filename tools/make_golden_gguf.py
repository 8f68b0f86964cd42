#!/usr/bin/env python3
"""Writes tests/golden/gguf/ with llama.cpp's own Python package, gguf: models of tests/golden/hf/ as its converter lays them out, and
types.gguf: numbers rounded, packed and unpacked by the package, and metadata of every type.

Key and tensor names are the package's. What its converter does besides (rows of q and k of llama, Conv1D's transpose, Llama 3's factors) is
written down here from its documentation, in numpy.

Usage: tools/make_golden_gguf.py     (needs `pip install gguf`; tests/golden/gguf/versions.txt says which was used)
"""
import importlib.metadata
import json
import math
import pathlib
import struct

import gguf
import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden"
OUT = GOLDEN / "gguf"
MODELS = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama_biases": gguf.MODEL_ARCH.LLAMA, "llama3_sharded": gguf.MODEL_ARCH.LLAMA,
          "llama_linear": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}


def read_folder(folder):
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        raw = path.read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8 : 8 + size]).items():
            if name != "__metadata__":
                begin, end = (8 + size + n for n in entry["data_offsets"])
                if entry["dtype"] == "BF16":
                    x = (np.frombuffer(raw[begin:end], dtype="<u2").astype(np.uint32) << 16).view(np.float32)
                else:
                    x = np.frombuffer(raw[begin:end], dtype={"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)
                tensors[name] = x.reshape(entry["shape"])
    return json.loads((folder / "config.json").read_text()), tensors


def take_turns(x, heads):
    """llama.cpp turns neighbours (2i, 2i + 1), Hugging Face (i, i + D/2)."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def llama3_factors(rope, head_dim):
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        smooth = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        smooth = min(max(smooth, 0), 1)
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_model(name, arch):
    config, tensors = read_folder(GOLDEN / "hf" / name)
    w = gguf.GGUFWriter(OUT / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    blocks = config.get("num_hidden_layers", config.get("n_layer"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    width = config.get("hidden_size", config.get("n_embd"))
    head_dim = config.get("head_dim") or width // heads
    w.add_block_count(blocks)
    w.add_context_length(config.get("max_position_embeddings", config.get("n_positions")))
    w.add_embedding_length(width)
    w.add_head_count(heads)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_vocab_size(config["vocab_size"])
    w.add_tokenizer_model("no_vocab")
    if arch == gguf.MODEL_ARCH.GPT2:
        w.add_feed_forward_length(config.get("n_inner") or 4 * width)
        w.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        rope = config["rope_parameters"]
        w.add_feed_forward_length(config["intermediate_size"])
        w.add_head_count_kv(config["num_key_value_heads"])
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
        w.add_rope_freq_base(rope["rope_theta"])
        w.add_rope_dimension_count(head_dim)
        if config.get("head_dim"):
            w.add_key_length(head_dim)
            w.add_value_length(head_dim)
        if rope["rope_type"] == "linear":
            w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            w.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "llama3":
            w.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    names = gguf.get_tensor_name_map(arch, blocks)
    for hf_name, x in tensors.items():
        stem, dot, end = hf_name.rpartition(".")
        if stem.endswith((".attn.bias", ".attn.masked_bias")) or (hf_name == "lm_head.weight" and config["tie_word_embeddings"]):
            continue
        if arch == gguf.MODEL_ARCH.GPT2 and end == "weight" and ".c_" in stem:
            x = x.T
        if arch == gguf.MODEL_ARCH.LLAMA and stem.endswith("q_proj"):
            x = take_turns(x, heads)
        if arch == gguf.MODEL_ARCH.LLAMA and stem.endswith("k_proj"):
            x = take_turns(x, config["num_key_value_heads"])
        w.add_tensor(names.get_name(stem) + dot + end, np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_types():
    w = gguf.GGUFWriter(OUT / "types.gguf", "none")
    w.add_uint8("u8", 200)
    w.add_int8("i8", -3)
    w.add_uint16("u16", 60000)
    w.add_int16("i16", -300)
    w.add_uint32("u32", 4000000000)
    w.add_int32("i32", -70000)
    w.add_float32("f32", 0.1)
    w.add_bool("bool", True)
    w.add_string("text", "caf\u00e9")
    w.add_uint64("u64", 1 << 63)
    w.add_int64("i64", -(1 << 62))
    w.add_float64("f64", 1e-300)
    w.add_array("texts", ["a", "bc", "\u00e9"])
    w.add_array("ints", [1, -2, 3])
    w.add_array("reals", [0.5, -1.5])
    w.add_array("bools", [True, False])
    w.add_array("nested", [[1, 2], [3]])
    random = np.random.default_rng(1)
    # q8_0: ordinary rows, ties (multiples of half a step), one large value, zeros, scales that are subnormal or 0 in f16
    x = random.standard_normal((8, 64)).astype(np.float32)
    x[1, :32] = (np.arange(32) - 16) / 2
    x[1, 0] = 127
    x[2, 5] = 300
    x[3] = 0
    x[4] = random.standard_normal(64) * 1e-7
    x[5] = random.standard_normal(64) * 1e-30
    x[6, :32] = -x[6, :32] * 1e4
    # f16, bf16: every rounding case
    bits = np.concatenate([np.arange(0x3F7F, 0x3F83) << 16 | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x0FFF, 0x1000, 0x1001, 0x3000)])
    small = np.float32([0, -0.0, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 2.0**-14, 2.0**-14 - 2.0**-25, 65504, 65519, -65504, 1e-10, np.inf])
    y = np.concatenate([bits.astype(np.uint32).view(np.float32), small, random.standard_normal(12).astype(np.float32)])
    types = {"f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
    for name, type_ in types.items():
        values = x if name == "q8_0" else y
        packed = gguf.quants.quantize(values, type_)
        w.add_tensor(f"{name}.in", values)
        w.add_tensor(f"{name}.packed", packed, raw_dtype=type_)
        w.add_tensor(f"{name}.out", gguf.quants.dequantize(packed, type_).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


OUT.mkdir(exist_ok=True)
for model, architecture in MODELS.items():
    write_model(model, architecture)
write_types()
packages = ("gguf", "numpy")
(OUT / "versions.txt").write_text("".join(f"{p} {importlib.metadata.version(p)}\n" for p in packages))
