"""Several ranks through a real mpirun: the same bits for the same P, the same curve for another, one voice, one exit code. What takes longer
is in tests/mpi/ (`make test-mpi`)."""
import json
import os
import signal

from mpi_program import TRAIN, Mpi, curve, numbers, wait_until
from program import TINY, TINY_TRAIN, main, read, read_json


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
        done = self.mpi(3, *TRAIN, "--out", self.path("o"), "--batch", 2)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(len(self.own_lines(done)), 1, done.stderr)
        self.assertIn("too few for 3 ranks", done.stderr)
        self.assertFalse(os.path.exists(self.path("o")))
        done = self.mpi(2, "train", "--stepz", 3)
        self.assertEqual((done.returncode, len(self.own_lines(done))), (2, 1), done.stderr)
        diverging = ["train", "--data", self.text(), *TINY_TRAIN, "--lr", 99, "--clip", 0, "--schedule", "constant", "--steps", 60, "--quiet"]
        done = self.mpi(2, *diverging, "--out", self.path("o"))
        self.assertEqual((done.returncode, len(self.own_lines(done))), (3, 1), done.stderr)
        done = self.mpi(2, "info")
        self.assertEqual((done.returncode, len(self.own_lines(done))), (2, 1), done.stderr)
        self.assertIn("work for one", done.stderr)


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
        out, err = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out), (1, ""), err)
        self.assertEqual(sum("the same command continues it" in line for line in err.splitlines()), 1, err)
        for variant in ("softmax", "softmax1"):
            self.assertTrue(os.path.exists(self.path("o", "runs", f"{variant}-s1", "state.safetensors")), variant)

    def test_an_error_of_one_ends_all(self):
        self.mpi_ok(2, *self.lab("o", steps=2))
        os.remove(self.path("o", "runs", "softmax1-s2", "measure.json"))
        with open(self.path("o", "runs", "softmax1-s2", "model.safetensors"), "r+b") as f:
            f.truncate(1000)
        done = self.mpi(2, *self.lab("o", steps=2))
        self.assertEqual((done.returncode, done.stdout, len(self.own_lines(done))), (1, "", 1), done.stderr)
        self.assertIn("model.safetensors", self.own_lines(done)[0])
        done = self.mpi(2, *self.lab("o", steps=3))
        self.assertEqual((done.returncode, len(self.own_lines(done))), (2, 1), done.stderr)


main()
