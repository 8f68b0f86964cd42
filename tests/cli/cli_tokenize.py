"""tokenize: ids, texts and counts with any tokenizer; training; what it answers to wrong lines."""
import json
import os
import sys

from program import Case, main

GOLDEN = os.path.join(os.path.abspath(sys.argv[1]), "tests", "golden", "tokenizers")
TEXT = "the cat sat on the mat, the other cat didn't.\n" * 40


class Tokenize(Case):
    def text(self, content=TEXT):
        with open(self.path("t.txt"), "w", encoding="utf-8") as f:
            f.write(content)
        return self.path("t.txt")

    def test_ids_and_back(self):
        text = self.text("It's 1234 cafés\n\nüber 日本 \n")
        for name in "llama3.json", "spm_unigram_plain.model", "spm_bpe.model":
            tokenizer = os.path.join(GOLDEN, name)
            ids = self.ok("tokenize", text, "--tokenizer", tokenizer, "--ids")
            self.assertEqual(ids.count("\n"), 1)
            with open(self.path("ids"), "w") as f:
                f.write(ids.replace(" ", "\n"))
            back = self.ok("tokenize", self.path("ids"), "--tokenizer", tokenizer, "--decode")
            if name != "spm_bpe.model":  # which drops white space
                self.assertEqual(back, "It's 1234 cafés\n\nüber 日本 \n")
            counts = json.loads(self.ok("tokenize", text, "--tokenizer", tokenizer, "--count", "--json"))
            self.assertEqual((counts["tokens"], counts["bytes"]), (len(ids.split()), os.path.getsize(text)))
            lines = self.ok("tokenize", text, "--tokenizer", tokenizer, "--ids", "--lines").split("\n")
            self.assertEqual(len(lines), 4)
            self.assertEqual(lines[1], "")

    def test_training(self):
        text, out = self.text(), self.path("tokenizer.json")
        self.assertIn("vocabulary 270", self.ok("tokenize", text, "--train", "bpe", "--vocab", 270, "--out", out))
        with open(out, encoding="utf-8") as f:
            root = json.load(f)
        self.assertEqual((root["model"]["type"], len(root["model"]["vocab"]), root["added_tokens"][0]["content"]), ("BPE", 270, "<|endoftext|>"))
        self.assertLess(json.loads(self.ok("tokenize", text, "--tokenizer", self.folder, "--count", "--json"))["tokens"], len(TEXT) / 2)
        self.fails(1, ["exists", "--force"], "tokenize", text, "--train", "bpe", "--vocab", 270, "--out", out)
        self.fails(2, ["257"], "tokenize", text, "--train", "bpe", "--vocab", 100, "--out", self.path("x"))
        self.fails(2, ["--out"], "tokenize", text, "--train", "bpe", "--vocab", 270)
        # as the tokens of a run: the folder holds what the library of others loads
        self.ok("train", "--data", text, "--tokens", "bpe", "--vocab", 270, "--model", "gpt2-nano", "--layers", 1, "--width", 16, "--heads", 2, "--batch", 2,
                "--context", 16, "--steps", 2, "--eval-sequences", 2, "--threads", 1, "--quiet", "--out", self.path("m"))
        with open(self.path("m", "tokenizer.json"), encoding="utf-8") as f:
            self.assertEqual(json.load(f)["model"]["type"], "BPE")

    def test_what_is_refused(self):
        text, tokenizer = self.text(), os.path.join(GOLDEN, "llama3.json")
        self.fails(2, ["--tokenizer"], "tokenize", text, "--ids")
        self.fails(2, ["--ids", "--out"], "tokenize", text, "--tokenizer", tokenizer, "--ids", "--out", self.path("o"))
        self.fails(1, ["no tokenizer in"], "tokenize", text, "--tokenizer", os.path.join(GOLDEN, ".."), "--ids")
        self.fails(1, ["cannot open", "nothing.txt"], "tokenize", self.path("nothing.txt"), "--tokenizer", tokenizer, "--ids")
        with open(self.path("ids"), "w") as f:
            f.write("1 2 999999")
        self.fails(1, ["999999", "byte 4"], "tokenize", self.path("ids"), "--tokenizer", tokenizer, "--decode")
        with open(self.path("latin1.txt"), "wb") as f:
            f.write(b"caf\xe9")
        self.fails(1, ["UTF-8", "byte 3"], "tokenize", self.path("latin1.txt"), "--tokenizer", os.path.join(GOLDEN, "spm_bpe.model"), "--count")

    def test_special_tokens_between_words(self):
        """They are not printed, and take no space with them, as in the formats' own libraries."""
        for name in "llama2.json", "spm_bpe.model", "spm_unigram.model", "wordpiece.json":
            tokenizer = ["--tokenizer", os.path.join(GOLDEN, name)]
            facts = json.loads(self.ok("info", tokenizer[1], "--json"))
            ids = self.ok("tokenize", self.text("north"), *tokenizer, "--ids").split()
            word = self.ok("tokenize", self.text(" ".join(ids)), *tokenizer, "--decode")
            marked = [facts["bos"], *ids, facts["eos"], *ids, facts["eos"]]
            self.assertEqual(self.ok("tokenize", self.text(" ".join(map(str, marked))), *tokenizer, "--decode"), f"{word} {word}")

    def test_missing_merges(self):
        """A list of merges that was cut off at a line's end, in each kind of file that has one."""
        syllables = "ka lo mi nu pe ra so ti".split()
        text, out = self.text(" ".join(a + b for a in syllables for b in syllables) * 4), self.path("tokenizer.json")
        self.ok("tokenize", text, "--train", "bpe", "--vocab", 310, "--out", out)
        with open(out, encoding="utf-8") as f:
            root = json.load(f)
        merges = [" ".join(m) if isinstance(m, list) else m for m in root["model"]["merges"]]
        with open(self.path("encoder.json"), "w", encoding="utf-8") as f:
            json.dump(root["model"]["vocab"], f)
        want = self.ok("tokenize", text, "--tokenizer", out, "--ids")
        for kept in len(merges), len(merges) - 1, 10, 0:
            with open(self.path("vocab.bpe"), "w", encoding="utf-8") as f:
                f.write("#version: 0.2\n" + "".join(m + "\n" for m in merges[:kept]))
            with open(self.path("cut.json"), "w", encoding="utf-8") as f:
                json.dump({**root, "model": {**root["model"], "merges": merges[:kept]}}, f)
            for file in "encoder.json", "cut.json":
                line = ["tokenize", text, "--tokenizer", self.path(file), "--ids"]
                if kept == len(merges):
                    self.assertEqual(self.ok(*line), want)
                elif kept == len(merges) - 1:
                    self.ok(*line)
                else:
                    self.fails(1, [f"{len(merges) - kept} of its {len(merges)} tokens", "merges are missing"], *line)


main()
