"""What the tests of several ranks share: a real mpirun, what a job left, who is who among its processes."""
import json
import os
import shutil
import subprocess
import time
import unittest

from program import PROGRAM, Case, read, read_json

MPIRUN = shutil.which("mpirun")
# As root Open MPI wants to be asked twice; this machine may have fewer cores than the tests have ranks, and interfaces that TCP complains of.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
               "OMPI_MCA_btl_base_warn_component_unused": "0", "OMPI_MCA_btl": "^tcp"}


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


def ranks_of(mpirun):
    """Rank -> process, of the processes that this mpirun started."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(read("/proc", pid, "stat").rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == mpirun.pid and rank_of(pid) is not None:
            found[rank_of(pid)] = int(pid)
    return found


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

    def mpi_start(self, ranks, *arguments, options=(), **more):
        return subprocess.Popen(self.mpi_command(ranks, *arguments, options=options), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, **more)

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


class Network:
    """Two network namespaces with one cable between them: ranks 0, 2, ... in the one, 1, 3, ... in the other, with nothing but TCP. mpirun is
    given a command that enters the second one in ssh's place."""
    ADDRESSES = "10.77.0.1", "10.77.0.2"

    def __init__(self, folder, rate=None):
        self.names = [f"gm{os.getpid()}{end}" for end in "ab"]
        self.agent = os.path.join(folder, "agent.sh")
        with open(self.agent, "w") as f:
            f.write(f'#!/bin/sh\nshift\nexec ip netns exec {self.names[1]} unshare --uts sh -c "hostname {self.names[1]}; $*"\n')
        os.chmod(self.agent, 0o755)
        try:
            for name in self.names:
                self.do("ip", "netns", "add", name)
            self.do("ip", "link", "add", "gm", "netns", self.names[0], "type", "veth", "peer", "name", "gm", "netns", self.names[1])
            for name, address in zip(self.names, self.ADDRESSES):
                self.do("ip", "-n", name, "addr", "add", address + "/24", "dev", "gm")
                self.do("ip", "-n", name, "link", "set", "lo", "up")
                self.do("ip", "-n", name, "link", "set", "gm", "up")
                if rate:
                    self.do("tc", "-n", name, "qdisc", "add", "dev", "gm", "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
        except Exception:
            self.close()
            raise

    def do(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{' '.join(command[:3])}: {done.stderr.strip()}")

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def command(self, ranks, *arguments):
        return ["ip", "netns", "exec", self.names[0], MPIRUN, "--mca", "plm_rsh_agent", self.agent, "--mca", "pml", "ob1", "--mca", "btl", "tcp,self",
                "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24", "--map-by", "node", "--bind-to", "none",
                "--host", ",".join(f"{a}:{(ranks + 1 - i) // 2}" for i, a in enumerate(self.ADDRESSES)), "-n", str(ranks), *map(str, arguments)]

    def sent(self):
        """Bytes that left the first one."""
        done = subprocess.run(["ip", "-n", self.names[0], "-j", "-s", "link", "show", "gm"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)[0]["stats64"]["tx"]["bytes"]
