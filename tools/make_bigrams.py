#!/usr/bin/env python3
"""Writes lib/data/bigrams.inc: all adjacent character pairs of tiny Shakespeare, counted. Used by the Bigram-Backcopy task.

usage: make_bigrams.py tinyshakespeare.txt > lib/data/bigrams.inc
"""
import sys
from collections import Counter

text = open(sys.argv[1], encoding="ascii", newline="").read()
chars = sorted(set(text))
counts = Counter(zip(text, text[1:]))
assert all(any(counts[a, b] for b in chars) for a in chars), "a character without a successor has no row to draw from"

print("/* Made by tools/make_bigrams.py from tiny Shakespeare (public domain): do not edit.")
print(" * GM_BIGRAM_CHAR(code, successors...): how often each character, in this order, follows it; -n stands for n zeros. */")
for a in chars:
    row, zeros = [], 0
    for b in chars:
        if counts[a, b]:
            if zeros:
                row.append(-zeros)
            row.append(counts[a, b])
            zeros = 0
        else:
            zeros += 1
    if zeros:
        row.append(-zeros)
    words, lines = [str(n) for n in row], []
    line = f"GM_BIGRAM_CHAR({ord(a)}"
    for word in words:
        if len(line) + len(word) > 135:
            lines.append(line + ",")
            line = "               " + word
        else:
            line += ", " + word
    print("\n".join(lines + [line + ")"]))
