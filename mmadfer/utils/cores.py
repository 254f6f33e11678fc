"""How many CPU cores this process was granted: by affinity (taskset, SLURM), a control group's quota, or a launch."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmadfer.utils import control_groups, slurm_env

VARIABLE = "MMADFER_CORES"
"""Set by a launch: the cores of each rank, where several folds share a machine."""


def granted(groups: Path = control_groups.GROUPS, root: Path = control_groups.ROOT) -> int:
    """Cores that this process may use, at least 1; those that others use as well count, too."""
    return max(1, int(min(_affinity(), quota(groups, root) or float("inf"))))


def of_a_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Cores of this process where it is one of several ranks on its node, at least 1.

    What the whole node was granted is divided among its ranks. SLURM grants SLURM_CPUS_PER_TASK to each task, so that
    is divided only where a task has started several ranks (torchrun).
    """
    ranks, tasks = ranks_here(environ), slurm_env.tasks_here(environ)
    affinity, each = _affinity(), _whole(environ.get("SLURM_CPUS_PER_TASK"))
    bounds = [(quota() or float("inf")) / ranks]
    bounds += [min(affinity, each) / max(1, ranks // tasks)] if each else [affinity / ranks]
    if own := _whole(environ.get(VARIABLE)):
        bounds.append(own)
    return max(1, int(min(bounds)))


def ranks_here(environ: Mapping[str, str]) -> int:
    """Ranks on this node: as the launcher says, or all where they meet on this very machine, or SLURM's tasks."""
    told = _whole(environ.get("LOCAL_WORLD_SIZE"))
    if not told and environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        told = _whole(environ.get("WORLD_SIZE"))
    return max(1, told or slurm_env.tasks_here(environ))


def quota(groups: Path = control_groups.GROUPS, root: Path = control_groups.ROOT) -> float | None:
    """Cores' worth of time that the control groups allow this process, or None where they set no bound."""
    found = [_quota_of(folder, version) for folder, version in control_groups.folders("cpu", groups, root)]
    return min((bound for bound in found if bound), default=None)


def _quota_of(folder: Path, version: int) -> float | None:
    """The quota of one group: `cpu.max` is `150000 100000`, or `max 100000` without one; -1 in version 1."""
    try:
        if version == 2:
            time, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            time, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return float(time) / float(period) if float(time) > 0 and float(period) > 0 else None
    except (OSError, ValueError):  # not there, or `max`
        return None


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
