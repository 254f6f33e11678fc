"""What a launch is going to do, as plain data: the same plan is printed by a dry run and carried out by a launch."""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from mmadfer.errors import RunError
from mmadfer.launch.jobs import FoldJob
from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm import commands
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.utils import cores
from mmadfer.utils.terminal import one_line

EARLY = 60
"""Seconds that SLURM may send it too early (sbatch --signal)."""
FEW = 5
"""Folds that this machine trains at a time without GPUs, if it has no more cores: as many as folds usually are. Sixty,
one for each subject, would fill its memory."""
RETRIES_HERE = 5
"""How often a fold may run into its time limit on this machine: submitit's controller starts a job 6 times at most."""


def places(resources: Resources) -> float:
    """Folds for which there are GPUs, or cores without any: on this machine, more share them; on SLURM none does."""
    if resources.cluster != "local":
        return float("inf")
    cores_of_a_fold = resources.ranks_per_node * resources.threads
    return max(1.0, len(visible_gpus()) / resources.gpus if resources.gpus else cores.granted() / cores_of_a_fold)


def jobs(run: Path, folds: Iterable[int], resources: Resources) -> list[FoldJob]:
    """One job per fold; on this machine each takes the next GPUs, round and round."""
    accelerator = "cuda" if resources.gpus else "cpu"
    here = visible_gpus() if resources.cluster == "local" and resources.gpus else []
    made = []
    for place, fold in enumerate(folds):
        first = place * resources.gpus
        devices = tuple(here[(first + i) % len(here)] for i in range(resources.gpus) if here)
        own = devices if resources.cluster == "local" else None
        made.append(FoldJob(str(run), fold, accelerator, resources.threads, own))
    return made


def resources(folds: list[int], asked: LaunchOptions) -> Resources:
    """Fill in what was not asked for, and refuse what cannot be had.

    Raises:
        RunError: more GPUs or nodes than there are, GPUs that the nodes cannot share evenly, or a silent SLURM.
    """
    cluster = asked.cluster or ("slurm" if commands.present() else "local")
    if cluster not in ("local", "slurm"):
        raise RunError(f"--cluster {cluster}: it must be local or slurm")
    here = visible_gpus() if cluster == "local" else []
    gpus, nodes = asked.gpus, asked.nodes or 1
    if gpus is None:
        gpus = min(1, len(here)) if cluster == "local" else nodes
    if cluster == "local":
        _fits_here(gpus, nodes, here)
    if gpus % nodes:
        raise RunError(f"--gpus-per-fold {gpus} cannot be shared evenly by --nodes-per-fold {nodes}")
    fitting = _fitting(gpus, here) if cluster == "local" else len(folds)
    parallel = min(len(folds), asked.parallel or fitting)
    cpus = asked.cpus or (max(1, cores.granted() // parallel) if cluster == "local" else 4 * max(gpus, nodes))
    minutes = parse_time(asked.time) if asked.time else (30 * 24 * 60 if cluster == "local" else 24 * 60)
    where = {key: _word(key, getattr(asked, key)) for key in ("partition", "account", "qos", "constraint")}
    return Resources(cluster, gpus, nodes, cpus, parallel, minutes, **where)


def _fitting(gpus: int, here: list[str]) -> int:
    """Folds that this machine trains at a time: by its GPUs, else by its cores, of which five folds may share one."""
    return max(1, len(here) // gpus) if gpus else max(FEW, cores.granted())


def _word(key: str, value: str | None) -> str | None:
    """What becomes one line of an sbatch file."""
    if value is not None and not (value.strip() and one_line(value)):
        raise RunError(f"--{key} {value!r}: it must be one line, and not empty")
    return value


def _fits_here(gpus: int, nodes: int, here: list[str]) -> None:
    if nodes > 1:
        raise RunError(f"--nodes-per-fold {nodes}: --cluster local has one node")
    if gpus > len(here):
        raise RunError(f"--gpus-per-fold {gpus}: this machine shows {len(here)} GPU(s)")


def parse_time(text: str) -> int:
    """Minutes of a SLURM time: `90`, `90:00`, `8:00:00`, `1-0`, `1-12:30` or `1-12:30:00`; seconds are rounded up.

    Raises:
        RunError: not of this form, or nothing at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not match:
        raise RunError(f"--time {text!r} must look like 480 (minutes), 8:00:00 or 1-12:00:00")
    days, (first, second, third) = match[1], (int(part or 0) for part in match.groups()[1:])
    if days is not None:
        seconds = ((int(days) * 24 + first) * 60 + second) * 60 + third
    elif match[4]:
        seconds = (first * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    if not seconds:
        raise RunError(f"--time {text!r} leaves no time")
    return -(-seconds // 60)


def visible_gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES would name them, found without torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]
