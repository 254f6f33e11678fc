"""The runs that a comparison is of: their results, and what they say of each test clip."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmadfer.errors import RunError
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.fold_result import read as read_fold
from mmadfer.evaluation.saved_predictions import read_answers
from mmadfer.run import directory as runs


@dataclass(frozen=True)
class Member:
    """One finished run of a side."""

    path: Path
    seed: int
    results: dict[int, FoldResult]
    predictions: dict[int, dict[str, Any]]
    """fold -> clip -> label and predicted label, or values over time."""
    adapted: bool = False
    """Whether it was adapted to a part of the clips of its test folds, and has tested the others (`adapt`)."""

    def mean(self, score: str, folds: Iterable[int]) -> float:
        """Of a score over these folds."""
        return fmean(self.results[fold].scores[score] for fold in folds)


@dataclass(frozen=True)
class ComparedRun:
    """A run, or all seeds of one row of a sweep."""

    name: str
    members: list[Member]

    def seeds_std(self, score: str, folds: Iterable[int]) -> float | None:
        """Sample standard deviation of the seeds' means over folds; None for one seed."""
        means = [member.mean(score, folds) for member in self.members]
        return stdev(means) if len(means) > 1 else None


def read_side(path: Path) -> ComparedRun:
    """The run at `path`, or those of a row's seeds.

    Raises:
        RunError: no such run, or an unfinished or damaged fold.
    """
    return ComparedRun(str(path), _members(path))


def _members(path: Path) -> list[Member]:
    from mmadfer.config import sweep

    path = Path(path)
    if (path / "config.yaml").is_file():
        return [_member(path)]
    if sweep.is_sweep(path):
        names = ", ".join(sweep.table_of(path).groups)
        raise RunError(f"{path} is a whole sweep: give one of its rows, {path}/ROW ({names})")
    if sweep.is_sweep(path.parent) and (seeds := sweep.table_of(path.parent).groups.get(path.name)):
        return [_member(path.parent / row) for row in seeds]
    return [_member(path)]  # says that it is no run


def _member(path: Path) -> Member:
    run = runs.read(path)
    results = {fold: read_fold(run.path, fold, run.config) for fold in runs.folds(run.path)}
    odd = [f"fold {k} is {one.state}: {one.note}" for k, one in results.items() if one.state not in _CLEAR]
    usable = {fold: one for fold, one in results.items() if one.usable}
    if odd or not usable:
        raise RunError(f"{path} cannot be compared: {'; '.join(odd) or 'it has no finished fold'}. Finish its folds")
    said = {fold: dict(read_answers(run.fold(fold) / "predictions.csv", one)) for fold, one in usable.items()}
    return Member(run.path, run.config.train.seed, usable, said, run.config.adapt is not None)


_CLEAR = ("finished", "missing")
"""States of folds with which a run can be compared."""


def without_adapted(sides: Sequence[ComparedRun]) -> tuple[list[ComparedRun], int]:
    """Where runs were adapted to a part of their test folds, all runs on the clips that each of these has tested.

    Also how many clips that leaves out. What it does not explain, such as a clip that another run lacks, stays.
    """
    members = [one for side in sides for one in side.members]
    adapted = [one.predictions for one in members if one.adapted]
    kept = dict[int, set[str]]()
    for fold, told in ((fold, told) for one in adapted for fold, told in one.items()):
        kept[fold] = kept.get(fold, {*told}) & told.keys()
    lost = [sum(len(told.keys() - kept.get(fold, told)) for fold, told in one.predictions.items()) for one in members]
    return [replace(side, members=[_on(one, kept) for one in side.members]) for side in sides], max(lost)


def _on(member: Member, kept: Mapping[int, set[str]]) -> Member:
    """What the run says of these clips of each fold, with its scores on them."""
    said, results = dict(member.predictions), dict(member.results)
    for fold, told in member.predictions.items():
        if told.keys() - kept.get(fold, told):
            said[fold] = {clip: one for clip, one in told.items() if clip in kept[fold]}
            results[fold] = _scored(results[fold], said[fold].values())
    return replace(member, predictions=said, results=results)


def _scored(result: FoldResult, said: Iterable[tuple[str, str]]) -> FoldResult:
    """The result with the scores of these labels and predicted labels."""
    truth, predicted = np.array([[result.labels.index(label) for label in pair] for pair in said]).reshape(-1, 2).T
    return replace(result, scores=result.spec.score(truth, predicted, len(result.labels)))
