"""Several ranks through a real mpirun: the same bits for the same P, the same curve for another, one voice, one exit code. What takes longer
is in tests/mpi/ (`make test-mpi`)."""
import json
import os
import shlex
import shutil
import signal
import subprocess

from mpi_program import ENVIRONMENT, MPIRUN, TRAIN, Mpi, curve, numbers, wait_until
from program import PROGRAM, TINY, TINY_TRAIN, main, read, read_json


class Train(Mpi):
    def test_same_ranks_same_bits_other_ranks_same_curve(self):
        self.ok(*TRAIN, "--out", self.path("p1"), "--threads", 1)
        for ranks in (2, 3, 4):
            self.assertEqual(self.mpi_ok(ranks, *TRAIN, "--out", self.path(f"p{ranks}")).count("\n"), 1)
            self.assert_near(self.path("p1"), self.path(f"p{ranks}"), 1e-5)
        for name, more in (("again", []), ("sharded", ["--shard-optimizer"])):
            self.mpi_ok(3, *TRAIN, "--out", self.path(name), *more)
            self.assertEqual(read(self.path(name), "model.safetensors", mode="rb"), read(self.path("p3"), "model.safetensors", mode="rb"), name)
            self.assertEqual(curve(self.path(name)), curve(self.path("p3")), name)
        self.assertNotEqual(read(self.path("p1"), "model.safetensors", mode="rb"), read(self.path("p3"), "model.safetensors", mode="rb"))

    def test_errors_are_one_line_and_one_code(self):
        self.mpi_fails(3, 2, "too few for 3 ranks", *TRAIN, "--out", self.path("o"), "--batch", 2)
        self.assertFalse(os.path.exists(self.path("o")))
        self.mpi_fails(2, 2, "--steps", "train", "--stepz", 3)
        diverging = ["train", "--data", self.text(), *TINY_TRAIN, "--lr", 99, "--clip", 0, "--schedule", "constant", "--steps", 60, "--quiet"]
        self.mpi_fails(2, 3, "diverged", *diverging, "--out", self.path("o"))
        self.mpi_fails(2, 3, "diverged", *diverging, "--out", self.path("o"))
        self.mpi_fails(2, 2, "work for one", "info")
        self.assertEqual(self.mpi(2).stderr.count("usage: ghostmax"), 1)
        self.mpi_fails(2, 1, "cannot", *TRAIN, "--out", "/proc/nowhere")


class Shared(Mpi):
    def test_eval_and_measure_are_one_process_s_to_the_bit(self):
        text = self.text()
        self.ok("train", "--data", text, *TINY_TRAIN, "--attention", "sink", "--steps", 5, "--quiet", "--out", self.path("m"))
        for command in (["eval", "--sequences", 61], ["eval", "--stride", 7], ["measure", "--sequences", 61], ["measure", "--sequences", 3],
                        ["measure", "--sequences", 29, "--batch", 3, "--brief", "--convention", "opt-code"]):
            arguments = [*command, self.path("m"), "--data", text, "--json", "--quiet"]
            alone = self.ok(*arguments, "--threads", 1)
            self.assertGreater(len(alone), 100)
            for ranks in (2, 3):
                self.assertEqual(self.mpi_ok(ranks, *arguments), alone, (command, ranks))
        self.mpi_ok(2, "measure", self.path("m"), "--data", text, "--out", self.path("measured"), "--quiet")
        self.ok("measure", self.path("m"), "--data", text, "--out", self.path("alone"), "--quiet", "--threads", 1)
        for name in set(os.listdir(self.path("alone"))) - {"report.html"}:  # which names its folder
            if name != "measure.json":  # which also says when and by which command it was made
                self.assertEqual(read(self.path("measured", name), mode="rb"), read(self.path("alone", name), mode="rb"), name)
        measured, alone = (json.loads(read(self.path(folder), "measure.json")) for folder in ("measured", "alone"))
        for root in (measured, alone):
            del root["made"], root["checksum"]
        self.assertEqual(measured, alone)
        self.mpi_fails(2, 2, "measured", "measure", self.path("m"), "--data", text, "--out", self.path("measured"), "--quiet")


class Unlike(Mpi):
    """Ranks that were not started alike, or whose machines' files differ: one line, from rank 0, and one exit code; nobody waits for ever."""

    def unlike(self, first, second):
        """Rank 0 is one command, ranks 1 and 2 another. (Open MPI 5.0.7 dies of the colon that mpirun has for this.)"""
        one, other = (f"exec {shlex.join(map(str, command))}" for command in (first, second))
        script = f"if [ $OMPI_COMM_WORLD_RANK = 0 ]; then {one}; else {other}; fi"
        return subprocess.run([MPIRUN, "--oversubscribe", "-n", "3", "sh", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=240)

    def refused(self, code, words, first, second):
        done = self.unlike(first, second)
        self.assertEqual((done.returncode, done.stdout, len(self.own_lines(done))), (code, "", 1), done.stderr)
        self.assertIn(words, self.own_lines(done)[0])

    def machines(self, code, words, *arguments):
        """Rank 0 in folder a, the others in folder b, as if these were their machines' disks."""
        self.refused(code, words, *(["env", "-C", self.path(name), PROGRAM, *arguments] for name in "ab"))

    def setUp(self):
        super().setUp()
        for name in "ab":
            os.makedirs(self.path(name))

    def test_command_lines(self):
        evaluate = [PROGRAM, "eval", self.path("m"), "--data", "bb"]
        self.refused(2, "the command line of rank 1 differs", evaluate, [*evaluate, "--sequences", 3])
        for command in ("info", "evil"):
            self.refused(2, "the command line of rank 1 differs", evaluate, [PROGRAM, command, *evaluate[2:]])

    def test_rank_0_is_late(self):
        """A launcher ends all when one ends with an error: nobody may before rank 0 has spoken."""
        for command, words in (("info", "work for one"), ("inform", "unknown command")):
            self.refused(2, words, ["sh", "-c", f"sleep 1; exec '{PROGRAM}' {command}"], [PROGRAM, command])

    def test_machines_of_two_kinds(self):
        """They round differently, and weights that every rank makes by itself drift apart: found at the first checkpoint, or not made so."""
        if len(json.loads(self.ok("--version", "--json"))["isa_available"]) < 2:
            self.skipTest("this machine has one set of instructions")
        other = ["env", "GHOSTMAX_ISA=ref", PROGRAM, *TRAIN, "--measure-every", 0, "--eval-every", 0, "--out", self.path("o")]
        self.refused(1, "the machines are of several kinds", other[2:], other)
        self.assertFalse(os.path.exists(self.path("o", "state.safetensors")))
        done = self.unlike([*other[2:], "--shard-optimizer"], [*other, "--shard-optimizer"])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_model_or_data(self):
        text = self.text()
        for folder, seed in (("a", 1), ("b", 2)):
            self.ok("train", "--data", text, *TINY_TRAIN, "--steps", 2, "--seed", seed, "--quiet", "--out", self.path(folder, "m"))
        for command in ("eval", "measure"):
            self.machines(2, "the model of rank 1 differs", command, "m", "--data", text)
        shutil.rmtree(self.path("b", "m"))
        self.machines(1, "rank 1: ", "eval", "m", "--data", text)
        shutil.copytree(self.path("a", "m"), self.path("b", "m"))
        for folder, words in (("a", 3000), ("b", 4000)):
            os.rename(self.text(words=words), self.path(folder, "text"))
        for command in ("eval", "measure"):
            self.machines(2, "the data of rank 1 differs", command, "m", "--data", "text")

    def test_a_lab_s_folder(self):
        lab = ["lab", "--data", self.text(), "--variants", "softmax", "--seeds", 2, "--steps", 2, "--out", "o", *TINY]
        self.machines(1, "rank 1: cannot write into 'o'", *lab)
        os.makedirs(self.path("b", "o"))
        self.machines(1, "rank 0's lock on 'o' is not seen", *lab)
        for name in "ab":
            self.assertEqual(os.listdir(self.path(name, "o")), [])


class Lab(Mpi):
    def lab(self, out, *more, steps=20):
        return ["lab", "--data", self.data, "--variants", "softmax,softmax1", "--seeds", 2, "--steps", steps, "--out", self.path(out), *TINY, *more]

    def setUp(self):
        super().setUp()
        self.data = self.text()

    def test_rows_of_one_process(self):
        self.ok(*self.lab("one"))
        done = self.mpi(3, *self.lab("three", "--json"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(json.loads(done.stdout), read_json(self.folder, "three", "results.json"))
        self.assertEqual(numbers(self.path("three")), numbers(self.path("one")))
        self.assertEqual([name for name in os.listdir(self.path("three", "runs")) if "lock" in name], [])
        self.assertEqual(self.mpi_ok(2, *self.lab("three")).count("Results, table.md"), 1)

    def test_one_stops_all(self):
        child = self.mpi_start(2, *self.lab("o", steps=100000))
        wait_until(lambda: len(self.claims(self.path("o"))) == 2 and os.path.exists(self.path("o", "runs", "softmax-s1", "metrics.jsonl")))
        os.kill(self.claim_of_rank(self.path("o"), 1), signal.SIGINT)
        out, err = child.communicate(timeout=240)
        self.assertEqual((child.returncode, out), (1, ""), err)
        self.assertEqual(sum("the same command continues it" in line for line in err.splitlines()), 1, err)
        for variant in ("softmax", "softmax1"):
            self.assertTrue(os.path.exists(self.path("o", "runs", f"{variant}-s1", "state.safetensors")), variant)

    def test_an_error_of_one_ends_all(self):
        self.mpi_ok(2, *self.lab("o", steps=2))
        os.remove(self.path("o", "runs", "softmax1-s2", "measure.json"))
        with open(self.path("o", "runs", "softmax1-s2", "model.safetensors"), "r+b") as f:
            f.truncate(1000)
        self.mpi_fails(2, 1, "model.safetensors", *self.lab("o", steps=2))
        self.mpi_fails(2, 2, "steps is 2", *self.lab("o", steps=3))


main()
