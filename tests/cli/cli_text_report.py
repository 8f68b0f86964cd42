"""report --text: the report's numbers in a terminal."""
import json
import os
import re

from program import TINY, TINY_TRAIN, Case, main, read, read_json, write_record


class TextReport(Case):
    def lab(self, variants, *more, steps=40, seeds=2):
        self.ok("lab", "--data", self.text(), "--variants", variants, "--seeds", seeds, "--steps", steps, "--out", self.path("lab"),
                "--sensitivity-sequences", 0, *TINY, *more)
        return self.path("lab")

    def draw(self, folder, columns=80, **env):
        return self.ok("report", "--text", folder, env={"COLUMNS": str(columns), "LC_ALL": "C.UTF-8", **env})

    def test_a_lab(self):
        lab = self.lab("softmax,softmax1")
        shown = self.draw(lab)
        self.assertNotIn("\x1b", shown)
        for title in ("Results", "Training loss", "Validation loss", "Max inf norm while training", "Average kurtosis while training", "Inf norm",
                      "Kurtosis", "Attention on the first token", "Perplexity"):
            self.assertRegex(shown, rf"(?m)^{title}")
        for row in read_json(lab, "results.json")["rows"]:
            found = re.search(rf"(?m)^{row['variant']} +[\d.]+ ± [\d.]+[* ]  +([\d.]+) ± ", shown)
            self.assertAlmostEqual(float(found[1]), row["ppl"]["mean"], delta=0.01 * row["ppl"]["mean"])
        self.fits(lab, 80, 132, 200)
        self.assertTrue(self.draw(lab, LC_ALL="C").isascii())
        self.assertIn("\x1b[34m", self.on_terminal("report", "--text", lab, columns=70))
        self.assertNotIn("\x1b", self.on_terminal("report", "--text", lab, env={"NO_COLOR": "1"}))

    def test_what_the_page_shows(self):
        """Differences to softmax with their intervals, what each block costs in 8 bits, outliers by token: the numbers of the page."""
        self.ok("lab", "--data", self.text(), "--variants", "softmax,softmax1", "--seeds", 3, "--steps", 4, "--out", self.path("lab"), *TINY,
                "--layers", 2, "--sensitivity-sequences", 2)
        for variant in ("softmax", "softmax1"):
            folder = self.path("lab", "runs", variant + "-s1")
            ratio = {"bos": 20, "whitespace": 1, "punctuation": 3, "words": 0.5, "digits": None, "other": 0.1}
            write_record({**read_json(folder, "measure.json"), "token_class_ratio": ratio}, folder, "measure.json")
        shown = self.draw(self.path("lab"), 100)
        for title in ("Gradient norm", "Sink rate while training", "Mass to nothing while training"):
            self.assertRegex(shown, rf"(?m)^{title}")
        self.assertRegex(shown, r"BOS +space +punct\. +words +digits +other\nsoftmax +██ 20 +░░ 1 +░░ 3 +·· 0\.5 +·· - +·· 0\.1\n")
        pair = read_json(self.path("lab"), "results.json")["rows"][1]["paired"]["val_loss"]
        found = re.search(r"(?m)^val loss\n  softmax1 +(\S+?)[* ] \[(\S+), (\S+)\]$", shown)
        for got, name in zip(found.groups(), ("difference", "low", "high")):
            self.assertAlmostEqual(float(got), pair[name], delta=0.01 * abs(pair[name]) + 1e-5)
        costs = [0, 0]
        for seed in (1, 2, 3):
            for tensor in read_json(self.path("lab"), "runs", f"softmax-s{seed}", "quant.json")["report"]["sensitivity"]["tensors"]:
                if tensor["name"].startswith("blocks."):
                    costs[int(tensor["name"].split(".")[1])] += tensor["loss_cost"] / 3
        found = re.search(r"(?m)^Loss added by each tensor.*\n(?:  .*\n)* +0 +1\nsoftmax +\S+ +(\S+) +\S+ +(\S+)$", shown)
        for got, want in zip(found.groups(), costs):
            self.assertAlmostEqual(float(got), want, delta=0.5 * abs(want))
        for row in read_json(self.path("lab"), "results.json")["ablations"]:
            found = re.search(rf"(?m)^{re.escape(row['variant'])} +w8a8 +(\S+)", shown)
            self.assertAlmostEqual(float(found[1]), row["w8a8_ppl"]["mean"], delta=0.01 * row["w8a8_ppl"]["mean"])
        self.fits(self.path("lab"), 30, 36, 47, 48, 60, 80)

    def test_curves_of_the_page(self):
        """Each curve that the page draws is drawn, those of the Bigram-Backcopy task too."""
        page = read(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib", "report", "page.js")
        fields = set(re.findall(r'trainingChart\(charts, group, index, "(\w+)"', page))
        self.assertIn("backcopy_loss", fields)
        self.ok("train", "--data", "bb", "--model", "bb-1l", "--batch", 2, "--steps", 4, "--attention", "softmax1", "--measure-every", 2,
                "--out", self.path("bb"), "--threads", 1, "--quiet")
        with open(self.path("bb", "metrics.jsonl"), "a") as f:
            f.write(json.dumps({"step": 5, **{field: 7 for field in fields}}) + "\n")
        charts = re.findall(r"(?m)^(\S.*)\n {1,8}[\d.-]+\S* ┤", self.draw(self.path("bb")))
        self.assertEqual(len(charts), len(fields), charts)

    def test_sizes(self):
        shapes = [TINY.index(word) for word in ("--layers", "--heads", "--width")]  # the presets' own
        options = [word for i, word in enumerate(TINY) if i not in shapes and i - 1 not in shapes]
        lab = self.path("lab")
        self.ok("lab", "--data", self.text(), "--variants", "softmax", "--seeds", 1, "--steps", 2, "--out", lab, "--sensitivity-sequences", 0, *options,
                "--model", "gpt2-nano,gpt2-micro")
        rows = read_json(lab, "results.json")["rows"]
        found = re.search(r"(?m)^max inf norm by size.*\ngpt2-nano softmax +(\S+) .*\ngpt2-micro softmax +(\S+) ", self.draw(lab))
        for got, row in zip(found.groups(), rows):
            self.assertAlmostEqual(float(got), row["max_inf_norm"]["mean"], delta=0.01 * row["max_inf_norm"]["mean"])

    def test_the_best_is_shared(self):
        """All that have a column's best mean are marked, none where all have it."""
        lab = self.lab("softmax,softmax1,sink", steps=4, seeds=1)
        for variant, rate in (("softmax", 7), ("softmax1", 0), ("sink", 0)):
            folder = self.path("lab", "runs", variant + "-s1")
            write_record({**read_json(folder, "measure.json"), "sink_rate": rate, "max_kurtosis": 3}, folder, "measure.json")
        shown = self.draw(lab, 200)
        heads, *rows = re.search(r"(?m)^ .*max kurtosis.*sink rate.*\n(.+\n){3}", shown)[0].splitlines()
        ends = [heads.index(title) + len(title) for title in ("max kurtosis", "sink rate %")]
        self.assertEqual([[row[:end].split()[-1] for end in ends] for row in rows], [["3", "7"], ["3", "0*"], ["3", "0*"]])

    def fits(self, folder, *widths):
        for columns in widths:
            for line in self.draw(folder, columns).splitlines():
                self.assertLessEqual(len(line), columns, line)

    def test_narrow_windows(self):
        lab = self.lab("softmax,clipped:gamma=-0.03,zeta=1+gated", "--heads", 16, "--width", 32)
        self.fits(lab, *range(30, 60, 3))
        self.assertIn("heads more", self.draw(lab, 30))
        self.assertNotIn("heads more", self.draw(lab, 40))
        self.assertEqual(self.draw(lab, 10), self.draw(lab, 30))  # the narrowest that is drawn for
        done = self.run_program("lab", "--data", self.text(), "--variants", "softmax,softmax1", "--seeds", 1, "--steps", 40, "--out", self.path("d"), *TINY,
                                "--lr", 99, "--clip", 0)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.fits(self.path("d"), *range(30, 60, 3), 80)
        self.assertIn("  diverged", self.draw(self.path("d"), 30))

    def test_odd_folders(self):
        self.ok("train", "--data", self.text(), "--steps", 1, "--out", self.path("one"), *TINY_TRAIN, "--quiet")
        self.assertIn("Training loss", self.draw(self.path("one")))
        with open(self.path("one", "metrics.jsonl"), "a") as f:  # a step without a number, and a line that is being written
            f.write(json.dumps({"step": 2, "loss": None}) + "\n" + '{"step": 3, "lo')
        self.assertIn("Training loss", self.draw(self.path("one")))
        self.fails(1, ["nowhere"], "report", "--text", self.path("nowhere"))
        self.fails(2, ["--text"], "report", "--text", "--out", self.path("x"), self.path("one"))

    def test_fifty_variants(self):
        shown = self.draw(self.lab(",".join(f"clipped:alpha={i}" for i in range(1, 51)), "--no-ablations", steps=2, seeds=1))
        self.assertGreater(len(re.findall(r"(?m)^clipped:alpha=49 ", shown)), 1)
        self.assertRegex(shown, r"and \d+ more")


main()
