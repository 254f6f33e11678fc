"""Whether a store has what a task learns."""

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import labels_of, used_clips
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError

_SHOWN = 3
"""Clips that a message names."""


def check_targets(config: Config, store: Store) -> None:
    """Refuse to train or test on clips that lack the target; those of no part of `data.split` may lack it.

    Raises:
        DataError: the store has no labels where the task learns them; or no such target, or not of the task's values,
            or clips lack it.
    """
    if config.task.spec.output == "values":
        _check_values(config, store)
    elif not labels_of(config, store):
        raise DataError(
            f"{store.path} has no labels, and task {config.task.name} learns them: prepare a store with a column "
            f"`label`, or train a task on what this one has ({', '.join(store.targets) or 'no targets'})"
        )


def _check_values(config: Config, store: Store) -> None:
    task = config.task
    kept = {name: target for name, target in store.targets.items() if target.kind == "values"}
    found = kept.get(task.compared)
    if found is None or found.names != tuple(task.values):
        there = "; ".join(f"{name} ({', '.join(target.names)})" for name, target in kept.items()) or "none of values"
        raise DataError(
            f"task {task.name} learns {', '.join(task.values)} of the target {task.compared!r}, but {store.path} has "
            f"{there}: name the target in task.target, and all its values, in order, in task.values"
        )
    bare = [clip.id for clip in used_clips(config, store) if clip.targets.get(task.compared) is None]
    if bare:
        raise DataError(
            f"{len(bare)} clips of {store.path} lack the target {task.compared!r} ({', '.join(bare[:_SHOWN])}"
            f"{', …' if bare[_SHOWN:] else ''}): prepare the store without them"
        )
