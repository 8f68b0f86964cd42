#!/usr/bin/env python3
"""Writes tests/golden/hf/: tiny models of every family that we read, saved by Hugging Face's own save_pretrained, and the logits that
transformers computes from those files in double precision.

The folders are what the library writes, so they hold its configurations, names, number types and shards. Weights are random and large,
so that attention is far from uniform and any wrong row, transpose, rotation or sign shows in the logits.

Usage: tools/make_golden_hf.py     (needs torch, transformers and safetensors; recorded with the versions in tests/golden/hf/versions.txt)
"""
import math
import os
import shutil

import safetensors
import torch
import transformers
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "hf")
V, T, B = 19, 20, 2

LLAMA = dict(vocab_size=V, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=32, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
# theta 100 and heads of 8 put pairs on both sides of the band between 32 / 4 and 32 / 1, and into it
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)

CASES = {
    "gpt2": (transformers.GPT2Config, torch.float32, None,
             dict(vocab_size=V, n_positions=32, n_embd=8, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)),
    "gpt2_bf16_untied": (transformers.GPT2Config, torch.bfloat16, None,
                         dict(vocab_size=V, n_positions=32, n_embd=12, n_layer=1, n_head=3, n_inner=10, activation_function="gelu",
                              layer_norm_epsilon=1e-3, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)),
    "opt_f16": (transformers.OPTConfig, torch.float16, None,
                dict(vocab_size=V, max_position_embeddings=32, hidden_size=8, word_embed_proj_dim=8, ffn_dim=12, num_hidden_layers=2,
                     num_attention_heads=2, pad_token_id=1, bos_token_id=2, eos_token_id=2)),
    "llama2": (transformers.LlamaConfig, torch.float32, None, LLAMA),
    "llama_biases": (transformers.LlamaConfig, torch.float32, None, dict(LLAMA, attention_bias=True, mlp_bias=True)),
    "llama_linear": (transformers.LlamaConfig, torch.float32, None,
                     dict(LLAMA, rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=10000.0))),
    "llama3_sharded": (transformers.LlamaConfig, torch.bfloat16, "1KB",
                       dict(LLAMA, max_position_embeddings=256, num_attention_heads=2, num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
                            rope_parameters=LLAMA3_ROPE)),
    "mistral_window": (transformers.MistralConfig, torch.float32, None, dict(LLAMA, sliding_window=5, head_dim=6)),
    "mistral_plain": (transformers.MistralConfig, torch.bfloat16, None, dict(LLAMA, sliding_window=None)),
    "qwen2": (transformers.Qwen2Config, torch.bfloat16, None, dict(LLAMA, tie_word_embeddings=True)),
    "qwen3": (transformers.Qwen3Config, torch.float32, None, dict(LLAMA, head_dim=6)),
    "qwen3_sharded_f16": (transformers.Qwen3Config, torch.float16, "2KB", dict(LLAMA, num_key_value_heads=1, head_dim=10)),
}


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, x in model.named_parameters():
        r = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        if "norm" in name or "ln_" in name:
            r = 1 + 0.3 * r if name.endswith("weight") else 0.2 * r
        elif name.endswith("bias"):
            r = 0.5 * r
        elif "embed" in name or "wte" in name or "wpe" in name:
            r = 0.7 * r
        else:
            r = 1.5 * r / math.sqrt(min(x.shape))
        x.data = r.to(x.dtype)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for seed, (name, (config_class, dtype, shard, options)) in enumerate(CASES.items()):
        folder = os.path.join(FOLDER, name)
        config = config_class(**options)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype)
        fill(model, seed)
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        generation = os.path.join(folder, "generation_config.json")
        if os.path.exists(generation):
            os.remove(generation)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        tokens = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(100 + seed))
        with torch.no_grad():
            # the mask is given: some classes take a pad id in the tokens for padding otherwise
            logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits
        assert logits.dtype == torch.float64
        save_file({"tokens": tokens.float(), "logits": logits.float().contiguous()}, os.path.join(folder, "expected.safetensors"))
        print(f"{name:20} {sum(p.numel() for p in model.parameters()):6} parameters, largest logit {logits.abs().max():.2f}")
    with open(os.path.join(FOLDER, "versions.txt"), "w") as f:
        f.write(f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, safetensors {safetensors.__version__}\n")


main()
