"""What goes wrong around the program: full disks, limits, folders that cannot be written, readers that go away, a second process in the same
folder, damaged checkpoints. Each time: one line, exit 1, and what was there before is whole."""
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import unittest

from program import PROGRAM, TINY, TINY_TRAIN, Case, main, read, read_json, tree, with_file_limit


def limit(name, value):
    return lambda: resource.setrlimit(name, (value, value))


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
        if subprocess.run(["unshare", "-rm", "sh", "-c", f"mount -t tmpfs none {self.folder}"], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody mount")
        return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=240)

    # ---- the disk

    def test_full_disk(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        stopped = subprocess.Popen([PROGRAM, *map(str, self.train(self.path("size"), steps=100000))], stderr=subprocess.PIPE, text=True)
        state = self.path("size", "state.safetensors")
        while not os.path.exists(state):
            time.sleep(0.005)
        stopped.send_signal(signal.SIGTERM)
        stopped.communicate()
        bytes_ = os.path.getsize(state)
        os.mkdir(self.path("disk"))
        command = " ".join(map(str, [PROGRAM, *self.train(self.path("disk", "run"), "--quiet")]))
        done = self.mounted(f"mount -t tmpfs -o size={int(2.6 * bytes_)} none {self.path('disk')} || exit 9\n"
                            f"{command}; echo first $?\ncp -r {self.path('disk', 'run')} {self.path('kept')}\n"
                            f"mount -o remount,size=64m {self.path('disk')}\n{command.replace('--quiet', '')}; echo second $?\n"
                            f"cp -r {self.path('disk', 'run')} {self.path('end')}\n")
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
        script = f"mount --bind -o ro {run} {run} && mount -o remount,ro,bind {run} || exit 9\n"
        done = self.mounted(script + "".join(" ".join(map(str, [PROGRAM, *c])) + " >/dev/null; echo $?\n" for c in commands))
        self.assertEqual(done.stdout.split(), ["1"] * len(commands), done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), len(commands), done.stderr)
        for line in lines:
            self.assertIn("Read-only file system", line)
        self.assertEqual(tree(run), before)

    def test_no_permission(self):
        if os.getuid() != 0:
            self.skipTest("only root can become somebody else")
        os.chmod(self.folder, 0o755)
        os.mkdir(self.path("closed"), 0o755)
        nobody = lambda: os.setuid(65534)
        self.fails(1, ["closed", "Permission denied"], *self.train(self.path("closed", "run"), "--quiet"), preexec_fn=nobody)
        self.fails(1, ["closed", "Permission denied"], *self.train(self.path("closed"), "--quiet"), preexec_fn=nobody)
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
        self.assertEqual(child.wait(timeout=60), 1)
        self.assertEqual(child.stderr.read(), b"")
        child.stderr.close()

    def test_reader_of_the_progress_leaves(self):
        self.ok(*self.train(self.path("whole"), "--quiet"))
        child = subprocess.Popen([PROGRAM, *map(str, self.train(self.path("run")))], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stderr.close()
        child.stdout.close()
        self.assertEqual(child.wait(timeout=60), 1)  # nobody got the last line
        self.same_run(self.path("whole"), self.path("run"))

    # ---- two at once

    def second_is_told(self, arguments, folder):
        first = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not os.path.exists(os.path.join(folder, ".ghostmax.lock")) or not read(folder, ".ghostmax.lock"):
            time.sleep(0.002)
        start = time.monotonic()
        second = self.run_program(*arguments)
        if first.poll() is not None:
            self.skipTest("the first one was too quick")
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual((second.returncode, second.stdout), (1, ""))
        self.assertIn(f"process {first.pid} on {socket.gethostname()}", second.stderr)
        return first

    def test_two_labs(self):
        self.ok(*self.lab(self.path("alone"), steps=200))
        first = self.second_is_told(self.lab(self.path("out"), steps=200), self.path("out"))
        self.assertEqual(first.wait(timeout=200), 0)
        first.communicate()
        for run in ("softmax-s1", "softmax1-s1"):
            self.same_run(self.path("alone", "runs", run), self.path("out", "runs", run))
        self.no_leftovers(self.path("out"))

    def test_a_lab_after_a_killed_one(self):
        arguments = self.lab(self.path("out"), steps=1000)  # under way still when the second has ended, for which tsan takes a second
        first = self.second_is_told(arguments, self.path("out"))
        first.kill()
        first.communicate()
        self.assertTrue(os.path.exists(self.path("out", ".ghostmax.lock")))
        self.ok(*arguments)
        self.no_leftovers(self.path("out"))

    def test_two_trainings(self):
        arguments = self.train(self.path("out"), steps=400)
        first = self.second_is_told(arguments, self.path("out"))
        self.assertEqual(first.wait(timeout=200), 0)
        first.communicate()

    # ---- damage

    def test_newest_checkpoint_damaged(self):
        self.ok(*self.train(self.path("whole"), "--quiet", steps=60))
        child = subprocess.Popen([PROGRAM, *map(str, self.train(self.path("run"), "--quiet", "--keep", 3, steps=60))], stderr=subprocess.PIPE)
        while not os.path.exists(self.path("run", "state-000000010.safetensors")):
            self.assertIsNone(child.poll())
            time.sleep(0.001)
        child.kill()
        child.communicate()
        self.assertLessEqual(len([n for n in os.listdir(self.path("run")) if re.fullmatch(r"state.*\.safetensors", n)]), 4)  # one in the making
        state = self.path("run", "state.safetensors")
        data = bytearray(read(state, mode="rb"))
        data[-100] ^= 1
        with open(state, "wb") as f:
            f.write(data)
        done = self.run_program(*self.train(self.path("run"), steps=60))
        self.assertEqual(done.returncode, 0, done.stderr)
        said = [line for line in done.stderr.splitlines() if "passed over" in line]
        self.assertEqual(len(said), 1, done.stderr)
        self.assertIn(state, said[0])
        step = re.search(r"checkpoint before it, of step (\d+)", said[0])[1]
        self.assertIn(f"resumed at step {step}", done.stderr)
        self.same_run(self.path("whole"), self.path("run"))


main()
