"""Two runs against each other, clip by clip on the same test folds: `mmadfer compare RUN_A RUN_B`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mmadfer.config import identity
from mmadfer.config.schema import Config
from mmadfer.data.traces import Trace
from mmadfer.errors import RunError
from mmadfer.evaluation.bootstrap import Estimate, OverUnits, Paired, estimate_difference, mcnemar, score_differences
from mmadfer.evaluation.compared_runs import ComparedRun, read_side, without_adapted
from mmadfer.evaluation.subjects import OVER_SUBJECTS, SubjectTable, subject_table, subjects_of
from mmadfer.run import directory as runs
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.files import write_json

IDLE = {*identity.FREE} - {
    *("prepare", "data.test_clips", "data.test_flips", "model.vision.weights", "model.audio.weights"),
    *("data.window.hop", "data.window.pool", "data.window.gamma"),
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
    clips_left_out: int = 0
    """Of one run: those that another was adapted to."""

    @property
    def subjects(self) -> SubjectTable | None:
        """Both sides, A and B; None where the store knows no subjects."""
        return self._by_subject[0]

    @property
    def subjects_note(self) -> str:
        """Why there is no such table, where a person would ask."""
        return self._by_subject[1]

    @cached_property
    def _by_subject(self) -> tuple[SubjectTable | None, str]:
        return _by_subject((self.a, self.b), self.labels, self.spec)

    @cached_property
    def over_subjects(self) -> dict[str, OverUnits]:
        """Of each score: B minus A with subjects as the units; nothing of fewer than two."""
        table = self.subjects
        if table is None or len(table.names) < 2:
            return {}
        return {name: table.difference(name, "A", "B", self.resamples, self.seed) for name in self.spec.names}

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
        """Clips that both, one side alone, or none has right; None where there are several seeds, or values."""
        if not self.one_seed or self.spec.output != "classes":
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
            **({"clips_left_out": self.clips_left_out} if self.clips_left_out else {}),
            **self._told_subjects(),
            "right": counts,
            "mcnemar_p": mcnemar(counts["only_a"], counts["only_b"]) if counts else None,
            "resamples": self.resamples,
            "seed": self.seed,
            "interval": "95 %, between the percentiles 2.5 and 97.5 of the resamples",
            "p_value": P_VALUE,
            "covers": ONE_SEED if self.one_seed else SEVERAL,
        }

    def _told_subjects(self) -> dict[str, Any]:
        if self.subjects is None:
            return {}
        over = {name: asdict(found) for name, found in self.over_subjects.items()}
        return {"subjects": {"difference": over, "what": OVER_SUBJECTS, **self.subjects.to_dict()}}

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
    made = compare_sides(read_side(a), read_side(b), resamples, seed)
    if out is not None:
        write_json(out, made.to_dict())
    return made


def compare_sides(a: ComparedRun, b: ComparedRun, resamples: int = 10_000, seed: int = 0) -> RunComparison:
    """`compare` of sides that were read.

    Raises:
        RunError: one run on both sides, no fold in common, or other labels or clips in a fold.
    """
    labels = _agreed(a, b)
    (side_a, side_b), left_out = without_adapted((a, b))
    common = set.intersection(*({*one.results} for side in (side_a, side_b) for one in side.members))
    if not common:
        raise RunError(f"{a.name} and {b.name} have no fold in common: train the same folds of both")
    folds = [_pair(fold, side_a, side_b, labels) for fold in sorted(common)]
    spec = next(iter(side_a.members[0].results.values())).spec
    drawn = score_differences(folds, len(labels), resamples, seed, spec)
    found = np.array([_difference(one, len(labels), spec) for one in folds])
    each = [_estimates(value, drawn[:, k], spec) for k, value in enumerate(found)]
    overall = _estimates(found.mean(0), drawn.mean(1), spec)
    return RunComparison(side_a, side_b, labels, folds, overall, each, resamples, seed, left_out)


def _by_subject(
    sides: Sequence[ComparedRun], labels: tuple[str, ...], spec: TaskSpec
) -> tuple[SubjectTable | None, str]:
    """The table of both sides, or why there is none."""
    said = {letter: [one.predictions for one in side.members] for letter, side in zip("AB", sides, strict=True)}
    store = runs.read(sides[0].members[0].path).config.data.store
    try:
        subjects = subjects_of(store, [one for each in said.values() for one in each])
        return subject_table(subjects, said, labels, spec) if subjects else None, ""
    except RunError as error:
        return None, str(error)


def differs(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values, without IDLE ones; an encoder file that was moved counts."""
    return {key: values for key, values in identity.differences(one, other).items() if key not in IDLE}


def _estimates(values: np.ndarray, drawn: np.ndarray, spec: TaskSpec) -> dict[str, Estimate]:
    return {score: estimate_difference(float(values[k]), drawn[:, k]) for k, score in enumerate(spec.names)}


def _difference(one: Paired, classes: int, spec: TaskSpec) -> list[float]:
    """The scores of B minus A on the clips of a fold."""
    a, b = (
        np.array([spec.from_sums(one.statistics(run, classes, spec).sum(0)) for run in side]).T.tolist()
        for side in (one.a, one.b)
    )
    return [fmean(after) - fmean(before) for before, after in zip(a, b, strict=True)]


def _agreed(a: ComparedRun, b: ComparedRun) -> tuple[str, ...]:
    """The labels, or names of values, of all runs."""
    if both := {one.path.resolve() for one in a.members} & {one.path.resolve() for one in b.members}:
        raise RunError(f"{both.pop()} is on both sides: a run cannot be compared with itself; give two runs")
    everywhere = [(one.path, fold) for side in (a, b) for one in side.members for fold in one.results.values()]
    spec, names = everywhere[0][1].spec, everywhere[0][1].names
    kind = spec.output
    for path, fold in everywhere:
        if (fold.spec.output, fold.spec.names) != (kind, spec.names):
            raise RunError(f"{path} and {a.members[0].path} have learnt different tasks: compare runs of one task")
        same = {*fold.names} == {*names} if kind == "classes" else fold.names == names
        if not same:
            raise RunError(
                f"{path} has the {kind} {', '.join(fold.names)}, and {a.members[0].path} has {', '.join(names)}: only "
                f"runs on the same {kind} can be compared"
            )
    return names


def _pair(fold: int, a: ComparedRun, b: ComparedRun, labels: tuple[str, ...]) -> Paired:
    """The fold's clips in one order; those without any true value are left out.

    Raises:
        RunError: the runs were tested on other clips, or with other labels.
    """
    said = {one.path: one.predictions[fold] for side in (a, b) for one in side.members}
    (first, whole), *others = said.items()
    for path, found in others:
        odd = sorted({clip for clip in found.keys() | whole if not _same_truth(found.get(clip), whole.get(clip))})
        if odd:
            raise RunError(
                f"fold {fold}: {path} and {first} were tested on other clips, or labels, {len(odd)} of them "
                f"({', '.join(odd[:3])}{', …' if odd[3:] else ''}): compare runs on one store"
            )
    clips, number = sorted(whole), {label: k for k, label in enumerate(labels)}
    if isinstance(whole[clips[0]], Trace):
        return _pair_of_traces(fold, [[one.predictions[fold] for one in side.members] for side in (a, b)])
    guesses = [
        [np.array([number[one.predictions[fold][clip][1]] for clip in clips]) for one in side.members]
        for side in (a, b)
    ]
    return Paired(fold, np.array([number[whole[clip][0]] for clip in clips]), *guesses)


def _same_truth(one: Any, other: Any) -> bool:
    if isinstance(one, Trace) and isinstance(other, Trace):
        return np.array_equal(one.truth, other.truth, equal_nan=True)
    return bool(one and other and one[0] == other[0])


def _pair_of_traces(fold: int, sides: list[list[dict[str, Any]]]) -> Paired:
    """Clips of several lengths, each by itself."""
    whole = sides[0][0]
    clips = sorted(clip for clip, trace in whole.items() if not np.isnan(trace.truth).all())
    told = [[[said[clip].output for clip in clips] for said in side] for side in sides]
    return Paired(fold, [whole[clip].truth for clip in clips], *told)
