"""Long runs. Usage: soak.py BUILD HOURS

Nine tenths of the time one lab runs and is looked at every second or so: resident memory and open files (/proc), the size of its logs. A line is
fitted through the memory of each training run's second half: by then every kind of work, from a tenth's measurements to its pictures, has come
several times, and the heap is as large as it gets. The last tenth kills and resumes such a lab over and over; its end must be that of a
lab which was left alone. Prints the slopes; fails where memory grows by more than 1 MB an hour and more than three standard errors, where files
stay open, or where a lab's log would be over 10 MB in two days."""
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
import scene

MB = 1 << 20
SHAPE = "--model gpt2-nano --layers 2 --heads 2 --width 32 --vocab 64 --batch 4 --context 32 --eval-sequences 16 --threads 2".split()


def lab(out, steps, *more):
    return ["lab", "--data", "in/text.txt", *SHAPE, "--variants", "softmax,softmax1+gated", "--seeds", "1", "--steps", str(steps), "--measure-sequences", "8",
            "--sensitivity-sequences", "4", "--calibration-batches", "4", "--out", out, *more]


def look(pid):
    """Resident bytes of its own (no file mapped), open files."""
    with open(f"/proc/{pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["RssAnon"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd"))


def slope(points):
    """Of y against x by least squares, and its standard error."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx)**2 for x, _ in points)
    b = sum((x - mx) * (y - my) for x, y in points) / sxx
    rest = sum((y - my - b * (x - mx))**2 for x, y in points)
    return b, math.sqrt(rest / max(n - 2, 1) / sxx)


def pace(stage, folder):
    """Training steps a second of the lab, to choose its length."""
    start = time.monotonic()
    done = stage.run(folder, [*lab("out/pace", 2000), "--quiet"])
    assert done.returncode == 0, done.stderr
    return 4000 / (time.monotonic() - start)


def long_lab(stage, folder, seconds, steps):
    child = subprocess.Popen([stage.program, *lab("out/long", steps)], cwd=folder, stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "stderr"), "w"))
    points, start = [], time.monotonic()
    every = max(0.2, min(5, seconds / 500))
    while child.poll() is None:
        try:
            run = len(os.listdir(os.path.join(folder, "out/long/runs")))
            points.append((time.monotonic() - start, run, *look(child.pid)))
        except (OSError, KeyError):
            pass
        time.sleep(every)
    assert child.returncode == 0, open(os.path.join(folder, "stderr")).read()[-1000:]
    bad = []
    for run in sorted({p[1] for p in points}):
        mine = [p for p in points if p[1] == run]
        mine = mine[len(mine) // 2:-max(1, len(mine) // 20)]  # before what measures and quantizes at the end
        if len(mine) < 20:
            print(f"run {run}: {len(mine)} looks are too few")
            bad.append("too short to tell")
            continue
        per_second, error = slope([(t, rss) for t, _, rss, _ in mine])
        files = [f for *_, f in mine]
        print(f"run {run}: {len(mine)} looks in {mine[-1][0] - mine[0][0]:.0f} s, memory {mine[-1][2] / MB:.1f} MB, slope "
              f"{per_second * 3600 / MB:+.3f} +- {error * 3600 / MB:.3f} MB an hour, open files {min(files)} to {max(files)}, at the end {files[-1]}")
        if per_second * 3600 > MB and per_second > 3 * error:
            bad.append("memory grows")
        if sorted(files)[len(files) // 2] > sorted(files)[0] + 2 or files[-1] > files[0] + 2:
            bad.append("files stay open")
    hours = points[-1][0] / 3600
    run = os.path.join(folder, "out/long/runs/softmax-s1")
    with open(os.path.join(run, "metrics.jsonl")) as f:
        lines = f.readlines()
    events = sum(os.path.getsize(os.path.join(run, name)) for name in os.listdir(run) if name.startswith("events."))
    with open(os.path.join(folder, "stderr")) as f:
        said = f.readlines()
    log, most = sum(map(len, lines)), 120 + hours * 360  # a line each 2% of a run and every 10 seconds
    print(f"metrics.jsonl: {len(lines)} lines, {log / 1e3:.0f} kB, events {events / 1e3:.0f} kB, of {steps} steps; stderr: {len(said)} lines, "
          f"at most {most:.0f} wanted")
    if len(lines) > 5100 or log + events > 10e6 or len(said) > most:
        bad.append("the log is large")
    return bad


def killed_lab(stage, folder, seconds, steps):
    """A lab killed after every few seconds, against one that was not."""
    arguments = lambda out: lab(out, steps, "--checkpoint-every", "50")
    assert stage.run(folder, [*arguments("out/alone"), "--quiet"], seconds=None).returncode == 0
    pick, kills, start = random.Random(time.time_ns()), 0, time.monotonic()
    while True:
        child = subprocess.Popen([stage.program, *arguments("out/killed"), "--quiet"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            child.wait(pick.uniform(0.2, max(1, seconds / 20)) if time.monotonic() - start < seconds else None)
            break
        except subprocess.TimeoutExpired:
            child.kill()
            kills += 1
        child.communicate()
    said = child.communicate()[1]
    assert child.returncode == 0, said
    both = [scene.timeless(json.load(open(os.path.join(folder, "out", x, "results.json"))))["rows"] for x in ("alone", "killed")]
    print(f"killed and resumed {kills} times: {'the same numbers as left alone' if both[0] == both[1] else 'OTHER NUMBERS'}")
    return [] if both[0] == both[1] else ["a resumed lab gave other numbers"]


def main():
    build, seconds = sys.argv[1], float(sys.argv[2]) * 3600
    with tempfile.TemporaryDirectory() as place:
        stage = scene.Scene(os.path.join(build, "ghostmax"), os.path.join(place, "scene"))
        folder = stage.fresh()
        speed = pace(stage, folder)
        bad = long_lab(stage, folder, 0.9 * seconds, max(2000, int(0.9 * seconds * speed / 2)))
        bad += killed_lab(stage, folder, 0.05 * seconds, max(200, int(0.05 * seconds * speed / 2)))
    print("soak:", "; ".join(bad) if bad else "memory and files flat, logs small, resumed runs the same")
    return 1 if bad else 0


sys.exit(main())
