"""Every tokenizer against its reference library, on every line of WikiText-2 and of nasty Unicode; our trained BPE against theirs: the same
merges from the same text, the same ids in both programs; texts come back from ids."""
import json
import os

import sentencepiece
import tokenizers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers

from interop import SOURCE, check, data, path, program

GOLDEN = os.path.join(SOURCE, "tests", "golden", "tokenizers")
TEXTS = [data("text", "wiki.valid.raw"), data("text", "wiki.test.raw"), os.path.join(GOLDEN, "nasty.txt")]


def lines_of(name):
    with open(name, encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def same_ids(name, file, encode, texts):
    total = 0
    for text in texts:
        lines = lines_of(text)
        ours = program("tokenize", text, "--tokenizer", file, "--ids", "--lines").split("\n")[:-1]
        check(len(ours) == len(lines), f"{name}: {len(ours)} lines of {len(lines)}", quiet=True)
        for number, (line, got) in enumerate(zip(lines, ours), 1):
            want = encode(line)
            total += len(want)
            check(got == " ".join(map(str, want)), f"{name}: {os.path.basename(text)} line {number}: {line[:60]!r}: {want[:20]}, not {got[:80]}",
                  quiet=True)
    check(True, f"{name}: {total} ids are the library's")


def same_text(name, file, encode, decode, text):
    """What the library prints for its ids, line by line; --decode takes ids, not lines, so each line ends in a marker's ids."""
    for line in [line for line in lines_of(text) if line.strip() and "\r" not in line][:200:4]:
        ids = encode(line)
        with open(path("ids.txt"), "w") as f:
            f.write(" ".join(map(str, ids)))
        ours = program("tokenize", path("ids.txt"), "--tokenizer", file, "--decode")
        check(ours == decode(ids), f"{name}: decodes {ours[:60]!r}, not {decode(ids)[:60]!r}", quiet=True)
    check(True, f"{name}: texts come back")


def hugging_face(tokenizer):
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


print(f"  tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")
encoder, merges = data("tokenizers", "gpt2-encoder.json"), data("tokenizers", "gpt2-vocab.bpe")
gpt2 = ByteLevelBPETokenizer(encoder, merges)
gpt2.add_special_tokens(["<|endoftext|>"])
same_ids("GPT-2", encoder, lambda text: gpt2.encode(text).ids, TEXTS)
same_text("GPT-2", encoder, lambda text: gpt2.encode(text).ids, gpt2.decode, TEXTS[0])
neox = data("tokenizers", "gptneox-tokenizer.json")
same_ids("GPT-NeoX", neox, hugging_face(Tokenizer.from_file(neox)), TEXTS)
bert = BertWordPieceTokenizer(data("tokenizers", "bert-uncased-vocab.txt"))
same_ids("BERT", data("tokenizers", "bert-uncased-vocab.txt"), hugging_face(bert), TEXTS)
llama = sentencepiece.SentencePieceProcessor(model_file=data("tokenizers", "llama-tokenizer.model"))
same_ids("Llama 2", data("tokenizers", "llama-tokenizer.model"), llama.encode, TEXTS)
same_text("Llama 2", data("tokenizers", "llama-tokenizer.model"), llama.encode, llama.decode, TEXTS[0])
for name in sorted(os.listdir(GOLDEN)):
    file = os.path.join(GOLDEN, name)
    if name.endswith(".json"):
        same_ids(name, file, hugging_face(Tokenizer.from_file(file)), TEXTS[:1])
    elif name.endswith(".model"):
        same_ids(name, file, sentencepiece.SentencePieceProcessor(model_file=file).encode, TEXTS[:1])

# ---- training
for text in data("text", "wiki.valid.raw"), data("text", "tinyshakespeare.txt"):
    ours = path(os.path.basename(text) + ".json")
    program("tokenize", text, "--train", "bpe", "--vocab", 4000, "--out", ours)
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with open(text, encoding="utf-8", newline="") as f:
        theirs.train_from_iterator([f.read()], trainers.BpeTrainer(vocab_size=4000, special_tokens=["<|endoftext|>"], show_progress=False,
                                                                   initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    with open(ours, encoding="utf-8") as f:
        a, b = json.load(f)["model"], json.loads(theirs.to_str())["model"]
    check(a["vocab"] == b["vocab"], f"{os.path.basename(text)}: the library's trainer makes the same vocabulary", quiet=True)
    check(a["merges"] == [m if isinstance(m, str) else " ".join(m) for m in b["merges"]],
          f"{os.path.basename(text)}: {len(a['merges'])} merges are the library's trainer's own")
    same_ids("trained", ours, hugging_face(Tokenizer.from_file(ours)), TEXTS)
