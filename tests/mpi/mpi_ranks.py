"""Several ranks, the tests that take longer: stopped, interrupted, resumed under another number, watched by a browser, a rank lost, ranks in network
namespaces of their own. Usage: tests/mpi/mpi_ranks.py SOURCE BUILD (`make test-mpi`)."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from mpi_program import ENVIRONMENT, TRAIN, Mpi, Network, has_state, numbers, rank_of, ranks_of, state_step, wait_until  # noqa: E402
from program import PROGRAM, TINY, TINY_TRAIN, main, read  # noqa: E402


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


class Interrupted(Mpi):
    """Ctrl-C: SIGINT to mpirun, and as a terminal sends it, to mpirun's process group. Open MPI waits for the given time, tells its ranks, waits as long
    again, and kills them."""
    PATIENT = ["--mca", "odls_base_sigkill_timeout", "3"]

    def interrupted(self, runs, *arguments):
        """Interrupted in its steps, it saves and says so once; the same command goes on from there."""
        for group in (False, True):
            out = self.path(f"o{group}")
            command = [*arguments, "--steps", 1000000, "--out", out]
            of = lambda wanted: [os.path.join(base, name) for base, _, names in os.walk(out) for name in names if name == wanted]
            child = self.mpi_start(2, *command, options=self.PATIENT, start_new_session=True)
            wait_until(lambda: sum(os.path.getsize(path) > 0 for path in of("metrics.jsonl")) == runs)
            (os.killpg if group else os.kill)(child.pid, signal.SIGINT)
            shown, err = child.communicate(timeout=120)
            self.assertNotEqual(child.returncode, 0, err)
            self.assertEqual(shown, "")
            self.assertEqual(sum("the same command continues it" in line for line in err.splitlines()), 1, err)
            steps = [state_step(os.path.dirname(path)) for path in of("state.safetensors")]
            self.assertEqual(len(steps), runs)
            child = self.mpi_start(2, *command)
            resumed = next(match for match in (re.search(r"resumed at step (\d+)", line) for line in child.stderr) if match)
            self.assertIn(int(resumed[1]), steps)
            child.send_signal(signal.SIGUSR1)
            child.communicate(timeout=120)

    def test_training(self):
        self.interrupted(1, "train", "--data", self.text(), *TINY_TRAIN)

    def test_lab(self):
        self.interrupted(2, "lab", "--data", self.text(), "--variants", "softmax,softmax1", "--seeds", 1, *[x for x in TINY if x != "--quiet"])


class Live(Mpi):
    def test_served_by_rank_0(self):
        text = self.text()
        for command in (["train", *TINY_TRAIN], ["lab", "--variants", "softmax,softmax1", "--seeds", 1, *[x for x in TINY if x != "--quiet"]]):
            out = self.path(command[0])
            child = self.mpi_start(2, *command, "--data", text, "--steps", 1000000, "--out", out, "--live", 0)
            address = re.fullmatch(r"live: (http://127\.0\.0\.1:\d+/)\n", child.stderr.readline())
            self.assertTrue(address)
            ask = lambda: json.loads(urllib.request.urlopen(address[1] + "data.json", timeout=60).read())
            wait_until(lambda: ask()["groups"] or child.poll() is not None)
            self.assertEqual(ask()["groups"][0]["runs"][0]["state"], "unfinished")
            child.send_signal(signal.SIGUSR1)
            _, err = child.communicate(timeout=120)
            self.assertEqual(child.returncode, 1, err)
            self.assertNotIn("live:", err)

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.mpi_fails(2, 1, "127.0.0.1", *TRAIN, "--out", self.path("o"), "--live", taken.getsockname()[1])


class Lost(Mpi):
    AT_ONCE = ["--mca", "odls_base_sigkill_timeout", "0"]  # else the others have two seconds, in which they might do the lost one's runs too

    def setUp(self):
        super().setUp()
        self.data = self.text()

    def lab(self, out, steps):
        return ["lab", "--data", self.data, "--variants", "softmax", "--seeds", 3, "--steps", steps, "--out", out, *TINY]

    def assert_gone(self, ranks):
        """When mpirun ends they are killed, and a moment later they are gone."""
        left = lambda: [pid for pid in ranks.values() if rank_of(pid) is not None]
        wait_until(lambda: not left(), seconds=30)
        self.assertEqual(left(), [])

    def test_the_first_rank_of_a_training(self):
        """Open MPI ends the others and says why, and the same command goes on: the bits of the run that lost nobody."""
        steps = ["--steps", 250, "--eval-every", 0, "--measure-every", 0, "--checkpoint-every", 10]
        self.mpi_ok(3, *TRAIN, *steps, "--out", self.path("whole"))
        for lost in (0, 2):
            out = self.path(f"o{lost}")
            child = self.mpi_start(3, *TRAIN, *steps, "--out", out)
            wait_until(lambda: state_step(out) > 0 or child.poll() is not None)
            ranks = ranks_of(child)
            os.kill(ranks[lost], signal.SIGKILL)
            _, err = child.communicate(timeout=30)
            self.assertNotEqual(child.returncode, 0)
            self.assertRegex(err, rf"process rank {lost} .*signal 9")
            self.assert_gone(ranks)
            self.mpi_ok(3, *TRAIN, *steps, "--out", out)
            self.assertEqual(read(out, "model.safetensors", mode="rb"), read(self.path("whole"), "model.safetensors", mode="rb"))

    def test_the_first_rank_of_a_lab(self):
        """Without recovery as above; with it another rank writes the results too."""
        self.ok(*self.lab(self.path("one"), steps=10000))
        for options in (self.AT_ONCE, ["--enable-recovery"]):
            recovers = options != self.AT_ONCE
            out = self.path("recovered" if recovers else "lost")
            child = self.mpi_start(3, *self.lab(out, steps=10000), options=options)
            wait_until(lambda: len(self.claims(out)) == 3 and has_state(out) or child.poll() is not None)
            ranks = ranks_of(child)
            os.kill(ranks[0], signal.SIGKILL)
            _, err = child.communicate(timeout=240)
            self.assert_gone(ranks)
            self.assertEqual(os.path.exists(os.path.join(out, "results.json")), recovers)
            self.assertEqual("rank 0 was lost" in err, recovers, err)
            self.mpi_ok(2, *self.lab(out, steps=10000))
            self.assertEqual(numbers(out), numbers(self.path("one")))
            self.assertFalse(os.path.exists(os.path.join(out, ".ghostmax.lock")))

    def test_what_cannot_lose_a_rank(self):
        for command in (TRAIN, ["eval", self.path("m"), "--data", self.data], ["measure", self.path("m"), "--data", self.data]):
            done = self.mpi(2, *command, options=["--enable-recovery"])
            lines = self.own_lines(done)
            self.assertEqual(len(lines), 1, done.stderr)
            self.assertIn("--enable-recovery", lines[0])

    def test_a_lost_rank(self):
        """Open MPI ends a job that loses a rank, and the next call goes on; with --enable-recovery the others take its runs up."""
        self.ok(*self.lab(self.path("one"), steps=10000))
        for options in (self.AT_ONCE, ["--enable-recovery"]):
            recovers = options != self.AT_ONCE
            out = self.path("recovered" if recovers else "lost")
            child = self.mpi_start(3, *self.lab(out, steps=10000), options=options)
            wait_until(lambda: len(self.claims(out)) == 3 and has_state(out) or child.poll() is not None)
            lost = self.claim_of_rank(out, 2)
            self.assertIsNotNone(lost, f"rank 2 had nothing to do: {self.claims(out)}")
            ranks = ranks_of(child)
            os.kill(lost, signal.SIGKILL)
            child.communicate(timeout=240)
            self.assert_gone(ranks)
            self.assertEqual(os.path.exists(os.path.join(out, "results.json")), recovers)
            if not recovers:
                self.assertNotEqual(child.returncode, 0)
                self.mpi_ok(2, *self.lab(out, steps=10000))
            self.assertEqual(numbers(out), numbers(self.path("one")))


class Apart(Mpi):
    """Ranks that share nothing but a cable (and, as a cluster does, the file system)."""

    def setUp(self):
        super().setUp()
        try:
            self.network = Network(self.folder)
        except OSError as reason:
            self.skipTest(f"no network namespaces here: {reason}")
        self.addCleanup(self.network.close)

    def apart(self, ranks, *arguments):
        done = subprocess.run(self.network.command(ranks, PROGRAM, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_training_has_the_bits_of_one_machine_and_sends_what_it_should(self):
        self.mpi_ok(2, *TRAIN, "--out", self.path("together"))
        before = self.network.sent()
        self.apart(2, *TRAIN, "--out", self.path("apart"))
        sent = self.network.sent() - before
        self.assertEqual(read(self.path("apart"), "model.safetensors", mode="rb"), read(self.path("together"), "model.safetensors", mode="rb"))
        whole = os.path.getsize(self.path("apart", "model.safetensors"))  # 4 bytes a parameter
        self.assertAlmostEqual(sent / whole, 21, delta=0.6)  # each of 20 steps sends 2 (P-1)/P of it, the start all of it
        self.apart(3, *TRAIN, "--out", self.path("three"), "--shard-optimizer")
        self.mpi_ok(3, *TRAIN, "--out", self.path("three together"))
        self.assertEqual(read(self.path("three"), "model.safetensors", mode="rb"),
                         read(self.path("three together"), "model.safetensors", mode="rb"))

    def test_a_lab(self):
        lab = ["lab", "--data", self.text(), "--variants", "softmax,softmax1", "--seeds", 2, "--steps", 20, *TINY]
        self.ok(*lab, "--out", self.path("one"))
        self.apart(2, *lab, "--out", self.path("two"))
        self.assertEqual(numbers(self.path("two")), numbers(self.path("one")))

    def test_measuring(self):
        text = self.text()
        self.ok("train", "--data", text, *TINY_TRAIN, "--steps", 5, "--quiet", "--out", self.path("m"))
        arguments = ["measure", self.path("m"), "--data", text, "--json", "--quiet"]
        self.assertEqual(self.apart(2, *arguments), self.ok(*arguments, "--threads", 1))


main()
