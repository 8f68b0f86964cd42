"""What the fault and crash tests share: small inputs, one small job per command, and what is left of it, comparable.

A job is run in a folder of its own whose `in` leads to the inputs; everything that it writes is in `out`."""
import csv
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess

TINY = "--model gpt2-nano --layers 1 --heads 2 --width 16 --vocab 48 --batch 2 --context 12 --eval-sequences 4 --threads 1 --quiet".split()
LLAMA = ("--model llama-260k --layers 1 --width 16 --heads 2 --kv-heads 2 --ffn 24 --tokens bytes --batch 2 --context 16 --eval-sequences 4 "
         "--threads 1 --quiet").split()
ONE = ["--threads", "1"]
LAB = ["lab", "--data", "in/text.txt", *TINY, "--variants", "softmax,softmax1", "--seeds", "1", "--steps", "6", "--checkpoint-every", "2",
       "--measure-sequences", "2", "--sensitivity-sequences", "2", "--calibration-batches", "2", "--out", "out/lab"]
TRAIN = ["train", "--data", "in/text.txt", *TINY, "--steps", "8", "--checkpoint-every", "2", "--keep", "3", "--eval-every", "4", "--measure-every", "4",
         "--log-every", "1", "--attention", "softmax1+gated", "--out", "out/run"]
# name: (arguments, does a second call over what a first one left go on, rather than want --force?)
JOBS = {
    "train": ([*TRAIN, "--json"], True),
    "train-resumed": ([*TRAIN, "--json"], True),
    "lab": ([*LAB, "--json"], True),
    "train-from": (["train", "--data", "in/text.txt", "--from", "in/model", "--attention", "softmax1", "--batch", "2", "--context", "12", "--steps", "2",
                    "--eval-sequences", "4", "--out", "out/run", "--json", "--quiet", *ONE], True),
    "measure": (["measure", "in/model", "--data", "in/text.txt", "--sequences", "4", "--out", "out/measured", "--json", "--quiet", *ONE], False),
    "measure-over": (["measure", "in/model", "--data", "in/text.txt", "--sequences", "4", "--out", "out/measured", "--force", "--json", "--quiet", *ONE], True),
    "eval": (["eval", "in/model", "--data", "in/text.txt", "--sequences", "4", "--json", "--quiet", *ONE], True),
    "quantize": (["quantize", "in/model", "--data", "in/text.txt", "--sequences", "2", "--calibration-batches", "2", "--out", "out/q", "--json", "--quiet",
                  *ONE], False),
    "eval-quantized": (["eval", "in/quantized", "--data", "in/text.txt", "--sequences", "4", "--json", "--quiet", *ONE], True),
    "convert-hf": (["convert", "in/llama", "--to", "hf", "--max-shard-size", "4KB", "--out", "out/hf", "--json"], False),
    "convert-gguf": (["convert", "in/llama", "--to", "gguf", "--out", "out/m.gguf", "--json"], False),
    "convert-link": (["convert", "in/llama", "--to", "gguf", "--out", "out/linked/m.gguf", "--force", "--json"], True),
    "convert-llama2c": (["convert", "in/plain", "--to", "llama2c", "--out", "out/m.bin", "--json"], False),
    "convert-back": (["convert", "in/m.gguf", "--to", "hf", "--out", "out/hf", "--json"], False),
    "report": (["report", "in/lab", "--out", "out/report.html"], False),
    "generate": (["generate", "in/model", "--tokens", "6", *ONE], True),
    "info": (["info", "in/llama", "--json"], True),
    "tokenize": (["tokenize", "in/text.txt", "--vocab", "48", "--out", "out/tokens.bin", "--json"], False),
    "tokenize-train": (["tokenize", "in/short.txt", "--train", "bpe", "--vocab", "300", "--out", "out/tokenizer.json", "--json"], False),
    "explain": (["explain", "--json", "--", "-10", "-10", "3"], True),
}

# What of the inputs stands in `out` when a job begins.
BEFORE = {"measure-over": "measured", "train-resumed": "run", "convert-link": "linked"}


def text(path, words):
    pick = random.Random(1)
    vocabulary = [a + b for a in "bdfgklm" for b in ("a", "on", "ire", "umble")]
    with open(path, "w") as f:
        for i in range(words):
            f.write(pick.choice(vocabulary) + ("." if i % 9 == 8 else "") + ("\n" if i % 17 == 16 else " "))


class Scene:
    def __init__(self, program, folder):
        self.program, self.folder, self.inputs, self.count = os.path.abspath(program), folder, os.path.join(folder, "in"), itertools.count(1)
        os.makedirs(self.inputs)
        text(os.path.join(self.inputs, "text.txt"), 4000)
        text(os.path.join(self.inputs, "short.txt"), 300)
        os.symlink(".", os.path.join(self.inputs, "in"))
        for arguments in (["train", "--data", "in/text.txt", *TINY, "--steps", "3", "--out", "model"],
                          ["train", "--data", "in/text.txt", *LLAMA, "--no-bos", "--attention", "softmax1", "--steps", "2", "--out", "llama"],
                          ["train", "--data", "in/text.txt", *LLAMA, "--steps", "2", "--out", "plain"],
                          ["quantize", "model", "--data", "in/text.txt", "--sequences", "2", "--calibration-batches", "2", "--out", "quantized", "--quiet"],
                          ["measure", "model", "--data", "in/text.txt", "--sequences", "2", "--out", "measured", "--quiet", *ONE],
                          ["convert", "llama", "--to", "gguf", "--out", "m.gguf"], [*LAB[:-1], "lab"]):
            done = self.run(self.inputs, arguments)
            assert done.returncode == 0, (arguments, done.stderr)
        os.mkdir(os.path.join(self.inputs, "linked"))
        os.symlink("old.gguf", os.path.join(self.inputs, "linked", "m.gguf"))
        shutil.copy(os.path.join(self.inputs, "m.gguf"), os.path.join(self.inputs, "linked", "old.gguf"))

    def fresh(self, job=None):
        path = os.path.join(self.folder, f"job{next(self.count)}")
        os.makedirs(os.path.join(path, "out"))
        os.symlink(self.inputs, os.path.join(path, "in"))
        if job == "train-resumed" and not os.path.exists(os.path.join(self.inputs, "run")):
            # Dead when its third checkpoint was ready: its logs are ahead of the second one, and a temporary file lies about.
            assert self.run(self.inputs, [*TRAIN[:-1], "run"], GM_FAULT="rename:4:kill").returncode == -signal.SIGKILL
        if job in BEFORE:
            shutil.copytree(os.path.join(self.inputs, BEFORE[job]), os.path.join(path, "out", BEFORE[job]), symlinks=True)
        return path

    def run(self, folder, arguments, seconds=300, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GM_FAULT")}
        return subprocess.run([self.program, *arguments], cwd=folder, env={**kept, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=seconds)


def again(name, folder):
    """The arguments of a second call: --force where the first one's result stands already and the command asks for it."""
    arguments, resumes = JOBS[name]
    return arguments if resumes else [*arguments, "--force"]


TIMES = re.compile(r"tokens_per_s|seconds|checksum|command|^out$|created|peak|^made$|^time$")


def timeless(x):
    if isinstance(x, dict):
        return {k: timeless(v) for k, v in x.items() if not TIMES.search(k)}
    return [timeless(v) for v in x] if isinstance(x, list) else x


def content(path):
    """A file's content without what a clock says. Raises where it is torn."""
    name = os.path.basename(path)
    with open(path, "rb") as f:
        data = f.read()
    if name == "metrics.jsonl":
        assert not data or data.endswith(b"\n"), f"{path}: torn"
        return [timeless(json.loads(line)) for line in data.splitlines()]
    if name.endswith(".json"):
        return timeless(json.loads(data))
    if name.endswith(".safetensors"):
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + size])
        metadata = header.pop("__metadata__", {})
        assert len(data) == 8 + size + max(e["data_offsets"][1] for e in header.values()), f"{path}: torn"
        if "state" in metadata:  # a checkpoint: how long it took so far stands in it
            return hashlib.sha256(data[8 + size:]).hexdigest(), header, timeless(json.loads(metadata["state"]))
    if name in ("report.html", "table.md"):  # times of the lab stand in them
        assert data.endswith(b"</html>\n") if name == "report.html" else data.endswith(b"\n"), f"{path}: torn"
        return len(data) > 100
    return hashlib.sha256(data).hexdigest()


def events_are_whole(path):
    """TensorBoard's records (their content has times): a length of 8 bytes, its checksum of 4, the data, its checksum of 4."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        at += 16 + int.from_bytes(data[at:at + 8], "little")
    assert at == len(data), f"{path}: torn"


def tables_are_of(folder):
    """A measurement's tables are of this measurement."""
    with open(os.path.join(folder, "measure.json")) as f:
        tensors = json.load(f)["tensors"]
    with open(os.path.join(folder, "tensors.csv"), newline="") as f:
        rows = list(csv.DictReader(f))
    norms = [float(row["inf_norm"]) for row in rows]
    assert len(norms) == len(tensors) and all(abs(a - t["inf_norm"]) <= 1e-8 * abs(a) for a, t in zip(norms, tensors)), f"{folder}: tables of another one"
    assert os.path.exists(os.path.join(folder, "sample.safetensors")), f"{folder}: a measurement without its sample"


def is_temporary(name):
    return re.search(r"\.ghostmax-\d+-\d+\.tmp$", name) or name == ".ghostmax.lock"


def files(folder, running=False):
    """Every file under its final name. `running`: a log may end in half a record."""
    found = {}
    for base, folders, names in os.walk(os.path.join(folder, "out")):
        folders[:] = [f for f in folders if not is_temporary(f)]
        for name in names:
            path = os.path.join(base, name)
            if is_temporary(name) or (running and (name == "metrics.jsonl" or name.startswith("events."))):
                continue
            if name.startswith("events."):
                events_are_whole(path)
                continue
            found[os.path.relpath(path, folder)] = content(path)
        # What makes a folder whole comes last.
        if "config.json" in names and base != os.path.join(folder, "out"):
            assert any(n.startswith("model") and ".safetensors" in n for n in names), f"{base}: a config.json without weights"
            if any("-of-" in n for n in names) and "model.safetensors" not in names:
                assert "model.safetensors.index.json" in names, f"{base}: shards without their index"
            assert "tokenizer.json" in names, f"{base}: a model without its tokenizer"
        if "measure.json" in names and "tensors.csv" in names:
            tables_are_of(base)
    return found


def outline(folder):
    """What files() does not say: which folders there are, and how large event files (their names and content have times)."""
    found = []
    for base, folders, names in os.walk(os.path.join(folder, "out")):
        found += [os.path.relpath(os.path.join(base, n), folder) for n in folders]
        found += [f"{os.path.relpath(base, folder)}/events {os.path.getsize(os.path.join(base, n))}" for n in names if n.startswith("events.")]
    return sorted(found)


def leftovers(folder):
    return [os.path.join(base, n) for base, folders, names in os.walk(os.path.join(folder, "out")) for n in folders + names if is_temporary(n)]


def said(stdout):
    """A result on stdout without times and places."""
    try:
        return timeless(json.loads(stdout))
    except ValueError:
        return stdout


def remove(folder):
    shutil.rmtree(folder)
