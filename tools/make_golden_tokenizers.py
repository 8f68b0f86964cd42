#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/: what the reference libraries (tokenizers, sentencepiece) make of WikiText-2 and of nasty Unicode.

Usage: tools/make_golden_tokenizers.py [DATA_FOLDER] [--models]     (pip install tokenizers sentencepiece)

nasty.txt holds the lines; <name>.golden one hash per line of it, and one per 256 lines of WikiText-2 where the vocabulary is in the data
folder. --models trains the small tokenizers (*.json, *.model) anew, which changes them and so their goldens. Test:
tests/data/test_golden_tokenizers.c, which has the hash again."""
import io
import json
import os
import random
import sys

import sentencepiece
import tokenizers
from tokenizers import (AddedToken, BertWordPieceTokenizer, ByteLevelBPETokenizer, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "tests", "golden", "tokenizers")
ARGUMENTS = [a for a in sys.argv[1:] if not a.startswith("-")]
DATA = ARGUMENTS[0] if ARGUMENTS else os.path.join(HERE, "..", "..", "shared", "data")
BLOCK = 256
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def nasty_lines():
    rng = random.Random(7)

    def span(a, b):
        return [chr(c) for c in range(a, b)]
    ascii_marks = list("abcXYZ019 .,'\"!?-_()[]{}<>|/\\@#$%^&*+=~`\t")
    pools = [span(0x80, 0x250), span(0x300, 0x370), span(0x370, 0x530), span(0x590, 0x6ff), span(0x900, 0xd80), span(0x1100, 0x1200),
             span(0x1e00, 0x2100), span(0x2000, 0x2070), span(0x2150, 0x2c00), span(0x3000, 0x3100), span(0x4e00, 0x4f00),
             span(0xac00, 0xad00), span(0xf900, 0xfb50), span(0xff00, 0xfff0), span(0x1f300, 0x1f700), span(0x1d400, 0x1d7ff)]
    words = ["'s", "'S", "'ſ", "'re", "'RE", "'ll", "\u00a0", "  ", "   ", "\r", "\u2028", "\u2581", "\u200d", "\ufe0f", "\u180e", "\ufffd",
             "\u0130", "ẞ", "ﬁ", "Ǆ", "e\u0301", "é", "👨\u200d👩\u200d👧", "🇩🇪", "한국어", "ภาษาไทย", "العربية", "हिन्दी", "<|endoftext|>", "</s>",
             "<s>", "<0x0A>", "[MASK]", "[UNK]", "[SEP]", " [MASK] ", "<unk>", "don't", "1234567", "３４", "Ⅷ", "½", "a" * 150, "x " * 30,
             "=\u0338", "\u0344", "foo bar", "x x"]
    lines = ["", " ", "  ", "   a", "a   ", "\t", " \t a", "▁", "▁▁a", " ▁ a", "'", "''", "' s", "a' s", "\u3000a\u3000", "\r", "a\r", "\r\r b"]
    for _ in range(480):
        some = [rng.choice(pools) for _ in range(rng.randint(1, 4))] + [ascii_marks, words]
        lines.append("".join(rng.choice(rng.choice(some)) for _ in range(rng.randint(1, 40))))
    return lines


def hash_of(ids, h=0xcbf29ce484222325):
    for i in ids:
        h = ((h ^ (i + 1)) * 0x100000001b3) & 0xffffffffffffffff
    return ((h ^ 0) * 0x100000001b3) & 0xffffffffffffffff  # the line's end


def hugging_face(tokenizer):
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def sentence_piece(path):
    return sentencepiece.SentencePieceProcessor(model_file=path).encode


def references():
    """name, where the vocabulary is (None: beside the golden file), reference"""
    folder = os.path.join(DATA, "tokenizers")
    gpt2 = ByteLevelBPETokenizer(os.path.join(folder, "gpt2-encoder.json"), os.path.join(folder, "gpt2-vocab.bpe"))
    gpt2.add_special_tokens(["<|endoftext|>"])
    yield "gpt2-encoder.json", True, lambda text: gpt2.encode(text).ids
    yield "gptneox-tokenizer.json", True, hugging_face(Tokenizer.from_file(os.path.join(folder, "gptneox-tokenizer.json")))
    yield "bert-uncased-vocab.txt", True, hugging_face(BertWordPieceTokenizer(os.path.join(folder, "bert-uncased-vocab.txt")))
    yield "llama-tokenizer.model", True, sentence_piece(os.path.join(folder, "llama-tokenizer.model"))
    for name in sorted(os.listdir(OUT)):
        path = os.path.join(OUT, name)
        if name.endswith(".json"):
            yield name, False, hugging_face(Tokenizer.from_file(path))
        elif name.endswith(".model"):
            yield name, False, sentence_piece(path)


def text_lines(name):
    with io.open(os.path.join(DATA, "text", name), encoding="utf-8", newline="") as f:
        return f.read().split("\n")


def train_models():
    text = "\n".join(text_lines("wiki.valid.raw")[:1500])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    for name, pattern, normalizer in ("llama3", LLAMA3, None), ("qwen2", QWEN2, normalizers.NFC()), ("o200k", O200K, None):
        t = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        if normalizer:
            t.normalizer = normalizer
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        special = ["<|begin_of_text|>", "<|end_of_text|>"]
        t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=special))
        t.add_tokens([AddedToken("[MASK]", lstrip=True, normalized=True), AddedToken("x x", single_word=True),
                      AddedToken("</s>", rstrip=True, normalized=False)])
        t.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
        t.save(os.path.join(OUT, name + ".json"))
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # as Llama 2's
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator([w for line in text.split("\n") for w in line.split(" ")],
                          trainers.BpeTrainer(vocab_size=700, limit_alphabet=80, special_tokens=special[:3]))
    t.save(os.path.join(OUT, "llama2.json"))
    with open(os.path.join(OUT, "llama2.json"), encoding="utf-8") as f:
        j = json.load(f)
    for name in special[3:]:
        j["model"]["vocab"][name] = len(j["model"]["vocab"])
    with open(os.path.join(OUT, "llama2.json"), "w", encoding="utf-8") as f:
        json.dump(j, f, ensure_ascii=False, indent=1)
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"'), normalizers.Lowercase(),
                                         normalizers.StripAccents()])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(text.split("\n"), trainers.UnigramTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>"))
    t.save(os.path.join(OUT, "unigram.json"))
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    t.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=True)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.Punctuation("merged_with_previous")])
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(text.split("\n"), trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.save(os.path.join(OUT, "wordpiece.json"))
    rules = os.path.join(OUT, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as f:  # a small map in the place of nmt_nfkc's 240 kB
        for a, b in (("ﬁ", "fi"), ("½", "1/2"), ("e\u0301", "é"), ("ſ", "s"), ("ẞ", "ss"), ("\u00a0", " "), ("\u3000", " "), ("\t", " "),
                     ("\u200d", ""), ("Ⅷ", "VIII"), ("=\u0338", "≠")):
            f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
    for name, more in (("spm_unigram", dict(model_type="unigram", normalization_rule_tsv=rules)),
                       ("spm_unigram_plain", dict(model_type="unigram", normalization_rule_name="identity", remove_extra_whitespaces=False,
                                                  byte_fallback=True, user_defined_symbols=["[MASK]", "<|endoftext|>", "foo bar"])),
                       ("spm_bpe", dict(model_type="bpe", normalization_rule_tsv=rules, byte_fallback=True)),
                       ("spm_bpe_words", dict(model_type="bpe", normalization_rule_name="identity", split_by_whitespace=False,
                                              add_dummy_prefix=False, remove_extra_whitespaces=False, user_defined_symbols=["[MASK]"]))):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text.split("\n")), model_writer=model, vocab_size=600, minloglevel=2,
                                                 character_coverage=0.999, **more)
        with open(os.path.join(OUT, name + ".model"), "wb") as f:
            f.write(model.getvalue())
    os.remove(rules)


def main():
    os.makedirs(OUT, exist_ok=True)
    if "--models" in sys.argv:
        train_models()
    nasty = nasty_lines()
    with io.open(os.path.join(OUT, "nasty.txt"), "w", encoding="utf-8", newline="") as f:
        f.write("\n".join(nasty) + "\n")
    for name, in_data, encode in references():
        with open(os.path.join(OUT, name + ".golden"), "w", encoding="utf-8") as f:
            f.write(f"# tools/make_golden_tokenizers.py: tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}\n")
            for line in nasty:
                f.write(f"nasty {hash_of(encode(line)):016x}\n")
            for text in ("wiki.valid.raw", "wiki.test.raw") if in_data else ("wiki.valid.raw",):
                lines = text_lines(text)
                lines = lines[:-1] if lines[-1] == "" else lines
                for first in range(0, len(lines) if in_data else 1024, BLOCK):
                    h = 0xcbf29ce484222325
                    for line in lines[first:first + BLOCK]:
                        h = hash_of(encode(line), h)
                    f.write(f"{text} {h:016x}\n")
        print(name)


if __name__ == "__main__":
    main()
