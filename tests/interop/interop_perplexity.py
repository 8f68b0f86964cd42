"""`eval --stride` against the perplexity recipe of Hugging Face's documentation, run with transformers on the same folder and text.
Usage: interop_perplexity.py SOURCE BUILD"""
import json
import math
import os
import sys
import tempfile
import subprocess

import torch
import transformers

PROGRAM = os.path.join(os.path.abspath(sys.argv[2]), "ghostmax")
STEPS, CONTEXT = 60, 64


def program(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def recipe(model, ids, length, stride):
    """Windows of `length` tokens move by `stride`; labels are the tokens no window held before; the model shifts labels itself, so the
    recipe weights a window's mean loss with one label less than it has."""
    total = weight = seen = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        labels = [-100] * (seen - begin) + ids[max(seen, begin):end]
        with torch.no_grad():
            loss = model(torch.tensor([ids[begin:end]]), labels=torch.tensor([labels])).loss.item()
        total += loss * (end - seen - 1)
        weight += end - seen - 1
        seen = end
        if end == len(ids):
            return math.exp(total / weight)


def main():
    torch.set_num_threads(1)
    print("torch", torch.__version__, "transformers", transformers.__version__)
    with tempfile.TemporaryDirectory() as folder:
        text, model = os.path.join(folder, "text"), os.path.join(folder, "model")
        with open(os.path.join(sys.argv[1], "docs", "numerics.md"), "rb") as f:
            data = f.read()[:6001]
        with open(text, "wb") as f:
            f.write(data)
        program("train", "--data", text, "--tokens", "bytes", "--model", "gpt2-nano", "--context", CONTEXT, "--steps", STEPS, "--batch", 8,
                "--out", model, "--threads", 1, "--quiet")
        theirs = transformers.GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()
        for bos in (True, False):
            ids = [256] * bos + list(data)
            for stride in (CONTEXT // 2, CONTEXT // 4 + 1, CONTEXT):
                line = ["eval", model, "--data", text, "--stride", stride, "--json", "--quiet", "--threads", 1] + ["--no-bos"] * (not bos)
                ours = json.loads(program(*line))["recipe_ppl"]
                want = recipe(theirs, ids, CONTEXT, stride)
                print(f"stride {stride}, {'with' if bos else 'without'} BOS: perplexity {ours:.6f}, transformers {want:.6f}")
                if not abs(ours - want) <= 1e-5 * want:
                    sys.exit("they differ")


main()
