"""Processes of a cluster's jobs, found in /proc by their environment."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of a job on a node; `task` is its rank where it is a task that srun started, else None."""

    pid: int
    job: str
    node: str
    task: int | None
    parent: int

    def signal(self, number: int = signal.SIGKILL) -> None:
        send(self.pid, number)

    @property
    def alive(self) -> bool:
        return alive(self.pid)


def of_cluster(conf: str) -> Iterator[Process]:
    """All processes of the jobs of the cluster with this slurm.conf."""
    for path in Path("/proc").iterdir():
        env = _environment(int(path.name)) if path.name.isdigit() else {}
        if env.get("SLURM_CONF") == conf and "SLURMD_NODENAME" in env:
            yield _process(int(path.name), env)


def _process(pid: int, env: dict[str, str]) -> Process:
    job = env.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in env:
        job = f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    task = "SLURM_STEP_ID" in env and env.get("SLURM_TASK_PID") == str(pid)
    return Process(pid, job, env["SLURMD_NODENAME"], int(env["SLURM_PROCID"]) if task else None, _parent(pid))


def alive(pid: int) -> bool:
    """Whether there is such a process; one that is dead and not yet asked after has no command line."""
    return argv(pid) != ""


def _read(pid: int, name: str) -> str:
    """A file of /proc, empty where the process has gone, or is another user's."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def argv(pid: int) -> str:
    """The command line, empty where the process has gone."""
    return _read(pid, "cmdline").replace("\0", " ")


def _environment(pid: int) -> dict[str, str]:
    return dict(line.split("=", 1) for line in _read(pid, "environ").split("\0") if "=" in line)


def _parent(pid: int) -> int:
    found = re.search(r"^PPid:\s*(\d+)", _read(pid, "status"), re.MULTILINE)
    return int(found[1]) if found else 0


def send(pid: int, number: int) -> None:
    """Signal a process that may have gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
