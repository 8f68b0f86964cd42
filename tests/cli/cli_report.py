"""The report without a browser: what its JSON holds of labs, runs and audits, finished or not, comparable or not. The pictures: make test-report."""
import json
import math
import os
import re
import shutil

from program import TINY, TINY_TRAIN, Case, main, read, read_json, write_record


def data_of(path):
    page = read(path)
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S).group(1))


class Report(Case):
    def lab(self, name, *more, variants="softmax,softmax1", seeds=1, steps=4, data=None):
        out = self.path(name)
        self.ok("lab", "--data", data or self.source(), "--variants", variants, "--seeds", seeds, "--steps", steps, "--out", out, "--sensitivity-sequences", 0,
                "--no-ablations", *TINY, *more)
        return out

    def source(self):
        return self.path("text.txt") if os.path.exists(self.path("text.txt")) else self.text()

    def train(self, name, *more, steps=4):
        self.ok("train", "--data", self.source(), "--steps", steps, "--out", self.path(name), *TINY_TRAIN, "--quiet", *more)
        return self.path(name)

    def report(self, *folders):
        page = self.path("page.html")
        self.ok("report", *folders, "--out", page, "--force")
        return data_of(page)

    def test_a_lab(self):
        lab = self.lab("lab", seeds=3)
        page = read(lab, "report.html")
        data = data_of(os.path.join(lab, "report.html"))
        results = read_json(lab, "results.json")
        (group,) = data["groups"]
        self.assertEqual([r["variant"] for r in group["rows"]], ["softmax", "softmax1"])
        for row, want in zip(group["rows"], results["rows"]):
            for name in ("val_loss", "max_inf_norm", "w8a8_ppl"):
                self.assertAlmostEqual(row[name]["mean"], want[name]["mean"], delta=1e-5 * abs(want[name]["mean"]))
        self.assertEqual(group["verdict"], results["verdict"])
        self.assertIn("low", group["rows"][1]["paired"]["val_loss"])
        self.assertEqual([(r["variant"], r["seed"], r["state"]) for r in group["runs"]], [(v, s, "finished") for s in (1, 2, 3) for v in ("softmax", "softmax1")])
        self.assertEqual([r["seed"] for r in group["runs"] if r.get("sample")], [1, 1])  # one seed per variant
        source = data["sources"][0]
        for field in ("command", "version", "commit", "time", "machine"):
            self.assertIn(field, source)
        self.assertIn("--seeds 3", source["command"])
        self.assertLess(len(page), 5e6)
        self.assertNotRegex(page, r'(?i)(src|href|url)\s*[=(]\s*["\']?https?:')

    def test_sample_is_what_the_model_did(self):
        """The page's bytes against the file's numbers: activations within 3.5%, weights within half a level."""
        import base64
        import struct
        lab = self.lab("lab", "--layers", 2)
        group = data_of(os.path.join(lab, "report.html"))["groups"][0]
        run = group["runs"][1]
        with open(os.path.join(lab, "runs", "softmax1-s1", "sample.safetensors"), "rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            header = json.loads(f.read(size))
            content = f.read()

        def tensor(name):
            begin, end = header[name]["data_offsets"]
            return [struct.unpack("<f", b"\0\0" + content[i:i + 2])[0] for i in range(begin, end, 2)]  # bf16

        self.assertEqual(json.loads(header["__metadata__"]["texts"]), run["sample"]["tokens"])
        tokens = len(run["sample"]["tokens"])
        for name in ("embed", "blocks.1.ffn_act", "blocks.0.block", "norm_final"):
            stored, want = run["sample"]["tensors"][name], tensor(name)
            got = base64.b64decode(stored["data"])
            self.assertEqual(len(got), len(want))
            for byte, x in zip(got, want):
                size = stored["max"] * 2 ** (((byte & 127) - 127) / 10) if byte & 127 else 0
                self.assertLessEqual(abs((-size if byte & 128 else size) - x), 0.036 * abs(x) + 2 ** -12 * stored["max"])
        heads = run["sample"]["heads"]["1"]
        weights, nulls = base64.b64decode(heads["weights"]), base64.b64decode(heads["null_mass"])
        want, want_nulls = tensor("blocks.1.weights"), tensor("blocks.1.null_mass")
        at = 0
        for h in range(2):
            for i in range(tokens):
                row = want[(h * tokens + i) * tokens:(h * tokens + i + 1) * tokens]
                self.assertAlmostEqual(sum(row) + want_nulls[h * tokens + i], 1, delta=0.02)  # softmax1: what is not given to tokens goes to nothing
                self.assertEqual(row[i + 1:], [0] * (tokens - i - 1))
                for x in row[:i + 1]:
                    self.assertLessEqual(abs(weights[at] / 255 - x), 0.51 / 255 + 1e-6)
                    at += 1
        self.assertEqual((at, len(nulls)), (len(weights), 2 * tokens))
        self.assertTrue(all(abs(n / 255 - x) < 0.51 / 255 + 1e-6 for n, x in zip(nulls, want_nulls)))

    def test_levels_count_every_value(self):
        lab = self.lab("lab")
        run = data_of(os.path.join(lab, "report.html"))["groups"][0]["runs"][0]
        for tensor in read_json(lab, "runs", "softmax-s1", "measure.json")["tensors"]:
            self.assertEqual(sum(tensor["levels"]), tensor["values"])
            self.assertEqual(run["measure"]["levels"][tensor["name"]], tensor["levels"])

    def test_unfinished(self):
        """A lab that was killed: what is there is shown, what is missing is said."""
        lab = self.lab("lab", seeds=2)
        os.remove(os.path.join(lab, "results.json"))
        for folder, files in (("softmax1-s2", None), ("softmax-s2", ("measure.json", "quant.json", "model.safetensors"))):
            for name in files or os.listdir(os.path.join(lab, "runs", folder)):
                os.remove(os.path.join(lab, "runs", folder, name))
        record = read_json(lab, "runs", "softmax-s2", "train.json")
        del record["result"]
        write_record(record, lab, "runs", "softmax-s2", "train.json")
        with open(os.path.join(lab, "runs", "softmax-s2", "metrics.jsonl"), "a") as f:
            f.write('{"step": 5, "los')  # being written
        os.remove(os.path.join(lab, "runs", "softmax1-s1", "quant.json"))
        data = self.report(lab)
        (group,) = data["groups"]
        self.assertEqual([r["state"] for r in group["runs"]], ["finished", "finished", "unfinished", "waiting"])
        self.assertEqual([r["missing"] for r in group["runs"]], [[], ["quant.json"], [], []])
        self.assertEqual([r["seeds"] for r in group["rows"]], [1, 1])
        self.assertEqual(group["verdict"][0], "2 of 4 runs are finished.")
        self.assertIn("2 of 4", data["notes"][0])
        self.assertEqual(group["runs"][2]["log"]["loss"][0][-1], 4)

    def test_only_begun(self):
        lab = self.lab("lab")
        shutil.rmtree(os.path.join(lab, "runs"))
        os.remove(os.path.join(lab, "results.json"))
        (group,) = self.report(lab)["groups"]
        self.assertEqual([r["state"] for r in group["runs"]], ["waiting", "waiting"])
        self.assertEqual(group["rows"], [])

    def test_a_training_run(self):
        folder = self.train("run", "--attention", "softmax1")
        for name in ("measure.json", "sample.safetensors", "report.html"):
            self.assertTrue(os.path.exists(os.path.join(folder, name)), name)
        (group,) = data_of(os.path.join(folder, "report.html"))["groups"]
        (run,) = group["runs"]
        self.assertEqual((run["variant"], run["state"], group["rows"][0]["seeds"]), ("softmax1", "finished", 1))
        before = os.stat(os.path.join(folder, "measure.json")).st_mtime_ns
        self.train("run", "--attention", "softmax1")
        self.assertEqual(os.stat(os.path.join(folder, "measure.json")).st_mtime_ns, before)
        unmeasured = self.train("plain", "--measure-every", 0)
        self.assertFalse(os.path.exists(os.path.join(unmeasured, "report.html")))

    def test_peaks_stay(self):
        """Thousands of steps: a single peak, a single dip and a gap are in the curve."""
        folder = self.train("run")
        with open(os.path.join(folder, "metrics.jsonl"), "w") as f:
            for step in range(1, 20001):
                loss = 9.5 if step == 12345 else 0.5 if step == 777 else 2 + 0.01 * math.sin(step)
                f.write(json.dumps({"step": step, "loss": None if step == 15000 else loss}) + "\n")
        run = self.report(folder)["groups"][0]["runs"][0]
        steps, values = run["log"]["loss"]
        self.assertLessEqual(len(steps), 600)
        points = dict(zip(steps, values))
        self.assertEqual((points[12345], points[777], points[15000]), (9.5, 0.5, None))
        self.assertEqual((steps[0], steps[-1]), (1, 20000))
        self.assertEqual(steps, sorted(set(steps)))

    def test_one_step(self):
        run = self.report(self.train("run", steps=1))["groups"][0]["runs"][0]
        self.assertEqual(run["log"]["loss"][0], [1])

    def test_what_compares(self):
        """Two labs of one recipe are one table; another recipe and an audit stand apart, with the reason."""
        a, b = self.lab("a", variants="softmax"), self.lab("b", variants="softmax1")
        other = self.lab("other", "--lr", 0.05, variants="softmax")
        wide = self.lab("wide", "--width", 32, variants="softmax,softmax1")
        self.ok("measure", self.path("a", "runs", "softmax-s1"), "--data", self.source(), "--sequences", 4, "--out", self.path("audit"), "--quiet")
        data = self.report(a, b, other, wide, self.path("audit"))
        first, second, audit = data["groups"]
        self.assertEqual([(r["model"][:9], r["variant"]) for r in first["rows"]][:2], [("gpt2-nano", "softmax"), ("gpt2-nano", "softmax1")])
        self.assertEqual(len(first["models"]), 2)  # two widths: compared by size
        self.assertEqual(first["models"][1]["model"], "gpt2-nano (width 32, head_dim 16)")
        self.assertIn("difference", first["rows"][1]["paired"]["val_loss"])
        self.assertIn("lr 0.002 and 0.05", second["apart"])
        self.assertEqual((audit["kind"], audit["rows"][0]["variant"]), ("audit", "audit"))
        self.assertIn("no seeds", audit["apart"])
        self.assertIn("no intervals", audit["verdict"][0])
        self.ok("measure", self.path("a", "runs", "softmax-s1"), "--data", self.source(), "--sequences", 2, "--out", self.path("less"), "--quiet")
        self.assertIn("sequences 4 and 2", self.report(a, self.path("audit"), self.path("less"))["groups"][2]["apart"])
        twice = self.lab("twice", variants="softmax")
        data = self.report(a, twice)
        self.assertEqual(len(data["groups"][0]["runs"]), 1)
        self.assertIn("two folders", data["notes"][0])

    def test_other_versions(self):
        a, b = self.lab("a", variants="softmax"), self.lab("b", variants="softmax1")
        path = os.path.join(b, "runs", "softmax1-s1", "train.json")
        record = read_json(path)
        record["made"]["version"] = "9.9"
        write_record(record, path)
        self.assertTrue(any("different versions" in n and "9.9" in n for n in self.report(a, b)["notes"]))

    def test_text_is_no_markup(self):
        evil = '</script><script>alert("x")</script>\n\'&amp;'
        folder = self.train("run")
        path = os.path.join(folder, "train.json")
        record = read_json(path)
        record["made"]["command"] = evil
        record["model"]["preset"] = evil
        record["identity"]["attention"] = evil + "y" * 10_000_000
        write_record(record, path)
        data = self.report(folder)
        page = read(self.path("page.html"))
        self.assertLess(len(page), 5e6)
        self.assertNotIn("<script>alert", page)
        self.assertEqual(page.count("</script>"), 3)
        run = data["groups"][0]["runs"][0]
        self.assertEqual((data["sources"][0]["command"], run["model"]), (evil, evil))
        self.assertTrue(run["variant"].startswith(evil) and len(run["variant"]) < 2100)

    def test_seeds_without_numbers(self):
        """Three seeds that all diverge are not "too few: 3 seeds or more give one"."""
        done = self.run_program("lab", "--data", self.source(), "--variants", "softmax,softmax1", "--seeds", 3, "--steps", 40, "--out", self.path("lab"),
                                "--sensitivity-sequences", 0, "--no-ablations", *TINY, "--lr", 99, "--clip", 0)
        self.assertEqual(done.returncode, 3, done.stderr)
        verdict = data_of(self.path("lab", "report.html"))["groups"][0]["verdict"]
        self.assertIn("softmax1, seed 3, diverged at step", verdict[0])
        self.assertEqual(verdict[1:], ["0 of 3 seeds have numbers of softmax and of another variant: too few for an interval (3 give one)."])

    def test_numbers_that_are_none(self):
        folder = self.train("run")
        with open(os.path.join(folder, "metrics.jsonl"), "w") as f:
            f.write('{"step": 1, "loss": null, "grad_norm": 1e308}\n')
        run = self.report(folder)["groups"][0]["runs"][0]
        self.assertEqual(run["log"]["loss"], [[1], [None]])

    def test_refusals(self):
        os.mkdir(self.path("empty"))
        self.fails(1, [self.path("empty"), "lab.json", "measure.json"], "report", self.path("empty"))
        self.fails(1, ["no folder"], "report", self.path("nowhere"))
        lab = self.lab("lab")
        path = os.path.join(lab, "runs", "softmax-s1", "metrics.jsonl")
        with open(path, "a") as f:
            f.write("garbage\n")
        self.fails(1, [path, "line"], "report", lab)
        lab = self.lab("lab2")
        path = os.path.join(lab, "runs", "softmax-s1", "train.json")
        record = read(path)
        with open(path, "w") as f:
            f.write(record.replace('"steps": ', '"steps": 1'))
        self.fails(1, [path, "altered"], "report", lab)
        self.assertIn("train.json is damaged", self.ok("info", os.path.dirname(path)))
        with open(path, "w") as f:
            f.write(record)
        path = os.path.join(lab, "runs", "softmax-s1", "sample.safetensors")
        with open(path, "r+b") as f:
            f.truncate(1000)
        self.fails(1, [path], "report", lab)

    def test_many_long_runs(self):
        """A hundred runs of thousands of steps stay below 5 MB: curves of fewer points, which keep their peaks, and what is drawn of two models is there."""
        lab = self.lab("lab", variants="softmax", steps=1)
        folders = []
        for i in range(100):
            folders.append(self.path(f"run{i}"))
            shutil.copytree(os.path.join(lab, "runs", "softmax-s1"), folders[-1])
            record = read_json(folders[-1], "train.json")
            record["identity"]["attention"] = f"softmax_n:n={i}"
            write_record(record, folders[-1], "train.json")
            measured = read_json(folders[-1], "measure.json")
            measured["tensors"] = [{**t, "name": f"blocks.{l}.block", "layer": l, "levels": [12345] * 255} for l in range(48) for t in measured["tensors"][:1]]
            write_record(measured, folders[-1], "measure.json")
            with open(os.path.join(folders[-1], "metrics.jsonl"), "w") as f:
                for step in range(1, 601):
                    number = 9.5 if step == 345 else 2.1234567 + step / 1000
                    f.write(json.dumps({"step": step, **{n: number for n in ("loss", "val_loss", "grad_norm", "max_inf_norm", "avg_kurtosis", "sink_rate")}}) + "\n")
        data = self.report(*folders)
        runs = data["groups"][0]["runs"]
        self.assertLess(os.path.getsize(self.path("page.html")), 5e6)
        self.assertEqual(len(runs), 100)
        for run in runs:
            steps, values = run["log"]["sink_rate"]
            self.assertEqual((steps[0], steps[-1], max(values)), (1, 600, 9.5))
            self.assertGreaterEqual(len(steps), 40)
        self.assertTrue(all(r["sample"] and len(r["measure"]["levels"]) == 48 for r in runs[:2]))
        self.assertEqual(data["without_details"], sum("sample" not in r for r in runs))
        self.assertGreater(data["without_details"], 0)

    def test_many_variants(self):
        """Fifty runs with samples stay below 5 MB: each shows less."""
        lab = self.lab("lab", "--context", 64, "--width", 32, variants="softmax", steps=1)
        plan = read_json(lab, "lab.json")
        folders = []
        for i in range(50):
            folders.append(self.path(f"run{i}"))
            shutil.copytree(os.path.join(lab, "runs", "softmax-s1"), folders[-1])
            record = read_json(folders[-1], "train.json")
            record["identity"]["attention"] = f"softmax_n:n={i}"
            write_record(record, folders[-1], "train.json")
        self.assertIn("runs", plan)
        (group,) = self.report(*folders)["groups"]
        self.assertEqual(len(group["rows"]), 50)
        self.assertTrue(all(r["sample"] for r in group["runs"]))
        self.assertLess(os.path.getsize(self.path("page.html")), 5e6)


main()
