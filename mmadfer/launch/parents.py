"""What the folds of a launch wait for: the jobs that train the folds of other runs that they begin or learn from."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.data import stages
from mmadfer.data.stages import Parent
from mmadfer.errors import RunError
from mmadfer.launch import in_use
from mmadfer.launch.slurm import commands
from mmadfer.run import launch_record

Waits = dict[int, list[str]]
"""Fold -> SLURM's ids of the jobs, or elements of arrays, that it waits for."""
Planned = tuple[Config, list[int]]
"""A launch that is not submitted yet: its configuration, and the folds that it trains."""


def waits(config: Config, todo: Iterable[int], planned: Mapping[Path, Planned]) -> Waits:
    """SLURM's jobs that each of the folds `todo` waits for.

    Those of a run that is `planned`, and not submitted yet, are called `ARRAY-OF-NAME_ELEMENT`.

    Raises:
        RunError: a parent's fold is not finished, and no job of this cluster trains it; or SLURM does not answer.
    """
    found: Waits = {fold: [] for fold in todo}
    for parent in stages.parents(config, {run: own for run, (own, _) in planned.items()}):
        open_ = [fold for fold in found if stages.unfinished(parent, fold)]
        ids = _planned(*planned[parent.run]) if parent.run in planned else _trained(parent, open_)
        for fold in open_:
            if fold not in ids:
                raise RunError(
                    f"{stages.unfinished(parent, fold)}, and no job of this cluster trains it: `mmadfer launch resume "
                    f"{parent.run}` first, then launch this"
                )
            found[fold].append(ids[fold])
    return found


def _planned(config: Config, todo: list[int]) -> dict[int, str]:
    """Ids of jobs that are not submitted yet."""
    array = f"ARRAY-OF-{config.name.replace('_', '-')}"
    return {fold: f"{array}_{place}" if len(todo) > 1 else array for place, fold in enumerate(todo)}


def _trained(parent: Parent, folds: list[int]) -> dict[int, str]:
    """Ids of the jobs that train these folds, or will."""
    if not folds:
        return {}
    left, beating = launch_record.read(parent.run), in_use.live(parent.run)
    jobs = in_use.asked(parent.run, left, beating)
    ids = in_use.trainers(left, jobs, beating)
    return {fold: ids[fold] for fold in folds if fold in ids and commands.live(jobs, [ids[fold]])}


def dependency(ids: list[list[str]]) -> str | None:
    """What SLURM's --dependency is for folds of one array, of which each waits for its `ids`; "" for nothing.

    None where one array cannot wait so: element k of an array can wait for element k of others (`aftercorr`).
    """
    if not any(ids):
        return ""
    if len(ids) == 1:
        return ",".join(f"afterok:{name}" for name in ids[0])
    arrays = [commands.base(name) for name in ids[0]]
    as_here = all(names == [f"{array}_{place}" for array in arrays] for place, names in enumerate(ids))
    return ",".join(f"aftercorr:{array}" for array in arrays) if as_here else None


def arrays(waiting: Waits) -> list[tuple[list[int], str]]:
    """The folds that are submitted together, and the --dependency of each such array.

    All of them, where they wait for the same elements of other arrays, or for nothing; else those that wait for nothing
    together, and each of the others alone.
    """
    whole = dependency(list(waiting.values()))
    if whole is not None:
        return [([*waiting], whole)] if waiting else []
    free = [fold for fold, ids in waiting.items() if not ids]
    alone = [([fold], dependency([ids]) or "") for fold, ids in waiting.items() if ids]
    return [*([(free, "")] if free else []), *alone]
