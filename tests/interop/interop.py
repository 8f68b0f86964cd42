"""What the tests against real libraries share. Usage of a test: interop_x.py SOURCE BUILD; exit 77: skipped, with the reason printed.
A missing library needs no care: tools/run_interop.sh turns its ModuleNotFoundError into a skip."""
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy

SOURCE, BUILD = map(os.path.abspath, sys.argv[1:3])
FOLDER = tempfile.mkdtemp(prefix="ghostmax-interop-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# A llama that trains in seconds on one thread: grouped queries, tied heads.
TRAIN = "--data stories --tokens bytes --model llama-260k --context 96 --batch 4 --lr 3e-3 --threads 1 --quiet".split()


def path(*parts):
    return os.path.join(FOLDER, *parts)


def data(*parts):
    """A file of the data folder; where it is not there the whole test is skipped."""
    name = os.path.join(os.environ.get("GHOSTMAX_DATA", os.path.join(SOURCE, "..", "shared", "data")), *parts)
    if not os.path.exists(name):
        print(f"skipped: no {name}; set GHOSTMAX_DATA")
        sys.exit(77)
    return name


def run(*arguments):
    return subprocess.run([os.path.join(BUILD, "ghostmax"), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=900)


def program(*arguments):
    done = run(*arguments)
    check(done.returncode == 0, f"ghostmax {' '.join(map(str, arguments))}: {done.stderr.strip()}", quiet=True)
    return done.stdout


def convert(model, out, *arguments):
    """Returns what `convert --json` says."""
    return json.loads(program("convert", model, "--out", out, "--json", "--threads", 1, *arguments))


def trained(name, *arguments, steps=60):
    """A model that `train` made, in a folder that is made once."""
    if not os.path.exists(path(name)):
        program("train", *TRAIN, "--steps", steps, "--out", path(name), *arguments)
    return path(name)


def logits(model, ids):
    """[T, V], by this project."""
    done = subprocess.run([os.path.join(BUILD, "example_logits"), model, *map(str, ids)], stdout=subprocess.PIPE, text=True, check=True)
    return numpy.array([[float(x) for x in line.split()] for line in done.stdout.splitlines()])


def prompt(length, seed=0):
    """Token ids of a text of bytes."""
    return [int(x) for x in numpy.random.RandomState(seed).randint(32, 123, length)]


def check(good, what, quiet=False):
    if not good:
        sys.exit(f"FAILED: {what}")
    if not quiet:
        print(f"  {what}")


def close(a, b, limit, what):
    difference = float(numpy.abs(numpy.asarray(a, dtype=numpy.float64) - numpy.asarray(b, dtype=numpy.float64)).max())
    check(a.shape == b.shape and difference <= limit, f"{what}: max |logit difference| {difference:.2g}, allowed {limit:g}")
