"""Two runs against each other, clip by clip on the same test folds: `mmadfer compare RUN_A RUN_B`."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmadfer.config import identity
from mmadfer.config.schema import Config
from mmadfer.errors import FileError, RunError
from mmadfer.evaluation.bootstrap import Estimate, Paired, estimate_difference, mcnemar, score_differences
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.fold_result import read as read_fold
from mmadfer.run import directory as runs
from mmadfer.tasks import metrics
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.csv_cells import plain_cell
from mmadfer.utils.files import read_text, write_json

IDLE = {*identity.FREE} - {
    *("prepare", "data.test_clips", "data.test_flips", "model.vision.weights", "model.audio.weights")
}
"""Keys that make no result another; the clips of the stores are compared by themselves."""
P_VALUE = "2 min(share of resamples <= 0, share >= 0), each share as (count + 1) / (resamples + 1)"
ONE_SEED = (
    "The interval and p cover the choice of test clips, drawn clip by clip within each fold. They do not cover "
    "training: another train.seed gives another difference."
)
SEVERAL = (
    "The interval and p cover the choice of test clips, drawn clip by clip within each fold, for the mean over these "
    "very seeds. Training's own chance is averaged over them, and not in the interval: compare it with the standard "
    "deviation over seeds."
)


@dataclass(frozen=True)
class Member:
    """One finished run of a side."""

    path: Path
    seed: int
    results: dict[int, FoldResult]
    predictions: dict[int, dict[str, tuple[str, str]]]
    """fold -> clip -> label and predicted label."""

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


@dataclass(frozen=True)
class RunComparison:
    """What is printed and written."""

    a: ComparedRun
    b: ComparedRun
    labels: tuple[str, ...]
    folds: list[Paired]
    overall: dict[str, Estimate]
    """Of each score: means over folds and seeds, B minus A."""
    each: list[dict[str, Estimate]]
    """The same of every fold."""
    resamples: int
    seed: int

    @property
    def spec(self) -> TaskSpec:
        """The task of both."""
        return next(iter(self.a.members[0].results.values())).spec

    @property
    def numbers(self) -> list[int]:
        """The folds that are compared."""
        return [one.fold for one in self.folds]

    @property
    def one_seed(self) -> bool:
        """Whether each side is a single run."""
        return len(self.a.members) == len(self.b.members) == 1

    @property
    def left_out(self) -> list[int]:
        """Folds that not all runs have."""
        return sorted({fold for one in (*self.a.members, *self.b.members) for fold in one.results} - {*self.numbers})

    @property
    def counts(self) -> dict[str, int] | None:
        """Clips that both, one side alone, or none has right; None where there are several seeds."""
        if not self.one_seed:
            return None
        a, b = (
            np.concatenate([side[0] == one.truth for one, side in zip(self.folds, sides, strict=True)])
            for sides in ([one.a for one in self.folds], [one.b for one in self.folds])
        )
        found = {"both": a & b, "only_a": a & ~b, "only_b": b & ~a, "none": ~a & ~b}
        return {name: int(clips.sum()) for name, clips in found.items()}

    @property
    def differs(self) -> dict[str, tuple[Any, Any]]:
        """Configuration keys in which the two sides differ, with A's and B's values, without IDLE ones."""
        told = differs(*(runs.read(side.members[0].path).config for side in (self.a, self.b)))
        return {key: values for key, values in told.items() if key != "train.seed" or self.one_seed}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; scores are fractions."""
        counts = self.counts
        return {
            "a": self._side(self.a),
            "b": self._side(self.b),
            "differs": self.differs,
            "folds": self.numbers,
            "folds_left_out": self.left_out,
            "difference": {"what": "B minus A", **{score: asdict(found) for score, found in self.overall.items()}},
            "each_fold": [
                {"fold": one.fold, "clips": len(one.truth), **{score: asdict(found) for score, found in each.items()}}
                for one, each in zip(self.folds, self.each, strict=True)
            ],
            "right": counts,
            "mcnemar_p": mcnemar(counts["only_a"], counts["only_b"]) if counts else None,
            "resamples": self.resamples,
            "seed": self.seed,
            "interval": "95 %, between the percentiles 2.5 and 97.5 of the resamples",
            "p_value": P_VALUE,
            "covers": ONE_SEED if self.one_seed else SEVERAL,
        }

    def _side(self, side: ComparedRun) -> dict[str, Any]:
        scores = {score: fmean(one.mean(score, self.numbers) for one in side.members) for score in self.spec.names}
        return {
            "name": side.name,
            "runs": [
                {
                    "run": str(one.path),
                    "seed": one.seed,
                    **{score: one.mean(score, self.numbers) for score in self.spec.names},
                }
                for one in side.members
            ],
            **scores,
            "std_of_seeds": {score: side.seeds_std(score, self.numbers) for score in self.spec.names},
        }


def compare(a: Path, b: Path, resamples: int = 10_000, seed: int = 0, out: Path | None = None) -> RunComparison:
    """Compare two finished runs, or rows of a sweep with all their seeds, on the folds that all of them have.

    Args:
        a: a run directory, or SWEEP/ROW of a sweep with `seeds`.
        b: the same.
        resamples: of the bootstrap.
        seed: of its draws.
        out: a JSON file to write; None: none.

    Raises:
        RunError: no such run, an unfinished or damaged fold, one run on both sides, no fold in common, or other labels
            or clips in a fold.
    """
    sides = ComparedRun(str(a), _members(a)), ComparedRun(str(b), _members(b))
    labels = _agreed(*sides)
    common = set.intersection(*({*one.results} for side in sides for one in side.members))
    if not common:
        raise RunError(f"{a} and {b} have no fold in common: train the same folds of both")
    folds = [_pair(fold, *sides, labels) for fold in sorted(common)]
    spec = next(iter(sides[0].members[0].results.values())).spec
    drawn = score_differences(folds, len(labels), resamples, seed, spec)
    found = np.array([_difference(one, len(labels), spec) for one in folds])
    each = [_estimates(value, drawn[:, k], spec) for k, value in enumerate(found)]
    overall = _estimates(found.mean(0), drawn.mean(1), spec)
    made = RunComparison(*sides, labels, folds, overall, each, resamples, seed)
    if out is not None:
        write_json(out, made.to_dict())
    return made


def differs(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values, without IDLE ones; an encoder file that was moved counts."""
    return {key: values for key, values in identity.differences(one, other).items() if key not in IDLE}


def _estimates(values: np.ndarray, drawn: np.ndarray, spec: TaskSpec) -> dict[str, Estimate]:
    return {score: estimate_difference(float(values[k]), drawn[:, k]) for k, score in enumerate(spec.names)}


def _difference(one: Paired, classes: int, spec: TaskSpec) -> list[float]:
    """The scores of B minus A on the clips of a fold."""
    a, b = ([spec.score(one.truth, run, classes) for run in side] for side in (one.a, one.b))
    return [fmean(found[name] for found in b) - fmean(found[name] for found in a) for name in spec.names]


def _members(path: Path) -> list[Member]:
    """The run, or those of a row's seeds."""
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
    if run.config.task.spec.output != "classes":
        raise RunError(f"{path} cannot be compared: task {run.config.task.name} gives values, and here are classes")
    if odd or not usable:
        raise RunError(f"{path} cannot be compared: {'; '.join(odd) or 'it has no finished fold'}. Finish its folds")
    said = {fold: _predictions(run.fold(fold) / "predictions.csv", one) for fold, one in usable.items()}
    return Member(run.path, run.config.train.seed, usable, said)


_CLEAR = ("finished", "missing")
"""States of folds with which a run can be compared."""


def _predictions(path: Path, result: FoldResult) -> dict[str, tuple[str, str]]:
    """Label and predicted label of every clip; they must give the confusion matrix of the fold's result.

    Raises:
        RunError: the file is missing, damaged, or of another result.
    """
    try:
        rows = list(csv.reader(read_text(path).splitlines(keepends=True), strict=True))
    except (OSError, FileError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    if not rows or rows[0][:3] != ["id", "label", "predicted"] or any(len(row) != len(rows[0]) for row in rows):
        raise RunError(f"{path} is not a table of id, label, predicted and so on; {_AGAIN}")
    if odd := [row[0] for row in rows[1:] if not all(map(_is_share, row[3:]))]:
        raise RunError(f"{path} has probabilities that are no numbers from 0 to 1, of {', '.join(odd[:3])}; {_AGAIN}")
    found = {plain_cell(row[0]): (plain_cell(row[1]), plain_cell(row[2])) for row in rows[1:]}
    if unknown := {name for pair in found.values() for name in pair} - {*result.labels}:
        raise RunError(f"{path} has labels that its result does not know: {', '.join(sorted(unknown))}; {_AGAIN}")
    truth, predicted = ([result.labels.index(pair[k]) for pair in found.values()] for k in (0, 1))
    if (metrics.confusion(truth, predicted, len(result.labels)) != result.confusion).any():
        raise RunError(f"{path} does not give the confusion matrix of the result beside it; {_AGAIN}")
    return found


_AGAIN = "train the fold again"


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _agreed(a: ComparedRun, b: ComparedRun) -> tuple[str, ...]:
    """The labels of all runs."""
    if both := {one.path.resolve() for one in a.members} & {one.path.resolve() for one in b.members}:
        raise RunError(f"{both.pop()} is on both sides: a run cannot be compared with itself; give two runs")
    everywhere = [(one.path, fold.labels) for side in (a, b) for one in side.members for fold in one.results.values()]
    first = everywhere[0][1]
    for path, labels in everywhere:
        if {*labels} != {*first}:
            raise RunError(
                f"{path} has the classes {', '.join(labels)}, and {a.members[0].path} has {', '.join(first)}: only "
                "runs on the same classes can be compared"
            )
    return first


def _pair(fold: int, a: ComparedRun, b: ComparedRun, labels: tuple[str, ...]) -> Paired:
    """The fold's clips in one order.

    Raises:
        RunError: the runs were tested on other clips, or with other labels.
    """
    said = {one.path: one.predictions[fold] for side in (a, b) for one in side.members}
    (first, whole), *others = said.items()
    for path, found in others:
        if odd := sorted(
            {clip for clip in found.keys() | whole if found.get(clip, ("",))[0] != whole.get(clip, ("",))[0]}
        ):
            raise RunError(
                f"fold {fold}: {path} and {first} were tested on other clips, or labels, {len(odd)} of them "
                f"({', '.join(odd[:3])}{', …' if odd[3:] else ''}): compare runs on one store"
            )
    clips, number = sorted(whole), {label: k for k, label in enumerate(labels)}
    guesses = [
        np.array([[number[one.predictions[fold][clip][1]] for clip in clips] for one in side.members])
        for side in (a, b)
    ]
    return Paired(fold, np.array([number[whole[clip][0]] for clip in clips]), *guesses)
