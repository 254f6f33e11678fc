"""A private SLURM cluster for the tests: what they ask it, and the ways to hurt it."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from processes import Process, alive, argv, of_cluster, send

SCRIPTS = Path(__file__).parents[2] / "slurm" / "cluster"
PREFIX = "mmadfer-test-slurm-"  # and the process id of the tests
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "mariadb-install-db")
NODES = tuple(f"127.0.0.{number}" for number in range(11, 15))
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "DEADLINE", "OUT_OF_MEMORY"}


def missing() -> list[str]:
    """Programs of the cluster that are not here."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS if not shutil.which(program, path=path)]


class Cluster:
    """Four nodes of four pretended GPUs; partitions `gpu` (default) and `preempt`, which yields to it.

    Jobs are named as squeue names them: `12`, or `12_3` for the task 3 of an array.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._watch: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        settings = {"CLUSTER_DIR": str(folder), "CLUSTER_PORT": str(port), "SLURM_CONF": str(folder / "slurm.conf")}
        self.env = {**kept, **settings}

    # ---- starting and ending

    def up(self) -> str:
        """Start whatever is missing of the cluster; all its nodes are ready then. Returns what up.sh prints."""
        if self._watch is None:
            self._watch = self._watcher()
        return self.run(str(SCRIPTS / "up.sh"), timeout=120)

    def down(self, *options: str) -> None:
        self.run(str(SCRIPTS / "down.sh"), *options, timeout=120)

    def close(self) -> None:
        """End the cluster and remove its directory."""
        if self._watch is not None:
            self._watch.communicate(timeout=120)

    def reset(self) -> None:
        """As it was at first, for the next test: no jobs, no lost ranks, all nodes ready."""
        if not self._alive("slurmctld"):
            self.up()
        self.run("scontrol", "update", "partitionname=preempt", "gracetime=20")
        self.run("scancel", "--user", str(os.getuid()))
        for process in self.processes():
            process.signal(signal.SIGCONT)
            process.signal()
        if not self.ready():
            self.up()
        self.until(lambda: not self.run("squeue", "-h"), "the end of all jobs")

    def ready(self) -> bool:
        """Whether all daemons run and all nodes answer."""
        states = self.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%t").split()
        daemons = [path.stem for path in (self.folder / "run").glob("*.pid")]
        return all(map(self._alive, daemons)) and set(states) <= {"idle", "mix", "alloc", "comp"}

    def _watcher(self) -> "subprocess.Popen[bytes]":
        """Ends the cluster when these tests close its input, which even their being killed does."""
        command = ["bash", "-c", 'read -r; exec "$0" --wipe', str(SCRIPTS / "down.sh")]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=self.env, start_new_session=True)

    # ---- asking

    def run(self, *command: str, check: bool = True, timeout: float = 60, cwd: Path | None = None) -> str:
        """What a command prints in the cluster's environment; AssertionError with its words where it fails."""
        done = self.attempt(*command, timeout=timeout, cwd=cwd)
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def attempt(
        self, *command: str, timeout: float = 60, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """As `run`, with its exit status and its errors."""
        return subprocess.run(
            command, env=self.env, cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
        )

    def submit(self, *arguments: str, cwd: Path | None = None) -> str:
        """sbatch; returns the id of the job or array."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd)

    def wrap(self, command: str, *options: str) -> str:
        """A job of one shell command, without a log; returns its id."""
        return self.submit("--output=/dev/null", *options, "--wrap", command)

    def state(self, job: str) -> str:
        """As squeue has it: PENDING, RUNNING, COMPLETING, COMPLETED, FAILED and so on."""
        return self.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T")

    def show(self, job: str) -> dict[str, str]:
        """`scontrol show job` of one job: Restarts, BatchHost, NodeList, Reason, TimeLimit, ExitCode and so on."""
        text = self.run("scontrol", "show", "job", "-o", job)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def restarts(self, job: str) -> int:
        return int(self.show(job)["Restarts"])

    def node(self, job: str) -> str:
        """The first node of a running job."""
        return self.show(job)["BatchHost"]

    def accounts(self, job: str, field: str = "State") -> list[str]:
        """One field of a job's runs in sacct, the earliest first (--duplicates)."""
        return self.run("sacct", "-n", "-X", "-P", "--duplicates", "-j", job, "-o", field).splitlines()

    def wait_for(self, job: str, *states: str, seconds: float = 180) -> str:
        """The first of these states that the job is in; any end of it where none is given.

        An AssertionError tells what it is in instead, as soon as it has ended otherwise.
        """
        wanted, seen = set(states or ENDED), ""

        def there() -> bool:
            nonlocal seen
            seen = self.state(job)
            assert seen in wanted or seen not in ENDED, f"job {job} ended {seen}, not {wanted}: {self.show(job)}"
            return seen in wanted

        self.until(there, lambda: f"job {job} in {wanted}, not {seen}", seconds)
        return seen

    def wait_for_restart(self, job: str, restarts: int = 1, seconds: float = 90) -> None:
        """Return once the job runs again, for the `restarts`th time."""
        self.until(
            lambda: self.restarts(job) >= restarts and self.state(job) == "RUNNING", f"restart of job {job}", seconds
        )

    def wait_for_saved_state(self) -> None:
        """Return once slurmctld has what it knows now on disk; what is younger when it is killed, it forgets."""
        now = time.time()
        for job in self.run("squeue", "--noheader", "--format=%i").split():  # it saves after a change only
            self.attempt("scontrol", "update", f"jobid={job}", f"comment={now}")
        saved = self.folder / "state" / "job_state"
        self.until(lambda: saved.exists() and saved.stat().st_mtime > now, "slurmctld's state on disk", 30)

    @staticmethod
    def until(true: Callable[[], object], what: str | Callable[[], str], seconds: float = 180) -> float:
        """Wait for it; returns the seconds waited, or raises an AssertionError that names `what`."""
        begun = time.monotonic()
        while not true():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"waited {seconds} s for {what if isinstance(what, str) else what()}")
            time.sleep(0.1)
        return time.monotonic() - begun

    # ---- processes, on this machine all

    def processes(self, job: str | None = None, node: str | None = None) -> list[Process]:
        """Processes of the cluster's jobs, or of one, or on one node: batch scripts, tasks, and their children."""
        found = of_cluster(self.env["SLURM_CONF"])
        return [each for each in found if job in (None, each.job, each.job.split("_")[0]) and node in (None, each.node)]

    def tasks(self, job: str) -> list[Process]:
        """The ranks of a job that live, in their order; those that a lost node has left behind are among them."""
        tasks = [process for process in self.processes(job) if process.task is not None]
        return sorted(tasks, key=lambda process: process.task or 0)

    # ---- faults

    def kill_task(self, job: str, rank: int = 0, number: int = signal.SIGKILL) -> Process:
        """Signal one rank, and nobody else."""
        task = next(task for task in self.tasks(job) if task.task == rank)
        task.signal(number)
        return task

    def kill_node(self, node: str, tasks: bool = True, number: int = signal.SIGKILL) -> list[Process]:
        """A node is lost (SIGSTOP: frozen, until SIGCONT): its slurmd, and with `tasks` all that runs on it.

        Returns:
            The node's processes; those still run where `tasks` is off.
        """
        inside = self.processes(node=node)
        daemons = sorted({process.parent for process in inside if argv(process.parent).startswith("slurmstepd")})
        send(self._pid(f"slurmd.{node}"), number)
        for pid in [*daemons, *(process.pid for process in inside)] if tasks else []:  # slurmstepd first: no last words
            send(pid, number)
        return inside

    def kill_slurmctld(self) -> None:
        send(self._pid("slurmctld"), signal.SIGKILL)

    def restart(self) -> None:
        """Start the daemons that were killed; nodes that were lost are ready again."""
        self.up()

    def requeue(self, job: str) -> None:
        """`scontrol requeue`, as an administrator does it."""
        self.run("scontrol", "requeue", job)

    def limit(self, job: str, minutes: int) -> bool:
        """Set the time limit of a job; False where SLURM does not take it, as of one that is just ending."""
        return self.attempt("scontrol", "update", f"jobid={job}", f"timelimit={minutes}").returncode == 0

    def preempt(self, job: str, grace: int = 20, seconds: float = 5) -> str:
        """A job of `seconds` that takes the nodes of a running job of the partition `preempt`; returns its id."""
        self.run("scontrol", "update", "partitionname=preempt", f"gracetime={grace}")
        shown = self.show(job)
        nodes = ("--nodelist", shown["NodeList"], "--nodes", shown["NumNodes"])
        return self.wrap(f"sleep {seconds}", "--partition=gpu", "--exclusive", *nodes)

    def _pid(self, daemon: str) -> int:
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def _alive(self, daemon: str) -> bool:
        file = self.folder / "run" / f"{daemon}.pid"
        return file.exists() and alive(self._pid(daemon))


def start() -> Cluster:
    """A cluster for this process, in a short folder (unix sockets have names of 107 characters) and on free ports."""
    assert not missing(), f"no SLURM to start here, for want of {', '.join(missing())}"
    _end_stale()
    cluster = Cluster(folder_of(os.getpid()), _free_ports())
    try:
        cluster.up()
    except BaseException:
        cluster.close()
        raise
    return cluster


def folder_of(pid: int) -> Path:
    """Where the cluster of the tests in this process is."""
    temporary = tempfile.gettempdir()
    return Path(temporary if len(temporary) < 40 else "/tmp") / f"{PREFIX}{pid}"


def _end_stale() -> None:
    """End the clusters of tests that were killed together with their watchers."""
    for folder in folder_of(0).parent.glob(f"{PREFIX}*"):
        if folder.stat().st_uid == os.getuid() and not alive(int(folder.name.removeprefix(PREFIX))):
            Cluster(folder, 0).down("--wipe")


def _free_ports() -> int:
    """The first of 900 ports below those that the system gives away, the daemons' of which are free."""
    bases: Sequence[int] = range(11000, 19000, 900)
    for base in random.sample(bases, len(bases)):
        if all(map(_free, [base, base + 1, *range(base + 11, base + 15)])):
            return base
    raise AssertionError("no free ports between 11000 and 19000")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return not _fails(lambda: probe.bind(("", port)))


def _fails(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return True
    return False
