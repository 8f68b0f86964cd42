"""What the tests of several ranks share: a real mpirun, what a job left, who is who among its processes."""
import json
import os
import shutil
import subprocess
import time
import unittest

from program import PROGRAM, Case, read, read_json

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


def numbers(folder):
    """A lab's results but for speed and the command line."""
    results = read_json(folder, "results.json")
    for row in results["rows"] + results["ablations"]:
        for name in [n for n in row if n.endswith("tokens_per_s")]:
            del row[name]
    return results["config"], results["rows"], results["ablations"], results["verdict"]


def wait_until(condition, seconds=120):
    limit = time.time() + seconds
    while not condition() and time.time() < limit:
        time.sleep(0.01)


def rank_of(pid):
    """Of a running process, by what its launcher told it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return next((int(x.split(b"=")[1]) for x in f.read().split(b"\0") if x.startswith(b"OMPI_COMM_WORLD_RANK=")), None)
    except OSError:
        return None


def state_step(folder):
    """The step of the newest checkpoint, 0 without."""
    try:
        with open(os.path.join(folder, "state.safetensors"), "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        return json.loads(header["__metadata__"]["state"])["step"]
    except OSError:
        return 0


def has_state(lab):
    folder = os.path.join(lab, "runs")
    return any(os.path.exists(os.path.join(folder, name, "state.safetensors")) for name in os.listdir(folder))


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

    def mpi_start(self, ranks, *arguments, options=()):
        return subprocess.Popen(self.mpi_command(ranks, *arguments, options=options), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def mpi_fails(self, ranks, code, words, *arguments):
        """Exit code, nothing on stdout, and of all ranks together one line of our own."""
        done = self.mpi(ranks, *arguments)
        lines = self.own_lines(done)
        self.assertEqual((done.returncode, done.stdout, len(lines)), (code, "", 1), done.stderr)
        self.assertIn(words, lines[0])

    def own_lines(self, done):
        """What we wrote to stderr, without mpirun's own remarks."""
        return [line for line in done.stderr.splitlines() if line.startswith("ghostmax")]

    def assert_near(self, a, b, tolerance):
        """Two runs' curves."""
        for x, y in zip(curve(a), curve(b), strict=True):
            self.assertEqual(x.keys(), y.keys())
            for name in ("loss", "val_loss", "grad_norm"):
                if name in x:
                    self.assertAlmostEqual(x[name], y[name], delta=tolerance * abs(x[name]))

    def claims(self, out):
        """Run -> process, of a lab's runs that are under way."""
        found = {}
        folder = os.path.join(out, "runs")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                found[name] = int(read(folder, name).split()[0]) if name.endswith(".lock") else None
            except (OSError, IndexError):
                pass
        return {name: pid for name, pid in found.items() if pid}

    def claim_of_rank(self, out, rank):
        return next((pid for pid in self.claims(out).values() if rank_of(pid) == rank), None)
