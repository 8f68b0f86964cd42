"""convert and train --from, from outside. Usage: cli_convert.py SOURCE BUILD"""
import json
import os
import struct
import sys
import unittest

from program import Case, main

GOLDEN = os.path.join(os.path.abspath(sys.argv[1]), "tests", "golden", "tokenizers")
LLAMA = ("--model llama-260k --layers 2 --width 16 --heads 2 --kv-heads 2 --ffn 24 --tokens bytes --batch 2 --context 16 --steps 2 "
         "--eval-sequences 4 --threads 1 --quiet").split()
GPT2 = "--model gpt2-nano --layers 1 --width 16 --heads 2 --tokens bytes --batch 2 --context 16 --steps 2 --eval-sequences 4 --threads 1 --quiet".split()


class Convert(Case):
    def trained(self, name, *arguments, shape=LLAMA):
        self.ok("train", *shape, "--out", self.path(name), *arguments)
        return self.path(name)

    def config(self, *parts):
        with open(self.path(*parts)) as file:
            return json.load(file)

    def loss(self, model):
        return json.loads(self.ok("eval", model, "--data", "stories", "--sequences", 4, "--threads", 1, "--quiet", "--json", "--no-bos",
                                  "--context", 16, "--tokenizer", self.path("m", "tokenizer.json")))["loss"]

    def test_softmax_is_what_it_was(self):
        model = self.trained("m")
        for to, out in ("hf", "hf"), ("gguf", "m.gguf"), ("llama2c", "m.bin"):
            said = self.ok("convert", model, "--to", to, "--out", self.path(out))
            self.assertIn("257 tokens, context 16, f32", said)
            self.assertNotIn("zero", said)
            self.assertEqual(self.loss(self.path(out)), self.loss(model))
        config = self.config("hf", "config.json")
        self.assertEqual((config["model_type"], config["bos_token_id"], config["eos_token_id"]), ("llama", 256, None))
        self.assertEqual(self.config("hf", "generation_config.json"), {"bos_token_id": 256, "eos_token_id": None})
        self.assertEqual(self.config("hf", "tokenizer.json"), self.config("m", "tokenizer.json"))

    def test_zero_token(self):
        model = self.trained("m", "--attention", "softmax1", "--no-bos")
        said = self.ok("convert", model, "--to", "hf", "--out", self.path("hf"))
        self.assertIn("[257, text]", said)
        self.assertIn("suppress token 257", said)
        config = self.config("hf", "config.json")
        self.assertEqual((config["model_type"], config["vocab_size"], config["max_position_embeddings"], config["bos_token_id"]),
                         ("llama", 258, 17, 257))
        self.assertNotIn("attention", config)
        self.assertEqual(self.config("hf", "generation_config.json")["suppress_tokens"], [257])
        said = json.loads(self.ok("convert", model, "--to", "gguf", "--out", self.path("m.gguf"), "--json"))
        self.assertEqual((said["prompt_prefix"], said["zero_token"], said["architecture"], said["trained_with_bos"]),
                         ([257], 257, "llama", "never"))
        # trained without BOS, it is prompted without; behind the zero token the very same text
        said = [self.ok("generate", m, "--prompt", "He", "--tokens", 8, "--temperature", 0) for m in (model, self.path("m.gguf"))]
        self.assertEqual(*said)
        with open(self.path("m.gguf"), "rb") as file:
            data = file.read()
        for key, value in ("tokenizer.ggml.bos_token_id", struct.pack("<II", 4, 257)), ("tokenizer.ggml.add_bos_token", b"\7\0\0\0\1"):
            at = data.index(key.encode()) + len(key)
            self.assertEqual(data[at:at + len(value)], value, key)
        # the same in a folder, with each of the tokenizers that are this program's own
        for kind in "bytes", "chars", "words":
            m, hf = self.trained("m-" + kind, "--attention", "softmax1", "--no-bos", "--tokens", kind), self.path("hf-" + kind)
            self.ok("convert", m, "--to", "hf", "--out", hf)
            said = [self.ok("generate", x, "--prompt", "Once", "--tokens", 12, "--temperature", 0) for x in (m, hf)]
            self.assertEqual(*said)
            # and the same draws, past the context of 16 too: an untrained model would give the zero token, and so end, now and then
            draw = ["--prompt", "the", "--tokens", 60, "--temperature", 2, "--top-k", 0, "--samples", 30]
            if kind != "bytes":  # which make no UTF-8
                self.assertEqual(*[self.ok("generate", x, *draw) for x in (m, hf)])
            zero = self.config(hf, "config.json")["bos_token_id"]
            self.assertEqual(json.loads(self.ok("info", hf, "--json"))["tokenizer"]["bos"], zero)
        losses = [json.loads(self.ok("eval", self.path(x), "--data", "stories", "--sequences", 4, "--threads", 1, "--quiet", "--json"))["loss"]
                  for x in ("hf-bytes", "m.gguf")]
        self.assertEqual(*losses)
        two = self.trained("two", "--attention", "softmax_n:n=2")
        said = self.ok("convert", two, "--to", "hf", "--out", self.path("two-hf"), "--zero-token", "2")
        self.assertIn("[257 x 2, the BOS that it was trained with, text]", said)

    def test_siblings(self):
        """A llama with what another stock architecture has is that one in other programs."""
        for name, arguments, stock in (("n", ("--qk-norm", "yes", "--attention", "softmax1", "--no-bos"), "qwen3"), ("b", ("--qkv-bias", "yes"), "qwen2")):
            m = self.trained(name, *arguments)
            for to, out in ("hf", name + "-hf"), ("gguf", name + ".gguf"):
                said = json.loads(self.ok("convert", m, "--to", to, "--out", self.path(out), "--json"))
                self.assertEqual(said["architecture"], stock)
                if name == "b":
                    self.assertEqual(*[json.loads(self.ok("eval", x, "--data", "stories", "--sequences", 4, "--threads", 1, "--quiet", "--json"))["loss"]
                                       for x in (m, self.path(out))])
                said = [self.ok("generate", x, "--prompt", "Once", "--tokens", 12, "--temperature", 0) for x in (m, self.path(out))]
                self.assertEqual(*said)
            self.assertEqual(self.config(name + "-hf", "config.json")["model_type"], stock)
        # behind a zero token or not, this one is in no stock runtime
        m = self.trained("relu", "--act", "gelu-tanh", "--attention", "softmax1")
        for to in "hf", "gguf":
            self.fails(1, ["its act is none", "--zero-token off"], "convert", m, "--to", to, "--out", self.path("no"))
        self.assertFalse(os.path.exists(self.path("no")))
        self.ok("convert", m, "--to", "gguf", "--out", self.path("own.gguf"), "--zero-token", "off")

    def test_own_tokenizers_in_gguf(self):
        """Whole words cannot be said in GGUF's keys: the file holds the tokenizer itself."""
        for attention in "softmax", "softmax1":
            m, out = self.trained("m-" + attention, "--tokens", "words", "--attention", attention, "--no-bos"), self.path(attention + ".gguf")
            self.assertIn("without a tokenizer that llama.cpp", self.ok("convert", m, "--to", "gguf", "--out", out))
            said = [self.ok("generate", x, "--prompt", "Once upon a time", "--tokens", 12, "--temperature", 0) for x in (m, out)]
            self.assertEqual(*said)
            self.assertEqual(*[self.ok("tokenize", os.path.join(m, "config.json"), "--tokenizer", x, "--ids") for x in (m, out)])
        with open(out, "rb") as file:
            data = file.read()
        at = data.index(b"ghostmax.tokenizer") + 18 + 4 + 8
        self.assertEqual(data[at:at + 1], b"{")
        with open(out, "wb") as file:
            file.write(data[:at] + b"[" + data[at + 1:])
        self.fails(1, ["ghostmax.tokenizer", "byte"], "generate", out)

    def test_tokenizers_in_gguf_are_the_same(self):
        """Whatever the keys can say of a tokenizer, and more tokens in the model than it has: a text gives the same ids out of the file."""
        m, nasty = self.trained("m", "--tokens", "bpe", "--vocab", 1000), os.path.join(GOLDEN, "nasty.txt")
        files = [os.path.join(GOLDEN, name) for name in ("llama2.json", "llama3.json", "qwen2.json", "o200k.json", "unigram.json", "wordpiece.json",
                                                         "spm_bpe.model", "spm_unigram.model")]
        level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        mask = {"id": 603, "content": "<mask>", "special": True, "normalized": False, "lstrip": True, "rstrip": False, "single_word": False}
        for base, change in (("llama3", lambda t: (t["added_tokens"].clear(), t["model"]["merges"].pop())),
                             ("llama3", lambda t: t.update(pre_tokenizer=level)),
                             ("llama3", lambda t: t["added_tokens"].append(mask)),
                             ("llama3", lambda t: (t["added_tokens"].clear(), t["model"].update(ignore_merges=False), t["model"]["merges"].pop())),
                             ("llama2", lambda t: t.update(normalizer=None, pre_tokenizer={"type": "Whitespace"})),
                             ("llama2", lambda t: t["model"]["merges"].reverse()),
                             ("wordpiece", lambda t: t.update(normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"}))):
            with open(os.path.join(GOLDEN, base + ".json"), encoding="utf-8") as file:
                root = json.load(file)
            change(root)
            files.append(self.path(f"{len(files)}.json"))
            with open(files[-1], "w", encoding="utf-8") as file:
                json.dump(root, file)
        for file in files:
            out = self.path("m.gguf")
            self.ok("convert", m, "--tokenizer", file, "--to", "gguf", "--out", out, "--force")
            self.assertEqual(*[self.ok("tokenize", nasty, "--tokenizer", x, "--ids", "--lines") for x in (file, out)], msg=file)

    def test_texts_begin_as_their_tokenizer_has_it(self):
        """eval --stride and generate on a model that does not say how it was trained: GPT-2's tokenizer puts no BOS, Hugging Face's recipe
        neither; OPT's does."""
        m = self.trained("m", "--tokens", "bpe", "--vocab", 300)
        self.ok("convert", m, "--to", "hf", "--out", self.path("hf"))
        config = self.config("hf", "config.json")
        del config["ghostmax"]
        with open(self.path("hf", "config.json"), "w") as file:
            json.dump(config, file)
        line = ["--data", os.path.join(m, "train.json"), "--json", "--quiet", "--threads", 1]
        for model, more, bos in (m, ["--stride", 8], True), (self.path("hf"), ["--stride", 8], False), (self.path("hf"), [], True):
            self.assertEqual(json.loads(self.ok("eval", model, *line, *more))["bos"], bos)
        full = ["--prompt", "@#" * 8, "--tokens", 1]  # as many tokens as the context
        self.fails(2, ["16 tokens behind BOS"], "generate", m, *full)
        self.ok("generate", self.path("hf"), *full, encoding="latin-1")
        said = self.config("hf", "tokenizer_config.json")
        with open(self.path("hf", "tokenizer_config.json"), "w") as file:
            json.dump({**said, "add_bos_token": True}, file)
        self.assertTrue(json.loads(self.ok("eval", self.path("hf"), *line, "--stride", 8))["bos"])
        self.fails(2, ["16 tokens behind BOS"], "generate", self.path("hf"), *full)

    def test_what_it_is_stays(self):
        model = self.trained("m", "--attention", "softmax1")
        for to, out in ("hf", "hf"), ("gguf", "m.gguf"):
            said = json.loads(self.ok("convert", model, "--to", to, "--out", self.path(out), "--zero-token", "off", "--json"))
            self.assertEqual((said["architecture"], said["zero_token"], said["attention"]), ("ghostmax_llama", None, "softmax1"))
            self.assertEqual(self.loss(self.path(out)), self.loss(model))

    def test_refusals(self):
        model, out = self.trained("m", "--attention", "softmax1"), self.path("out")
        self.fails(2, ["--to is missing"], "convert", model, "--out", out)
        self.fails(2, ["--out is missing"], "convert", model, "--to", "hf")
        self.fails(2, ["'onnx' is none of hf|gguf|llama2c"], "convert", model, "--to", "onnx", "--out", out)
        self.fails(2, ["--zero-token", "'some'"], "convert", model, "--to", "hf", "--out", out, "--zero-token", "some")
        self.fails(2, ["n = 1", "not 2"], "convert", model, "--to", "hf", "--out", out, "--zero-token", "2")
        self.fails(2, ["--max-shard-size", "5 GB"], "convert", model, "--to", "hf", "--out", out, "--max-shard-size", "5 GB")
        self.fails(1, ["no model at"], "convert", self.path("nothing"), "--to", "hf", "--out", out)
        self.fails(1, ["llama2.c"], "convert", model, "--to", "llama2c", "--out", out)
        self.fails(2, ["llama2.c", "f32"], "convert", self.trained("plain"), "--to", "llama2c", "--out", out, "--dtype", "q8_0")
        for variant, reason in ("sink", "sinks are learned"), ("clipped", "clipped"), ("softmax1+gated", "gated"), ("softmax_n:n=0.5", "whole"):
            self.fails(1, [reason], "convert", self.trained("v-" + variant, "--attention", variant), "--to", "gguf", "--out", out)
        gpt2 = self.trained("gpt2", "--attention", "softmax1", shape=GPT2)
        self.fails(1, ["position embeddings", "layer norm", "biases"], "convert", gpt2, "--to", "hf", "--out", out)
        self.fails(2, ["q8_0"], "convert", model, "--to", "hf", "--out", out, "--dtype", "q8_0")
        self.fails(2, ["takes no zero token"], "convert", self.path("plain"), "--to", "hf", "--out", out, "--zero-token", "1")
        self.assertFalse(os.path.exists(out))
        words = self.trained("words", "--tokens", "words", "--vocab", "2000")
        self.fails(2, ["tokenizer has", "the model 257"], "generate", model, "--tokenizer", os.path.join(words, "tokenizer.json"))
        os.rename(os.path.join(model, "tokenizer.json"), self.path("t.json"))
        self.fails(2, ["carries no tokenizer", "--tokenizer"], "generate", model)
        self.fails(2, ["tokenizer has", "the model 257"], "convert", model, "--to", "hf", "--out", out, "--tokenizer",
                   os.path.join(words, "tokenizer.json"))
        # one that is smaller may be meant: rows of a table go up to round numbers
        self.ok("tokenize", self.path("t.json"), "--train", "chars", "--out", self.path("small.json"))
        done = self.run_program("generate", model, "--tokenizer", self.path("small.json"), "--tokens", 2, "--prompt", "a")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"warning: the tokenizer has \d+ tokens, the model 257; is it the model's own\?")

    def test_nothing_is_overwritten(self):
        model = self.trained("m")
        for to, out in ("hf", "hf"), ("gguf", "m.gguf"), ("llama2c", "m.bin"):
            line = ["convert", model, "--to", to, "--out", self.path(out)]
            self.ok(*line)
            self.fails(1, ["--force"], *line)
            self.ok(*line, "--force")
        # another model's shards do not stay beside new weights, nor do shards of another number
        names = lambda: {n for n in os.listdir(self.path("hf")) if n.startswith("model")}
        self.ok("convert", model, "--to", "hf", "--out", self.path("hf"), "--force", "--max-shard-size", "20KB")
        many = names()
        self.assertIn("model.safetensors.index.json", many)
        self.assertNotIn("model.safetensors", many)
        self.ok("convert", model, "--to", "hf", "--out", self.path("hf"), "--force", "--max-shard-size", "9KB")
        self.assertGreater(len(names()), len(many))
        self.assertEqual(len(names() & many), 1)  # the index
        self.ok("convert", model, "--to", "hf", "--out", self.path("hf"), "--force")
        self.assertEqual(names(), {"model.safetensors"})
        # another model's tokenizer does not stay beside new weights
        with open(self.path("hf", "tokenizer_config.json"), "w") as file:
            file.write("{}")
        os.remove(self.path("m", "tokenizer.json"))
        self.ok("convert", model, "--to", "hf", "--out", self.path("hf"), "--force")
        self.assertEqual(sorted(os.listdir(self.path("hf"))), ["config.json", "generation_config.json", "model.safetensors"])

    def test_surgery(self):
        model, out = self.trained("m"), self.path("out")
        line = ["train", "--from", model, "--data", "stories", "--batch", 2, "--steps", 20, "--eval-sequences", 4, "--threads", 1, "--quiet", "--out"]
        self.ok(*line, out, "--attention", "softmax1")
        config = self.config("out", "config.json")
        self.assertEqual((config["model_type"], config["attention"]["variant"]), ("ghostmax_llama", "softmax1"))
        self.assertEqual(config["ghostmax"]["surgery"], "softmax -> softmax1 (ramp 2)")
        self.assertEqual(config["max_position_embeddings"], 16)
        self.assertEqual(self.config("out", "tokenizer.json"), self.config("m", "tokenizer.json"))
        self.ok(*line, self.path("twice"), "--attention", "sink", "--from", out)
        self.assertEqual(self.config("twice", "config.json")["ghostmax"]["surgery"], "softmax -> softmax1 (ramp 2); softmax1 -> sink (ramp 2)")
        self.fails(2, ["--model"], *line, self.path("no"), "--model", "llama-260k")
        self.fails(2, ["ramp is 20 of 20"], *line, self.path("no"), "--ramp", 20)
        self.fails(2, ["ffn", "keep its shape"], *line, self.path("no"), "--ffn", 32)
        self.fails(2, ["no model to start from"], "train", *LLAMA, "--ramp", 3, "--out", self.path("no"))
        self.fails(2, ["its ramp is 2, asked is 3"], *line, out, "--attention", "softmax1", "--ramp", 3)
        self.assertFalse(os.path.exists(self.path("no")))


main()
