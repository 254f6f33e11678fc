"""Which folds are submitted together, and what SLURM's --dependency of each array is."""

from mmadfer.launch.slurm import commands

Waits = dict[int, list[str]]
"""Fold -> SLURM's ids of the jobs, or elements of arrays, that it waits for."""


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
