"""Several ranks, the tests that take longer: stopped, resumed under another number, a rank lost, ranks in network namespaces of their own.
Usage: tests/mpi/mpi_ranks.py SOURCE BUILD (`make test-mpi`)."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from mpi_program import TRAIN, Mpi, has_state, numbers, state_step, wait_until  # noqa: E402
from program import TINY, main  # noqa: E402


class Stops(Mpi):
    def test_another_number_of_ranks_continues(self):
        steps = ["--steps", 250, "--eval-every", 0, "--measure-every", 0, "--checkpoint-every", 10]
        self.ok(*TRAIN, *steps, "--out", self.path("whole"), "--threads", 1)
        part = [x for x in TRAIN if x != "--quiet"] + steps + ["--out", self.path("o")]
        for ranks, options in ((2, []), (3, ["--shard-optimizer"])):
            before = state_step(self.path("o"))
            child = self.mpi_start(ranks, *part, *options)
            wait_until(lambda: state_step(self.path("o")) > before or child.poll() is not None)
            child.send_signal(signal.SIGUSR1)
            out, err = child.communicate(timeout=120)
            self.assertEqual((child.returncode, out), (1, ""), err)
            self.assertEqual(sum("stopped at step" in line for line in err.splitlines()), 1, err)
            self.assertEqual(sum("resumed at step" in line for line in err.splitlines()), int(before > 0), err)
        self.assertLess(state_step(self.path("o")), 250)
        self.ok(*part, "--threads", 1)
        self.assert_near(self.path("whole"), self.path("o"), 1e-3)


class Lost(Mpi):
    def setUp(self):
        super().setUp()
        self.data = self.text()

    def lab(self, out, steps):
        return ["lab", "--data", self.data, "--variants", "softmax", "--seeds", 3, "--steps", steps, "--out", out, *TINY]

    def test_a_lost_rank(self):
        """Open MPI ends a job that loses a rank, and the next call goes on; with --enable-recovery the others take its runs up."""
        self.ok(*self.lab(self.path("one"), steps=4000))
        for options in ([], ["--enable-recovery"]):
            out = self.path("recovered" if options else "lost")
            child = self.mpi_start(3, *self.lab(out, steps=4000), options=options)
            wait_until(lambda: len(self.claims(out)) == 3 and has_state(out) or child.poll() is not None)
            lost = self.claim_of_rank(out, 2)
            self.assertIsNotNone(lost, f"rank 2 had nothing to do: {self.claims(out)}")
            os.kill(lost, signal.SIGKILL)
            child.communicate(timeout=240)
            self.assertEqual(os.path.exists(os.path.join(out, "results.json")), bool(options))
            if not options:
                self.assertNotEqual(child.returncode, 0)
                self.mpi_ok(2, *self.lab(out, steps=4000))
            self.assertEqual(numbers(out), numbers(self.path("one")))


main()
