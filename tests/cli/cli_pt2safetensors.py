"""tools/pt2safetensors.py: checkpoints as nanoGPT's and llama2.c's training loops write them, made here from models that are written down
below in plain PyTorch after the papers (Radford et al. 2019; Touvron et al. 2023, Su et al. 2021), give those models' logits."""
import math
import os
import subprocess
import sys

try:
    import torch
except ImportError:  # Debian's PyTorch belongs to Debian's python3
    SYSTEM = "/usr/bin/python3"
    if sys.executable != SYSTEM and os.path.exists(SYSTEM) and subprocess.run([SYSTEM, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execv(SYSTEM, [SYSTEM, "-B", *sys.argv])
    print("skipped: needs PyTorch (python3-torch)")
    sys.exit(0)

import torch.nn.functional as F

from program import PROGRAM, Case, main, read_json

SOURCE = os.path.abspath(sys.argv[1])
TOOL = os.path.join(SOURCE, "tools", "pt2safetensors.py")
LOGITS = os.path.join(os.path.dirname(PROGRAM), "example_logits")
TOKENS = [3, 1, 12, 7, 7, 0, 5, 9, 2]


def normal(generator, *shape, scale=None):
    x = torch.randn(shape, generator=generator, dtype=torch.float32)
    return x * (scale if scale is not None else 1.2 / math.sqrt(shape[-1]))


def gain(generator, n):
    return 1 + 0.3 * torch.randn(n, generator=generator)


def causal(q, k, v):
    """q, k, v [H, T, D]"""
    T, D = q.shape[1], q.shape[2]
    scores = q @ k.transpose(1, 2) / math.sqrt(D)
    scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    return torch.softmax(scores, -1) @ v


def gpt(bias, seed):
    V, T, L, H, C = 13, 16, 2, 2, 12
    g = torch.Generator().manual_seed(seed)
    w = {"transformer.wte.weight": normal(g, V, C, scale=0.7), "transformer.wpe.weight": normal(g, T, C, scale=0.5)}
    for i in range(L):
        h = f"transformer.h.{i}."
        for name in ("ln_1", "ln_2"):
            w[h + name + ".weight"] = gain(g, C)
        for name, rows, cols in (("attn.c_attn", 3 * C, C), ("attn.c_proj", C, C), ("mlp.c_fc", 4 * C, C), ("mlp.c_proj", C, 4 * C)):
            w[h + name + ".weight"] = normal(g, rows, cols)
            if bias:
                w[h + name + ".bias"] = normal(g, rows, scale=0.3)
        if bias:
            w[h + "ln_1.bias"], w[h + "ln_2.bias"] = normal(g, C, scale=0.2), normal(g, C, scale=0.2)
        else:
            w[h + "attn.bias"] = torch.ones(1, 1, T, T).tril()  # the mask of builds without flash attention
    w["transformer.ln_f.weight"] = gain(g, C)
    if bias:
        w["transformer.ln_f.bias"] = normal(g, C, scale=0.2)
    w["lm_head.weight"] = w["transformer.wte.weight"]

    def logits(tokens):
        get = lambda name: w[name].double() if name in w else None
        norm = lambda x, name: F.layer_norm(x, (C,), get(name + ".weight"), get(name + ".bias") if bias else None, 1e-5)
        linear = lambda x, name: F.linear(x, get(name + ".weight"), get(name + ".bias") if bias else None)
        x = get("transformer.wte.weight")[tokens] + get("transformer.wpe.weight")[:len(tokens)]
        for i in range(L):
            h = f"transformer.h.{i}."
            q, k, v = (y.view(-1, H, C // H).transpose(0, 1) for y in linear(norm(x, h + "ln_1"), h + "attn.c_attn").split(C, -1))
            x = x + linear(causal(q, k, v).transpose(0, 1).reshape(-1, C), h + "attn.c_proj")
            u = linear(norm(x, h + "ln_2"), h + "mlp.c_fc")
            x = x + linear(0.5 * u * (1 + torch.erf(u / math.sqrt(2))), h + "mlp.c_proj")
        return norm(x, "transformer.ln_f") @ get("lm_head.weight").t()

    return w, dict(n_layer=L, n_head=H, n_embd=C, block_size=T, bias=bias, vocab_size=V, dropout=0.0), logits


def llama(kv, tied, seed):
    V, T, L, H, C, FF = 13, 16, 2, 4, 16, 20
    D = C // H
    g = torch.Generator().manual_seed(seed)
    w = {"tok_embeddings.weight": normal(g, V, C, scale=0.7)}
    for i in range(L):
        h = f"layers.{i}."
        w[h + "attention_norm.weight"], w[h + "ffn_norm.weight"] = gain(g, C), gain(g, C)
        for name, rows, cols in (("attention.wq", C, C), ("attention.wk", kv * D, C), ("attention.wv", kv * D, C), ("attention.wo", C, C),
                                 ("feed_forward.w1", FF, C), ("feed_forward.w2", C, FF), ("feed_forward.w3", FF, C)):
            w[h + name + ".weight"] = normal(g, rows, cols)
    w["norm.weight"] = gain(g, C)
    w["output.weight"] = w["tok_embeddings.weight"] if tied else normal(g, V, C)

    def rotate(x):
        """x [T, heads, D]: element pairs (2i, 2i + 1) as complex numbers, times exp(i position 10000^(-2i/D))"""
        angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * 10000 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        z = torch.view_as_complex(x.reshape(*x.shape[:2], D // 2, 2)) * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.view_as_real(z).reshape(x.shape)

    def logits(tokens):
        get = lambda name: w[name + ".weight"].double()
        norm = lambda x, name: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * get(name)
        x = get("tok_embeddings")[tokens]
        for i in range(L):
            h = f"layers.{i}."
            n = norm(x, h + "attention_norm")
            q = rotate((n @ get(h + "attention.wq").t()).view(-1, H, D)).transpose(0, 1)
            k = rotate((n @ get(h + "attention.wk").t()).view(-1, kv, D)).transpose(0, 1).repeat_interleave(H // kv, 0)
            v = (n @ get(h + "attention.wv").t()).view(-1, kv, D).transpose(0, 1).repeat_interleave(H // kv, 0)
            x = x + causal(q, k, v).transpose(0, 1).reshape(-1, C) @ get(h + "attention.wo").t()
            n = norm(x, h + "ffn_norm")
            x = x + (F.silu(n @ get(h + "feed_forward.w1").t()) * (n @ get(h + "feed_forward.w3").t())) @ get(h + "feed_forward.w2").t()
        return norm(x, "norm") @ get("output").t()

    sizes = dict(dim=C, n_layers=L, n_heads=H, n_kv_heads=kv, vocab_size=V, multiple_of=4, max_seq_len=T, dropout=0.0)
    return w, sizes, logits


class Pt2Safetensors(Case):
    def save(self, weights, sizes, prefix="_orig_mod."):
        path = self.path("ckpt.pt")
        torch.save({"model": {prefix + name: x for name, x in weights.items()}, "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}},
                    "model_args": sizes, "iter_num": 5, "best_val_loss": torch.tensor(1.5), "config": {"lr": 1e-3}}, path)
        return path

    def tool(self, *arguments):
        return subprocess.run([sys.executable, "-B", TOOL, *arguments], capture_output=True, text=True)

    def check(self, weights, sizes, logits, *more, tolerance=2e-5, prefix="_orig_mod."):
        done = self.tool(self.save(weights, sizes, prefix), self.path("m"), "--force", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = subprocess.run([LOGITS, self.path("m"), *map(str, TOKENS)], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        got = torch.tensor([[float(x) for x in line.split()] for line in out.stdout.splitlines()], dtype=torch.float64)
        want = logits(torch.tensor(TOKENS))
        self.assertGreater(want.abs().max().item(), 1)
        self.assertLessEqual((got - want).abs().max().item(), tolerance)

    def test_nano_gpt(self):
        self.check(*gpt(True, 1))
        self.check(*gpt(False, 2), prefix="")
        self.assertEqual(read_json(self.folder, "m", "config.json")["activation_function"], "gelu")
        weights, sizes, logits = gpt(True, 3)
        weights["lm_head.weight"] = weights["lm_head.weight"].flip(0)
        self.check(weights, sizes, logits)

    def test_llama2c(self):
        self.check(*llama(4, True, 4))
        self.check(*llama(2, False, 5))

    def test_types(self):
        weights, sizes, logits = llama(2, True, 6)
        self.check({n: x.bfloat16().float() for n, x in weights.items()}, sizes, lambda t: logits(t), "--dtype", "bf16", tolerance=0.3)
        self.assertIn("BF16", self.ok("info", self.path("m")))
        weights["norm.weight"][0] = 1e6
        done = self.tool(self.save(weights, sizes), self.path("m"), "--force", "--dtype", "f16")
        self.assertEqual(done.returncode, 1)
        self.assertIn("model.norm.weight", done.stderr)

    def test_refusals(self):
        weights, sizes, _ = gpt(True, 7)
        path = self.save(weights, sizes)
        self.assertEqual(self.tool(path, self.path("m")).returncode, 0)
        self.assertIn("--force", self.tool(path, self.path("m")).stderr)

        def refused(words, w, s):
            done = self.tool(self.save(w, s), self.path("n"))
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertFalse(os.path.exists(self.path("n")))

        refused("'transformer.ln_f.weight' is missing", {n: x for n, x in weights.items() if n != "transformer.ln_f.weight"}, sizes)
        refused("has no place", {**weights, "extra": torch.ones(2)}, sizes)
        refused("where the sizes say", weights, {**sizes, "vocab_size": 14})
        refused("'n_layer'", weights, {**sizes, "n_layer": "two"})
        refused("neither", weights, {"depth": 3})
        done = self.tool(self.path("missing.pt"), self.path("n"))
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1))
        with open(self.path("bad.pt"), "wb") as f:
            f.write(b"not a checkpoint")
        self.assertEqual(self.tool(self.path("bad.pt"), self.path("n")).returncode, 1)
        torch.save([1, 2], self.path("bad.pt"))
        self.assertIn("no training checkpoint", self.tool(self.path("bad.pt"), self.path("n")).stderr)

        class Trap:  # would run code when unpickled
            def __reduce__(self):
                return (os.mkdir, (trap,))
        trap = self.path("trapped")
        torch.save({"model": {"x": Trap()}, "model_args": sizes}, self.path("bad.pt"))
        self.assertEqual(self.tool(self.path("bad.pt"), self.path("n")).returncode, 1)
        self.assertFalse(os.path.exists(trap))


main()
