#!/usr/bin/env python3
"""Makes the fuzz targets' files, tests/fuzz/corpus/<format>/, byte by byte and without our code or any package. Small numbers that every
type can hold, so that a changed byte says where it went. A file named bad_... must be refused, any other one accepted.
Usage: tools/make_fuzz_corpus.py"""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "tests/fuzz/corpus"


def write(name, data):
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def floats(count, first=0):
    return b"".join(struct.pack("<f", ((first + i) % 13 - 6) / 8) for i in range(count))


def halves(count):
    return b"".join(struct.pack("<e", (i % 13 - 6) / 8) for i in range(count))


# ---- safetensors


def safetensors(tensors, metadata=None, offsets=None):
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for i, (name, dtype, shape, data) in enumerate(tensors):
        begin = at if offsets is None else offsets[i]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, _, data in tensors)


three = [("a", "F32", [2, 3], floats(6)), ("b", "F16", [4], halves(4)), ("c", "BF16", [2, 1], floats(2)[2:4] + floats(2)[6:8])]
write("safetensors/three.safetensors", safetensors(three, {"format": "pt"}))
write("safetensors/mask.safetensors", safetensors([("mask", "BOOL", [], b"\1"), ("none", "F32", [0, 7], b"")]))
write("safetensors/bad_overlap.safetensors", safetensors([("a", "F32", [2], floats(2)), ("b", "F32", [2], floats(2))], offsets=[0, 4]))

# ---- GGUF

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)
FIXED = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def payload(kind, value):
    if kind == TEXT:
        return text(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(payload(element, v) for v in values)
    return struct.pack(FIXED[kind], value)


def gguf(values, tensors, alignment=32, version=3, offsets=None):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, kind, value in values:
        head += text(key) + struct.pack("<I", kind) + payload(kind, value)
    at, data = 0, b""
    for i, (name, shape, kind, content) in enumerate(tensors):
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        head += struct.pack("<IQ", kind, at if offsets is None else offsets[i])
        content += bytes(-len(content) % alignment)
        data += content
        at += len(content)
    return head + (bytes(-len(head) % alignment) + data if tensors else b"")


every = [("u8", U8, 200), ("i8", I8, -3), ("u16", U16, 60000), ("i16", I16, -300), ("u32", U32, 4000000000), ("i32", I32, -70000),
         ("f32", F32, 0.1), ("bool", BOOL, 1), ("text", TEXT, "caf\u00e9"), ("empty", TEXT, ""), ("u64", U64, 1 << 63), ("i64", I64, -5),
         ("f64", F64, 1e-300), ("texts", ARRAY, (TEXT, ["a", "", "bc"])), ("ints", ARRAY, (I32, [1, -2, 3])),
         ("bools", ARRAY, (BOOL, [0, 1])), ("nested", ARRAY, (ARRAY, [(U8, [1, 2]), (TEXT, ["x"]), (ARRAY, [(F32, [])])]))]
q8 = b"".join(struct.pack("<e", 0.5) + bytes(range(b, b + 32)) for b in (0, 100))
kinds = [("f32", [3, 2], 0, floats(6)), ("f16", [5], 1, halves(5)), ("bf16", [2, 2], 30, floats(2)), ("q8", [32, 2], 8, q8),
         ("q4", [32], 2, bytes(18)), ("cube", [2, 1, 2, 1], 0, floats(4))]
write("gguf/every.gguf", gguf(every, kinds))
write("gguf/version2.gguf", gguf(every[:3], kinds[:1], version=2))
write("gguf/aligned8.gguf", gguf([("general.alignment", U32, 8)], kinds[:3], alignment=8))
write("gguf/empty.gguf", gguf([], []))
write("gguf/bad_twice.gguf", gguf([("a", U8, 1), ("a", U8, 1)], []))
write("gguf/bad_tensor_twice.gguf", gguf([], [kinds[0], kinds[0]]))
write("gguf/bad_overlap.gguf", gguf([], kinds[:2], offsets=[0, 0]))
write("gguf/bad_order.gguf", gguf([], kinds[:2], offsets=[32, 0]))
write("gguf/bad_deep.gguf", gguf([("a", ARRAY, (ARRAY, [(ARRAY, [(ARRAY, [(ARRAY, [(ARRAY, [(U8, [])])])])])]))], []))

# ---- models in GGUF: one block of width 4, two heads


def model(architecture, keys, names, more=(), config=None, kind=0):
    values = [("general.architecture", TEXT, architecture)]
    values += [(f"{architecture}.{key}", F32 if isinstance(value, float) else U32, value) for key, value in keys.items()]
    if config:
        values.append(("ghostmax.config", TEXT, json.dumps(config)))
    tensors = []
    for name, shape in names.items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        f16 = kind == 1 and len(shape) == 2
        tensors.append((name, shape, 1 if f16 else 0, halves(count) if f16 else floats(count, len(tensors))))
    return gguf(values, tensors + list(more))


sizes = {"context_length": 5, "embedding_length": 4, "block_count": 1, "feed_forward_length": 3, "attention.head_count": 2}
llama_keys = sizes | {"attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}
llama = {"token_embd.weight": [4, 3], "output_norm.weight": [4], "blk.0.attn_norm.weight": [4], "blk.0.ffn_norm.weight": [4],
         "blk.0.attn_q.weight": [4, 4], "blk.0.attn_k.weight": [4, 2], "blk.0.attn_v.weight": [4, 2], "blk.0.attn_output.weight": [4, 4],
         "blk.0.ffn_gate.weight": [4, 3], "blk.0.ffn_up.weight": [4, 3], "blk.0.ffn_down.weight": [3, 4]}
gpt2 = {"token_embd.weight": [4, 3], "position_embd.weight": [4, 5], "output_norm.weight": [4], "output_norm.bias": [4]}
for name, rows, cols in (("attn_norm", 4, 0), ("ffn_norm", 4, 0), ("attn_qkv", 12, 4), ("attn_output", 4, 4), ("ffn_up", 3, 4),
                         ("ffn_down", 4, 3)):
    gpt2[f"blk.0.{name}.weight"] = [cols, rows] if cols else [rows]
    gpt2[f"blk.0.{name}.bias"] = [rows]
own = {"architectures": ["GhostmaxForCausalLM"], "model_type": "ghostmax_llama", "vocab_size": 3, "max_position_embeddings": 5,
       "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "intermediate_size": 3,
       "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu",
       "attention": {"variant": "sink", "sink": "learned", "gate": "none"}}
write("gguf_model/llama.gguf", model("llama", llama_keys, llama))
write("gguf_model/llama_f16_untied.gguf", model("llama", llama_keys, llama | {"output.weight": [4, 3]}, kind=1))
write("gguf_model/llama_rope_freqs.gguf", model("llama", llama_keys, llama, [("rope_freqs.weight", [1], 0, struct.pack("<f", 1))]))
write("gguf_model/gpt2.gguf", model("gpt2", sizes | {"attention.layer_norm_epsilon": 1e-5}, gpt2))
write("gguf_model/own.gguf", model("ghostmax_llama", llama_keys, llama | {"blk.0.attn_sinks.weight": [2]}, config=own))
write("gguf_model/bad_variant.gguf", model("llama", llama_keys, llama | {"blk.0.attn_sinks.weight": [2]}, config=own))
write("gguf_model/bad_key.gguf", model("llama", llama_keys | {"attention.sliding_window": 2}, llama))

# ---- llama2.c: width 4, hidden 3, one block, two heads (one key/value), 3 tokens, context 5

header = struct.pack("<7i", 4, 3, 1, 2, 1, 3, 5)
weights = 3 * 4 + 4 + 16 + 8 + 8 + 16 + 4 + 12 + 12 + 12 + 4
write("llama2c/version0.bin", header + floats(weights) + bytes(4 * 5 * 2))
write("llama2c/version0_untied.bin", struct.pack("<7i", 4, 3, 1, 2, 1, -3, 5) + floats(weights) + bytes(4 * 5 * 2) + floats(12))
write("llama2c/version1.bin", (b"24ka" + struct.pack("<i", 1) + header + b"\1").ljust(256, b"\0") + floats(weights))
version2 = (b"24ka" + struct.pack("<i", 2) + header + b"\1" + struct.pack("<i", 4)).ljust(256, b"\0") + floats(4 + 4 + 4)
for matrix in (12, 16, 8, 8, 16, 12, 12, 12):
    version2 += bytes(range(matrix)) + floats(matrix // 4)
write("llama2c/version2.bin", version2)

# ---- llama2.c's tokenizer.bin


def key(score, value):
    return struct.pack("<fi", score, len(value)) + value


special = key(0, b"<unk>") + key(0, b"\n<s>\n") + key(0, b"\n</s>\n")
byte_keys = b"".join(key(0, b"<0x%02X>" % i) for i in range(256))
joined = b"".join(key(-i, k) for i, k in enumerate((b" ", b"a", b"b", "\u00e9".encode(), b" a", b"ab", b" ab")))
write("llama2c_tokens/small.bin", struct.pack("<i", 7) + special + byte_keys + joined)

# ---- config.json

gpt2_config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 3, "n_positions": 5, "n_embd": 4, "n_layer": 1,
               "n_head": 2, "n_inner": 3, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "attn_pdrop": 0.1}
opt = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": 3, "max_position_embeddings": 5, "hidden_size": 4,
       "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 3, "activation_function": "relu", "do_layer_norm_before": True}
plain = {k: v for k, v in own.items() if k != "attention"}
family = {k: v for k, v in plain.items() if k not in ("architectures", "model_type", "head_dim")}
llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
configs = {
    "gpt2": gpt2_config, "opt": opt, "own": own, "llama": plain | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "llama3": plain | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": llama3},
    "mistral": family | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": family | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False},
    "qwen3": family | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 6},
    "bad_key": gpt2_config | {"attention_scale": 3}, "bad_width": gpt2_config | {"n_head": 3},
}
for name, config in configs.items():
    write(f"config/{name}.json", json.dumps(config, indent=1).encode() + b"\n")
write("config/bad_twice.json", b'{"model_type": "gpt2", "model_type": "opt"}\n')

# ---- models' folders: config.json, a zero byte, model.safetensors


def folder(config, tensors):
    return json.dumps(config).encode() + b"\0" + safetensors([(name, "F32", shape, data) for name, shape, data in tensors])


def filled(shapes):
    return [(name, shape, floats(shape[0] * (shape[1] if len(shape) == 2 else 1), i)) for i, (name, shape) in enumerate(shapes.items())]


gpt2_shapes = {"transformer.wte.weight": [3, 4], "transformer.wpe.weight": [5, 4], "transformer.ln_f.weight": [4], "transformer.ln_f.bias": [4]}
for name, rows, cols in (("ln_1", 4, 0), ("ln_2", 4, 0), ("attn.c_attn", 4, 12), ("attn.c_proj", 4, 4), ("mlp.c_fc", 4, 3), ("mlp.c_proj", 3, 4)):
    gpt2_shapes[f"transformer.h.0.{name}.weight"] = [rows, cols] if cols else [rows]
    gpt2_shapes[f"transformer.h.0.{name}.bias"] = [cols or rows]
llama_shapes = {"model.embed_tokens.weight": [3, 4], "model.norm.weight": [4], "model.layers.0.input_layernorm.weight": [4],
                "model.layers.0.post_attention_layernorm.weight": [4]}
for name, rows, cols in (("self_attn.q_proj", 4, 4), ("self_attn.k_proj", 2, 4), ("self_attn.v_proj", 2, 4), ("self_attn.o_proj", 4, 4),
                         ("mlp.gate_proj", 3, 4), ("mlp.up_proj", 3, 4), ("mlp.down_proj", 4, 3)):
    llama_shapes[f"model.layers.0.{name}.weight"] = [rows, cols]
write("hf_model/gpt2.bin", folder(gpt2_config, filled(gpt2_shapes)))
write("hf_model/llama.bin", folder(configs["llama"], filled(llama_shapes)))
write("hf_model/bad_missing.bin", folder(configs["llama"], filled(llama_shapes)[1:]))
write("hf_model/bad_shape.bin", folder(configs["llama"], filled({**llama_shapes, "model.norm.weight": [5]})))
write("hf_model/bad_large.bin", folder({**configs["llama"], "vocab_size": 1 << 24, "hidden_size": 1 << 18, "num_attention_heads": 1 << 12}, filled(llama_shapes)))

# ---- a quantized model's folder: OPT of width 4, two heads, one block, 3 tokens, context 5


def quantizer(**more):
    return {"bits": 8, "grain": "tensor", "group": 128, "range": "minmax", "percentile": 0.0, "margin": 0.0, "asymmetric": False, "dynamic": False, **more}


small_opt = {**opt, "word_embed_proj_dim": 4, "enable_bias": False, "tie_word_embeddings": False}
matrices = {"wte": [3, 4], "wpe": [7, 4], "blocks.0.norm1.g": [4], "blocks.0.wqkv.q": [4, 4], "blocks.0.wqkv.k": [4, 4], "blocks.0.wqkv.v": [4, 4],
            "blocks.0.wo": [4, 4], "blocks.0.norm2.g": [4], "blocks.0.ffn.w1": [3, 4], "blocks.0.ffn.w2": [4, 3], "normf.g": [4]}
sites = {"embed": 4, "norm_final": 4} | {f"blocks.0.{site}": 3 if site == "ffn_act" else 4 for site in (
    "norm1", "q", "k", "v", "attn_out", "residual1", "norm2", "ffn_act", "ffn_out", "block")}
attention = {"blocks.0.scores": 0, "blocks.0.weights": 0, "blocks.0.pv": 0}


def quantized(activations, ranges, with_attention=True, model=small_opt):
    options = {"linear_only": False, "attention_input": False, "smooth": "none", "smooth_alpha": 0.5, "outlier_threshold": 0.0, "calibration_batches": 1,
               "calibration_batch": 1, "sequences": 0, "seed": 1, "weights": quantizer(), "embeddings": quantizer(), "head": None, "activations": activations,
               "attention": quantizer(range="running", asymmetric=True) if with_attention else None, "kv": None}
    config = {"architectures": ["GhostmaxQuantizedForCausalLM"], "model_type": "ghostmax_quantized", "quantizer": options, "model": model}
    tensors = [(name, "F32", [4], floats(4)) for name in ("blocks.0.norm1.b", "blocks.0.norm2.b", "normf.b")] + [("head", "F32", [3, 4], floats(12))]
    for name, shape in matrices.items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        tensors += [(name + ".q", "I8", shape, bytes(i * 7 % 256 for i in range(count))), (name + ".scale", "F32", [1], struct.pack("<f", 0.125))]
    for name, channels in ranges.items():
        n = max(channels, 1)
        tensors.append((name + ".range", "F32", [2, channels] if channels else [2], struct.pack(f"<{2 * n}f", *[-1.5] * n, *[2.0] * n)))
    return json.dumps(config).encode() + b"\0" + safetensors(tensors)


running = quantizer(range="running", asymmetric=True)
whole = {name: 0 for name in [*sites, *attention]}
write("quantized/w8a8.bin", quantized(running, whole))
write("quantized/channels.bin", quantized({**running, "grain": "channel"}, sites, False))
write("quantized/bad_channels.bin", quantized({**running, "grain": "channel"}, {**sites, "blocks.0.q": 1}, False))
write("quantized/bad_missing.bin", quantized(running, {"embed": 0}))
write("quantized/bad_large.bin", quantized(running, whole, model={**small_opt, "vocab_size": 1 << 24, "hidden_size": 1 << 18, "word_embed_proj_dim": 1 << 18}))

# ---- tokenizers


def tokenizer_json(model, added=(), **more):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    root = {"version": "1.0", "added_tokens": [dict({"id": i, "content": text}, **dict(flags, **change)) for i, text, change in added],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model, **more}
    return json.dumps(root, ensure_ascii=False).encode()


def bpe(vocab, merges, **more):
    return {"type": "BPE", "unk_token": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(vocab)}, "merges": merges, **more}


level = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
small = bpe(["a", "b", "Ġ", "ab", "Ġab"], ["a b", "Ġ ab"])
write("tokenizer_json/bpe.json", tokenizer_json(small, [(5, "<s>", {"lstrip": True, "single_word": True})], pre_tokenizer=level, decoder=level,
                                                post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                                                                "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}}))
split = {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)|."}, "behavior": "MergedWithNext", "invert": True}
write("tokenizer_json/fallback.json", tokenizer_json(
    bpe(["<unk>", "▁", "a", "b", "▁a"] + ["<0x%02X>" % b for b in range(2)], [["▁", "a"]], unk_token="<unk>", byte_fallback=True, fuse_unk=True),
    normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                                                    {"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": True}]},
    pre_tokenizer={"type": "Sequence", "pretokenizers": [split, {"type": "Digits", "individual_digits": True}]},
    decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                              {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}))
write("tokenizer_json/wordpiece.json", tokenizer_json(
    {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}},
    normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    pre_tokenizer={"type": "BertPreTokenizer"}))
write("tokenizer_json/unigram.json", tokenizer_json(
    {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["▁", -2.5], ["a", -3], ["▁a", -1.25]]},
    pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}, decoder={"type": "Metaspace", "replacement": "▁"}))
write("tokenizer_json/bad_hole.json", tokenizer_json(bpe(["a", "b"], []), [(3, "<s>", {})]))
write("tokenizer_json/bad_merge.json", tokenizer_json(bpe(["a", "b", "ab"], ["a c"])))
write("tokenizer_json/bad_product.json", tokenizer_json(bpe(["a", "b"], ["a b"])))
write("tokenizer_json/bad_cycle.json", tokenizer_json(bpe(["a", "b"], [["a", ""]])))
write("tokenizer_json/bad_model.json", tokenizer_json({"type": "WordLevel", "vocab": {"a": 0}}))
write("tokenizer_json/bad_step.json", tokenizer_json(small, normalizer={"type": "Precompiled", "precompiled_charsmap": ""}))
grows = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
write("tokenizer_json/bad_growth.json", tokenizer_json(small, normalizer={"type": "Sequence", "normalizers": [grows, grows]}))
write("tokenizer_json/bad_regex.json", tokenizer_json(small, pre_tokenizer=dict(split, pattern={"Regex": "(("})))

# ---- a tokenizer's folder: tokenizer_config.json, a zero byte, tokenizer.json


def tokenizer_folder(config, tokenizer):
    return json.dumps(config).encode() + b"\0" + tokenizer


marked = tokenizer_json(bpe(["a", "b", "ab"], ["a b"]), [(3, "<s>", {}), (4, "</s>", {})])
ours = {"type": "ghostmax.tokenizer", "version": 1, "kind": "chars", "lower": False, "unk": 0, "bos": 70000, "vocab": ["<unk>", "<bos>", "a"]}
write("tokenizer_folder/marked.bin", tokenizer_folder({"bos_token": "<s>", "eos_token": {"content": "</s>"}}, marked))
write("tokenizer_folder/zero.bin", tokenizer_folder({"bos_token": "<bos>"}, json.dumps(ours).encode()))
write("tokenizer_folder/bad_tokenizer.bin", tokenizer_folder({"bos_token": "<s>"}, marked[:-1]))

visible = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
alphabet = [chr(c) for c in visible] + [chr(0x100 + i) for i in range(256 - len(visible))]


def bpe_files(vocab, merges):
    """The two files of GPT-2's form, a zero byte between them."""
    return json.dumps({text: i for i, text in enumerate(vocab)}, ensure_ascii=False).encode() + b"\0" + merges.encode()


write("bpe_files/small.bin", bpe_files(alphabet + ["ab", "Ġab", "<|endoftext|>"], "#version: 0.2\na b\nĠ ab\n"))

# ---- tokenizers in GGUF

pieces = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "\u2581a", "ab"]


def tokens_gguf(kind, tokens, types, more=(), scores=True):
    values = [("tokenizer.ggml.model", TEXT, kind), ("tokenizer.ggml.tokens", ARRAY, (TEXT, tokens)),
              ("tokenizer.ggml.token_type", ARRAY, (I32, types))]
    if scores:
        values.append(("tokenizer.ggml.scores", ARRAY, (F32, [-float(i) for i in range(len(tokens))])))
    return gguf(values + list(more), [])


write("gguf_tokens/llama.gguf", tokens_gguf("llama", pieces + ["<0x41>"], [2, 3, 3, 1, 1, 1, 1, 1, 6], [("tokenizer.ggml.add_bos_token", BOOL, 1)]))
write("gguf_tokens/gpt2.gguf", tokens_gguf("gpt2", alphabet + ["ab", "\u0120ab", "<|end|>"], [1] * 258 + [3], [
    ("tokenizer.ggml.pre", TEXT, "gpt-2"), ("tokenizer.ggml.merges", ARRAY, (TEXT, ["a b", "\u0120 ab"])),
    ("tokenizer.ggml.eos_token_id", U32, 258)], False))
write("gguf_tokens/bad_none.gguf", gguf([("tokenizer.ggml.model", TEXT, "none")], []))
write("gguf_tokens/bad_scores.gguf", tokens_gguf("llama", pieces, [2, 3, 3, 1, 1, 1, 1], []))
merges = ("tokenizer.ggml.merges", ARRAY, (TEXT, []))
write("gguf_tokens/bad_bytes.gguf", tokens_gguf("gpt2", ["a", "b"], [1, 1], [merges], False))
write("gguf_tokens/bad_no_merges.gguf", tokens_gguf("gpt2", alphabet, [1] * 256, [], False))
write("gguf_tokens/bad_few_merges.gguf", tokens_gguf("gpt2", alphabet + ["a" * i for i in range(2, 20)], [1] * 274, [merges], False))
words = {"type": "ghostmax.tokenizer", "version": 1, "kind": "words", "lower": True, "unk": 0, "bos": 1, "vocab": ["<unk>", "<bos>", "the", "cat"]}
for name, said in ("own", json.dumps(words)), ("bad_own", json.dumps(words)[:-1]):
    write(f"gguf_tokens/{name}.gguf", tokens_gguf("llama", ["<unk>", "<bos>", "\u2581the", "\u2581cat", "<|zero|>"], [2, 3, 1, 1, 3], [
        ("tokenizer.ggml.bos_token_id", U32, 4), ("ghostmax.tokenizer", TEXT, said)]))

# ---- WordPiece and SentencePiece

write("wordpiece/small.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\nab\n日\n.\n".encode())
write("wordpiece/bad_twice.txt", b"[PAD]\n[UNK]\na\nb\na\n")
write("wordpiece/bad_empty.txt", b"[PAD]\n[UNK]\n\na\n")
write("wordpiece/bad_utf8.txt", b"[PAD]\n[UNK]\n\xff\n")


def varint(n):
    return bytes([n & 0x7f | 0x80]) + varint(n >> 7) if n > 0x7f else bytes([n])


def run(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def piece(text, score, kind):
    return run(1, run(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))


def sentencepiece(pieces, model_type, charsmap=b"", prefix=1, extra=1):
    special = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)]
    return (b"".join(piece(*p) for p in special + pieces) + run(2, b"\x18" + varint(model_type)) +
            run(3, run(2, charsmap) + b"\x18" + varint(prefix) + b"\x20" + varint(extra)))


units = [1 << 10] + [0] * 127  # a double array with one entry: 'x' becomes 'y'
units[1 ^ ord("x")] = (1 ^ ord("x") ^ 100) << 10 | 0x100 | ord("x")
units[100] = 0x80000000
charsmap = struct.pack("<I", 512) + struct.pack("<128I", *units) + b"y\0"
letters = [("▁", -3.0, 1), ("a", -3.5, 1), ("y", -4.0, 1), ("▁a", -1.0, 1), ("ay", -2.0, 1), ("[M]", 0.0, 4)]
write("sentencepiece/unigram.model", sentencepiece(letters, 1, charsmap))
write("sentencepiece/bpe.model", sentencepiece(letters + [("<0x%02X>" % b, 0.0, 6) for b in range(3)], 2, b"", 0, 0))
write("sentencepiece/bad_score.model", sentencepiece([("a", float("nan"), 1)], 2))
write("sentencepiece/bad_twice.model", sentencepiece([("a", -1.0, 1), ("a", -2.0, 1)], 2))
write("sentencepiece/bad_map.model", sentencepiece(letters, 1, b"\xff\xff\xff\x7fxxxxxxxx\0"))
write("sentencepiece/bad_growth.model", sentencepiece(letters, 1, charsmap[:-2] + b"y" * 300 + b"\0"))
write("sentencepiece/bad_type.model", sentencepiece(letters, 3))

# ---- TensorBoard's event files


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    crc ^= 0xffffffff
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff)


def event(step, *parts, wall_time=1.5):
    message = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + varint(step) + b"".join(parts)
    length = struct.pack("<Q", len(message))
    return length + crc32c(length) + message + crc32c(message)


def doubles(field, *numbers):
    return b"".join(varint((field + i) << 3 | 1) + struct.pack("<d", x) for i, x in enumerate(numbers))


def value(tag, *parts):
    return run(1, run(1, tag.encode()) + b"".join(parts))


head = event(0, run(3, b"brain.Event:2"))
start = event(3, run(7, b"\x08\x01"))
loss = value("train/loss", b"\x15" + struct.pack("<f", 2.5))
histo = run(5, doubles(1, -1.0, 2.0, 3.0, 2.0, 6.0) + run(6, struct.pack("<2d", 0.5, 2.0)) + run(7, struct.pack("<2d", 1.0, 2.0)))
picture = run(4, b"\x08\x02\x10\x03\x18\x03" + run(4, b"\x89PNG"))
words = run(8, b"\x08\x07" + run(2, b"") + run(8, b"| a |")) + run(9, run(1, run(1, b"text")))
write("event_file/scalars.tfevents", head + event(1, run(5, loss)) + start + event(3, run(5, loss + loss)))
write("event_file/kinds.tfevents", head + event(2, run(5, value("w", histo) + value("p", picture) + value("t", words) + value("?"))))
write("event_file/empty.tfevents", b"")
write("event_file/bad_checksum.tfevents", head[:-1] + b"\0")
write("event_file/bad_length.tfevents", b"\xff" + head[1:])
write("event_file/bad_cut.tfevents", head + event(1, run(5, loss))[:-5])
write("event_file/bad_message.tfevents", event(1, b"\x2a\x7f"))

# ---- shards: an index beside the files x (tensors a and b) and y (c), which the target writes


def index(weights):
    return json.dumps({"metadata": {"total_size": 80}, "weight_map": weights}).encode()


write("shards/two.json", index({"a": "x", "b": "x", "c": "y"}))
write("shards/one.json", index({"c": "y"}))
write("shards/bad_wrong.json", index({"a": "y", "b": "x", "c": "y"}))
write("shards/bad_outside.json", index({"a": "../x", "b": "../x"}))
write("shards/bad_root.json", index({"a": "/etc/passwd"}))
write("shards/bad_missing.json", index({"a": "x", "b": "x", "c": "y", "d": "y"}))
write("shards/bad_folder.json", index({"a": ".", "b": "x"}))

# ---- a lab's results.json: without the checksum that belongs to it, which the target adds

stat = {"mean": 1.5, "std": None, "values": [1.5, None]}
row = {"model": "gpt2-nano", "variant": "softmax", "params": 10, "seeds": 2, "val_loss": stat, "ppl": stat, "diverged": [2],
       "runs": [{"seed": 1, "folder": "runs/softmax-s1"}, {"seed": 2, "folder": "../..", "diverged_at": 3}],
       "paired": {"val_loss": {"difference": 0.5, "low": None, "high": None, "relative": False, "pairs": 2}}}
results = {"schema": "ghostmax.lab/1", "version": "0", "command": "ghostmax lab", "machine": {"isa": "ref", "threads": 1},
           "config": {"source": "stories", "models": ["gpt2-nano"], "variants": ["softmax"], "seeds": [1, 2]},
           "metrics": [{"name": "val_loss", "title": "val loss", "better": -1, "table": True, "by_size": True}], "rows": [row],
           "verdict": ["a </script> sentence"]}
write("results/bad_checksum.json", json.dumps(results).encode())
write("results/bad_empty.json", b"{}")
write("results/bad_list.json", b"[1]")

# ---- what a report is made of, a zero byte between each file and the next: lab.json, train.json, measure.json, quant.json, metrics.jsonl,
# sample.safetensors

identity = {"data": "bb", "attention": "softmax", "steps": 2, "batch": 2, "context": 4, "lr": 0.001, "seed": 1, "layers": 1}
train = {"schema": "ghostmax.train/2", "identity": identity, "made": {"version": "0", "time": "2026-01-01T00:00:00Z"},
         "model": {"preset": "bb-1l", "params": 100, "params_of_variant": 0, "train_flops_per_token": 600.0},
         "result": {"step": 2, "diverged_at": 0, "tokens_per_s": 10.0, "seconds": 1.5, "loss": 2.5, "val_loss": 2.75}}
measured = {"schema": "ghostmax.measure/1", "data": "bb", "sequences": 1, "context": 4, "loss": 2.75, "max_inf_norm": 3.5, "avg_kurtosis": 1.25,
            "tensors": [{"name": "blocks.0", "site": "block", "layer": 0, "inf_norm": 3.5, "kurtosis": 2.0, "absmax": [1.0, 2.0], "levels": 200,
                         "positions": [{"from": 0, "norm": 1.0, "inf_norm": 0.5}], "dims": []}],
            "heads": [{"layer": 0, "head": 0, "sink_mass": 0.5, "sink_rate": 0.25, "null_mass": 0.0, "entropy": 1.0}],
            "largest": [{"tensor": "blocks.0", "value": -3.5, "text": "<script>"}], "features": [], "massive": []}
quant = {"schema": "ghostmax.quant/1", "f32_loss": 2.75, "w8a8_loss": 2.875, "settings": {"w8a8": {"loss": 2.875}}}
log = b"".join(json.dumps({"step": i, "loss": 3.0 - i / 2, "grad_norm": 1.0, "lr": 0.001, "max_inf_norm": 3.0}).encode() + b"\n" for i in (1, 2))
halves8 = b"".join(struct.pack("<f", i / 4)[2:] for i in range(8))
drawn = safetensors([("embed", "BF16", [2, 4], halves8), ("blocks.0.weights", "BF16", [4, 2], halves8), ("blocks.0.null_mass", "BF16", [2, 2], halves8[:8]),
                     ("blocks.0.block", "BF16", [2, 4], halves8)], {"schema": "ghostmax.sample/1", "texts": "[\"a\", \"\\u0007b\"]"})
listed = {"model": "bb-1l", "variant": "softmax", "seed": 1, "folder": "r", "params": 100, "params_of_variant": 0, "train_flops_per_token": 600.0}


def report(*files):
    return b"\0".join(f if isinstance(f, bytes) else json.dumps(f).encode() for f in files)


def lab_json(**more):
    return {"schema": "ghostmax.lab/1", "config": {"source": "bb", "variants": ["softmax"]}, "made": {"version": "0"}, "runs": [{**listed, **more}]}


write("run/run.bin", report(b"", train, measured, b"", log, drawn))
write("run/lab.bin", report(lab_json(), train, measured, quant, log, drawn))
write("run/audit.bin", report(b"", b"", measured, b"", b"", b""))
write("run/bad_outside.bin", report(lab_json(folder=".."), train, measured, quant, log, drawn))
write("run/bad_log.bin", report(b"", train, measured, b"", b"{}\n", drawn))
write("run/bad_texts.bin", report(b"", train, measured, b"", log, safetensors([("embed", "BF16", [2, 4], halves8)])))
flat = [("blocks.2.weights", "BF16", [2, 0], b""), ("blocks.3.embed", "BF16", [0, 1 << 62], b"")]
write("run/flat.bin", report(b"", train, measured, b"", log, safetensors(flat, {"texts": "[1, 2]"})))

# ---- variants

for i, spec in enumerate(("softmax1", "softmax_n:n=0.5", "clipped:gamma=-0.03,zeta=1.003", "clipped:alpha=4", "gated:kind=mlp,hidden=4,pi=0.25",
                          "softmax1+gated:kind=channel", "sink+clipped:alpha=2+gated")):
    write(f"variant/{i}.txt", spec.encode())
for i, spec in enumerate(("softmax2", "softmax_n:n=-1", "sink+softmax1", "gated:kind=none", "clipped:alpha=4,alpha=5", "")):
    write(f"variant/bad_{i}.txt", spec.encode())

# ---- the command line: its command, then one argument per line

for i, line in enumerate(("lab --data stories --variants softmax,softmax1 --seeds 2 --width 64 --out lab", "eval model --data=x.txt --stride 8 --json",
                          "generate m.gguf --stop a --stop b --temperature 0.5 --seed 3", "explain -- -1 2 -inf", "train --data x --bos --no-bos --lr 1e-3",
                          "quantize m --data x --out q --weight-bits 4 --quiet")):
    write(f"options/{i}.txt", line.replace(" ", "\n").encode())
for i, line in enumerate(("lab --seeds 0", "eval", "convert a b", "train --data", "explain -1", "lab --heads 3,4", "bench --jsn", "nothing width=64,heads=2")):
    write(f"options/bad_{i}.txt", line.replace(" ", "\n").encode())

# ---- token files

M = 2**64 - 1


def mix(z):
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & M
    z = (z ^ z >> 27) * 0x94d049bb133111eb & M
    return z ^ z >> 31


def hash64(data, seed=0):
    h, n = mix(seed ^ 0x9e3779b97f4a7c15), len(data) // 8 * 8
    for at in range(0, n, 8):
        h = mix(h ^ struct.unpack_from("<Q", data, at)[0]) + 0x9e3779b97f4a7c15 & M
    tail = len(data) % 8 << 56 | int.from_bytes(data[n:], "little")
    return mix(h ^ tail)


def token_file(tokenizer, width, vocab, grains, tokens, count=None, version=1):
    tokenizer += b" " * (-len(tokenizer) % 8)
    count = len(tokens) // width if count is None else count
    ends = [g[0] for g in grains[1:]] + [count]
    rest = tokenizer + b"".join(struct.pack("<4Q", first, byte, 7, hash64(tokens[first * width:end * width]))
                                for (first, byte), end in zip(grains, ends))
    header = struct.pack("<8s8Q", b"GMTOKENS", version, width, vocab, count, 9, 11, len(tokenizer), len(grains))
    header += struct.pack("<Q", hash64(rest, hash64(header + bytes(8))))
    return header + rest + tokens + bytes(-len(tokens) % 8)


byte_tokens = b'{"type":"ghostmax.tokenizer","version":1,"kind":"bytes","lower":false,"unk":-1,"bos":256}'
char_tokens = b'{"type":"ghostmax.tokenizer","version":1,"kind":"chars","lower":false,"unk":0,"bos":1,"vocab":["<unk>","<bos>","a","b"]}'
write("token_file/bytes.tok", token_file(byte_tokens, 1, 257, [(0, 0), (4, 4)], b"abcdefghi"))
write("token_file/chars.tok", token_file(char_tokens, 2, 4, [(0, 0)], struct.pack("<3H", 2, 3, 0)))
write("token_file/wide.tok", token_file(byte_tokens, 4, 257, [(0, 0), (0, 0), (1, 9)], struct.pack("<2i", 255, 7)))
write("token_file/bad_id.tok", token_file(char_tokens, 2, 4, [(0, 0)], struct.pack("<3H", 2, 4, 0)))
write("token_file/bad_order.tok", token_file(byte_tokens, 1, 257, [(0, 0), (4, 4), (2, 5)], b"abcdefghi"))
write("token_file/bad_version.tok", token_file(byte_tokens, 1, 257, [(0, 0)], b"abc", version=2))

rest = json.dumps(results, sort_keys=True, separators=(",", ":")).encode()
write("results/lab.json", json.dumps({**results, "checksum": "%016x" % hash64(rest)}).encode())
