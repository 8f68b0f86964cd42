"""Several processes through a real mpirun: the same bits for the same P, the same curve for another, one voice, one exit code."""
import json
import os
import shutil
import subprocess
import unittest

from program import PROGRAM, TINY_TRAIN, Case, main, read

MPIRUN = shutil.which("mpirun")
# As root Open MPI wants to be asked twice; this machine may have fewer cores than the tests have ranks.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1", "OMPI_MCA_btl_base_warn_component_unused": "0"}


def has_mpi():
    if not MPIRUN:
        return False
    done = subprocess.run([MPIRUN, "--oversubscribe", "-n", "2", PROGRAM, "eval"], env=ENVIRONMENT, capture_output=True, text=True)
    return "no MPI" not in done.stderr


HAS_MPI = has_mpi()
TRAIN = ("train --data bb --model bb-1l --batch 6 --context 32 --steps 20 --eval-every 10 --eval-sequences 32 --measure-every 10 "
         "--checkpoint-every 5 --quiet").split()


def curve(folder):
    lines = [json.loads(line) for line in read(folder, "metrics.jsonl").splitlines()]
    for line in lines:
        del line["step_seconds"]
    return lines


@unittest.skipUnless(HAS_MPI, "no mpirun, or a build without MPI")
class Mpi(Case):
    def mpi_command(self, ranks, *arguments, options=()):
        return [MPIRUN, "--oversubscribe", *options, "-n", str(ranks), PROGRAM, *map(str, arguments)]

    def mpi(self, ranks, *arguments, options=()):
        return subprocess.run(self.mpi_command(ranks, *arguments, options=options), env=ENVIRONMENT, capture_output=True, text=True, timeout=240)

    def mpi_ok(self, ranks, *arguments):
        done = self.mpi(ranks, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def own_lines(self, done):
        """What we wrote to stderr, without mpirun's own remarks."""
        return [line for line in done.stderr.splitlines() if line.startswith("ghostmax")]


class Train(Mpi):
    def assert_near(self, a, b, tolerance):
        for x, y in zip(curve(a), curve(b), strict=True):
            self.assertEqual(x.keys(), y.keys())
            for name in ("loss", "val_loss", "grad_norm"):
                if name in x:
                    self.assertAlmostEqual(x[name], y[name], delta=tolerance * abs(x[name]))

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


main()
