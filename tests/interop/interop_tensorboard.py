"""Event files in the real TensorBoard: both of its readers list every scalar tag with the numbers of metrics.jsonl, each step once though the
run was killed and resumed, also where they were looking on. Usage: interop_tensorboard.py SOURCE BUILD"""
import atexit
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.request

from interop import BUILD, check, path, program

import tensorboard.version
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

HEADINGS = ("train", "validation", "outliers", "attention", "first_norm", "backcopy")
ALL = {kind: 0 for kind in ("scalars", "histograms", "images", "tensors")}
COMMON = ("--data stories --tokens bytes --model llama-260k --context 48 --batch 4 --layers 2 --threads 1 --eval-every 20 --measure-every 20 "
          "--log-every 1 --checkpoint-every 30").split()

print("tensorboard", tensorboard.version.VERSION)


def lines(folder):
    """metrics.jsonl as {field: {step: value}}, lists spread, null as NaN, like the event file."""
    curves = {}
    with open(os.path.join(folder, "metrics.jsonl")) as f:
        for line in map(json.loads, f):
            for name, value in line.items():
                for i, x in enumerate(value) if isinstance(value, list) else [("", value)]:
                    curves.setdefault(f"{name}_{i}" if i != "" else name, {})[line["step"]] = math.nan if x is None else x
    return curves


def tag_of(field):
    """As lib/train/run_log.c has it, found here by what the tags are called."""
    known = {"step_seconds": "train/tokens_per_s", "val_loss": "validation/loss"}
    for prefix, heading in (("max_", "outliers/"), ("avg_", "outliers/"), ("sink_", "attention/"), ("null_", "attention/")):
        if field.startswith(prefix):
            return heading + field
    if field.startswith("first_norm_"):
        return "first_norm/block_" + field[len("first_norm_"):]
    return known.get(field, "train/" + field)


def single(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def check_curves(folder, scalars, who):
    """scalars: {tag: [(step, value)]}."""
    wanted = lines(folder)
    steps = wanted.pop("step")
    check(sorted(scalars) == sorted(map(tag_of, wanted)), f"{who}: every scalar tag: {', '.join(sorted(scalars))}")
    check(all(tag.split("/")[0] in HEADINGS for tag in scalars), f"{who}: under known headings", quiet=True)
    for field, curve in wanted.items():
        points = scalars[tag_of(field)]
        check([step for step, _ in points] == sorted(curve), f"{who}: {field}: each step once, in order", quiet=True)
        for step, x in points:
            value = 4 * 48 / curve[step] if field == "step_seconds" else curve[step]
            # nine digits in the line, single precision in the file
            check(same(x, single(value)) or abs(x - value) <= 1e-6 * abs(value), f"{who}: {field} at {step}: {x} is {value}", quiet=True)
    check(len(steps) > 0, f"{who}: {len(steps)} steps, each once, with the numbers of metrics.jsonl")


def accumulated(reader):
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


# ---- the program: TensorBoard's server with its own (Rust) reader, asked over HTTP

server = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--logdir", path(), "--port", "0", "--host", "127.0.0.1",
                           "--load_fast", "true", "--reload_interval", "1", "--samples_per_plugin", "scalars=100000"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
atexit.register(server.terminate)
url = None
while url is None:
    line = server.stdout.readline()
    check(line, "tensorboard serves", quiet=True)
    if "http://" in line:
        url = "http://" + line.split("http://")[1].split()[0].rstrip("/")


def ask(route):
    with urllib.request.urlopen(f"{url}/data/plugin/{route}", timeout=60) as answer:
        return json.load(answer)


def served(run, last):
    """Its curves, once they reach step `last` and rest; it looks once a second."""
    before = None
    for _ in range(120):
        tags = ask("scalars/tags").get(run, [])
        curves = {tag: [(step, float(value)) for _, step, value in ask(f"scalars/scalars?run={run}&tag={tag}")] for tag in tags}
        if curves == before and last in [step for step, _ in curves.get("train/loss", [])]:
            return curves
        before = curves
        time.sleep(1.5)
    sys.exit(f"FAILED: tensorboard does not show step {last} of {run}")


# ---- a run that is killed with a reader looking on, and resumed

folder = path("run")
arguments = ["train", *COMMON, "--steps", "300", "--attention", "softmax1", "--out", folder]
child = subprocess.Popen([os.path.join(BUILD, "ghostmax"), *arguments, "--quiet"])
deadline = time.time() + 120
while time.time() < deadline and child.poll() is None:
    if os.path.exists(os.path.join(folder, "metrics.jsonl")) and lines(folder).get("step") and max(lines(folder)["step"]) >= 75:
        break
    time.sleep(0.01)
child.send_signal(signal.SIGKILL)
child.wait()
killed_at = max(lines(folder)["step"])
check(75 <= killed_at < 300, f"killed at step {killed_at}")
onlooker = event_accumulator.EventAccumulator(folder, size_guidance=ALL)
onlooker.Reload()
check(max(step for step, _ in accumulated(onlooker)["train/loss"]) >= killed_at - 1, "a reader has the steps so far")
served("run", killed_at - 1)
program(*arguments, "--quiet")
files = [name for name in sorted(os.listdir(folder)) if "tfevents" in name]
check(len(files) == 2, f"two sessions, two files: {', '.join(files)}")

fresh = event_accumulator.EventAccumulator(folder, size_guidance=ALL)
fresh.Reload()
check_curves(folder, accumulated(fresh), "a reader that begins now")
onlooker.Reload()
check_curves(folder, accumulated(onlooker), "a reader that was looking on")
check_curves(folder, served("run", 300), "the server that was looking on")

tags = fresh.Tags()
weights = [tag for tag in tags["histograms"] if tag.startswith("weights/")]
activations = [tag for tag in tags["histograms"] if tag.startswith("activations/")]
check(len(weights) == 2 + 2 * 6 and len(activations) == 2 + 2 * 11, f"histograms: {len(weights)} weights, {len(activations)} activations")
for tag in tags["histograms"]:
    for event in fresh.Histograms(tag):
        h = event.histogram_value
        check(sum(h.bucket) == h.num > 0 and h.min <= h.max, f"{tag} at {event.step}: buckets add up to {h.num}", quiet=True)
    check([e.step for e in fresh.Histograms(tag)] == list(range(20, 301, 20)), f"{tag}: each measured step once", quiet=True)
table = [e for e in fresh.Histograms("activations/blocks.0.block")][0].histogram_value
check(table.num == 48 * 64, "of one sequence: 48 x 64 values in a block's output")
for tag, size in (("block_outputs/blocks.1", (64, 48)), ("attention/blocks.0", (8 * (48 + 1 + 3) - 3, 48))):
    image = fresh.Images(tag)[-1]
    check((image.width, image.height) == size and image.encoded_image_string[:4] == b"\x89PNG", f"{tag}: a PNG of {size[0]} x {size[1]}")
    check(struct.unpack(">II", image.encoded_image_string[16:24]) == size, f"{tag}: of that size inside", quiet=True)
text = tensor_util.make_ndarray(fresh.Tensors("run")[0].tensor_proto).item().decode()
check("| attention | `\"softmax1\"` |" in text, "what is trained, as text")

# ---- a lab

lab = path("lab")
program("lab", *COMMON, "--steps", "40", "--variants", "softmax,sink", "--seeds", "1", "--measure-sequences", "4", "--eval-sequences", "8",
        "--calibration-batches", "2", "--out", lab, "--quiet")
top = event_accumulator.EventAccumulator(lab)
top.Reload()
with open(os.path.join(lab, "table.md")) as f:
    check(tensor_util.make_ndarray(top.Tensors("table")[0].tensor_proto).item().decode() == f.read(), "the lab's table as text")

for run in ("lab/runs/softmax-s1", "lab/runs/sink-s1"):
    check_curves(path(*run.split("/")), served(run, 40), f"served, {run}")
check("weights/wte" in ask("histograms/tags")["run"] and "attention/blocks.0" in ask("images/tags")["run"], "served: histograms, pictures")
check("table" in ask("text/tags")["lab"], "served: the table")
