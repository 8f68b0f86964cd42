"""Progress as people see it: a block that is drawn again in place on a terminal of any size, plain lines elsewhere."""
import re
import signal

from program import TINY, TINY_TRAIN, Case, Screen, main, resize


class Progress(Case):
    def lab(self, *more, steps=1500, variants="softmax,softmax1"):
        tiny = [word for word in TINY if word != "--quiet"]
        return ["lab", "--data", self.text(), "--variants", variants, "--seeds", 1, "--steps", steps, "--out", self.path("lab"), *tiny, *more]

    def frames(self, shown, columns):
        """The screen after each frame."""
        screen = Screen(columns)
        frames = []
        for part in re.findall("(?:(?!\x1b\\[\\?25h).)*\x1b\\[\\?25h", shown, re.S):
            screen.feed(part)
            self.assertTrue(screen.cursor_shown)
            frames.append(screen.shown())
        return [frame for frame in frames if "measured" not in frame[-1]]  # what comes behind the training

    def test_a_block_is_drawn_in_place(self):
        """Measured at each step: however fast the machine, each frame has numbers to show."""
        lab = self.lab("--measure-every", 1, steps=600)
        shown = self.on_terminal(*lab, env={"NO_COLOR": "1"})
        self.assertNotRegex(shown, "\x1b\\[[1-9][0-9]*m")
        progress = shown.split("### ", 1)[0]
        blocks = [frame for frame in self.frames(progress, 80) if "left" in frame[-3]]
        self.assertGreaterEqual(len(blocks), 2)  # each run begins with one
        for frame in blocks:
            self.assertLessEqual(len(frame), 6, frame)  # at most one finished run and one block: nothing is left of older frames
            title, bar, loss, speed = frame[-4:]
            self.assertRegex(title, r"^run [12]/2  gpt2-nano softmax1? seed 1  all done in ")
            self.assertRegex(bar, r"^\[[█▏▎▍▌▋▊▉ ]{30,}\]  +\d+%  step \d+/600  .* left$")
            self.assertRegex(loss, r"^loss \d\.\d{4}  [▁▂▃▄▅▆▇█]+")
            self.assertRegex(speed, r"tokens/s  max inf norm [\d.]+  avg kurtosis [\d.]+")
            self.assertLessEqual(max(map(len, frame)), 79)
        final = "".join(line.ljust(80) for line in Screen(80).feed(progress).shown()).split("run ")
        for i, variant in enumerate(("softmax", "softmax1")):
            self.assertRegex("run " + final[i + 1], rf"^run {i + 1}/2  {variant} seed 1  ppl [\d.]+  W8A8 [\d.]+  inf norm [\d.]+  kurtosis [\d.]+  ")
        self.assertIn("| softmax1 |", shown)
        again = self.on_terminal(*lab)
        self.assertEqual(again.count("done earlier"), 2)

    def test_sizes_colours_and_characters(self):
        small = self.on_terminal("train", "--data", self.text(), "--steps", 400, "--out", self.path("a"), *TINY_TRAIN, columns=50, rows=15,
                                 env={"LC_ALL": "C"})
        self.assertTrue(small.isascii())
        self.assertIn("\x1b[36m", small)
        for frame in self.frames(small, 50):
            self.assertLessEqual(max(map(len, frame)), 49)
            self.assertLessEqual(len(frame), 3)
        self.assertRegex("\n".join(frame), r"^\[[# ]+\]  100%  step 400/400  .*\nloss .*  [_.:=+*#-]+  val .*\n.*tokens/s  max inf norm ")
        tiny = self.on_terminal("train", "--data", self.text(), "--steps", 100, "--out", self.path("b"), *TINY_TRAIN, columns=30, rows=4)
        for frame in self.frames(tiny, 30):
            self.assertEqual(len(frame), 1)
            self.assertLessEqual(len(frame[0]), 29)
        narrow = self.on_terminal("train", "--data", self.text(), "--steps", 100, "--out", self.path("n"), *TINY_TRAIN, columns=20, rows=4)
        for frame in self.frames(narrow, 20):  # what does not fit is left out: no "loss" without its number
            self.assertRegex(frame[0], r"^step \d+/100(  ETA \S+ s)?$")
        dumb = self.on_terminal("train", "--data", self.text(), "--steps", 50, "--out", self.path("c"), *TINY_TRAIN, env={"TERM": "dumb"})
        self.assertNotIn("\x1b", dumb)
        self.assertRegex(dumb, r"^step \d+/50  loss .* tokens/s  ETA ")

    def test_a_window_that_becomes_narrower(self):
        """Narrower behind the last frame that does not know of it, and stopped once some have come that do: as soon as they come."""
        asked = []

        def parts(shown):
            found = [part + "\x1b[?25h" for part in shown.split("\x1b[?25h")[:-1]]
            wide = [part for part in found if max(len(line) for line in Screen(1000).feed(part).lines) > 44]
            return "".join(wide), "".join(found[len(wide):]), len(found) - len(wide)

        def narrow(shown, child, leader):
            wide, _, narrow = parts(shown)
            if not asked and wide.count("\x1b[?25h") >= 3:
                asked.append(resize(leader, 45, 20))
            elif len(asked) == 1 and narrow >= 4:
                asked.append(child.send_signal(signal.SIGINT))

        shown = self.on_terminal("train", "--data", self.text(), "--steps", 100000000, "--out", self.path("a"), *TINY_TRAIN, code=1, at=narrow)
        wide, rest, _ = parts(shown[:shown.index("ghostmax train: stopped")])
        screen = Screen(80).feed(wide)
        screen.columns = 45
        screen.feed(rest)
        self.assertEqual(len(screen.shown()), 3, screen.shown())  # what the narrowing wrapped is gone
        self.assertLessEqual(max(map(len, screen.shown())), 44)

    def test_stopped(self):
        def stop(shown, child, leader):
            if not sent and shown.count("\x1b[?25h") >= 3:
                child.send_signal(signal.SIGINT)
                sent.append(len(shown))

        sent = []
        shown = self.on_terminal("train", "--data", self.text(), "--steps", 100000000, "--out", self.path("a"), *TINY_TRAIN, code=1, at=stop)
        screen = Screen(80).feed(shown)
        self.assertTrue(screen.cursor_shown)
        self.assertRegex(screen.shown()[-2], r"^ghostmax train: stopped at step \d+; the same command continues it$")
        self.assertRegex(screen.shown()[-3], r"tokens/s")

    def test_pipe_and_quiet(self):
        done = self.run_program(*self.lab(steps=20))
        self.assertEqual(done.returncode, 0)
        self.assertNotRegex(done.stderr, r"[\r\x1b]")
        lines = done.stderr.splitlines()
        self.assertRegex(lines[0], r"^run 1/2  gpt2-nano softmax seed 1  step 1/20  all done in .*  loss .*  .*tokens/s")
        self.assertTrue(any(re.match(r"run 2/2  softmax1 seed 1  ppl ", line) for line in lines), lines)
        self.assertEqual(self.run_program(*self.lab("--quiet", steps=20)).stderr, "")

    def test_diverged(self):
        done = self.run_program(*self.lab("--lr", 99, "--clip", 0, "--warmup", 0, steps=200, variants="softmax"))
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stderr, r"(?m)^run 1/1  softmax seed 1  diverged at step \d+$")


main()
