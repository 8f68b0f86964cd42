"""measure: what it prints, writes and refuses."""
import csv
import json
import os
import resource
import signal
import sys

from program import TINY_TRAIN, Case, main, read, read_json, tree, with_file_limit

HEADINGS = ("NORMS AND KURTOSIS", "BY LAYER", "DISTRIBUTION", "ATTENTION", "TOKEN CLASSES", "BY POSITION", "FEATURE DIMENSIONS",
            "MASSIVE ACTIVATIONS", "LARGEST ACTIVATIONS", "WEIGHTS")
TABLES = ("tensors", "histograms", "positions", "dims", "weights", "heads", "features", "largest", "largest_without_first")


class Measure(Case):
    def model(self, *more):
        self.ok("train", "--data", self.text(), "--steps", 5, "--out", self.path("m"), *TINY_TRAIN, "--quiet", *more)
        return self.path("m"), self.path("text.txt")

    def measure(self, *arguments):
        return self.ok("measure", *arguments, "--threads", 1, "--quiet")

    def test_table_and_json(self):
        model, data = self.model("--attention", "softmax1")
        shown = self.measure(model, "--data", data, "--sequences", 4)
        for heading in HEADINGS:
            self.assertIn("\n" + heading, shown)
        self.assertLessEqual(max(map(len, shown.splitlines())), 100)
        self.assertIn("4 validation sequences of 16 tokens, with BOS", shown)
        brief = self.measure(model, "--data", data, "--sequences", 4, "--brief")
        self.assertNotIn("LARGEST", brief)
        m = json.loads(self.measure(model, "--data", data, "--sequences", 4, "--json"))
        for field in ("tensors", "max_inf_norm", "avg_kurtosis", "sink_rate", "null_mass", "massive", "outlier_features", "entropy", "noop_score",
                      "value_drain", "features", "largest", "loss_by_position"):
            self.assertIn(field, m)
        for field in ("name", "inf_norm", "kurtosis", "quantiles", "histogram", "positions", "dims", "outliers_by_class"):
            self.assertIn(field, m["tensors"][0])
        for name in ("bos", "whitespace", "punctuation", "words", "digits"):
            self.assertIn(name, m["token_classes"])
        self.assertAlmostEqual(sum(v for v in m["token_class_tokens"].values()), 1, places=6)
        self.assertEqual(len(m["largest"]), 20)
        self.assertEqual(len(json.loads(self.measure(model, "--data", data, "--json", "--top", 3))["largest"]), 3)
        again = json.loads(self.measure(model, "--data", data, "--sequences", 4, "--json", "--brief"))
        self.assertEqual(again["avg_kurtosis"], m["avg_kurtosis"])

    def test_files(self):
        model, data = self.model()
        out = self.path("measured")
        shown = json.loads(self.measure(model, "--data", data, "--sequences", 4, "--json", "--out", out))
        stored = read_json(out, "measure.json")
        self.assertRegex(stored.pop("checksum"), "^[0-9a-f]{16}$")
        made = stored.pop("made")  # what a report says of where it comes from
        self.assertIn("measure", made["command"])
        self.assertTrue(made["machine"]["isa"] and made["time"] and made["version"])
        self.assertEqual(stored, shown)
        for table in TABLES:
            with open(os.path.join(out, table + ".csv"), newline="") as f:
                rows = list(csv.DictReader(f))
            self.assertGreater(len(rows), 0, table)
            self.assertEqual(len({len(r) for r in rows}), 1, table)
        with open(os.path.join(out, "heads.csv"), newline="") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual([float(r["sink_mass"]) for r in rows], [h["sink_mass"] for h in shown["heads"]])
        with open(os.path.join(out, "histograms.csv"), newline="") as f:
            counted = sum(int(r["negative"]) + int(r["positive"]) for r in csv.DictReader(f) if r["tensor"] == "blocks.0.block")
        self.assertEqual(counted, 4 * 16 * 16)
        before = tree(out)
        self.fails(2, [out, "--force"], "measure", model, "--data", data, "--out", out)
        self.assertEqual(tree(out), before)
        self.measure(model, "--data", data, "--sequences", 4, "--brief", "--out", out, "--force")  # no table of the old measurement is left
        self.assertFalse(os.path.exists(os.path.join(out, "largest.csv")))
        self.fails(1, [data], "measure", model, "--data", data, "--out", data)

    @with_file_limit
    def test_what_cannot_be_replaced_stays(self):
        model, data = self.model()
        out = self.path("measured")
        self.measure(model, "--data", data, "--sequences", 4, "--out", out)
        before = tree(out)
        small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
        self.fails(1, ["File too large"], "measure", model, "--data", data, "--quiet", "--threads", 1, "--out", out, "--force", preexec_fn=small)
        self.assertEqual(tree(out), before)

    def test_same_bits(self):
        model, data = self.model()
        runs = [self.ok("measure", model, "--data", data, "--sequences", 6, "--json", "--quiet", "--isa", "ref", "--batch", batch, "--threads", threads)
                for batch, threads in ((1, 1), (4, 1), (6, 2))]
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(runs[0], runs[2])
        self.assertEqual(*(self.measure(model, "--data", data, "--json") for _ in range(2)))

    def test_without_a_tokenizer(self):
        model, data = self.model()
        os.remove(self.path("m", "tokenizer.json"))
        self.fails(2, [data, "--tokenizer", "ids"], "measure", model, "--data", data)
        with open(self.path("ids.txt"), "w") as f:
            f.write("\n".join(" ".join(str((7 * i + j * j) % 50) for j in range(12)) for i in range(400)))
        m = json.loads(self.measure(model, "--data", self.path("ids.txt"), "--sequences", 4, "--json"))
        self.assertEqual(len(m["left_out"]), 1)
        self.assertIn("token_classes", m["left_out"][0])
        self.assertIsNone(m["token_classes"])
        self.assertFalse(m["bos"])
        self.assertGreater(m["max_inf_norm"], 0)
        self.assertEqual(m["largest"][0]["text"], "")
        shown = self.measure(model, "--data", self.path("ids.txt"), "--sequences", 4)
        self.assertIn("Left out: token_classes", shown)
        self.assertNotIn("\nTOKEN CLASSES", shown)
        self.assertGreater(json.loads(self.ok("eval", model, "--data", self.path("ids.txt"), "--json", "--quiet", "--threads", 1))["loss"], 0)
        with open(self.path("ids.txt"), "a") as f:
            f.write(" 12 x3")
        self.fails(1, ["ids.txt", "byte"], "measure", model, "--data", self.path("ids.txt"))
        with open(self.path("wide.txt"), "w") as f:
            f.write("99999 " * 4000)
        self.fails(2, ["99999", "vocabulary"], "measure", model, "--data", self.path("wide.txt"))

    def test_fewer_sequences_than_asked_and_short_ones(self):
        model, data = self.model()
        m = json.loads(self.measure(model, "--data", data, "--sequences", 100000, "--json"))
        self.assertEqual(m["sequences_asked"], 100000)
        self.assertLess(m["sequences"], 100000)
        self.assertIn("100000 sequences were asked for", self.measure(model, "--data", data, "--sequences", 100000))
        m = json.loads(self.measure(model, "--data", data, "--context", 1, "--json"))
        self.assertIsNone(m["value_drain"])
        self.assertIn("one token", m["left_out"][0])
        self.assertIn("Left out", self.measure(model, "--data", data, "--context", 1))
        self.fails(2, ["--context", "16"], "measure", model, "--data", data, "--context", 17)
        self.fails(2, ["opt-cod", "opt-code"], "measure", model, "--data", data, "--convention", "opt-cod")
        for convention in ("opt-code", "bert-code"):
            self.assertIn(convention, self.measure(model, "--data", data, "--convention", convention))

    def test_stopped(self):
        model, data = self.model()
        code, err = self.stopped(signal.SIGINT, "measure", model, "--data", data, "--batch", 1, "--out", self.path("o"), "--threads", 1)
        self.assertEqual(code, 1, err)
        self.assertRegex(err, r"^measured 1 of \d+ sequences.*\n.*stopped after 1 of \d+ sequences; nothing was written\n$")
        self.assertFalse(os.path.exists(self.path("o")))

    def test_stories260k(self):
        data = os.environ.get("GHOSTMAX_DATA") or os.path.join(sys.argv[1], "..", "shared", "data")
        model = os.path.join(data, "models", "stories260K.bin")
        if not os.path.exists(model):
            self.skipTest("no stories260K")
        shown = self.measure(model, "--tokenizer", os.path.join(data, "tokenizers", "tok512.bin"), "--data",
                             os.path.join(data, "text", "tinystories-sample.txt"), "--sequences", 8)
        for heading in HEADINGS:
            self.assertIn("\n" + heading, shown)
        self.assertLessEqual(max(map(len, shown.splitlines())), 100)
        self.assertNotIn("nan", shown.lower())


main()
