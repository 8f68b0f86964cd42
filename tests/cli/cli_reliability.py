"""What goes wrong around the program: full disks, limits, folders that cannot be written, readers that go away, a second process in the same
folder, damaged checkpoints. Each time: one line, exit 1, and what was there before is whole."""
import ctypes
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess

from program import FAULTS, PROGRAM, TINY, TINY_TRAIN, Case, main, read, tree, with_faults, with_file_limit


def limit(name, value):
    return lambda: resource.setrlimit(name, (value, value))


def shell(*words):
    return shlex.join(map(str, words))


def without_speed(path):
    return [{k: v for k, v in json.loads(line).items() if k != "step_seconds"} for line in read(path).splitlines()]


class Reliability(Case):
    def setUp(self):
        super().setUp()
        self.data = self.text(words=4000)

    def train(self, out, *more, steps=30):
        return ["train", "--data", self.data, *TINY_TRAIN, "--steps", steps, "--checkpoint-every", 5, "--out", out, *more]

    def lab(self, out, *more, steps=20):
        return ["lab", "--data", self.data, "--variants", "softmax,softmax1", "--seeds", 1, "--steps", steps, "--out", out, *TINY, *more]

    def same_run(self, a, b):
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            self.assertEqual(read(a, name, mode="rb"), read(b, name, mode="rb"), name)
        self.assertEqual(without_speed(os.path.join(a, "metrics.jsonl")), without_speed(os.path.join(b, "metrics.jsonl")))

    def no_leftovers(self, folder):
        for base, folders, names in os.walk(folder):
            self.assertEqual([n for n in folders + names if n.endswith(".tmp") or n == ".ghostmax.lock"], [], base)

    def mounted(self, script):
        """In a mount namespace of its own."""
        if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", self.folder], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody mount")
        return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=240)

    # ---- the disk

    def test_full_disk(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        self.stopped(signal.SIGTERM, *self.train(self.path("size")))
        bytes_ = os.path.getsize(self.path("size", "state.safetensors"))
        os.mkdir(self.path("disk"))
        first, second = (shell(PROGRAM, *self.train(self.path("disk", "run"), *more)) for more in (["--quiet"], []))
        disk, run, kept, end = (shell(self.path(*parts)) for parts in (["disk"], ["disk", "run"], ["kept"], ["end"]))
        others = 2 ** 26 - int(2.6 * bytes_)
        done = self.mounted(f"mount -t tmpfs -o size=64m none {disk} || exit 9\nhead -c {others} /dev/zero >{disk}/others\n{first}; echo first $?\n"
                            f"cp -r {run} {kept}\nrm {disk}/others\n{second}; echo second $?\ncp -r {run} {end}\n")
        self.assertIn("first 1", done.stdout, done.stderr)
        self.assertIn("second 0", done.stdout, done.stderr)
        lines = done.stderr.splitlines()
        self.assertIn("No space left on device", lines[0])
        self.assertTrue(lines[0].startswith("ghostmax train: "))
        self.assertRegex(done.stderr, r"resumed at step (5|10|15)\n")  # there was room for two checkpoints and a half
        self.no_leftovers(self.path("kept"))
        self.assertTrue(os.path.exists(self.path("kept", "state.safetensors")))
        self.same_run(self.path("whole"), self.path("end"))

    @with_file_limit
    def test_file_size_limit(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        small = limit(resource.RLIMIT_FSIZE, 8192)
        self.fails(1, ["run", "File too large"], *self.train(self.path("run"), "--quiet"), preexec_fn=small)
        self.no_leftovers(self.path("run"))
        self.ok(*self.train(self.path("run"), "--quiet"))
        self.same_run(self.path("whole"), self.path("run"))
        self.fails(1, ["File too large"], *self.lab(self.path("lab")), preexec_fn=small)
        self.ok(*self.lab(self.path("lab")))
        for arguments in (["convert", self.path("whole"), "--to", "hf", "--out", self.path("hf")],
                          ["convert", self.path("whole"), "--to", "gguf", "--out", self.path("m.gguf")],
                          ["quantize", self.path("whole"), "--data", self.data, "--sequences", 2, "--quiet", "--out", self.path("q")],
                          ["report", self.path("lab"), "--out", self.path("r.html")]):
            self.fails(1, ["File too large"], *arguments, preexec_fn=small)
            self.assertFalse(os.path.exists(arguments[arguments.index("--out") + 1]), arguments)
            self.no_leftovers(self.folder)
            self.ok(*arguments)

    def test_read_only(self):
        self.ok(*self.train(self.path("run"), "--quiet"))
        run, before = self.path("run"), tree(self.path("run"))
        commands = [self.train(self.path("run", "new"), "--quiet"), self.lab(self.path("run", "lab")),
                    ["convert", run, "--to", "hf", "--out", self.path("run", "hf")], ["convert", run, "--to", "gguf", "--out", self.path("run", "m.gguf")],
                    ["quantize", run, "--data", self.data, "--sequences", 2, "--quiet", "--out", self.path("run", "q")],
                    ["measure", run, "--data", self.data, "--sequences", 2, "--quiet", "--out", self.path("run", "m")]]
        # nosuid and the like may be set where this is; who is not root may then not leave them out
        script = f"mount --bind {shell(run)} {shell(run)} && mount -o remount,bind,ro,nosuid,nodev,noexec {shell(run)} || exit 9\n"
        done = self.mounted(script + "".join(shell(PROGRAM, *c) + " >/dev/null; echo $?\n" for c in commands))
        self.assertEqual(done.stdout.split(), ["1"] * len(commands), done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), len(commands), done.stderr)
        for line in lines:
            self.assertIn("Read-only file system", line)
        self.assertEqual(tree(run), before)

    def test_no_permission(self):
        """Root as anybody: without what lets it pass permissions by (capabilities(7); 24 is PR_CAPBSET_DROP)."""
        override, read_search = 1, 2
        drop = lambda: [ctypes.CDLL(None).prctl(24, which, 0, 0, 0) for which in (override, read_search)]
        anybody = drop if os.geteuid() == 0 else None
        os.mkdir(self.path("closed"), 0o555)
        self.fails(1, ["closed", "Permission denied"], *self.train(self.path("closed", "run"), "--quiet"), preexec_fn=anybody)
        self.fails(1, ["closed", "Permission denied"], *self.train(self.path("closed"), "--quiet"), preexec_fn=anybody)
        self.assertEqual(os.listdir(self.path("closed")), [])

    def test_no_more_files(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        failed = 0
        for handles in range(3, 12):
            shutil.rmtree(self.path("run"), ignore_errors=True)
            done = self.run_program(*self.train(self.path("run"), "--quiet"), preexec_fn=limit(resource.RLIMIT_NOFILE, handles))
            self.assertIn(done.returncode, (0, 1, 127), done.stderr)  # 127: not even the shared libraries opened
            if done.returncode == 1:
                failed += 1
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn("Too many open files", done.stderr)
            self.ok(*self.train(self.path("run"), "--quiet"))
            self.same_run(self.path("whole"), self.path("run"))
        self.assertGreater(failed, 0)

    # ---- readers that go away

    def test_reader_of_the_result_leaves(self):
        self.ok(*self.train(self.path("model"), "--quiet"))
        child = subprocess.Popen([PROGRAM, "generate", self.path("model"), "--tokens", "100000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.read(10)
        child.stdout.close()
        self.assertEqual(child.wait(timeout=240), 1)
        self.assertEqual(child.stderr.read(), b"")
        child.stderr.close()

    def test_reader_of_the_progress_leaves(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        child = self.held(*self.train(self.path("run")))
        child.stderr.close()
        child.stdout.close()
        self.assertEqual(child.wait(timeout=240), 1)  # nobody got the last line
        self.same_run(self.path("whole"), self.path("run"))

    def test_closed_streams(self):
        """As daemons start programs: a stream's number must not become a file's, into which progress would be written."""
        self.ok(*self.train(self.path("whole"), "--quiet"))
        for n, closed in enumerate((">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-", ">&-")):
            out = self.path(f"run{n}")
            done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', PROGRAM, *map(str, self.train(out))], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=240)
            self.assertEqual(done.returncode, 0 if ">&-" not in closed.split() else 1, (closed, done.stderr))
            self.same_run(self.path("whole"), out)
        self.assertIn("cannot write the result to stdout: Bad file descriptor", done.stderr)

    # ---- two at once

    def second_is_told(self, arguments, folder):
        """The first one goes on only when this has returned: the second one does not wait for it."""
        first = self.held(*arguments)
        self.wait_for(os.path.join(folder, ".ghostmax.lock"), first)
        second = self.run_program(*arguments)
        self.assertEqual((second.returncode, second.stdout), (1, ""))
        self.assertIn(f"process {first.pid} on {socket.gethostname()}", second.stderr)
        return first

    def test_two_labs(self):
        self.ok(*self.lab(self.path("alone")))
        first = self.second_is_told(self.lab(self.path("out")), self.path("out"))
        first.communicate(timeout=240)
        self.assertEqual(first.returncode, 0)
        for run in ("softmax-s1", "softmax1-s1"):
            self.same_run(self.path("alone", "runs", run), self.path("out", "runs", run))
        self.no_leftovers(self.path("out"))

    def test_a_lab_after_a_killed_one(self):
        arguments = self.lab(self.path("out"))
        first = self.second_is_told(arguments, self.path("out"))
        first.kill()
        first.communicate()
        self.assertTrue(os.path.exists(self.path("out", ".ghostmax.lock")))
        self.ok(*arguments)
        self.no_leftovers(self.path("out"))

    def test_two_trainings(self):
        first = self.second_is_told(self.train(self.path("out")), self.path("out"))
        first.communicate(timeout=240)
        self.assertEqual(first.returncode, 0)

    # ---- damage

    @with_faults
    def test_newest_checkpoint_damaged(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        killed = self.run_program(*self.train(self.path("run"), "--quiet", "--keep", 3), program=FAULTS, env={"GM_FAULT": "link:4:kill"})
        self.assertEqual(killed.returncode, -signal.SIGKILL)  # in setting step 20's checkpoint aside
        self.assertEqual(sorted(n for n in os.listdir(self.path("run")) if n.startswith("state")),
                         ["state-000000010.safetensors", "state-000000015.safetensors", "state.safetensors"])
        state = self.path("run", "state.safetensors")
        data = bytearray(read(state, mode="rb"))
        data[-100] ^= 1
        with open(state, "wb") as f:
            f.write(data)
        done = self.run_program(*self.train(self.path("run")))
        self.assertEqual(done.returncode, 0, done.stderr)
        said = [line for line in done.stderr.splitlines() if "passed over" in line]
        self.assertEqual(len(said), 1, done.stderr)
        self.assertIn(state, said[0])
        self.assertIn("checkpoint before it, of step 15", said[0])
        self.assertIn("resumed at step 15\n", done.stderr)
        self.same_run(self.path("whole"), self.path("run"))


main()
