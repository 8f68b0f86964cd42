"""ghostmax quantize, and eval, measure, generate of what it writes. The large checks want $GHOSTMAX_DATA (../shared/data) and are left out
without it."""
import json
import math
import os
import unittest

from program import Case, main, read_json, tree

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.environ.get("GHOSTMAX_DATA", os.path.join(HERE, "..", "..", "..", "shared", "data"))
MODEL = os.path.join(DATA, "models", "stories260K.bin")
TEXT = os.path.join(DATA, "text", "tinystories-sample.txt")
TOKENS = os.path.join(DATA, "tokenizers", "tok512.bin")
TRAIN = ("--model gpt2-nano --layers 2 --heads 2 --width 16 --vocab 64 --batch 4 --context 16 --eval-sequences 8 --steps 30 --threads 1 "
         "--quiet").split()
FEW = "--calibration-batches 2 --sequences 8 --threads 1 --quiet".split()


class Quantize(Case):
    def setUp(self):
        super().setUp()
        self.data = self.text()
        self.model = self.path("model")
        self.ok("train", "--data", self.data, "--out", self.model, "--attention", "softmax1", *TRAIN)

    def quantize(self, *options, out="q"):
        return json.loads(self.ok("quantize", self.model, "--data", self.data, "--out", self.path(out), "--json", *FEW, *options))

    def test_writes_a_model_that_others_run(self):
        made = self.quantize()
        self.assertEqual(sorted(os.listdir(self.path("q"))), ["config.json", "model.safetensors", "tokenizer.json"])
        self.assertEqual(read_json(self.path("q"), "config.json")["model_type"], "ghostmax_quantized")
        run = ("--data", self.data, "--sequences", "8", "--threads", "1", "--quiet")
        seen = json.loads(self.ok("eval", self.path("q"), *run, "--json", "--reference", self.model))
        for key, row in (("ppl", "executed"), ("simulated_ppl", "simulated"), ("f32_ppl", "f32")):
            self.assertTrue(abs(seen[key] / made[row]["ppl"] - 1) < 1e-6, (key, seen, made[row]))
        self.assertTrue(seen["executed"])
        self.assertTrue(abs(seen["ppl"] / seen["simulated_ppl"] - 1) < 1e-3)
        shown = self.ok("eval", self.path("q"), *run)
        self.assertIn("executed on integers", shown)
        self.assertIn("simulated", shown)
        self.assertIn("tensors", json.loads(self.ok("measure", self.path("q"), *run, "--json")))
        text = self.ok("generate", self.path("q"), "--tokens", "5", "--temperature", "0", "--threads", "1")
        self.assertTrue(text.strip())

    def test_sensitivity(self):
        made = self.quantize("--sensitivity", "--sensitivity-sequences", "4")
        costs = made["sensitivity"]["tensors"]
        self.assertEqual(len(costs), len(made["tensors"]))
        self.assertEqual([c["ppl_cost"] for c in costs], sorted((c["ppl_cost"] for c in costs), reverse=True))
        self.assertIn("blocks.1.ffn_out", [c["name"] for c in costs])
        for tensor in made["tensors"]:
            self.assertTrue(tensor["sqnr_db"] is None or tensor["sqnr_db"] > 10, tensor)
        shown = self.ok("quantize", self.model, "--data", self.data, "--out", self.path("again"), "--leave-one-out", "--top", "3", *FEW)
        self.assertIn("What sparing each tensor gains", shown)
        self.assertLess(max(map(len, shown.splitlines())), 101)

    def test_every_preset_and_option(self):
        perplexity = {}
        for preset in ("w8a8", "w6a8", "w4a8", "w6a6", "w4a4", "bert-paper", "opt-paper", "llm-int8", "smoothquant"):
            made = self.quantize("--preset", preset, out=preset)
            perplexity[preset] = made["simulated"]["ppl"]
            self.assertEqual(made["executed"] is None, preset == "llm-int8", made.get("not_executed_because"))
            loaded = json.loads(self.ok("eval", self.path(preset), "--data", self.data, "--sequences", "8", "--json", "--quiet"))
            self.assertTrue(math.isclose(loaded["simulated_ppl"], perplexity[preset], rel_tol=1e-6))
        self.assertEqual(perplexity["w8a8"], perplexity["bert-paper"])
        self.assertEqual(len(set(perplexity.values())), 8)
        for options in ("--weights-per group --group-size 8 --weight-range golden", "--weight-grid asymmetric --weights-per channel",
                        "--activations-per token", "--activations-per channel", "--activation-range golden", "--percentile 99.9",
                        "--dynamic", "--kv-bits 4 --kv-per head", "--kv-bits 8 --kv-per tensor", "--where linear --smooth layers",
                        "--activation-grid symmetric", "--embedding-bits 0", "--attention-bits 16", "--head-bits 6",
                        "--quantize-head --weights-per channel"):
            made = self.quantize(*options.split(), "--force")
            self.assertNotEqual(made["simulated"]["ppl"], perplexity["w8a8"], options)
            loaded = json.loads(self.ok("eval", self.path("q"), "--data", self.data, "--sequences", "8", "--json", "--quiet"))
            self.assertTrue(math.isclose(loaded["simulated_ppl"], made["simulated"]["ppl"], rel_tol=1e-6), options)

    def test_refusals(self):
        out = self.path("q")
        run = ("quantize", self.model, "--data", self.data, "--out", out)
        self.fails(2, ["--data"], "quantize", self.model, "--out", out)
        self.fails(2, ["--out"], "quantize", self.model, "--data", self.data)
        self.fails(2, ["weight-bits", "17"], *run, "--weight-bits", "17")
        self.fails(2, ["bits of weights", "1"], *run, "--weight-bits", "1")
        self.fails(2, ["w8a9", "w8a8"], *run, "--preset", "w8a9")
        self.fails(2, ["--weights-per", "token"], *run, "--weights-per", "token")
        self.fails(2, ["--leave-one-out"], *run, "--sensitivity", "--leave-one-out")
        line = self.fails(2, ["calibration", "sequences"], *run, "--calibration-batches", "100000", "--quiet")
        self.assertRegex(line, r"the text has \d+")
        self.assertFalse(os.path.exists(out))
        self.quantize()
        before = tree(out)
        self.fails(1, ["--force"], *run, "--quiet")
        self.fails(1, ["quantized already"], "convert", out, "--to", "gguf", "--out", self.path("g.gguf"))
        self.fails(1, ["quantized already"], "quantize", out, "--data", self.data, "--out", self.path("twice"))
        self.assertEqual(tree(out), before)
        with open(os.path.join(out, "model.safetensors"), "r+b") as f:
            f.seek(-40, os.SEEK_END)
            byte = f.read(1)[0]
            f.seek(-40, os.SEEK_END)
            f.write(bytes([byte ^ 1]))
        self.fails(1, ["tensor '", "altered"], "eval", out, "--data", self.data)
        os.remove(os.path.join(self.model, "tokenizer.json"))
        self.fails(2, ["tokenizer"], *run, "--force", "--quiet")

    def test_less_text_than_asked_is_said(self):
        short = self.path("short.txt")
        with open(self.data) as f, open(short, "w") as g:
            g.write(f.read()[:9000])
        done = self.run_program("quantize", self.model, "--data", short, "--out", self.path("q"), "--sequences", "4", "--threads", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"the text has \d+ training sequences of 16 tokens, calibration would take 128: it takes")


@unittest.skipUnless(all(map(os.path.exists, (MODEL, TEXT, TOKENS))), "no data")
class Stories(Case):
    def test_the_three_perplexities(self):
        out = self.path("q")
        run = ("--data", TEXT, "--context", "128", "--threads", "1", "--quiet", "--json")
        made = json.loads(self.ok("quantize", MODEL, "--tokenizer", TOKENS, "--out", out, "--sequences", "16", *run))
        seen = json.loads(self.ok("eval", out, "--sequences", "16", "--reference", MODEL, *run))
        self.assertTrue(abs(seen["ppl"] / seen["simulated_ppl"] - 1) < 1e-3, seen)
        self.assertTrue(seen["f32_ppl"] < seen["ppl"] < 1.2 * seen["f32_ppl"], seen)
        self.assertTrue(math.isclose(made["executed"]["ppl"], seen["ppl"], rel_tol=1e-6))


main()
