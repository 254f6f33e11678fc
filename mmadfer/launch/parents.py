"""What the folds of a launch wait for: the jobs that train the folds of other runs that they begin or learn from."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.launch import in_use
from mmadfer.launch.slurm import commands
from mmadfer.launch.slurm.dependencies import Waits
from mmadfer.run import launch_record
from mmadfer.run.parents import ParentRun, parents, why_unfinished

Planned = tuple[Config, list[int]]
"""A launch that is not submitted yet: its configuration, and the folds that it trains."""


def waits(config: Config, todo: Iterable[int], planned: Mapping[Path, Planned]) -> Waits:
    """SLURM's jobs that each of the folds `todo` waits for.

    Those of a run that is `planned`, and not submitted yet, are called `ARRAY-OF-NAME_ELEMENT`.

    Raises:
        RunError: a parent's fold is not finished, and no job of this cluster trains it; or SLURM does not answer.
    """
    found: Waits = {fold: [] for fold in todo}
    for parent in parents(config, {run: own for run, (own, _) in planned.items()}):
        open_ = [fold for fold in found if why_unfinished(parent, fold)]
        ids = _planned(*planned[parent.run]) if parent.run in planned else _trained(parent, open_)
        for fold in open_:
            if fold not in ids:
                raise RunError(
                    f"{why_unfinished(parent, fold)}, and no job of this cluster trains it: `mmadfer launch "
                    f"resume {parent.run}` first, then launch this"
                )
            found[fold].append(ids[fold])
    return found


def _planned(config: Config, todo: list[int]) -> dict[int, str]:
    """Ids of jobs that are not submitted yet."""
    array = f"ARRAY-OF-{config.name.replace('_', '-')}"
    return {fold: f"{array}_{place}" if len(todo) > 1 else array for place, fold in enumerate(todo)}


def _trained(parent: ParentRun, folds: list[int]) -> dict[int, str]:
    """Ids of the jobs that train these folds, or will."""
    if not folds:
        return {}
    left, beating = launch_record.read(parent.run), in_use.live_folds(parent.run)
    jobs = in_use.asked(parent.run, left, beating)
    ids = in_use.trainers(left, jobs, beating)
    return {fold: ids[fold] for fold in folds if fold in ids and commands.live_jobs(jobs, [ids[fold]])}
