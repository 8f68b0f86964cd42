#!/usr/bin/env python3
"""Encoding beside Hugging Face's tokenizers (and sentencepiece) on one thread: megabytes per CPU second of WikiText-2's test set.
Usage: bench/vs_tokenizers.py [BUILD] [DATA_FOLDER]     (pip install tokenizers sentencepiece)
Ours is given the whole text (example_tokenize), theirs the whole text and a batch of its lines, of which the faster counts. Best of five."""
import os
import subprocess
import sys
import time

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
import sentencepiece
import tokenizers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "build")
DATA = sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "..", "..", "shared", "data")
TEXT = os.path.join(DATA, "text", "wiki.test.raw")
ROUNDS = 5


def file(name):
    return os.path.join(DATA, "tokenizers", name)


def best(function):
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main():
    with open(TEXT, encoding="utf-8", newline="") as f:
        whole = f.read()
    lines = whole.splitlines(keepends=True)
    size = os.path.getsize(TEXT)
    gpt2 = ByteLevelBPETokenizer(file("gpt2-encoder.json"), file("gpt2-vocab.bpe"))._tokenizer
    bert = BertWordPieceTokenizer(file("bert-uncased-vocab.txt"))._tokenizer
    neox = Tokenizer.from_file(file("gptneox-tokenizer.json"))
    llama = sentencepiece.SentencePieceProcessor(model_file=file("llama-tokenizer.model"))
    print(f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}, one thread, MB per CPU second")
    for name, tokenizer in ("gpt2-encoder.json", gpt2), ("gptneox-tokenizer.json", neox), ("bert-uncased-vocab.txt", bert), ("llama-tokenizer.model", llama):
        if tokenizer is llama:
            ways = lambda: llama.encode(whole), lambda: llama.encode(lines, num_threads=1)
        else:
            ways = (lambda: tokenizer.encode(whole, add_special_tokens=False),
                    lambda: tokenizer.encode_batch_fast(lines, add_special_tokens=False))
        theirs = size / min(map(best, ways)) / 1e6
        ours = float(subprocess.run([os.path.join(BUILD, "example_tokenize"), file(name), TEXT, str(ROUNDS)], stdout=subprocess.PIPE, text=True,
                                    check=True).stdout.split()[0])
        print(f"{name:26} theirs {theirs:6.2f}   ours {ours:6.2f}   {ours / theirs:.2f}x")


if __name__ == "__main__":
    main()
