"""The lab through the command line: the contract's files, resuming, refusals, damaged files, divergence."""
import json
import math
import os
import re
import shutil
import signal
import statistics

from program import FAULTS, TINY, Case, main, read, read_json, tree, with_faults

S_FIELDS = ("val_loss ppl max_inf_norm avg_kurtosis max_kurtosis weight_kurtosis weight_inf_norm sink_rate null_mass w8a8_ppl "
            "train_tokens_per_s").split()


def numbers(results):
    """What must be equal when a lab is interrupted: everything but speed, and the command line."""
    rows = json.loads(json.dumps(results["rows"]))
    for row in rows:
        for name in [n for n in row if n.endswith("tokens_per_s")]:
            del row[name]
    return results["config"], rows, results["ablations"], results["verdict"]


class Lab(Case):
    def lab(self, out, *more, variants="softmax,softmax1", seeds=2, steps=20, data=None):
        return ["lab", "--data", data or self.data, "--variants", variants, "--seeds", seeds, "--steps", steps, "--out", self.path(out), *TINY, *more]

    def setUp(self):
        super().setUp()
        self.data = self.text()

    def test_contract(self):
        variants = "softmax,softmax1,clipped:alpha=4,gated,sink"
        done = self.run_program(*self.lab("lab1", "--json", variants=variants))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        results = json.loads(done.stdout)
        self.assertEqual(results, read_json(self.folder, "lab1", "results.json"))
        self.assertEqual(results["schema"], "ghostmax.lab/1")
        self.assertEqual([r["variant"] for r in results["rows"]], variants.split(","))
        for row in results["rows"]:
            self.assertEqual(row["seeds"], 2)
            self.assertNotIn("diverged", row)
            for field in S_FIELDS:
                s = row[field]
                self.assertEqual(len(s["values"]), 2)
                self.assertAlmostEqual(s["mean"], statistics.mean(s["values"]), delta=1e-9 * abs(s["mean"]) + 1e-12)
                self.assertAlmostEqual(s["std"], statistics.stdev(s["values"]), delta=1e-9 * abs(s["mean"]) + 1e-12)
            for loss, ppl in zip(row["val_loss"]["values"], row["ppl"]["values"]):
                self.assertAlmostEqual(math.exp(loss), ppl, delta=1e-6 * ppl)
            for simulated, executed in zip(row["w8a8_ppl"]["values"], row["w8a8_executed_ppl"]["values"]):
                self.assertAlmostEqual(executed, simulated, delta=1e-3 * simulated)
        softmax, clipped, gated, sink = (results["rows"][i] for i in (0, 2, 3, 4))
        self.assertEqual(softmax["params"], clipped["params"])
        self.assertEqual(gated["params"] - softmax["params"], 2 * (8 + 1))  # H (C/H + 1)
        self.assertEqual(sink["params"] - softmax["params"], 2)
        self.assertEqual(softmax["null_mass"]["values"], [0, 0])
        self.assertGreater(sink["null_mass"]["mean"], 0)
        for variant, name in (("softmax1", "softmax1-s1"), ("clipped:alpha=4", "clipped-alpha=4-s2")):
            for file in ("config.json", "metrics.jsonl", "model.safetensors", "tokenizer.json", "measure.json", "quant.json"):
                self.assertTrue(os.path.exists(self.path("lab1", "runs", name, file)), (variant, file))
        with open(self.path("lab1", "table.md")) as f:
            table = f.read()
        for variant in variants.split(","):
            self.assertRegex(table, r"(?m)^\| " + re.escape(variant) + r" +\|")
        self.assertIn("too few for an interval", table)
        with open(self.path("lab1", "report.html")) as f:
            page = f.read()
        self.assertIn("ghostmax.report/1", page)
        self.assertNotRegex(page, r'(src|href)="(?!data:)')

    def test_initial_weights_are_shared(self):
        self.ok(*self.lab("o", seeds=1, steps=1, variants="softmax,sink"))
        first = [json.loads(read(self.path("o", "runs", f"{v}-s1", "metrics.jsonl")).splitlines()[0]) for v in ("softmax", "sink")]
        self.assertAlmostEqual(first[0]["loss"], first[1]["loss"], delta=0.02)

    def test_table_on_stdout_and_one_seed(self):
        out = self.ok(*self.lab("o", seeds=1))
        self.assertIn(self.path("o"), out)
        self.assertIn("| softmax1", out)
        row = read_json(self.folder, "o", "results.json")["rows"][0]
        self.assertIsNone(row["val_loss"]["std"])
        self.assertEqual(len(row["val_loss"]["values"]), 1)

    def test_three_seeds_give_intervals(self):
        self.ok(*self.lab("o", seeds=3, steps=5))
        results = read_json(self.folder, "o", "results.json")
        pair = results["rows"][1]["paired"]["val_loss"]
        d = [b - a for a, b in zip(results["rows"][0]["val_loss"]["values"], results["rows"][1]["val_loss"]["values"])]
        half = 4.302653 * statistics.stdev(d) / math.sqrt(3)  # Student's t, 2 degrees of freedom
        self.assertEqual(pair["pairs"], 3)
        self.assertAlmostEqual(pair["low"], statistics.mean(d) - half, delta=1e-4 * half)
        self.assertAlmostEqual(pair["high"], statistics.mean(d) + half, delta=1e-4 * half)

    def test_several_presets(self):
        arguments = [x for x in self.lab("o", seeds=1, steps=2)]
        arguments[arguments.index("gpt2-nano")] = "gpt2-nano,llama-260k"
        self.ok(*arguments, "--kv-heads", 1)
        rows = read_json(self.folder, "o", "results.json")["rows"]
        self.assertEqual([(r["model"], r["variant"]) for r in rows], [("gpt2-nano", "softmax"), ("gpt2-nano", "softmax1"),
                                                                       ("llama-260k", "softmax"), ("llama-260k", "softmax1")])
        self.assertTrue(os.path.isdir(self.path("o", "runs", "llama-260k-softmax1-s1")))
        table = read(self.path("o", "table.md"))
        self.assertRegex(table, r"(?m)^\| max inf norm +\| gpt2-nano \([\d.k]+\) \| llama-260k")
        self.assertRegex(table, r"(?m)^\| W8A8 loss increase +\| gpt2-nano")

    @with_faults
    def test_killed_and_run_again(self):
        """In the second of four runs: each makes five checkpoints and sets four of them aside, by links."""
        steps = 60
        self.ok(*self.lab("whole", steps=steps))
        whole = read_json(self.folder, "whole", "results.json")
        arguments = self.lab("killed", steps=steps)
        arguments.remove("--quiet")
        self.assertEqual(self.run_program(*arguments, program=FAULTS, env={"GM_FAULT": "link:6:kill"}).returncode, -signal.SIGKILL)
        self.assertTrue(os.path.exists(self.path("killed", "runs", "softmax1-s1", "state.safetensors")))
        self.assertFalse(os.path.exists(self.path("killed", "results.json")))
        done_before = tree(self.path("killed", "runs", "softmax-s1"))
        again = self.run_program(*arguments)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertRegex(again.stderr, r"(?m)^run 2/4 softmax1 seed 1: resumed at step 20$")
        self.assertEqual(tree(self.path("killed", "runs", "softmax-s1")), done_before)
        self.assertEqual(numbers(read_json(self.folder, "killed", "results.json")), numbers(whole))

    def test_ctrl_c(self):
        code, err = self.stopped(signal.SIGINT, *self.lab("o"))
        self.assertEqual(code, 1)
        self.assertRegex(err, r"stopped in run 1 at step 1; the same command continues it")
        self.assertTrue(os.path.exists(self.path("o", "runs", "softmax-s1", "state.safetensors")))

    def test_rerun_redoes_nothing(self):
        self.ok(*self.lab("o"))
        before = tree(self.path("o", "runs"))
        results = read_json(self.folder, "o", "results.json")
        self.ok(*self.lab("o"))
        self.assertEqual(tree(self.path("o", "runs")), before)
        again = read_json(self.folder, "o", "results.json")
        self.assertEqual(again["rows"], results["rows"])

    def test_another_configuration_is_refused(self):
        self.ok(*self.lab("o", seeds=1, steps=2))
        before = tree(self.path("o"))
        other = self.text("other.txt", 15000)
        for words, arguments in ((["lr", "0.05"], self.lab("o", "--lr", 0.05, seeds=1, steps=2)), (["steps is 2", "3"], self.lab("o", seeds=1, steps=3)),
                                 (["data"], self.lab("o", seeds=1, steps=2, data=other)),
                                 (["layers"], self.lab("o", "--layers", 2, seeds=1, steps=2))):
            self.fails(2, words + [self.path("o")], *arguments)
            self.assertEqual(tree(self.path("o")), before)

    def test_a_lab_grows(self):
        """More seeds, variants and precisions: what is there is kept, only what is new is computed."""
        self.ok(*self.lab("o", "--no-ablations", seeds=1, variants="softmax"))
        before = tree(self.path("o", "runs"))
        first = read_json(self.folder, "o", "results.json")
        self.assertEqual(first["ablations"], [])
        self.ok(*self.lab("o", "--no-ablations", seeds=2, variants="softmax,softmax1"))
        after = tree(self.path("o", "runs"))
        self.assertEqual({k: after[k] for k in before}, before)
        grown = read_json(self.folder, "o", "results.json")
        self.assertEqual([r["seeds"] for r in grown["rows"]], [2, 2])
        self.assertEqual(grown["rows"][0]["val_loss"]["values"][0], first["rows"][0]["val_loss"]["mean"])
        self.ok(*self.lab("o", "--precisions", "w4a8,w6a6", seeds=2, variants="softmax,softmax1"))
        requantized = tree(self.path("o", "runs"))
        self.assertEqual({k for k in after if requantized[k] != after[k]}, {k for k in after if k.endswith("quant.json")})
        results = read_json(self.folder, "o", "results.json")
        for row in results["rows"]:
            self.assertGreater(row["w4a8_ppl"]["mean"], 1)
            self.assertAlmostEqual(row["w4a8_loss_increase"]["mean"],
                                   statistics.mean(math.log(q / p) for q, p in zip(row["w4a8_ppl"]["values"], row["ppl"]["values"])), delta=1e-3)
        self.fails(2, ["w4b8", "w6a8"], *self.lab("o", "--precisions", "w4b8", seeds=2))

    def test_quantization_block(self):
        self.ok(*self.lab("o", "--precisions", "w6a6", seeds=2))
        results = read_json(self.folder, "o", "results.json")
        quant = read_json(self.folder, "o", "runs", "softmax1-s2", "quant.json")
        row = results["rows"][1]
        self.assertGreater(row["w8a8_executed_tokens_per_s"]["mean"], 0)
        self.assertGreater(row["f32_tokens_per_s"]["mean"], 0)
        costs = {t["name"]: t["loss_cost"] for t in quant["report"]["sensitivity"]["tensors"]}
        self.assertEqual(row["costliest"]["loss_increase"]["values"][1], costs[row["costliest"]["tensor"]])
        self.assertEqual([a["variant"] for a in results["ablations"]], ["softmax + SmoothQuant", "softmax + LLM.int8()"])
        for a in results["ablations"]:
            self.assertEqual(len(a["w6a6_ppl"]["values"]), 2)
            self.assertAlmostEqual(a["w8a8_ppl"]["mean"], results["rows"][0]["ppl"]["mean"], delta=0.02 * a["w8a8_ppl"]["mean"])
        table = read(self.path("o", "table.md"))
        for words in ("softmax + SmoothQuant", "softmax + LLM.int8()", "INT8 tokens/s", row["costliest"]["tensor"]):
            self.assertIn(words, table)

    def test_a_folder_that_is_not_a_lab(self):
        os.makedirs(self.path("o", "runs"))
        self.fails(2, ["lab.json", "'runs'"], *self.lab("o"))
        os.makedirs(self.path("p"))
        with open(self.path("p", "table.md"), "w") as f:
            f.write("mine")
        self.fails(2, ["lab.json", "table.md"], *self.lab("p"))
        self.assertEqual((os.listdir(self.path("p")), read(self.path("p", "table.md"))), (["table.md"], "mine"))

    def test_nothing_is_made_when_an_option_is_wrong(self):
        for more in (["--variants", "softmax,softmix"], ["--model", "gpt2-nono"], ["--heads", "3"], ["--accumulate", "3"], ["--context", "100000"],
                     ["--calibration-batches", "100000"]):  # more than the text has
            done = self.run_program(*self.lab("o"), *more)
            self.assertEqual(done.returncode, 2, more)
            self.assertFalse(os.path.exists(self.path("o")), more)

    def damage(self, *parts, cut=None, swap=None):
        path = self.path(*parts)
        with open(path, "rb") as f:
            content = f.read()
        content = content[:int(len(content) * cut)] if cut else content.replace(*swap, 1)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def test_damaged_files(self):
        self.ok(*self.lab("o", seeds=1, steps=2))
        good = {name: read(self.path("o", name), mode="rb") for name in
                ("lab.json", "results.json", "runs/softmax-s1/measure.json", "runs/softmax-s1/quant.json", "runs/softmax-s1/train.json")}
        for name, content in good.items():
            path = self.damage("o", name, cut=0.6)
            self.fails(1, [path, "byte"], *self.lab("o", seeds=1, steps=2))
            with open(path, "wb") as f:
                f.write(content)
        for name, swap in (("lab.json", (b'"steps": 2', b'"steps": 3')), ("results.json", (b'"mean": ', b'"mean": 1')),
                           ("runs/softmax-s1/measure.json", (b'"max_inf_norm": ', b'"max_inf_norm": 1'))):
            path = self.damage("o", name, swap=swap)
            self.fails(1, [path, "altered"], *self.lab("o", seeds=1, steps=2))
            with open(path, "wb") as f:
                f.write(good[name])
        self.ok(*self.lab("o", seeds=1, steps=2))
        path = self.damage("o", "results.json", cut=0.5)
        self.fails(1, [path, "byte"], "report", self.path("o"))

    def test_lab_json_is_made_anew(self):
        """It is one small file beside nights of runs, which say themselves what they are."""
        self.ok(*self.lab("o", seeds=1, steps=2))
        path, results = self.path("o", "lab.json"), lambda: numbers(read_json(self.folder, "o", "results.json"))
        before = results()
        config = read_json(path)["config"]
        self.damage("o", "lab.json", cut=0.5)
        self.fails(1, [path, "remove it", "makes it anew"], *self.lab("o", seeds=1, steps=2))
        os.remove(path)
        self.fails(2, ["softmax-s1", "steps is 2, asked is 3"], *self.lab("o", seeds=1, steps=3))
        self.assertFalse(os.path.exists(path))
        shutil.rmtree(self.path("o", "runs", "softmax1-s1"))  # not begun yet: one that is there is enough
        self.ok(*self.lab("o", seeds=1, steps=2))
        self.assertEqual((read_json(path)["config"], results()), (config, before))

    def test_damaged_checkpoint(self):
        self.ok(*self.lab("o", seeds=1, steps=2))
        os.remove(self.path("o", "runs", "softmax-s1", "measure.json"))
        self.damage("o", "runs", "softmax-s1", "model.safetensors", cut=0.7)
        self.fails(1, ["model.safetensors"], *self.lab("o", seeds=1, steps=2))

    def test_divergence(self):
        done = self.run_program(*self.lab("o", "--lr", "99", "--clip", "0", "--schedule", "constant", variants="softmax,softmax1", seeds=2, steps=60),
                                "--json")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("diverged at step", done.stderr)
        results = json.loads(done.stdout)
        for row in results["rows"]:
            for seed in row.get("diverged", []):
                self.assertIsNone(row["val_loss"]["values"][seed - 1])
        self.assertTrue(any("diverged" in row for row in results["rows"]))
        self.assertIn("diverged at step", read(self.path("o", "table.md")))
        self.assertEqual(self.run_program(*self.lab("o", "--lr", "99", "--clip", "0", "--schedule", "constant", variants="softmax,softmax1", seeds=2,
                                                    steps=60)).returncode, 3)

    def test_report_of_two_labs(self):
        self.ok(*self.lab("a", seeds=1, steps=2))
        self.ok(*self.lab("b", seeds=1, steps=3))
        page = self.path("both.html")
        self.fails(2, ["--out"], "report", self.path("a"), self.path("b"))
        self.assertEqual(self.ok("report", self.path("a"), self.path("b"), "--out", page).strip(), page)
        self.fails(1, ["exists"], "report", self.path("a"), "--out", page)
        self.ok("report", self.path("a"), "--out", page, "--force")
        self.fails(1, ["results.json", "lab.json"], "report", self.folder)

    def test_report_escapes_text(self):
        evil = self.text("<script>alert(1)</script>.txt".replace("/", "|"))
        self.ok(*self.lab("o", seeds=1, steps=1, data=evil))
        page = read(self.path("o", "report.html"))
        self.assertNotIn("<script>alert", page)

    def test_kernels_agree(self):
        """Same lab, other kernels: only rounding differs, which 20 steps amplify little."""
        isas = {c["isa"] for c in json.loads(self.ok("selftest", "--json", "--threads", 1))["checks"]}
        results = {}
        for isa in sorted(isas):
            self.ok(*self.lab(isa, variants="softmax,softmax1,clipped:alpha=4,gated,sink", seeds=1), env={"GHOSTMAX_ISA": isa})
            results[isa] = read_json(self.folder, isa, "results.json")
            self.assertEqual(results[isa]["machine"]["isa"], isa)
        for isa in isas:
            for row, ref in zip(results[isa]["rows"], results["ref"]["rows"]):
                for field, tolerance in (("val_loss", 1e-5), ("max_inf_norm", 1e-3), ("avg_kurtosis", 1e-3), ("w8a8_ppl", 1e-3)):
                    got, want = row[field]["mean"], ref[field]["mean"]
                    self.assertLessEqual(abs(got - want), tolerance * abs(want), (isa, row["variant"], field))

    def test_progress_in_a_pipe(self):
        arguments = self.lab("o", seeds=1, steps=5)
        arguments.remove("--quiet")
        done = self.run_program(*arguments)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("\r", done.stderr)
        for line in done.stderr.splitlines():
            self.assertRegex(line, r"^run \d/2  (gpt2-nano )?softmax1? seed 1  ")


main()
