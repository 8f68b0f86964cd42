"""What the tests of the command line share: running build/ghostmax, a small text, a small lab. Usage of a test: cli_x.py SOURCE BUILD."""
import hashlib
import json
import os
import pty
import random
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.join(os.path.abspath(sys.argv[2]), "ghostmax") if len(sys.argv) > 2 else "build/ghostmax"
# A model and budget that train in a fraction of a second.
TINY = ("--model gpt2-nano --layers 1 --heads 2 --width 16 --vocab 64 --batch 4 --context 16 --eval-sequences 8 --calibration-batches 2 "
        "--measure-sequences 4 --threads 1 --quiet").split()
TINY_TRAIN = "--model gpt2-nano --layers 1 --heads 2 --width 16 --vocab 64 --batch 4 --context 16 --eval-sequences 8 --threads 1".split()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def run_program(self, *arguments, env=None, stdout=subprocess.PIPE, **more):
        return subprocess.run([PROGRAM, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, timeout=240,
                              env={**os.environ, **(env or {})}, text=True, **more)

    def ok(self, *arguments, **more):
        done = self.run_program(*arguments, **more)
        self.assertEqual(done.returncode, 0, f"{arguments}: {done.stderr}")
        return done.stdout

    def fails(self, code, words, *arguments, **more):
        """Exit code, nothing on stdout, one line on stderr that has all the words."""
        done = self.run_program(*arguments, **more)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        if done.stdout is not None:
            self.assertEqual(done.stdout, "")
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith(f"ghostmax {arguments[0]}: ") or lines[0].startswith("ghostmax: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])
        return lines[0]

    def on_terminal(self, *arguments):
        """What the program shows where stdout and stderr are one terminal; it must end with 0."""
        leader, follower = pty.openpty()
        child = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=follower, stderr=follower)
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
        except OSError:  # Linux's end of file of a terminal
            pass
        os.close(leader)
        self.assertEqual(child.wait(), 0, shown)
        return shown.decode()

    def text(self, name="text.txt", words=20000):
        """Sentences over a small vocabulary, the same in every run."""
        pick = random.Random(1)
        vocabulary = [a + b for a in "bdfgklmnprst" for b in ("a", "on", "ire", "umble")]
        with open(self.path(name), "w") as f:
            for i in range(words):
                f.write(pick.choice(vocabulary) + ("." if i % 9 == 8 else "") + ("\n" if i % 17 == 16 else " "))
        return self.path(name)


def read_json(*parts):
    with open(os.path.join(*parts)) as f:
        return json.load(f)


def read(*parts, mode="r"):
    with open(os.path.join(*parts), mode) as f:
        return f.read()


def tree(folder):
    """Every file's content, to see that nothing was touched."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = (hashlib.sha256(f.read()).hexdigest(), os.stat(path).st_mtime_ns)
    return found


def main():
    unittest.main(argv=sys.argv[:1], verbosity=2)
