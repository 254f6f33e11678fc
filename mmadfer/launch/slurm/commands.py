"""What SLURM says and is told: its own commands, each called once for all jobs of a run."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mmadfer.errors import RunError
from mmadfer.utils.slurm_env import hosts

_COMMAND_SECONDS = 20.0
"""Seconds that a command of SLURM may take."""
OVER = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"),
    *("DEADLINE", "REVOKED"),
)
"""States that a job does not leave by itself; all others are live."""
NEVER = (
    *("DependencyNeverSatisfied", "BadConstraints", "PartitionTimeLimit", "PartitionNodeLimit"),
    *("InvalidAccount", "InvalidQOS"),
)
"""Reasons of pending jobs that waiting does not mend."""


@dataclass(frozen=True)
class SlurmJob:
    """One job, or one element of an array, as SLURM sees it."""

    id: str
    """As SLURM prints it: `12`, or `12_0`."""
    state: str
    """In capitals: PENDING, RUNNING, ..."""
    reason: str = ""
    nodes: str = ""
    left: str = ""
    """Until the time limit."""
    restarts: int = 0
    log: str = ""
    """File that it writes to, with SLURM's patterns in its name; empty where SLURM does not say."""

    @property
    def live(self) -> bool:
        """Whether it runs or may still run."""
        return self.state not in OVER

    @property
    def stuck(self) -> bool:
        """Whether it waits for what will not come."""
        return self.held or (self.state == "PENDING" and (self.reason in NEVER or "PerJob" in self.reason))

    @property
    def held(self) -> bool:
        """Whether it waits to be released, as SLURM makes a job wait that it could not start."""
        held = self.reason.startswith("JobHeld") or "requeued held" in self.reason.replace("_", " ")
        return self.state == "PENDING" and held


def present() -> bool:
    """Whether a SLURM cluster can be reached from here; its commands alone, without a configuration, are none.

    Raises:
        RunError: there is a cluster, but it does not answer: nobody wants five folds on its login node then.
    """
    if not all(map(shutil.which, ("sbatch", "srun", "scontrol"))):
        return False
    try:
        said = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        said = None
    if said is not None and " is UP" in said.stdout:
        return True
    if said is not None and " is DOWN" not in said.stdout:
        return False
    raise RunError("SLURM does not answer (`scontrol ping`): wait for it, or train here with --cluster local")


def query(ids: Iterable[str], logs: Path | None = None) -> dict[str, SlurmJob]:
    """These jobs by id, with all elements of the arrays among them: one call, and one more for those long gone.

    A job that SLURM has forgotten is left out; with `logs`, also one that writes elsewhere: slurmctld gives ids anew
    when it has lost its state, and such a job is somebody else's.

    Raises:
        RunError: SLURM does not answer.
    """
    bases = sorted({base(name) for name in ids})
    if not bases:
        return {}
    listed = _ask("squeue", "-h", "-r", "-t", "all", "-j", ",".join(bases), "-O", _FIELDS, missing="Invalid job id")
    found = {job.id: job for job in _jobs(listed)}
    known = {base(name) for name in found}
    gone = [name for name in bases if name not in known]
    # accounts go on to call live what slurmctld forgot when it was killed, or close it as completed on no node
    past = {job.id: job for job in _accounted(gone) if not job.live and (job.nodes or job.state != "COMPLETED")}
    return jobs_of({**past, **found}, logs)


def jobs_of(jobs: dict[str, SlurmJob], logs: Path | None) -> dict[str, SlurmJob]:
    """Those of the jobs that write to the folder `logs`, as far as SLURM says."""
    return {name: job for name, job in jobs.items() if logs is None or not job.log or _within(job.log, logs)}


def base(number: str) -> str:
    """The id of an array, of that of one of its elements."""
    return number.partition("_")[0]


def again(jobs: dict[str, SlurmJob]) -> list[str]:
    """Those that wait to be started another time."""
    return [job.id for job in jobs.values() if job.state == "PENDING" and job.restarts]


def array_limit() -> int | None:
    """Elements that one array may have (MaxArraySize), where SLURM says so."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config", missing=""))
    return int(found[1]) if found else None


def live_jobs(jobs: dict[str, SlurmJob], ids: Iterable[str]) -> list[str]:
    """Those of the ids whose jobs run or may still run."""
    return [name for name in ids if name in jobs and jobs[name].live]


def last_ends(ids: Iterable[str]) -> dict[str, str]:
    """How the last start of each job ended that was queued again: PREEMPTED, NODE_FAIL, REQUEUED, ...; one call.

    Empty where the cluster keeps no accounts.
    """
    names = sorted(ids)
    return {job.id: job.state for job in _accounted(names, "-D") if not job.live or job.state == "REQUEUED"}


def cancel_jobs(*ids: str) -> None:
    """End jobs: running ones get SIGTERM, and the cluster's KillWait to save.

    Raises:
        RunError: SLURM does not answer, or refuses.
    """
    if ids:
        # A fold that saves before its time limit would else queue itself again; jobs that have ended refuse the word.
        _ask("scontrol", "update", f"jobid={','.join(ids)}", "requeue=0", missing="")
        _ask("scancel", *ids, missing="Invalid job id")


_FIELDS = "JobArrayID:|,State:|,Reason:|,NodeList:|,TimeLeft:|,RestartCnt:|,STDOUT:|"
_PAST = "JobID,State,Reason,NodeList"


def _accounted(ids: list[str], *options: str) -> list[SlurmJob]:
    if not ids or not shutil.which("sacct"):
        return []
    return _jobs(_ask("sacct", "-n", "-P", "-X", *options, "-j", ",".join(ids), "-o", _PAST, missing="accounting"))


def _jobs(text: str) -> list[SlurmJob]:
    jobs = [_job(line.split("|", 6)) for line in text.splitlines() if "|" in line]
    # waiting elements of an array are one line: 12_[0,2-3%2], which is written like a list of nodes
    return [replace(job, id=name) for job in jobs for name in hosts(re.sub(r"%\d+]$", "]", job.id))]


def _job(words: list[str]) -> SlurmJob:
    name, state, reason, nodes, left, restarts, log = [*(word.strip() for word in words), *[""] * 5][:7]
    nothing = ("None", "None assigned", "N/A", "(null)")
    reason, nodes, log = ("" if word in nothing else word for word in (reason, nodes, log.removesuffix("|")))
    # "CANCELLED by 1000", and "CANCELLED+" where sacct cuts a word
    return SlurmJob(name, (state.split() or ["UNKNOWN"])[0].rstrip("+"), reason, nodes, left, int(restarts or 0), log)


def _within(log: str, folder: Path) -> bool:
    return os.path.realpath(os.path.dirname(log)) == os.path.realpath(folder)


def _ask(*command: str, missing: str) -> str:
    """What a command prints; nothing where it complains about what is `missing`."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"SLURM does not answer ({command[0]}: {error}): try again later") from error
    if said.returncode and missing not in said.stderr:
        words = f"{command[0]}: {said.stderr.strip()[-300:]}"
        if "denied" in said.stderr:
            raise RunError(f"SLURM does not allow it ({words}): ask those who run the cluster")
        raise RunError(f"SLURM does not answer ({words}): try again later")
    return said.stdout
