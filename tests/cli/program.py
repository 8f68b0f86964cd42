"""What the tests of the command line share: running build/ghostmax, a small text, a small lab. Usage of a test: cli_x.py SOURCE BUILD.

No test counts on a machine's speed. What has to be met on its way is held there (Case.held), dies there by itself (GM_FAULT), or goes on until the
test ends it."""
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BUILD = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else "build"
PROGRAM = os.path.join(BUILD, "ghostmax")
FAULTS = os.path.join(BUILD, "tests", "ghostmax-faults")  # the same, with GM_FAULT (tests/faults/faults.c)
# A model and budget that train in a fraction of a second.
TINY = ("--model gpt2-nano --layers 1 --heads 2 --width 16 --vocab 64 --batch 4 --context 16 --eval-sequences 8 --calibration-batches 2 "
        "--measure-sequences 4 --threads 1 --quiet").split()
TINY_TRAIN = "--model gpt2-nano --layers 1 --heads 2 --width 16 --vocab 64 --batch 4 --context 16 --eval-sequences 8 --threads 1".split()


# The thread sanitizer writes a file of its own at a program's start, which the limit cuts short; then it reads past its end.
with_file_limit = unittest.skipIf(os.environ.get("GM_TEST_SANITIZED") == "thread", "no limit on files under the thread sanitizer")

# The memory sanitizer's build has none.
with_faults = unittest.skipUnless(os.path.exists(FAULTS), "needs ghostmax-faults")


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def run_program(self, *arguments, program=PROGRAM, env=None, stdout=subprocess.PIPE, **more):
        return subprocess.run([program, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, timeout=240,
                              env={**os.environ, **(env or {})}, text=True, **more)

    def held(self, *arguments, **more):
        """Started with a stderr that is full already: at its first word, a training's at the end of a step, it stands until communicate() reads."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"\n" * 65536)
        os.set_blocking(writer, True)
        words = [str(x) for x in arguments if x != "--quiet"]
        child = subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=writer, text=True, **more)
        self.addCleanup(child.kill)
        os.close(writer)
        child.stderr = os.fdopen(reader)
        return child

    def stopped(self, number, *arguments):
        """The code and the words with which it ends when it is sent this signal before its first word."""
        child = self.held(*arguments)
        signal_and_heard(child.pid, number)
        out, err = child.communicate(timeout=240)
        self.assertEqual(out, "")
        return child.returncode, err.lstrip()

    def wait_for(self, path, child):
        """Until there is something in a file of a program that goes on."""
        while not (os.path.exists(path) and os.path.getsize(path)):
            self.assertIsNone(child.poll(), "it ended")
            time.sleep(0.002)

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

    def on_terminal(self, *arguments, code=0, columns=80, rows=24, env=None, at=lambda shown, child, leader: None):
        """What the program writes where stdout and stderr are one terminal; it must end with `code`. at: called while it comes."""
        leader, follower = pty.openpty()
        resize(leader, columns, rows)
        known = {"TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": ""}
        child = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=follower, stderr=follower, env={**os.environ, **known, **(env or {})})
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
                at(shown.decode(errors="ignore"), child, leader)
        except OSError:  # Linux's end of file of a terminal
            pass
        os.close(leader)
        self.assertEqual(child.wait(), code, shown)
        return shown.decode()

    def text(self, name="text.txt", words=20000):
        """Sentences over a small vocabulary, the same in every run."""
        pick = random.Random(1)
        vocabulary = [a + b for a in "bdfgklmnprst" for b in ("a", "on", "ire", "umble")]
        with open(self.path(name), "w") as f:
            for i in range(words):
                f.write(pick.choice(vocabulary) + ("." if i % 9 == 8 else "") + ("\n" if i % 17 == 16 else " "))
        return self.path(name)


def signal_and_heard(pid, number):
    """Sent once the program waits for it on a thread of its own, as it does from its start on; until that thread has it."""
    def signals(field):
        bits = int(re.search(rf"(?m)^{field}:\s*(\w+)", read(f"/proc/{pid}/status"))[1], 16)
        return [i + 1 for i in range(64) if bits >> i & 1]
    while number not in (blocked := signals("SigBlk")) or signal.SIGALRM in blocked:  # all of them are while any thread starts
        time.sleep(0.001)
    os.kill(pid, number)
    while number in signals("ShdPnd"):
        time.sleep(0.001)


def resize(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


class Screen:
    """What a terminal shows after these bytes: as much of one as this program asks for. Narrowed, it wraps its lines, as most do."""

    def __init__(self, columns):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0  # lines as they were written; where in them the cursor is
        self.cursor_shown = True

    def rows(self):
        """[(line, its first column)] of what is seen."""
        return [(i, c) for i, line in enumerate(self.lines) for c in range(0, max(len(line), 1), self.columns)]

    def feed(self, text):
        for code, argument, kind, plain in re.findall(r"(\x1b\[([?0-9;]*)([A-Za-z]))|([^\x1b])", text):
            if plain == "\r":
                self.column -= self.column % self.columns
            elif plain == "\n":
                self.row, self.column = self.row + 1, self.column % self.columns
                self.lines += [""] * (self.row == len(self.lines))
            elif plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[:self.column] + plain + line[self.column + 1:]
                self.column += 1
            elif kind == "A":
                rows = self.rows()
                here = max(i for i, (line, c) in enumerate(rows) if line == self.row and c <= self.column)
                self.row, self.column = rows[max(0, here - int(argument))]
            elif kind == "K":
                self.lines[self.row] = self.lines[self.row][:self.column]
            elif kind == "J":
                self.lines[self.row] = self.lines[self.row][:self.column]
                del self.lines[self.row + 1:]
            elif kind in "hl" and argument == "?25":
                self.cursor_shown = kind == "h"
            elif kind != "m":
                raise ValueError(f"a terminal code that this program should not need: {code!r}")
        return self

    def shown(self):
        return [self.lines[i][c:c + self.columns].rstrip() for i, c in self.rows()]


def read_json(*parts):
    with open(os.path.join(*parts)) as f:
        return json.load(f)


def write_record(record, *parts):
    """train.json altered as it may be: as an earlier version wrote it, without a checksum."""
    record.pop("checksum", None)
    with open(os.path.join(*parts), "w") as f:
        json.dump({**record, "schema": "ghostmax.train/1"}, f)


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
