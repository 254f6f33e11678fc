"""Whether a store has what a task learns."""

from collections.abc import Iterable, Iterator

import numpy as np

from mmadfer.config.schema import Config
from mmadfer.config.task import TaskConfig
from mmadfer.data.fold_clips import labels_of, test_clips, training_clips, used_clips, validation_clips
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError

_SHOWN = 3
"""Clips that a message names."""


def check_targets(config: Config, store: Store, folds: Iterable[int], trained: bool = True) -> None:
    """Refuse to train or test on clips that lack the target; those of no part of `data.split` may lack it.

    Steps of a clip may be missing, even all of them, but not all of a value in what a fold trains on or tests.

    Args:
        config: `task`, `model.head.per` and what says which clips are used.
        store: the clips.
        folds: those that are trained or tested.
        trained: whether they are trained, and not only tested.

    Raises:
        DataError: the store has no labels where the task learns them; or no such target, or not of the task's values,
            or clips, or all steps of a fold, lack it, or a value is outside of its range in `task.values`.
    """
    if config.task.spec.output == "classes":
        _check_labels(config, store)
        return
    per_step = config.model.head.per == "step"
    _check_kind(config, store, "steps" if per_step else "values")
    if not per_step:
        _check_values(config, store)
        return
    known = _Traces(config, store)
    for fold in folds:
        for what, ids in _parts(config, store, fold, trained):
            _check_steps(config, known, f"{what} fold {fold}", ids)


def _parts(config: Config, store: Store, fold: int, trained: bool) -> Iterator[tuple[str, list[str]]]:
    """What must have values, and its clips."""
    yield "the test clips of", test_clips(config, store, fold)
    if trained:
        yield "the training clips of", [clip.id for clip in training_clips(config, store, fold)]
        if kept := validation_clips(config, store, fold):
            yield "the validation clips of", kept


def _check_labels(config: Config, store: Store) -> None:
    if not labels_of(config, store):
        raise DataError(
            f"{store.path} has no labels, and task {config.task.name} learns them: prepare a store with a column "
            f"`label`, or train a task on what this one has ({', '.join(store.targets) or 'no targets'})"
        )


def _check_kind(config: Config, store: Store, kind: str) -> None:
    task = config.task
    kept = {name: target for name, target in store.targets.items() if target.kind == kind}
    found = kept.get(task.compared)
    if found is None or not {*task.values} <= {*found.names}:
        there = "; ".join(f"{name!r} with {', '.join(target.names)}" for name, target in kept.items())
        raise DataError(
            f"task {task.name} with head.per {config.model.head.per} learns {', '.join(task.values)} of the target "
            f"{task.compared!r} of kind {kind}, but {store.path} has {there or f'none of {kind}'}: name the target in "
            "task.target, and those of its values that are to be learnt in task.values"
        )


def _check_values(config: Config, store: Store) -> None:
    name = config.task.compared
    bare = [clip.id for clip in used_clips(config, store) if clip.targets.get(name) is None]
    if bare:
        raise DataError(
            f"{len(bare)} clips of {store.path} lack the target {name!r} ({', '.join(bare[:_SHOWN])}"
            f"{', …' if bare[_SHOWN:] else ''}): prepare the store without them"
        )
    places = store.targets[name].places(config.task.values)
    for clip in used_clips(config, store):
        _check_ranges(config.task, store, clip.id, np.array([clip.targets[name]], np.float32)[:, places])


class _Traces:
    """Which values each clip has in some step; a clip is read, and its values held against their ranges, once."""

    def __init__(self, config: Config, store: Store) -> None:
        self.store, self._task = store, config.task
        self._has = dict[str, np.ndarray]()

    def has(self, clip: str) -> np.ndarray:
        """bool (values,)."""
        if clip not in self._has:
            name = self._task.compared
            steps = self.store.read(clip, [], [name]).tensors.get(name)
            places = self.store.targets[name].places(self._task.values)
            table = steps[:, places] if isinstance(steps, np.ndarray) else np.empty((0, len(places)), np.float32)
            _check_ranges(self._task, self.store, clip, table)
            self._has[clip] = np.asarray(~np.isnan(table).all(axis=0))
        return self._has[clip]


def _check_ranges(task: TaskConfig, store: Store, clip: str, table: np.ndarray) -> None:
    """Refuse values, float32 (steps, values), that the model cannot give."""
    for (name, (low, high)), column in zip(task.values.items(), table.T, strict=True):
        outside = column[(column < np.float32(low)) | (column > np.float32(high))]
        if len(outside):
            raise DataError(
                f"clip {clip!r} of {store.path} has {name} {outside[0]:g} in the target {task.compared!r}, outside of "
                f"{low:g} to {high:g}: give its own range in task.values, or prepare the store with right values"
            )


def _check_steps(config: Config, known: _Traces, what: str, ids: Iterable[str]) -> None:
    found = np.array([known.has(clip) for clip in ids])
    lost = [value for value, column in zip(config.task.values, found.T, strict=True) if not column.any()]
    if lost:
        raise DataError(
            f"{', '.join(lost)} of the target {config.task.compared!r} is missing in every step of {what} in "
            f"{known.store.path}: leave it out of task.values, or prepare the store with clips that have it"
        )
