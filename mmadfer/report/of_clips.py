"""What the predictions of every clip tell of a run: intervals, calibration, what abstaining would give, and groups."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from mmadfer.data.store.record import Clip
from mmadfer.errors import RunError
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.groups import Group, groups
from mmadfer.evaluation.intervals import Intervals, intervals
from mmadfer.evaluation.saved_predictions import ToldClips, read_told
from mmadfer.evaluation.subjects import check_same_clips, clips_of
from mmadfer.run.directory import Run
from mmadfer.tasks.calibration import Abstaining, abstaining, bins, cross_entropy, with_temperature
from mmadfer.tasks.spec import TaskSpec

SUBJECT = "subject"


class Calibration(NamedTuple):
    """Of a fold, before and after its temperature; None where there is none."""

    fold: int
    ece: float
    cross_entropy: float
    temperature: float | None
    ece_after: float | None
    cross_entropy_after: float | None
    note: str
    """Why there is no temperature."""


@dataclass(frozen=True)
class OfClips:
    """A run of a task of classes, clip by clip."""

    labels: tuple[str, ...]
    spec: TaskSpec
    folds: tuple[ToldClips, ...]
    results: tuple[FoldResult, ...]
    """Of the same folds."""
    store: Path | None = None
    """Read only where its clips are asked for."""

    @property
    def clips(self) -> dict[str, Clip] | None:
        """What the store says of its clips; None where it is not there, or another one."""
        return self._known[0]

    @property
    def store_note(self) -> str:
        """Why not."""
        return self._known[1]

    @cached_property
    def _known(self) -> tuple[dict[str, Clip] | None, str]:
        return _clips(self.store, self.folds, self.labels)

    @cached_property
    def intervals(self) -> Intervals:
        """Of the scores, and of the recall of each class."""
        return intervals(self.folds, self.spec)

    @cached_property
    def calibration(self) -> list[Calibration]:
        """Of each fold."""
        return [_calibration(*pair) for pair in zip(self.folds, self.results, strict=True)]

    @property
    def ece(self) -> float:
        """The mean over folds of the expected calibration error."""
        return fmean(one.ece for one in self.calibration)

    @property
    def ece_after(self) -> float | None:
        """The same by the temperatures; None unless all folds have one."""
        found = [one.ece_after for one in self.calibration if one.ece_after is not None]
        return fmean(found) if len(found) == len(self.calibration) else None

    def calibrated(self, fold: int) -> np.ndarray | None:
        """Probabilities (N, C) of a fold by its temperature; None without one."""
        told, result = self.folds[fold], self.results[fold]
        return None if result.temperature is None else with_temperature(told.probabilities, result.temperature)

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 (N,) of the clips of all folds."""
        return np.concatenate([one.confidence for one in self.folds])

    @cached_property
    def right(self) -> np.ndarray:
        """bool (N,) of the clips of all folds."""
        return np.concatenate([one.right for one in self.folds])

    @cached_property
    def abstaining(self) -> list[Abstaining]:
        """At the usual coverages, over the clips of all folds."""
        return abstaining(self.confidence, self.right)

    @cached_property
    def columns(self) -> dict[str, dict[str, str]]:
        """Name -> clip -> group, of every column that the store has; `subject` first."""
        clips = self.clips or {}
        names = sorted({name for clip in clips.values() for name in clip.groups})
        told = {name: {k: clip.groups[name] for k, clip in clips.items() if name in clip.groups} for name in names}
        people = {k: clip.subject for k, clip in clips.items() if clip.subject}
        return {**({SUBJECT: people} if people else {}), **told}

    @property
    def subjects(self) -> dict[str, str]:
        """Clip -> subject, of the clips whose subject the store knows."""
        return self.columns.get(SUBJECT, {})

    @cached_property
    def groups(self) -> list[Group]:
        """Of every column."""
        return groups(self.folds, self.columns, self.subjects)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = self.intervals
        return {
            "intervals": {"scores": found.scores, "recall": dict(zip(self.labels, found.recall, strict=True))},
            "calibration": [one._asdict() for one in self.calibration],
            "abstaining": [one._asdict() for one in self.abstaining],
            "groups": [asdict(one) for one in self.groups],
        }


def of_clips(run: Run, usable: Sequence[FoldResult]) -> tuple[OfClips | None, str]:
    """What the usable folds tell, or None and why; of a task of values nothing, and no reason."""
    if not usable or run.config.task.spec.output != "classes":
        return None, ""
    try:
        told = tuple(read_told(run.fold(one.fold) / "predictions.csv", one) for one in usable)
    except RunError as error:
        return None, str(error)
    return OfClips(usable[0].labels, run.config.task.spec, told, tuple(usable), run.config.data.store), ""


def _clips(store: Path | None, told: Sequence[ToldClips], labels: Sequence[str]) -> tuple[dict[str, Clip] | None, str]:
    if store is None:
        return None, "the configuration names no store"
    try:
        clips = clips_of(store)
        said = {one.fold: {clip: (labels[k],) for clip, k in zip(one.ids, one.truth, strict=True)} for one in told}
        check_same_clips(store, clips, [said])
    except RunError as error:
        return None, str(error)
    return clips, ""


def _calibration(told: ToldClips, result: FoldResult) -> Calibration:
    before = bins(told.confidence, told.right).error, cross_entropy(told.probabilities, told.truth)
    if result.temperature is None:
        return Calibration(told.fold, *before, None, None, None, result.temperature_note)
    after = with_temperature(told.probabilities, result.temperature)
    scaled = bins(told.confidence_of(after), told.right).error, cross_entropy(after, told.truth)
    return Calibration(told.fold, *before, result.temperature, *scaled, "")
