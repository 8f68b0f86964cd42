"""docs/examples.md, command by command: everything it shows is what is printed. And that the comparison can fail."""
import os
import re
import subprocess
import sys
import unittest

from program import PROGRAM, Case, main, read

SOURCE, BUILD = (os.path.abspath(path) for path in sys.argv[1:3])
EXAMPLES = [name[:-2] for name in os.listdir(os.path.join(SOURCE, "examples")) if name.endswith(".c")]


def commands(text):
    """(command, lines shown, exit code) of every console block."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *lines = part.splitlines()
            code = 0
            if lines and re.fullmatch(r"\[exit \d\]", lines[-1]):
                code = int(lines.pop()[6])
            yield command, lines, code


def plain(line):
    return re.sub(r":?-+:?", "-", line).strip() if re.fullmatch(r"[|:\- ]+", line) else " ".join(line.replace("**", "").split())


def line_matches(shown, got):
    pattern, numbers = "", []
    for piece in re.split(r"(~-?[0-9.]+\b|\.\.\.)", plain(shown)):
        if piece.startswith("~"):
            numbers.append(float(piece[1:]))
            pattern += r"(-?[0-9.]+(?:e[-+]?\d+)?)"
        else:
            pattern += ".*" if piece == "..." else re.escape(piece)
    found = re.fullmatch(pattern, plain(got))
    return bool(found) and all(abs(float(x) - want) <= 0.03 * abs(want) for x, want in zip(found.groups(), numbers))


def lines_match(shown, got):
    """Whether what was got is what is shown, from the first lines on."""
    if not shown:
        return not got
    if shown[0].strip() == "...":
        return any(lines_match(shown[1:], got[i:]) for i in range(len(got) + 1))
    return bool(got) and line_matches(shown[0], got[0]) and lines_match(shown[1:], got[1:])


class Examples(Case):
    def test_document(self):
        for name in EXAMPLES:
            os.symlink(os.path.join(BUILD, "example_" + name), self.path(name))
        environment = {**os.environ, "PATH": os.pathsep.join([os.path.dirname(PROGRAM), self.folder, os.environ["PATH"]])}
        os.mkdir(self.path("work"))
        ran = set()
        for command, shown, code in commands(read(SOURCE, "docs", "examples.md")):
            done = subprocess.run(["bash", "-c", command], cwd=self.path("work"), env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=240)
            self.assertEqual(done.returncode, code, f"$ {command}\n{done.stdout}")
            if not lines_match(shown, done.stdout.splitlines()):
                self.fail("docs/examples.md shows something else:\n$ " + command + "\n" + done.stdout + "\nshown:\n" + "\n".join(shown))
            ran.update(command.split())
        self.assertLessEqual(set(EXAMPLES), ran, "an example in C is not in docs/examples.md")
        for name in ("lab", "explain", "train", "eval", "measure", "quantize", "generate", "convert", "report", "info", "tokenize"):
            self.assertIn(name, ran)

    def test_the_comparison_fails_where_it_should(self):
        self.assertTrue(lines_match(["a ~100 b", "...", "z"], ["a   **102**  b", "1", "2", "z"]))
        self.assertTrue(lines_match(["a", "..."], ["a"]))
        self.assertTrue(lines_match(["~-2.5"], ["-2.51"]))
        for shown, got in ((["a ~100 b"], ["a 104 b"]), (["a"], ["a", "b"]), (["a", "b"], ["a"]), (["a"], ["ab"]), (["~1"], ["nan"]), ([], ["x"]),
                           (["1.0"], ["100"]), (["~2.5"], ["-2.5"]), (["...", "z"], ["y"])):
            self.assertFalse(lines_match(shown, got), (shown, got))


main()
