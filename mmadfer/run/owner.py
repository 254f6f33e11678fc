"""Who trains a fold: a process of a machine, and of a SLURM job."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from pydantic import ConfigDict, TypeAdapter, ValidationError


@dataclass(frozen=True)
class Owner:
    """Who trains a fold."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    token: str
    """Of this one time that the fold was taken."""
    cluster: str
    """SLURM's name of the cluster; empty elsewhere."""
    job: str
    """SLURM's id, `12` or `12_3` of an array, the same after each requeue; empty elsewhere."""
    restart: int
    """How often SLURM has requeued the job."""
    host: str
    boot: str
    """One start of a machine, and the process numbering within it; empty where the system does not say."""
    pid: int
    born: str
    """When the process began, in the machine's own count; tells it from a later one with its number."""
    started: str
    """When the lease was taken, in UTC, for people."""

    def __str__(self) -> str:
        if not self.token:
            return "a process that is just beginning"
        job = f"job {self.job}, start {self.restart + 1}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host} since {self.started}"

    def here(self) -> bool:
        """Whether it is known to be of this machine, in its present life."""
        return bool(self.boot) and self.boot == _boot()

    def dead(self) -> bool:
        """Whether it is known to have ended; only a process of this machine is."""
        return self.here() and _born(self.pid) != self.born

    def before(self, other: "Owner") -> bool:
        """Whether it is an earlier start of the same SLURM job."""
        same = bool(self.job) and (self.cluster, self.job) == (other.cluster, other.job)
        return same and self.restart < other.restart


UNKNOWN = Owner(token="", cluster="", job="", restart=0, host="", boot="", pid=0, born="", started="")
"""An owner that has not said yet who it is."""


def parse_owner(text: str | bytes) -> Owner | None:
    """An owner from JSON text; None where it is none, or is not written whole yet."""
    try:
        return _OWNER.validate_json(text)
    except ValidationError:
        return None


_OWNER = TypeAdapter(Owner)


def this_process() -> Owner:
    """This process, as one that takes a fold now."""
    get, now = os.environ.get, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    array, task = get("SLURM_ARRAY_JOB_ID"), get("SLURM_ARRAY_TASK_ID")
    return Owner(
        token=uuid4().hex[:12],
        cluster=get("SLURM_CLUSTER_NAME", ""),
        job=f"{array}_{task}" if array else get("SLURM_JOB_ID", ""),
        restart=int(get("SLURM_RESTART_COUNT") or 0),
        host=platform.node(),
        boot=_boot(),
        pid=os.getpid(),
        born=_born(os.getpid()),
        started=now,
    )


def _boot() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start time of a process in clock ticks since the machine's; empty where there is none, or it is only a name."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else fields[18]
