"""Help, unknown words, values out of range, numbers of `explain`, a full stdout."""
import json
import math
import os
import re
import subprocess
import sys

from program import TINY_TRAIN, Case, main


def commands(help_text):
    block = help_text.split("Commands\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\w+) ", block, re.M)


class Usage(Case):
    def test_help_of_every_command(self):
        overview = self.ok("--help")
        names = commands(overview)
        self.assertGreaterEqual(len(names), 10)
        self.assertEqual(self.ok("help"), overview)
        for name in names:
            done = self.run_program(name, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            self.assertIn(f"usage: ghostmax {name}", done.stdout)
            self.assertRegex(done.stdout, r"\nExample\n  ghostmax " + name)
            self.assertEqual(self.ok(name, "-h"), done.stdout)
            self.assertEqual(self.ok("help", name), done.stdout)

    def test_help_has_defaults_and_sources(self):
        text = self.ok("lab", "--help")
        self.assertRegex(text, r"--out DIR .*\[lab\]")
        self.assertRegex(text, r"--beta1 X .*\[0\.9\]")
        for word in ("stories", "bb", "FILE", "softmax1", "words-mini"):
            self.assertIn(word, text)

    def test_names_with_control_characters(self):
        """One line, and nothing that a terminal would obey."""
        name = "x\ny\x1b[31m"
        for arguments in (["info", "--" + name], ["info", name], [name], ["generate", self.text(), "--prompt-file", name], ["tokenize", name],
                          ["train", "--data", name, "--out", self.path("out")], ["report", name]):
            done = self.run_program(*arguments)
            self.assertIn(done.returncode, (1, 2), arguments)
            self.assertNotRegex(done.stderr[:-1], r"[\x00-\x1f\x7f]", arguments)

    def test_a_text_without_end(self):
        model = self.path("m")
        self.ok("train", "--data", self.text(), "--steps", 1, "--out", model, "--quiet", *TINY_TRAIN)
        self.fails(2, ["/dev/zero"], "generate", model, "--prompt-file", "/dev/zero")
        self.fails(2, ["/dev/zero"], "tokenize", "/dev/zero", "--tokenizer", os.path.join(model, "tokenizer.json"), "--ids")
        self.fails(2, ["/dev/zero"], "tokenize", "/dev/zero", "--train", "bpe", "--out", self.path("t.json"))

    def test_no_command_is_a_usage_error(self):
        self.assertEqual(self.run_program().returncode, 2)

    def test_nearest_names(self):
        self.fails(2, ["unknown command 'lap'", "'lab'"], "lap")
        self.fails(2, ["--step", "--steps"], "lab", "--step", "3")
        self.fails(2, ["softmix", "softmax"], "explain", "--variants", "softmix", "--", "1")
        self.fails(2, ["gpt2-nan", "gpt2-nano"], "info", "--model", "gpt2-nan")
        self.fails(2, ["softmax1", "softmax_1"], "lab", "--variants", "softmax_1", "--data", self.text(), "--out", self.path("o"))
        self.fails(2, ["gpt2-nono", "gpt2-nano"], "train", "--model", "gpt2-nono", "--data", self.text(), "--out", self.path("o"))

    def test_ranges(self):
        for option, value in (("steps", 0), ("seeds", 0), ("threads", 0), ("batch", 0), ("context", 0), ("lr", 0), ("lr", -1), ("lr", "nan"),
                              ("lr", "fast"), ("steps", "1.5"), ("steps", "1e3"), ("steps", "99999999999999999999"), ("seed", -1), ("vocab", 1),
                              ("layers", 0), ("dropout", 1.5), ("act", "tanh")):
            self.fails(2, [f"--{option}: "], "lab", f"--{option}", value, "--out", self.path("o"))

    def test_line_errors(self):
        self.fails(2, ["--lr needs a value"], "lab", "--lr")
        self.fails(2, ["--out needs a value"], "lab", "--out", "--json")
        self.fails(2, ["--json takes no value"], "lab", "--json=1")
        self.fails(2, ["'x' is too much"], "lab", "x")
        self.fails(2, ["--schedule", "cosine"], "lab", "--schedule", "cos")
        self.fails(2, ["--out is missing"], "train")
        self.fails(2, ["--data is missing"], "eval", self.folder)
        self.fails(2, ["MODEL is missing"], "eval")

    def test_variant_values(self):
        for spec, word in (("softmax_n:n=-1", "n"), ("clipped:gamma=0.1", "gamma"), ("clipped:zeta=0.9", "zeta"), ("gated:pi=1", "pi"),
                           ("softmax1+sink", "sink"), ("softmax,softmax", "twice"), ("softmax,,sink", "empty"), ("clipped:alfa=3", "alpha")):
            self.fails(2, [word], "explain", "--variants", spec, "--", "1", "2")

    def test_heads_must_divide_width(self):
        self.fails(2, ["heads", "width"], "info", "--model", "gpt2-nano", "--heads", 5)
        self.fails(2, ["heads", "width"], "lab", "--data", self.text(), "--model", "gpt2-nano", "--heads", 5, "--out", self.path("o"))

    def test_full_stdout(self):
        with open("/dev/full", "w") as full:
            for arguments in (("explain", "--", "1"), ("--help",), ("info", "--json"), ("lab", "--help")):
                done = self.run_program(*arguments, stdout=full)
                self.assertEqual(done.returncode, 1, arguments)
                self.assertIn("cannot write", done.stderr)

    def test_closed_pipe(self):
        reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
        reader.wait()
        done = self.run_program("info", "--presets", stdout=reader.stdin)
        reader.stdin.close()
        self.assertEqual(done.returncode, 1)

    def test_version(self):
        facts = json.loads(self.ok("--version", "--json"))
        with open(os.path.join(sys.argv[1], "include", "ghostmax.h")) as f:
            version = re.search(r'#define GM_VERSION "([0-9.]+)"', f.read()).group(1)
        self.assertEqual(facts["version"], version)
        self.assertTrue(self.ok("--version").startswith(f"ghostmax {version}\n"))
        self.assertRegex(facts["compiler"], r"^(gcc|clang) \d+\.\d+")
        self.assertEqual(facts["isa_built"][0], "ref")
        self.assertEqual(facts["isa_available"], facts["isa_built"][:len(facts["isa_available"])])
        self.assertTrue(facts["gemm"].startswith(("onednn", "openblas", "plain")))
        self.assertRegex(facts["commit"], r"^([0-9a-f]{7,}(-dirty)?)?$")
        self.assertIn("commit", json.loads(self.ok("info", "--json")))
        self.fails(2, ["--json", "'x'"], "--version", "x")
        self.fails(2, ["--json", "'--jason'"], "--version", "--jason")

    def test_isa(self):
        self.assertEqual(json.loads(self.ok("info", "--json", "--isa", "ref"))["isa"], "ref")
        self.assertEqual(json.loads(self.ok("info", "--json", env={"GHOSTMAX_ISA": "ref"}))["isa"], "ref")
        self.fails(2, ["sse9"], "info", "--isa", "sse9")


class Info(Case):
    def test_model_before_anything_is_allocated(self):
        m = json.loads(self.ok("info", "--model", "gpt2-small", "--attention", "sink", "--json"))
        self.assertEqual(m["attention_parameters_extra"], 12 * 12)
        self.assertEqual(m["parameters"], 124439808 + 12 * 12)  # GPT-2 small, and one sink per head
        self.assertEqual(sum(t["rows"] * t["cols"] for t in m["tensors"]), m["parameters"])

    def test_a_model_larger_than_any_memory(self):
        m = json.loads(self.ok("info", "--model", "gpt2-small", "--layers", 1000, "--width", 16384, "--heads", 64, "--json"))
        self.assertGreater(m["train_bytes"], 1e12)

    def test_overrides(self):
        m = json.loads(self.ok("info", "--model", "llama-15m", "--width", 128, "--heads", 4, "--kv-heads", 2, "--json"))
        self.assertEqual((m["config"]["head_dim"], m["config"]["kv_heads"], m["config"]["ffn"]), (32, 2, 512))


class Explain(Case):
    def rows(self, *arguments):
        return {r["variant"]: r for r in json.loads(self.ok("explain", "--json", *arguments))["rows"]}

    def test_ten_scores_of_minus_ten(self):
        rows = self.rows("--", *["-10"] * 10)
        self.assertAlmostEqual(rows["softmax"]["sum"], 1, delta=1e-6)
        expected = 10 * math.exp(-10) / (1 + 10 * math.exp(-10))  # 4.5379e-4
        self.assertAlmostEqual(rows["softmax1"]["sum"], expected, delta=1e-9)
        self.assertAlmostEqual(rows["softmax1"]["null_mass"], 1 - expected, delta=1e-6)
        self.assertEqual(rows["softmax"]["null_mass"], 0)

    def test_every_default_variant(self):
        rows = self.rows("--", "1", "2", "-inf")
        a, b = math.e, math.e ** 2
        for name, n in (("softmax", 0), ("softmax1", 1), ("softmax_n:n=0.5", 0.5), ("sink", 1)):
            for got, want in zip(rows[name]["weights"], (a / (n + a + b), b / (n + a + b), 0)):
                self.assertAlmostEqual(got, want, delta=1e-6)
        p = a / (a + b)
        self.assertAlmostEqual(rows["clipped:gamma=-0.03,zeta=1"]["weights"][0], 1.03 * p - 0.03, delta=1e-6)

    def test_masked_and_nan(self):
        rows = self.rows("--variants", "softmax,softmax1", "--", "-inf", "-inf")
        self.assertEqual(rows["softmax"]["weights"], [0, 0])
        self.assertEqual((rows["softmax1"]["sum"], rows["softmax1"]["null_mass"]), (0, 1))
        rows = self.rows("--variants", "softmax,clipped:alpha=2", "--", "1", "nan")
        for row in rows.values():
            self.assertEqual(row["weights"], [None, None])
        self.assertNotIn("-nan", self.ok("explain", "--", "inf", "1"))

    def test_table(self):
        text = self.ok("explain", "--", "-10", "-10", "-10")
        self.assertIn("null mass", text)
        self.assertRegex(text, r"softmax1 +4\.539e-05")

    def test_bad_scores(self):
        self.fails(2, ["after `--`"], "explain", "-10")
        self.fails(2, ["'abc'"], "explain", "--", "abc")
        self.fails(2, ["SCORE"], "explain")


class Selftest(Case):
    CHECKS = ("kernels", "normaliser rows", "attention forward", "attention gradients", "metrics: moments", "quantizer grids",
              "quantizer ranges", "model gradients", "20 training steps", "W8A8 executed", "metrics of models", "published constants")

    def test_one_table(self):
        """Every table of this machine is tests/selftest/test_selftest.c's."""
        result = json.loads(self.ok("selftest", "--json", "--threads", 1, env={"GHOSTMAX_ISA": "ref"}))
        self.assertTrue(result["passed"])
        self.assertEqual({c["isa"] for c in result["checks"]}, {"ref"})
        for check, name in zip(result["checks"], self.CHECKS):
            self.assertTrue(check["check"].startswith(name), check)
            self.assertLessEqual(check["error"], check["tolerance"])
            self.assertGreater(check["count"], 0)
        self.assertEqual(len(result["checks"]), len(self.CHECKS))
        self.assertIn("commit", result["build"])

    def test_text(self):
        lines = self.ok("selftest", "--isa", "ref", "--threads", 1).splitlines()
        self.assertTrue(lines[0].startswith("ref "))
        self.assertEqual([line.split()[-1] for line in lines[1:]], ["ok"] * len(self.CHECKS))
        self.fails(2, ["sse9"], "selftest", "--isa", "sse9")


main()
