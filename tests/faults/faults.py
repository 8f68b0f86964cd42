"""Calls that fail, one at a time, over the whole program: allocations, and those to the system.
Usage: faults.py BUILD [PLACES [COMMANDS [WORKERS [KINDS]]]]

For every job of scene.py (COMMANDS: those; all) and every place in the code that makes such a call (of KINDS: those; all; told apart by its call
stack), up to PLACES a job and kind, the call made there fails: an allocation gives NULL; write, fsync, open and the rest an errno of theirs (full
disk, input/output error, no more file handles, interrupted), or read and write take one byte of what they could. Then
  - the program ended by itself, with 0 or 1; a sanitizer, if it is built with one, found nothing, leaks included;
  - with 1 it said why in one line, with 0 its output is the undisturbed one's;
  - no file under its final name is torn, none is left under a temporary one;
  - the same command again, undisturbed, gives what it gives in an empty folder, bit for bit. It is run once for every state that a fault has
    left the folder in: most leave it as another one did.
The folders are in memory where the system has such a place: these tests ask the program, not a disk."""
import collections
import concurrent.futures
import os
import random
import sys
import tempfile

import scene

ENOENT, EINTR, EIO, ENOMEM, EACCES, EMFILE, ENOSPC, ENOLCK, EPERM = 2, 4, 5, 12, 13, 24, 28, 37, 1
HOW = {
    "memory": [ENOMEM], "parser": [ENOMEM],
    "open": [EMFILE, EACCES], "openat": [EMFILE], "fopen": [EMFILE], "opendir": [EMFILE], "fdopendir": [ENOMEM], "readdir": [EIO],
    "stat": [EACCES], "lstat": [EACCES], "fstat": [EIO], "fstatat": [EACCES], "access": [EACCES], "realpath": [EACCES],
    "mmap": [ENOMEM], "munmap": [ENOMEM],
    "read": ["short", EINTR, EIO], "write": ["short", EINTR, ENOSPC, EIO], "lseek": [EIO], "fsync": [EIO, EINTR], "close": [EIO],
    "rename": [EIO], "link": [EPERM], "unlink": [EIO], "unlinkat": [EIO], "mkdir": [ENOSPC], "truncate": [EIO], "ftruncate": [EIO],
    "flock": [ENOLCK],
}
# A failed removal leaves what was to be removed; a failed lock leaves its file.
MAY_LEAVE = {"unlink", "unlinkat", "flock", "openat", "opendir", "fdopendir", "readdir", "open", "fstat", "fstatat", "stat"}


def places(stage, job, folder):
    """The first call of every place, by kind."""
    path = os.path.join(folder, "sites")
    done = stage.run(folder, scene.JOBS[job][0], GM_FAULT_SITES=path)
    assert done.returncode == 0, (job, done.stderr)
    found = collections.defaultdict(list)
    with open(path) as f:
        for line in f:
            name, n = line.split()
            found[name].append(int(n))
    return found, scene.files(folder), scene.said(done.stdout)


OUT_OF_REACH = "crashed in jansson's parser"


def check(stage, job, fault, clean, output, ends):
    """None, or what is wrong. jansson's parser does not look whether its buffer could grow and reads past it then; it loses what it had, too. There is
    nothing for us to do about that but to have no file torn by it. `ends`: by what was left, how the same command ended over it."""
    kind = fault.split(":")[0]
    folder = stage.fresh(job)
    dead = scene.leftovers(folder)  # of a process before this one
    try:
        done = stage.run(folder, scene.JOBS[job][0], GM_FAULT=fault)
        lines = done.stderr.splitlines()
        # What cannot be looked at counts as there, and a folder with something of another's in it is a wrong --out.
        crashed = kind == "parser" and (done.returncode in (-6, -11) or "Sanitizer" in done.stderr)
        if not crashed and (done.returncode not in ((0, 1, 2) if kind == "stat" else (0, 1)) or "Sanitizer" in done.stderr):
            return f"ended with {done.returncode}: {done.stderr[:3000]}"
        if done.returncode and not crashed:
            errors = [line for line in lines if line.startswith("ghostmax")]
            if len(errors) != 1 or len(lines) > 3:
                return f"said {lines}"
        files = scene.files(folder)
        if done.returncode == 0 and files != clean:
            return f"ended well with other files: {sorted(k for k in {*files, *clean} if files.get(k) != clean.get(k))}; said {lines}"
        tells_what_it_could = job == "info" and kind != "memory"  # of what it cannot read it says so, or nothing
        if done.returncode == 0 and job != "lab" and not tells_what_it_could and scene.said(done.stdout) != output:
            return f"ended well with another output; said {lines}: {done.stdout[:500]}"
        left = [x for x in scene.leftovers(folder) if x not in dead]
        if left and kind not in MAY_LEAVE and not crashed:
            return f"left {left}"
        state = repr((sorted(files.items()), scene.outline(folder)))
        wrong = ends[state] if state in ends else end_over(stage, job, folder, clean)
        if not left:  # temporary names differ from run to run
            ends[state] = wrong
        if wrong:
            return f"ended with {done.returncode} ({done.stderr.strip()}); the second time {wrong}"
        return OUT_OF_REACH if crashed else None
    except Exception as e:  # a torn file, a hang
        return f"{type(e).__name__}: {e}"
    finally:
        scene.remove(folder)


def end_over(stage, job, folder, clean):
    """The same command, undisturbed, over what is left: None, or what is wrong."""
    second = stage.run(folder, scene.again(job, folder))
    if second.returncode != 0:
        return f"it failed: {second.stderr}"
    files = scene.files(folder)
    if files != clean:
        return f"gave other files: {sorted(k for k in {*files, *clean} if files.get(k) != clean.get(k))}"
    left = [x for x in scene.leftovers(folder) if not x.endswith(".lock")]  # of a finished run: in nobody's way
    return f"left {left}" if left else None


def main():
    program = os.path.join(sys.argv[1], "tests", "ghostmax-faults")
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else 10**9
    jobs = sys.argv[3].split(",") if len(sys.argv) > 3 and sys.argv[3] != "all" else list(scene.JOBS)
    workers = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    kinds = sys.argv[5].split(",") if len(sys.argv) > 5 else list(HOW)
    pick = random.Random(7)
    tried, bad, beyond = collections.Counter(), 0, 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, concurrent.futures.ThreadPoolExecutor(workers) as pool:
        stage = scene.Scene(program, folder)
        for job in jobs:
            first = stage.fresh(job)
            found, clean, output = places(stage, job, first)
            scene.remove(first)
            faults, ends = [], {}
            for kind in kinds:
                wanted = [f"{kind}:{n}:{way}" for n in found[kind] for way in HOW[kind]]
                faults += pick.sample(wanted, limit) if len(wanted) > limit else wanted
                tried[kind] += min(len(wanted), limit)
            for fault, wrong in zip(faults, pool.map(lambda fault: check(stage, job, fault, clean, output, ends), faults)):
                beyond += wrong == OUT_OF_REACH
                if wrong and wrong != OUT_OF_REACH:
                    bad += 1
                    print(f"{job}, GM_FAULT={fault}: {wrong}", flush=True)
            print(f"{job}: {', '.join(f'{len(found[k])} {k}' for k in HOW if found[k])} places, {len(faults)} faults, which left "
                  f"{len(ends)} states to go on from", flush=True)
    total = sum(tried.values())
    print(f"{total} faults in {len(jobs)} commands ({', '.join(f'{n} {k}' for k, n in tried.items() if n)}): {total - bad - beyond} answered as they "
          f"should be, {bad} wrongly, {beyond} {OUT_OF_REACH}")
    return 1 if bad or not total else 0


sys.exit(main())
