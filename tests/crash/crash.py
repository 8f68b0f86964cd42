"""kill -9 of everything that writes. Usage: crash.py BUILD [KILLS] [PLACES]

First at random moments, KILLS times (100) over train, lab, quantize, convert and report: after each kill no file under its final name is torn
and no folder is half a model; the next call goes on from the newest checkpoint that was there; the end is the undisturbed run's, bit for bit.
Then at chosen ones: in every place in the code (up to PLACES a job) that writes, syncs, renames, links, removes or makes something, before the
call, or with half of its bytes written (tests/faults/faults.c)."""
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
import scene

KINDS = "write fsync rename link unlink unlinkat mkdir truncate ftruncate open flock".split()
# Longer than a fault's job, so that there is a moment to hit: of 100 kills, how many each gets.
SHARES = {"train": 40, "lab": 30, "quantize": 10, "convert-hf": 5, "convert-gguf": 5, "report": 10}
LONGER = {"train": ["--steps", "400", "--checkpoint-every", "5"], "lab": ["--steps", "150", "--checkpoint-every", "5"]}


def arguments(job):
    found = [x for x in scene.JOBS[job][0] if x != "--quiet"]
    return found + LONGER.get(job, [])  # of an option given twice the last counts


def checkpoint(folder):
    """The steps of the newest checkpoints that there are, by run."""
    found = {}
    for base, _, names in os.walk(os.path.join(folder, "out")):
        steps = []
        for name in names:
            if re.fullmatch(r"state(-\d+)?\.safetensors", name):
                with open(os.path.join(base, name), "rb") as f:
                    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
                steps.append(json.loads(header["__metadata__"]["state"])["step"])
        if steps:
            found[base] = max(steps)
    return found


def at_random(stage, kills):
    pick = random.Random(time.time_ns())
    done, resumed, rounds = collections.Counter(), 0, 0
    for job, share in SHARES.items():
        folder = stage.fresh()
        start = time.monotonic()
        whole = stage.run(folder, arguments(job))
        length = time.monotonic() - start
        assert whole.returncode == 0, (job, whole.stderr)
        clean = scene.files(folder)
        scene.remove(folder)
        while done[job] < max(1, share * kills // 100):
            folder, row = stage.fresh(), pick.randint(1, 4)
            rounds += 1
            for _ in range(row):
                before = checkpoint(folder)
                child = subprocess.Popen([stage.program, *again(job, folder)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                time.sleep(pick.uniform(0, length))
                child.kill()
                stderr = child.communicate()[1]
                if child.returncode == 0:
                    break
                assert child.returncode == -9, (job, child.returncode, stderr)
                done[job] += 1
                scene.files(folder, running=True)
                resumed += went_on(job, before, stderr)
            before = checkpoint(folder)
            end = stage.run(folder, again(job, folder))
            assert end.returncode == 0, (job, end.stderr)
            resumed += went_on(job, before, end.stderr)
            files, left = scene.files(folder), scene.leftovers(folder)
            assert files == clean, (job, sorted(k for k in {*files, *clean} if files.get(k) != clean.get(k)))
            assert not left, (job, left)
            scene.remove(folder)
        print(f"  {job}: {done[job]} kills within {length:.2f} s", flush=True)
    print(f"{sum(done.values())} kills at random moments in {rounds} runs, {resumed} resumed from a checkpoint: no file torn, nothing lost, every end "
          "the undisturbed one's, bit for bit", flush=True)


def again(job, folder):
    exists = any(os.path.lexists(os.path.join(folder, p)) for p in ("out/q", "out/hf", "out/m.gguf", "out/report.html"))
    return arguments(job) + (["--force"] if exists else [])


def went_on(job, before, stderr):
    """It said that it resumed where the newest checkpoint was (a run that had one may also have been finished in between, by the kill before)."""
    said = [int(n) for n in re.findall(r"resumed at step (\d+)", stderr)]
    for step in said:
        assert step in before.values(), (job, "resumed at", step, "checkpoints", before)
    return bool(said)


def at_places(stage, limit):
    pick, kills, jobs = random.Random(11), collections.Counter(), [j for j in scene.JOBS if any(x.startswith("out/") for x in scene.JOBS[j][0])]
    for job in jobs:
        folder = stage.fresh(job)
        sites = os.path.join(folder, "sites")
        whole = stage.run(folder, scene.JOBS[job][0], GM_FAULT_SITES=sites)
        assert whole.returncode == 0, (job, whole.stderr)
        clean = scene.files(folder)
        with open(sites) as f:
            wanted = [line.split() for line in f]
        wanted = [(kind, n) for kind, n in wanted if kind in KINDS]
        scene.remove(folder)
        for kind, n in pick.sample(wanted, limit) if len(wanted) > limit else wanted:
            folder = stage.fresh(job)
            killed = stage.run(folder, scene.JOBS[job][0], GM_FAULT=f"{kind}:{n}:kill")
            where = f"{job} killed at {kind} {n}"
            assert killed.returncode == -9, (where, killed.returncode, killed.stderr)
            scene.files(folder, running=True)
            end = stage.run(folder, scene.again(job, folder))
            assert end.returncode == 0, (where, end.stderr)
            files, left = scene.files(folder), scene.leftovers(folder)
            assert files == clean, (where, sorted(k for k in {*files, *clean} if files.get(k) != clean.get(k)))
            assert not [x for x in left if not x.endswith(".lock")], (where, left)
            kills[kind] += 1
            scene.remove(folder)
    print(f"{sum(kills.values())} kills at chosen calls ({', '.join(f'{n} {k}' for k, n in kills.items())}) of {len(jobs)} commands: no file torn, nothing "
          "lost, every end the undisturbed one's, bit for bit", flush=True)


def main():
    build, kills, places = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100, int(sys.argv[3]) if len(sys.argv) > 3 else 10**9
    with tempfile.TemporaryDirectory() as folder:
        if kills:
            at_random(scene.Scene(os.path.join(build, "ghostmax"), os.path.join(folder, "random")), kills)
        if places:
            at_places(scene.Scene(os.path.join(build, "tests", "ghostmax-faults"), os.path.join(folder, "places")), places)


main()
