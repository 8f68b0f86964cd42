"""What is generated from the option tables: docs/cli.md, man pages, completion that real shells carry out."""
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import unittest

from program import PROGRAM, Case, main, read

SOURCE = sys.argv[1]


def commands():
    names = [name[4:-2] for name in os.listdir(os.path.join(SOURCE, "cli")) if name.startswith("cmd_") and name.endswith(".c")]
    return sorted(names)


def have(program):
    return shutil.which(program) is not None


class Documents(Case):
    def test_cli_md_is_what_the_program_prints(self):
        if self.ok("help", "--markdown") != read(SOURCE, "docs", "cli.md"):
            self.fail("docs/cli.md is not what `ghostmax help --markdown` prints: run `make docs` and commit it")

    def test_cli_md_has_every_option(self):
        text = read(SOURCE, "docs", "cli.md")
        for name in commands():
            part = text.split(f"\n## ghostmax {name}\n")[1].split("\n## ")[0]
            options = re.findall(r"^  (--[a-z0-9-]+)", self.ok(name, "--help"), re.M)
            self.assertEqual(options, re.findall(r"^- `(--[a-z0-9-]+)", part, re.M))

    def test_every_value_has_a_kind(self):
        """A new word in a value's place belongs into the table of cli/value_kinds.c, so that shells know what to offer."""
        text, values = read(SOURCE, "docs", "cli.md").split("\n## Values\n")
        kinds = set(re.findall(r"^- `(\w+)`", values, re.M))
        words = re.findall(r"^- `--[a-z0-9-]+ ([^`]+)`", text, re.M)
        self.assertGreater(len(words), 100)
        for word in words:
            for part in word.removesuffix(",...").split("|"):
                self.assertTrue(part in kinds or re.fullmatch(r"[a-z0-9_-]+", part), f"'{word}' is not in cli/value_kinds.c")

    def test_lines_of_help_fit(self):
        for name in commands():
            for line in self.ok(name, "--help").splitlines():
                self.assertTrue(len(line) <= 100 or line.startswith("  ghostmax ") or " " not in line.strip(), line)

    def test_one_document_at_a_time(self):
        self.fails(2, ["ask for one"], "help", "--man", "--markdown")
        self.fails(2, ["leave out 'lab'"], "help", "--markdown", "lab")
        self.fails(2, ["leave out 'lab'"], "help", "--completion", "zsh", "lab")
        self.fails(2, ["'lab'"], "help", "lap")
        self.fails(2, ["bash|zsh|fish"], "help", "--completion", "tcsh")


class Man(Case):
    def pages(self):
        for name in ["", *commands()]:
            path = self.path("ghostmax" + "-" * bool(name) + name + ".1")
            with open(path, "w") as f:
                f.write(self.ok("help", "--man", *[name] * bool(name)))
            yield name, path

    @unittest.skipUnless(have("mandoc"), "needs mandoc")
    def test_mandoc_finds_nothing(self):
        for name, path in self.pages():
            done = subprocess.run(["mandoc", "-Tlint", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertEqual(done.stdout, "", name)

    @unittest.skipUnless(have("man") and have("groff"), "needs man and groff")
    def test_man_warns_of_nothing_and_shows_every_option(self):
        for name, path in self.pages():
            done = subprocess.run(["man", "--warnings", "-l", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            shown = re.sub(".\x08", "", done.stdout).replace("−", "-").replace("‐\n", "")
            if name:
                for option in re.findall(r"^  (--[a-z0-9-]+)", self.ok(name, "--help"), re.M):
                    self.assertRegex(shown, rf"(?m)^ +{option}( |$)", name)


class Shell:
    """An interactive shell on a terminal of its own, in which `ghostmax` prints its arguments as <a><b>."""

    def __init__(self, argv, folder, setup, patience=0.0):
        self.patience = patience
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.chdir(folder)
            os.environ.update({"TERM": "dumb", "HOME": folder, "PS1": "READY> ", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null"})
            os.execvp(argv[0], argv)
        os.write(self.terminal, setup.encode() + b"\n")
        self.until(b"SET-UP", 20)
        self.quiet(0.3)

    def until(self, word, seconds):
        seen, end = b"", time.time() + seconds
        while word not in seen and time.time() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                seen += os.read(self.terminal, 4096)
        assert word in seen, seen
        return seen

    def quiet(self, seconds):
        """Reads until nothing has come for a while."""
        seen = b""
        while select.select([self.terminal], [], [], seconds)[0]:
            seen += os.read(self.terminal, 4096)
        return seen

    def complete(self, line):
        os.write(self.terminal, line.encode() + b"\t")
        if self.patience:
            self.quiet(self.patience)
        os.write(self.terminal, b"\n")
        seen = self.until(b"DONE", 10).decode()
        self.quiet(0.1)
        return re.search(r"((?:<[^<>]*>)+)DONE", seen).group(1)

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.child, 0)


STUB = "ghostmax() { printf '<%s>' \"$@\"; echo DO''NE; }; "
# A line, and what it becomes by one press of Tab.
LINES = (
    ("ghostmax explai", "<explain>"),
    ("ghostmax lab --measure-s", "<lab><--measure-sequences>"),
    ("ghostmax train --schedule cos", "<train><--schedule><cosine>"),
    ("ghostmax train --attention softmax_n:", "<train><--attention><softmax_n:n=>"),
    ("ghostmax lab --variants softmax,cli", "<lab><--variants><softmax,clipped>"),
    ("ghostmax lab --model bb-1l,gpt2-na", "<lab><--model><bb-1l,gpt2-nano>"),
    ("ghostmax lab --model=gpt2-na", "<lab><--model=gpt2-nano>"),
    ("ghostmax quantize --preset llm", "<quantize><--preset><llm-int8>"),
    ("ghostmax lab --data sto", "<lab><--data><stories>"),
    ("ghostmax lab --data a-b", "<lab><--data><a-book.txt>"),
    ("ghostmax eval --data stories the-m", "<eval><--data><stories><the-model/>"),
    ("ghostmax measure the-model --out the", "<measure><the-model><--out><the-model/>"),
    ("ghostmax help quan", "<help><quantize>"),
    ("ghostmax info --isa re", "<info><--isa><ref>"),
)


class Completion(Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("the-model"))
        open(self.path("a-book.txt"), "w").close()
        open(self.path("the-text.txt"), "w").close()

    def script(self, shell):
        path = self.path(f"completion.{shell}")
        with open(path, "w") as f:
            f.write(self.ok("help", "--completion", shell))
        return path

    def check(self, shell):
        try:
            for line, want in LINES:
                got = shell.complete(line)
                # a shell may leave the cursor behind "clipped" (more may follow) or offer the folder without its slash
                self.assertIn(got.replace("/>", ">"), (want.replace("/>", ">"),), line)
        finally:
            shell.close()

    @unittest.skipUnless(have("bash"), "needs bash")
    def test_bash(self):
        self.check(Shell(["bash", "--norc", "-i"], self.folder, STUB + f"source {self.script('bash')}; echo SET-''UP"))

    @unittest.skipUnless(have("bash"), "needs bash")
    def test_bash_lists(self):
        """All that is offered, as bash calls the function."""
        script = self.script("bash")

        def offered(*words):
            quoted = " ".join(f"'{w}'" for w in words)
            done = subprocess.run(["bash", "-c", f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _ghostmax; "
                                   "printf '%s\\n' \"${COMPREPLY[@]}\""], stdout=subprocess.PIPE, text=True, cwd=self.folder, check=True)
            return done.stdout.split()

        self.assertEqual(offered("ghostmax", ""), re.findall(r"^  (\w+) ", self.ok("--help").split("Example")[0], re.M) + ["--help", "--version"])
        self.assertEqual(offered("ghostmax", "lab", "--schedule", ""), ["constant", "cosine", "linear"])
        self.assertEqual(set(offered("ghostmax", "eval", "--")) ,
                         set(re.findall(r"--[a-z0-9-]+", "\n".join(re.findall(r"^  (?:-h, )?(--[a-z0-9-]+)", self.ok("eval", "--help"), re.M)))))
        self.assertEqual(offered("ghostmax", "lab", "--lr", ""), [])
        self.assertEqual(offered("ghostmax", "explain", "--", "-"), [])

    @unittest.skipUnless(have("zsh"), "needs zsh")
    def test_zsh(self):
        setup = "autoload -Uz compinit; compinit -u -D; " + STUB + f"source {self.script('zsh')}; echo SET-''UP"
        self.check(Shell(["zsh", "-f", "-i"], self.folder, setup, patience=0.3))  # it does not complete while more is typed

    @unittest.skipUnless(have("fish"), "needs fish")
    def test_fish(self):
        script = self.script("fish")
        for line, want in LINES:
            done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, cwd=self.folder, env={**os.environ, "HOME": self.folder})
            offered = [each.split("\t")[0] for each in done.stdout.splitlines()]
            self.assertEqual(done.stderr, "")
            self.assertIn(re.findall(r"<([^<>]*)>", want)[-1], offered, line)


main()
