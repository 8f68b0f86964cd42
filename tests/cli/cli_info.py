"""info FILE|DIR: what every kind of file is, without reading weights; what is damaged or unknown is said in one line."""
import json
import os
import shutil
import struct
import sys

from program import TINY_TRAIN, Case, main

GOLDEN = os.path.join(os.path.abspath(sys.argv[1]), "tests", "golden", "hf")
DATA = os.environ.get("GHOSTMAX_DATA") or os.path.join(os.path.abspath(sys.argv[1]), "..", "shared", "data")


class Info(Case):
    def info(self, *path):
        return json.loads(self.ok("info", os.path.join(*path), "--json"))

    def test_families(self):
        expected = {"gpt2": ("gpt2", "F32", 1), "opt_f16": ("opt", "F16", 1), "llama3_sharded": ("llama", "BF16", 4),
                    "mistral_window": ("mistral", "F32", 1), "qwen2": ("qwen2", "BF16", 1), "qwen3_sharded_f16": ("qwen3", "F16", 3)}
        for name, (family, dtype, shards) in expected.items():
            i = self.info(GOLDEN, name)
            self.assertEqual((i["kind"], i["family"], i["dtype"], i["shards"], i["attention"]), ("model", family, dtype, shards, "softmax"))
        self.assertEqual(self.info(GOLDEN, "mistral_window")["window"], 5)
        self.assertEqual(self.info(GOLDEN, "llama3_sharded")["rope_scaling"], "llama3")
        self.assertEqual(self.info(GOLDEN, "qwen3")["parameters"], 2096)
        self.assertEqual(self.info(GOLDEN, "qwen3", "model.safetensors")["parameters"], 2096)
        self.assertEqual(self.info(GOLDEN, "llama3_sharded", "model.safetensors.index.json")["shards"], 4)
        self.assertEqual(self.info(GOLDEN, "qwen3", "expected.safetensors")["kind"], "weights")
        config = self.info(GOLDEN, "qwen3", "config.json")
        self.assertEqual((config["kind"], config["family"], config["parameters"]), ("model's configuration", "qwen3", 2096))
        text = self.ok("info", os.path.join(GOLDEN, "qwen3"))
        self.assertRegex(text, r"(?m)^qk_norm +yes$")

    def test_the_tokenizer_is_the_one_that_generate_takes(self):
        """OPT's folder: two files, and a third that names BOS."""
        shutil.copytree(os.path.join(GOLDEN, "opt_f16"), self.path("opt"))
        self.ok("tokenize", self.text(), "--train", "bpe", "--vocab", 300, "--out", self.path("t.json"))
        with open(self.path("t.json"), encoding="utf-8") as file:
            model = json.load(file)["model"]
        with open(self.path("opt", "vocab.json"), "w", encoding="utf-8") as file:
            json.dump({**model["vocab"], "</s>": 300}, file)
        with open(self.path("opt", "merges.txt"), "w", encoding="utf-8") as file:
            file.writelines((m if isinstance(m, str) else " ".join(m)) + "\n" for m in model["merges"])
        with open(self.path("opt", "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump({"bos_token": {"content": "</s>"}, "add_bos_token": True}, file)
        said = self.info(self.path("opt"))["tokenizer"]
        self.assertEqual((said["kind"], said["vocab"], said["bos"]), ("bpe", 301, 300))

    def test_runs_and_tokens(self):
        self.ok("train", "--data", self.text(), "--steps", 5, "--out", self.path("m"), "--attention", "softmax1", "--quiet", *TINY_TRAIN)
        i = self.info(self.path("m"))
        self.assertEqual((i["attention"], i["run"]["state"], i["run"]["steps"], i["tokenizer"]["kind"]), ("softmax1", "finished", 5, "words"))
        self.assertEqual(self.info(self.path("m", "tokenizer.json"))["kind"], "tokenizer")
        self.ok("quantize", self.path("m"), "--data", self.path("text.txt"), "--out", self.path("q"), "--threads", 1, "--quiet", "--sequences", 2,
                "--calibration-batches", 2)
        q = self.info(self.path("q"))
        self.assertEqual((q["kind"], q["attention"], q["parameters"]), ("quantized model", "softmax1", i["parameters"]))
        self.assertIn("quantizer", q)

    def test_llama2c(self):
        model = os.path.join(DATA, "models", "stories260K.bin")
        if not os.path.exists(model):
            self.skipTest("needs the data folder")
        i = self.info(model)
        self.assertEqual((i["format"], i["family"], i["parameters"], i["vocab"]), ("llama2.c version 0", "llama", 260032, 512))
        self.cut(model, "short.bin", 1000)
        self.fails(1, ["short.bin", "1000 bytes", "cut off"], "info", self.path("short.bin"))

    def cut(self, source, name, size):
        with open(source, "rb") as f, open(self.path(name), "wb") as out:
            out.write(f.read(size))

    def test_tokenizers_that_are_cut_off(self):
        folder = os.path.join(DATA, "tokenizers")
        if not os.path.isdir(folder):
            self.skipTest("needs the data folder")
        # at any of these sizes a SentencePiece model ends between two of its parts; what says how to cut text stands behind them
        for size in 14, 25, 300:
            self.cut(os.path.join(folder, "llama-tokenizer.model"), "t.model", size)
            self.fails(1, ["t.model"], "info", self.path("t.model"))
        self.cut(os.path.join(folder, "llama-tokenizer.model"), "t.model", 300)
        self.fails(1, ["trainer_spec", "byte 300"], "info", self.path("t.model"))
        self.cut(os.path.join(folder, "gptneox-tokenizer.json"), "t.json", 1000)
        self.fails(1, ["t.json", "at byte"], "info", self.path("t.json"))
        size = os.path.getsize(os.path.join(folder, "tok512.bin"))
        self.cut(os.path.join(folder, "tok512.bin"), "t.bin", size - 1)
        self.fails(1, ["t.bin", "byte"], "info", self.path("t.bin"))
        for name in "gpt2-encoder.json", "gpt2-vocab.bpe":
            self.cut(os.path.join(folder, name), name, os.path.getsize(os.path.join(folder, name)))
        self.ok("info", self.path("gpt2-vocab.bpe"))
        self.cut(os.path.join(folder, "gpt2-encoder.json"), "gpt2-encoder.json", 1000)
        self.fails(1, ["gpt2-encoder.json", "byte"], "info", self.path("gpt2-encoder.json"))

    def test_files_of_tokens_that_are_cut_off(self):
        self.ok("tokenize", self.text(), "--tokens", "words", "--out", self.path("whole.tok"))
        self.assertEqual(self.info(self.path("whole.tok"))["kind"], "tokens")
        size = os.path.getsize(self.path("whole.tok"))
        for cut in 8, 40, 79, 80, 81, 200, size // 2, size - 8, size - 1:
            self.cut(self.path("whole.tok"), "t.tok", cut)
            self.fails(1, ["t.tok", f"at byte {cut}"], "info", self.path("t.tok"))

    def test_a_folder_with_a_damaged_tokenizer(self):
        self.ok("train", "--data", self.text(), "--steps", 1, "--out", self.path("m"), "--quiet", *TINY_TRAIN)
        self.cut(self.path("m", "tokenizer.json"), "short", 100)
        os.replace(self.path("short"), self.path("m", "tokenizer.json"))
        self.fails(1, ["tokenizer.json", "byte"], "info", self.path("m"))

    def test_a_name_that_a_terminal_would_obey(self):
        def text(x):
            return struct.pack("<Q", len(x)) + x
        with open(self.path("x.gguf"), "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"general.name") + struct.pack("<I", 8) + text(b"a\x1b[31m\nb"))
        self.assertRegex(self.ok("info", self.path("x.gguf")), r"(?m)^name +a \[31m b$")

    def test_refusals(self):
        self.fails(1, ["nowhere"], "info", self.path("nowhere"))
        self.fails(1, ["nothing known"], "info", self.folder)
        with open(self.path("x.bin"), "wb") as f:
            f.write(os.urandom(100))
        self.fails(1, ["x.bin"], "info", self.path("x.bin"))
        with open(self.path("x.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", 1000) + b"{}")
        self.fails(1, ["x.safetensors", "1000"], "info", self.path("x.safetensors"))
        self.fails(2, ["--model"], "info", GOLDEN, "--model", "gpt2-nano")

    def test_weights_that_are_no_numbers(self):
        self.ok("train", "--data", self.text(), "--steps", 2, "--out", self.path("m"), "--quiet", *TINY_TRAIN)
        path = self.path("m", "model.safetensors")
        with open(path, "rb") as f:
            data = bytearray(f.read())
        size, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + size])
        header["__metadata__"].pop("ghostmax.content")
        at = 8 + size + header["transformer.h.0.attn.c_proj.weight"]["data_offsets"][0]
        data[at:at + 8] = struct.pack("<ff", float("nan"), float("-inf"))
        text = json.dumps(header).encode()
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data[8 + size:])
        done = self.run_program("eval", self.path("m"), "--data", self.path("text.txt"), "--threads", 1, "--sequences", 2)
        self.assertIn("'transformer.h.0.attn.c_proj.weight' has 1 NaN and 1 infinite of 256 weights", done.stderr)


main()
