"""train, eval, measure, generate, tokenize: what they give, and what they answer to bad files."""
import json
import math
import os
import pty
import resource
import signal
import sys
import termios
import time

from program import PROGRAM, TINY_TRAIN, Case, main, read, signal_and_heard, tree, with_file_limit


class Model(Case):
    def train(self, out, *more, steps=20, data=None):
        return ["train", "--data", data or self.text(), "--steps", steps, "--out", self.path(out), *TINY_TRAIN, *more]

    def test_train_eval_measure_generate(self):
        result = json.loads(self.ok(*self.train("m", "--attention", "softmax1", "--json", "--quiet")))
        self.assertEqual(result["step"], 20)
        model, data = self.path("m"), self.path("text.txt")
        e = json.loads(self.ok("eval", model, "--data", data, "--sequences", 8, "--json", "--threads", 1))
        self.assertAlmostEqual(e["loss"], result["val_loss"], delta=1e-5)
        self.assertAlmostEqual(e["ppl"], math.exp(e["loss"]), delta=1e-4 * e["ppl"])
        self.assertEqual(e["tokens"], 8 * 16)
        self.assertGreater(e["bits_per_byte"], 0)
        m = json.loads(self.ok("measure", model, "--data", data, "--json", "--threads", 1, "--sequences", 4))
        for field in ("tensors", "max_inf_norm", "avg_kurtosis", "sink_rate", "null_mass", "massive", "outlier_features"):
            self.assertIn(field, m)
        self.assertIn("max inf norm", self.ok("measure", model, "--data", data, "--threads", 1))
        text = self.ok("generate", model, "--tokens", 20, "--seed", 5, "--threads", 1)
        self.assertEqual(text, self.ok("generate", model, "--tokens", 20, "--seed", 5, "--threads", 1))
        self.assertNotEqual(text, self.ok("generate", model, "--tokens", 20, "--seed", 6, "--threads", 1))
        self.assertGreater(len(text.split()), 5)
        self.ok("generate", model, "--tokens", 40, "--temperature", 0, "--prompt", "ba don", "--threads", 1)  # past the context of 16

    def test_generate_prompts_stops_and_samples(self):
        self.ok(*self.train("m", "--quiet", steps=5))
        word = ["generate", self.path("m"), "--threads", 1, "--seed", 5]
        text = self.ok(*word, "--tokens", 30)
        three = self.ok(*word, "--tokens", 30, "--samples", 3)
        self.assertEqual(three.split("\n---\n")[0] + "\n", text)
        self.assertEqual(three.split("\n---\n")[2], self.ok(*word[:-1], 7, "--tokens", 30))
        stop = text.split()[8]
        end = text.index(stop)
        self.assertEqual(self.ok(*word, "--tokens", 30, "--stop", "no such thing", "--stop", stop), text[:end] + "\n")
        self.assertEqual(self.ok(*word, "--tokens", 30, "--stop", stop + text[end + len(stop):end + len(stop) + 3] + "~"), text)  # held, then let go
        with open(self.path("prompt"), "w") as f:
            f.write("ba don")
        given = self.ok(*word, "--prompt", "ba don", "--min-p", 0.1, "--top-p", 0.9, "--repetition-penalty", 1.2)
        self.assertEqual(self.ok(*word, "--prompt-file", self.path("prompt"), "--min-p", 0.1, "--top-p", 0.9, "--repetition-penalty", 1.2), given)
        with open(self.path("prompt")) as f:
            self.assertEqual(self.ok(*word, "--prompt-file", "-", "--min-p", 0.1, "--top-p", 0.9, "--repetition-penalty", 1.2, stdin=f), given)
        self.fails(2, ["--prompt", "--prompt-file"], *word, "--prompt", "a", "--prompt-file", "b")
        self.fails(1, ["nowhere"], *word, "--prompt-file", self.path("nowhere"))
        self.fails(2, ["prompt has 17", "reads 16"], *word, "--prompt", "ba " * 17)
        self.fails(2, ["--min-p"], *word, "--min-p", 1)

    def test_results_stand_on_lines_of_their_own(self):
        data = self.text()
        shown = self.on_terminal(*self.train("m", data=data))
        self.assertRegex(shown, r"step \d+/20  ")
        self.assertIn(f"\n{self.path('m')}: step 20, ", shown)
        shown = self.on_terminal("eval", self.path("m"), "--data", data, "--threads", 1)
        self.assertRegex(shown, r"\r\d+/\d+ sequences")
        self.assertIn("\nloss  ", shown)

    def test_eval_of_a_whole_text_in_windows(self):
        data = self.text()
        self.ok(*self.train("m", "--quiet", steps=2, data=data))
        counts = json.loads(self.ok("tokenize", data, "--tokenizer", self.path("m", "tokenizer.json"), "--json"))
        windows = ["eval", self.path("m"), "--data", data, "--json", "--threads", 1, "--stride"]
        half = json.loads(self.ok(*windows, 8))
        self.assertGreaterEqual(half["tokens"], counts["train_tokens"] + counts["validation_tokens"])  # all of it, split or not
        self.assertAlmostEqual(half["recipe_ppl"], half["ppl"], delta=1e-2 * half["ppl"])
        self.assertEqual(json.loads(self.ok(*windows, 8, "--no-bos"))["tokens"], half["tokens"] - 1)  # BOS gave the first its context
        few = json.loads(self.ok(*windows, 8, "--sequences", 5))
        self.assertEqual((few["windows"], few["tokens"]), (5, 16 + 4 * 8 - 1))
        for words, arguments in ((["stride"], [17]), (["--stride"], [8, "--data", "stories"])):
            self.fails(2, words, *windows, *arguments)

    def test_a_model_without_its_tokenizer(self):
        data, tokens = self.text(), self.path("text.tokens")
        self.ok(*self.train("m", "--quiet", steps=2, data=data))
        with_it = self.ok("eval", self.path("m"), "--data", data, "--json", "--quiet", "--threads", 1)
        self.ok("tokenize", data, "--vocab", 64, "--out", tokens)
        os.rename(self.path("m", "tokenizer.json"), self.path("t.json"))
        for command in ("eval", "measure"):  # one built from this text would not be the model's
            self.fails(2, ["tokenizer", data], command, self.path("m"), "--data", data)
        self.assertEqual(self.ok("eval", self.path("m"), "--data", data, "--json", "--quiet", "--threads", 1, "--tokenizer", self.path("t.json")), with_it)
        again = json.loads(self.ok("eval", self.path("m"), "--data", tokens, "--json", "--quiet", "--threads", 1))  # carries its own
        self.assertEqual(again["loss"], json.loads(with_it)["loss"])
        self.fails(2, ["--context", "16"], "eval", self.path("m"), "--data", tokens, "--context", 17)

    def test_a_finished_run_is_not_redone(self):
        self.ok(*self.train("m"))
        before = os.stat(self.path("m", "model.safetensors")).st_mtime_ns
        self.ok(*self.train("m"))
        self.assertEqual(os.stat(self.path("m", "model.safetensors")).st_mtime_ns, before)
        self.fails(2, ["lr"], *self.train("m", "--lr", 0.5))

    def test_another_model_is_not_overwritten(self):
        self.ok(*self.train("m", "--quiet", steps=2))
        os.remove(self.path("m", "train.json"))  # as a model from elsewhere
        before = tree(self.path("m"))
        self.fails(2, [self.path("m"), "config.json", "train.json"], *self.train("m", steps=2))
        self.assertEqual(tree(self.path("m")), before)

    def test_stopped_and_continued_is_bit_identical(self):
        data = self.text()
        self.ok(*self.train("whole", "--quiet", data=data))
        for step in 1, 2, 3:
            code, err = self.stopped(signal.SIGTERM, *self.train("parts", data=data))
            self.assertEqual(code, 1, err)
            self.assertIn(f"stopped at step {step}; the same command continues it", err)
            self.assertEqual("resumed at step" in err, step > 1, err)
        again = self.run_program(*self.train("parts", data=data))
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertRegex(again.stderr, r"(?m)^resumed at step 3$")
        weights = [read(self.path(m, "model.safetensors"), mode="rb") for m in ("whole", "parts")]
        self.assertEqual(*weights)

    def test_closed_terminal(self):
        """Held by its terminal, as by Ctrl-S, when it closes."""
        data = self.text()
        self.ok(*self.train("whole", "--quiet", steps=3000, data=data))
        process, terminal = pty.fork()  # as a login's foreground job
        if process == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            termios.tcflow(2, termios.TCOOFF)
            os.execv(PROGRAM, [PROGRAM, *map(str, self.train("parts", steps=3000, data=data))])
        log = self.path("parts", "metrics.jsonl")
        while not (os.path.exists(log) and os.path.getsize(log)):
            self.assertEqual(os.waitpid(process, os.WNOHANG)[0], 0)
            time.sleep(0.002)
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), 1)
        self.assertTrue(os.path.exists(self.path("parts", "state.safetensors")))
        self.assertFalse(os.path.exists(self.path("parts", ".ghostmax.lock")))
        again = self.run_program(*self.train("parts", steps=3000, data=data))
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertRegex(again.stderr, r"(?m)^resumed at step \d+$")
        weights = [read(self.path(m, "model.safetensors"), mode="rb") for m in ("whole", "parts")]
        self.assertEqual(*weights)

    def test_hung_up_twice_and_not_at_all(self):
        """A shell may pass its own SIGHUP on too; nohup's child does not hear of it."""
        child = self.held(*self.train("m"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        for _ in range(3):
            signal_and_heard(child.pid, signal.SIGHUP)
        _, err = child.communicate(timeout=240)
        self.assertEqual(child.returncode, 1, err)
        self.assertIn("stopped at step 1; the same command continues it", err)
        child = self.held(*self.train("n"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_for(self.path("n", "metrics.jsonl"), child)
        child.send_signal(signal.SIGHUP)
        _, err = child.communicate(timeout=240)
        self.assertEqual(child.returncode, 0, err)

    def test_bad_data(self):
        empty, tiny, binary, latin = (self.path(name) for name in ("empty", "tiny", "binary", "latin"))
        open(empty, "w").close()
        with open(tiny, "w") as f:
            f.write("one two three\n")
        with open(binary, "wb") as f:
            f.write(bytes(range(256)) * 200)
        with open(latin, "wb") as f:
            f.write("un caf\u00e9 noir\n".encode("latin-1") * 1000)
        for data, words in ((self.path("missing.txt"), ["missing.txt", "No such file"]), (empty, ["empty"]), (self.folder, ["folder"]),
                            (tiny, ["tiny"]), (binary, ["no text", "byte 0"]), (latin, ["UTF-8", "byte 6"])):
            self.fails(1, words, *self.train("o", data=data))
            self.assertFalse(os.path.exists(self.path("o", "model.safetensors")))
        of_bytes = self.train("bytes", "--tokens", "bytes", "--quiet", steps=2, data=binary)
        self.fails(2, ["--vocab"], *of_bytes)
        self.ok(*[x for x in of_bytes if x not in ("--vocab", "64")])
        line = self.fails(1, ["storis"], "lab", "--data", "storis", "--out", self.path("o"))
        self.assertIn("'stories'", line)
        if os.geteuid() != 0:
            os.chmod(tiny, 0)
            self.fails(1, ["Permission"], *self.train("o", data=tiny))

    def test_context_longer_than_the_data(self):
        done = self.run_program(*self.train("o", "--context", 1000000))
        self.assertIn(done.returncode, (1, 2))
        self.assertIn("context", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_out_that_cannot_be_written(self):
        data = self.text()
        with open(self.path("file"), "w") as f:
            f.write("x")
        self.fails(1, ["file"], *self.train("file", data=data))
        self.fails(1, [], *self.train("file/within", data=data))
        self.fails(1, ["file"], "lab", "--data", data, "--out", self.path("file"), "--steps", 1)
        if os.geteuid() != 0:
            os.mkdir(self.path("closed"), 0o500)
            self.fails(1, ["Permission"], *self.train("closed/m", data=data))

    @with_file_limit
    def test_full_disk(self):
        """A limit on file sizes stands in for it: writes fail half-way."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        line = self.fails(1, ["cannot write"], *self.train("o", "--quiet"), preexec_fn=limit)
        self.assertIn("too large", line)
        self.assertEqual([n for n in os.listdir(self.path("o")) if "tmp" in n], [])
        self.assertFalse(os.path.exists(self.path("o", "model.safetensors")))
        self.ok(*self.train("o", "--quiet"))

    def test_bad_models(self):
        data = self.text()
        self.ok(*self.train("m", "--quiet", steps=2, data=data))
        weights, config = self.path("m", "model.safetensors"), self.path("m", "config.json")
        self.fails(1, ["nowhere"], "eval", self.path("nowhere"), "--data", data)
        good = read(weights, mode="rb")
        for bad in (good[:100], good[:-10], b"", good[:-1] + bytes([good[-1] ^ 1])):
            with open(weights, "wb") as f:
                f.write(bad)
            self.fails(1, ["model.safetensors"], "eval", self.path("m"), "--data", data)
        with open(weights, "wb") as f:
            f.write(good)
        text = read(config)
        for bad in (text[:40], "[]", text.replace('"n_layer": 1', '"n_layer": 2')):
            with open(config, "w") as f:
                f.write(bad)
            done = self.run_program("eval", self.path("m"), "--data", data)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)

    def test_llama2c_files(self):
        """stories260K says what its authors published, and can be evaluated and measured."""
        data = os.environ.get("GHOSTMAX_DATA") or os.path.join(sys.argv[1], "..", "shared", "data")
        model, tokenizer = os.path.join(data, "models", "stories260K.bin"), os.path.join(data, "tokenizers", "tok512.bin")
        if not (os.path.exists(model) and os.path.exists(tokenizer)):
            self.skipTest("no data")
        text = self.ok("generate", model, "--tokenizer", tokenizer, "--temperature", 0, "--threads", 1)
        self.assertEqual(text, read(data, "models", "stories260K.expected.txt"))
        self.fails(2, ["--tokenizer"], "generate", model)
        sample = ["--data", self.path("sample.txt"), "--tokenizer", tokenizer, "--context", 64, "--threads", 1, "--quiet", "--json"]
        with open(self.path("sample.txt"), "w") as f:
            f.write(text * 20)
        e = json.loads(self.ok("eval", model, *sample))
        self.assertLess(e["ppl"], 4)  # its own words; 512 would be guessing
        m = json.loads(self.ok("measure", model, *sample, "--sequences", 4))
        self.assertGreater(m["max_inf_norm"], 0)
        with open(self.path("cut.bin"), "wb") as f:
            f.write(read(model, mode="rb")[:-1])
        self.fails(1, ["cut.bin", "cut off"], "eval", self.path("cut.bin"), *sample)

    def test_tokenize(self):
        data = self.text()
        tokens = self.path("text.tokens")
        counts = json.loads(self.ok("tokenize", data, "--vocab", 64, "--out", tokens, "--json"))
        self.assertIn(counts["vocab"], range(50, 65))  # the text's 48 words, ".", and the special tokens
        self.assertGreater(counts["train_tokens"], 1000)
        self.assertIsNone(json.loads(self.ok("tokenize", "stories", "--json"))["train_tokens"])
        self.fails(1, ["exists"], "tokenize", data, "--out", tokens)
        self.fails(2, ["--vocab", "token file"], *self.train("a", data=tokens))
        self.fails(2, ["--keep-case", "bb"], "train", "--data", "bb", "--keep-case", "--out", self.path("a"))
        a = json.loads(self.ok(*self.train("a", "--quiet", "--json", steps=3, data=data)))
        b = json.loads(self.ok(*[x for x in self.train("b", "--quiet", "--json", steps=3, data=tokens) if x not in ("--vocab", "64")]))
        self.assertEqual(a["loss"], b["loss"])


main()
