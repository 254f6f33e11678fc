"""Five folds as numbers: mean, standard deviation, the summed confusion matrix, and other runs beside it."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer import contract
from mmadfer.config.schema import Config
from mmadfer.errors import RunError, WeightsError
from mmadfer.evaluation.fold_result import FoldResult, class_recalls, read
from mmadfer.evaluation.subjects import SubjectTable
from mmadfer.report.beside import THIS, Beside, Other, set_beside
from mmadfer.report.of_clips import OfClips, of_clips
from mmadfer.report.subjects import side_by_side
from mmadfer.run import directory as runs
from mmadfer.run.parents import lacking
from mmadfer.tasks.spec import TaskSpec

RESULT = "last epoch, on the test fold"
PICKED = "best epoch, picked on test data: not a result"
PICKED_VALIDATION = "best epoch, picked on validation data, and its scores there: not a result"
VALIDATION_NOTE = "last epoch, on the training clips that were kept for validation: to choose by, not a result"
BEGUN_FROM = "begun from"
"""The column of the run of `stages.init`, beside this one."""
STD_OVER_FOLDS = "sample standard deviation over folds (n - 1)"


@dataclass(frozen=True)
class RunReport:
    """Everything that the table, the JSON file and the page show."""

    run: Path
    about: dict[str, Any]
    config: Config
    folds: tuple[FoldResult, ...]
    beside: tuple[Beside, ...]
    origin: dict[str, Any]
    """`data_set`, `licences` and `encoder_hash`, as the trained model carries them."""
    made: str
    teacher: tuple[FoldResult, ...] = ()
    """The usable folds of the run that this one learns from (`stages.teacher`), which fold k learns from fold k of."""
    subjects: SubjectTable | None = None
    """Of this run, the run that it began from, and those beside it; None where the store knows no subjects."""
    subjects_note: str = ""
    """Why there is no such table, where a person would ask."""
    of_clips: OfClips | None = None
    """What the predictions of every clip tell; None of a task of values, or where they cannot be read."""
    of_clips_note: str = ""
    """Why they cannot."""

    @property
    def spec(self) -> TaskSpec:
        """The task, which knows its scores."""
        return self.config.task.spec

    @property
    def clips(self) -> int:
        """That were tested in the usable folds."""
        return sum(fold.clips or 0 for fold in self.usable)

    @property
    def usable(self) -> list[FoldResult]:
        """The folds that count."""
        return [fold for fold in self.folds if fold.usable]

    @property
    def complete(self) -> bool:
        """Whether every fold of the configuration counts."""
        return len(self.usable) == len(self.folds)

    @property
    def problems(self) -> list[str]:
        """What stands between this and a complete result, one line per fold."""
        bad = [fold for fold in self.folds if not fold.usable]
        return [f"fold {f.fold} {'' if f.state == 'failed' else 'is '}{f.state}: {f.note}" for f in bad]

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in order."""
        return self.usable[0].labels if self.usable else ()

    @property
    def values(self) -> tuple[str, ...]:
        """Names of values, in order; none of a task with classes."""
        return self.usable[0].values if self.usable else ()

    def by_value(self, key: str) -> list[float]:
        """A score of one value in each usable fold that tells it: `ccc_valence` and so on."""
        return [fold.by_value[key] for fold in self.usable if key in fold.by_value]

    @property
    def confusion(self) -> np.ndarray | None:
        """(C, C) int64: the sum over the usable folds, rows are the truth; None of a task without classes."""
        counts = [fold.confusion for fold in self.usable if fold.confusion is not None]
        return np.asarray(np.stack(counts).sum(axis=0)) if counts else None

    @property
    def recall(self) -> list[float | None]:
        """Recall of each class in the summed confusion matrix; None for a class without clips."""
        return [] if self.confusion is None else class_recalls(self.confusion)

    def mean(self, value: str) -> float | None:
        """Mean of a score over the usable folds."""
        return _mean(fold.scores[value] for fold in self.usable)

    def std(self, value: str) -> float | None:
        """Sample standard deviation of a score over the usable folds; None for fewer than two."""
        values = [fold.scores[value] for fold in self.usable]
        return statistics.stdev(values) if len(values) > 1 else None

    def taught(self, fold: int) -> dict[str, float]:
        """The teacher's scores on this test fold; nothing where it has none."""
        return next((theirs.scores for theirs in self.teacher if theirs.fold == fold), {})

    def mean_taught(self, value: str) -> float | None:
        """Mean of the teacher's score over the usable folds; None unless it has all of them."""
        found = [self.taught(fold.fold).get(value) for fold in self.usable]
        return None if None in found else _mean(value for value in found if value is not None)

    @property
    def validated(self) -> bool:
        """Whether clips were kept for validation, and the test folds looked at once."""
        return any(fold.validation for fold in self.usable)

    @property
    def picked(self) -> str:
        """What the best epochs are."""
        return PICKED_VALIDATION if self.validated else PICKED

    def validation(self, value: str) -> float | None:
        """Mean of a score of the last epoch on the clips kept for validation."""
        return _mean(fold.validation[value] for fold in self.usable if fold.validation)

    def best(self, value: str) -> float | None:
        """Mean of a score of the epochs that were best on the test folds, or on the clips for validation."""
        values = [fold.best.get(value) for fold in self.usable]
        return _mean(v for v in values if v is not None) if None not in values else None

    def to_dict(self) -> dict[str, Any]:
        """The JSON report."""
        names, kept = self.spec.names, self.validated
        return {
            "run": str(self.run),
            "name": self.about.get("name"),
            "made": self.made,
            "complete": self.complete,
            "problems": self.problems,
            "folds_expected": len(self.folds),
            "folds_used": [fold.fold for fold in self.usable],
            "result": RESULT,
            "mean": {value: self.mean(value) for value in names},
            "std": {**{value: self.std(value) for value in names}, "kind": STD_OVER_FOLDS},
            **(
                {"validation": {**{value: self.validation(value) for value in names}, "kind": VALIDATION_NOTE}}
                if kept
                else {}
            ),
            f"best_on_{'validation' if kept else 'test'}": {
                **{value: self.best(value) for value in names},
                "kind": self.picked,
            },
            "labels": list(self.labels),
            **self._told_values(),
            **self._told_teacher(),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "recall": self.recall,
            "folds": [fold.to_dict() for fold in self.folds],
            "beside": [row.to_dict() for row in self.beside],
            **self._told_subjects(),
            **({"clips": self.of_clips.to_dict()} if self.of_clips else {}),
            "origin": self.origin,
            "about": self.about,
            "config": self.config.model_dump(mode="json"),
        }

    def _told_teacher(self) -> dict[str, Any]:
        """The teacher's run and scores, for a run that has one."""
        run = self.config.stages.teacher
        if run is None or not self.config.taught:
            return {}
        folds = [{"fold": fold.fold, **fold.scores} for fold in self.teacher]
        return {"teacher": {"run": str(run), "mean": {s: self.mean_taught(s) for s in self.spec.names}, "folds": folds}}

    def _told_subjects(self) -> dict[str, Any]:
        """Every subject, and what this run gains over each other run."""
        table = self.subjects
        if table is None:
            return {}
        first, *others = table.columns
        return {"subjects": {**table.to_dict(), "gain_over": {one: table.gain(one, first) for one in others}}}

    def _told_values(self) -> dict[str, Any]:
        """Names of values, with the mean over folds of each score of each."""
        if not self.values:
            return {}
        keys = [f"{score}_{name}" for name in self.values for score in self.spec.names]
        return {"values": list(self.values), "by_value": {key: _mean(self.by_value(key)) for key in keys}}


def summarise_run(run: Path, beside: Mapping[str, Path]) -> RunReport:
    """Read a run and those beside it.

    Raises:
        RunError: no run is there, or none of its folds is finished.
    """
    report = gather(run)
    if not report.usable:
        lines = "".join(f"\n  {problem}" for problem in report.problems)
        raise RunError(f"{run} has no finished fold to report on:{lines}\nFinish them: the same launch with --resume")
    this, others = runs.Run(report.run, report.config), {name: _other(path, report) for name, path in beside.items()}
    subjects, note = _subjects(this, report, others)
    told, why = of_clips(this, report.usable)
    rows = set_beside(this, {fold.fold: fold for fold in report.usable}, others)
    return replace(report, beside=rows, subjects=subjects, subjects_note=note, of_clips=told, of_clips_note=why)


def gather(run: Path) -> RunReport:
    """Read a run alone, of which no fold need be finished.

    Raises:
        RunError: no run is there.
    """
    opened = runs.read(run)
    folds = _folds(opened)
    origin, teacher = _origin(opened.path, folds), _teacher(opened, folds)
    return RunReport(opened.path, runs.about(run), opened.config, folds, (), origin, runs.now(), teacher)


def _teacher(run: runs.Run, folds: Iterable[FoldResult]) -> tuple[FoldResult, ...]:
    """Nothing where nobody asks it, its run is gone, its task has other scores, or its folds test other clips."""
    config = run.config
    if config.stages.teacher is None or not config.taught:
        return ()
    try:
        theirs = runs.read(config.stages.teacher)
    except RunError:
        return ()
    found = tuple(fold for fold in _folds(theirs) if fold.usable)
    same = theirs.config.task.spec.names == config.task.spec.names
    return found if same and _tested(run.path, folds) == _tested(theirs.path, found) else ()


def _tested(run: Path, folds: Iterable[FoldResult]) -> tuple[str, str, int | None] | None:
    """Store, split and number of folds, which say what fold k is tested on; None where no checkpoint can be read."""
    found = first_contract(run, folds)
    return None if found is None else (found.store, found.split, found.folds)


def _folds(run: runs.Run) -> tuple[FoldResult, ...]:
    config = run.config
    found = [_with_parents(config, read(run.path, fold, config)) for fold in range(1, config.data.folds + 1)]
    labels = next((fold.names for fold in found if fold.usable), ())
    return tuple(_of_classes(fold, labels) for fold in found)


def _with_parents(config: Config, fold: FoldResult) -> FoldResult:
    """With what a fold without a result lacks of the runs that it begins and learns from."""
    why = "" if fold.usable else lacking(config, fold.fold)
    return replace(fold, note=f"{fold.note}; {why}") if why and why not in fold.note else fold


def _of_classes(fold: FoldResult, labels: tuple[str, ...]) -> FoldResult:
    if not fold.usable or fold.names == labels:
        return fold
    note = f"its {fold.spec.output} are {', '.join(fold.names)}, but the first fold has {', '.join(labels)}"
    return replace(
        FoldResult(fold.fold, "damaged", note, spec=fold.spec), epoch=fold.epoch, epochs=fold.epochs, curves=fold.curves
    )


def _other(path: Path, report: RunReport) -> Other:
    run = runs.read(path)
    found = {fold.fold: fold for fold in _folds(run) if fold.usable}
    return run, found, _doubt(found, report)


def _subjects(this: runs.Run, report: RunReport, others: Mapping[str, Other]) -> tuple[SubjectTable | None, str]:
    """Of the runs that can be compared, as `side_by_side`."""
    known = {BEGUN_FROM: _begun_from(report), **others}
    compared = {name: (one[0], [*one[1].values()]) for name, one in known.items() if one and not one[2]}
    return side_by_side({THIS: (this, report.usable), **compared})


def _begun_from(report: RunReport) -> Other | None:
    """The run of `stages.init`; None where there is none, or it is gone."""
    path = report.config.stages.init
    return _other(path, report) if path is not None and (path / "config.yaml").is_file() else None


def _doubt(found: dict[int, FoldResult], report: RunReport) -> str:
    if not found:
        return "no finished fold"
    if any(fold.spec is not report.spec for fold in found.values()):
        return "another task: not compared"
    wanted = report.usable[0].names
    same = all(fold.names == wanted for fold in found.values())
    return "" if same else f"other {report.spec.output}: not compared"


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.fmean(values) if values else None


def _origin(run: Path, folds: Iterable[FoldResult]) -> dict[str, Any]:
    """Data set, licences and encoders, from the contract that the first readable checkpoint carries."""
    found = first_contract(run, folds)
    if found is None:
        return {"data_set": None, "licences": contract.LICENCES, "encoder_hash": None}
    return {"data_set": found.data_set, "licences": found.licences, "encoder_hash": found.encoder_hash}


def first_contract(run: Path, folds: Iterable[FoldResult]) -> contract.Contract | None:
    """The contract that the first readable checkpoint of a usable fold carries; None where there is none."""
    there = (_contract(runs.latest_checkpoint(runs.fold_dir(run, fold.fold))) for fold in folds if fold.usable)
    return next((found for found in there if found is not None), None)


def _contract(checkpoint: Path | None) -> contract.Contract | None:
    from safetensors import SafetensorError, safe_open

    if checkpoint is None or not (checkpoint / "weights.safetensors").is_file():
        return None
    try:
        with safe_open(checkpoint / "weights.safetensors", framework="numpy") as file:
            return contract.loads((file.metadata() or {})[contract.KEY])
    except (OSError, SafetensorError, KeyError, ValueError, WeightsError):
        return None
