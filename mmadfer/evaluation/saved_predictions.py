"""predictions.csv of a finished fold, read back and held against the result beside it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.data.traces import Trace
from mmadfer.errors import FileError, RunError
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.tasks import metrics
from mmadfer.utils.csv_cells import plain_cell
from mmadfer.utils.files import read_text

_AGAIN = "train the fold again"
_MOST_BYTES = 1 << 30
"""Of a file with a line for each frame; twenty million of them."""
_ROUNDED = 1e-3
"""How far a score may be from that of the result: of values that hardly change, a sum in another order moves it."""


@dataclass(frozen=True)
class ToldClips:
    """What a fold's model says of the N test clips: one of C classes of each."""

    fold: int
    ids: list[str]
    truth: np.ndarray
    """int64 (N,)."""
    told: np.ndarray
    """int64 (N,)."""
    probabilities: np.ndarray
    """float64 (N, C), with six decimals."""

    @property
    def right(self) -> np.ndarray:
        """bool (N,)."""
        return self.told == self.truth

    @property
    def confidence(self) -> np.ndarray:
        """float64 (N,): the probability of the class that was told."""
        return self.confidence_of(self.probabilities)

    def confidence_of(self, probabilities: np.ndarray) -> np.ndarray:
        """The same in other probabilities (N, C), such as calibrated ones."""
        return np.asarray(probabilities[np.arange(len(self.told)), self.told])


def read_answers(path: Path, result: FoldResult) -> Mapping[str, Any]:
    """`read_labels` or `read_traces`, by what the task gives; raises as they do."""
    return read_labels(path, result) if result.spec.output == "classes" else read_traces(path, result)


def read_labels(path: Path, result: FoldResult) -> dict[str, tuple[str, str]]:
    """Label and predicted label of every clip; they must give the confusion matrix of the fold's result.

    Raises:
        RunError: the file is missing, damaged, or of another result.
    """
    return {clip: (label, predicted) for clip, (_, label, predicted, *_) in _checked(path, result)[1].items()}


def read_shares(path: Path, result: FoldResult) -> dict[str, tuple[str, dict[str, float]]]:
    """Label and probabilities by label of every clip; raises as `read_told`."""
    told, labels = read_told(path, result), result.labels
    rows = zip(told.ids, told.truth.tolist(), told.probabilities.tolist(), strict=True)
    return {clip: (labels[truth], dict(zip(labels, shares, strict=True))) for clip, truth, shares in rows}


def read_told(path: Path, result: FoldResult) -> ToldClips:
    """Truth, predicted label and probabilities of every clip; raises as `read_labels`, also of other columns."""
    heads, rows = _checked(path, result)
    if heads[3:] != [f"p_{label}" for label in result.labels]:
        raise RunError(f"{path} does not have the probabilities of {', '.join(result.labels)}; {_AGAIN}")
    number = {label: k for k, label in enumerate(result.labels)}
    truth, told = (np.array([number[row[k]] for row in rows.values()], np.int64) for k in (1, 2))
    probabilities = np.array([[*map(float, row[3:])] for row in rows.values()])
    return ToldClips(result.fold, [*rows], truth, told, probabilities)


def _checked(path: Path, result: FoldResult) -> tuple[list[str], dict[str, list[str]]]:
    """The headings, and the row of every clip; raises as `read_labels`."""
    rows = _rows(path)
    if not rows or rows[0][:3] != ["id", "label", "predicted"] or any(len(row) != len(rows[0]) for row in rows):
        raise RunError(f"{path} is not a table of id, label, predicted and so on; {_AGAIN}")
    if odd := [row[0] for row in rows[1:] if not all(map(_is_share, row[3:]))]:
        raise RunError(f"{path} has probabilities that are no numbers from 0 to 1, of {', '.join(odd[:3])}; {_AGAIN}")
    plain = [[*map(plain_cell, row[:3]), *row[3:]] for row in rows[1:]]
    found = {row[0]: row for row in plain}
    if unknown := {name for row in found.values() for name in row[1:3]} - {*result.labels}:
        raise RunError(f"{path} has labels that its result does not know: {', '.join(sorted(unknown))}; {_AGAIN}")
    truth, predicted = ([result.labels.index(row[k]) for row in found.values()] for k in (1, 2))
    if (metrics.confusion(truth, predicted, len(result.labels)) != result.confusion).any():
        raise RunError(f"{path} does not give the confusion matrix of the result beside it; {_AGAIN}")
    return [*map(plain_cell, rows[0])], found


def read_traces(path: Path, result: FoldResult) -> dict[str, Trace]:
    """Every clip over time, with the values in the order of the result's; one given per clip has a single step.

    Raises:
        RunError: the file is missing, damaged, or of another result.
    """
    heads = [f"{kind}{name}" for kind in ("true_", "") for name in result.values]
    first, *rows = _rows(path) or [[]]
    first = [plain_cell(head) for head in first]
    before = ["id", "frame", "seconds"] if first[1:2] == ["frame"] else ["id"]
    if first != [*before, *heads] or any(len(row) != len(first) for row in rows) or not rows:
        raise RunError(f"{path} is not a table of {', '.join([*before, *heads])}; {_AGAIN}")
    try:
        found = {clip: _trace(list(same), before) for clip, same in groupby(rows, key=lambda row: plain_cell(row[0]))}
    except ValueError as error:
        raise RunError(f"{path} has a cell that is no number ({error}); {_AGAIN}") from error
    truth, output = ([getattr(one, kind) for one in found.values()] for kind in ("truth", "output"))
    sums = result.spec.statistics_over_time(truth, output, len(result.values)).sum(0)
    counted = dict(zip(result.spec.names, result.spec.from_sums(sums).tolist(), strict=True))
    if any(not abs(counted[name] - result.scores[name]) <= _ROUNDED for name in result.spec.names):
        raise RunError(f"{path} does not give the scores of the result beside it; {_AGAIN}")
    return found


def _trace(rows: list[list[str]], before: list[str]) -> Trace:
    numbers = np.array([[float(cell) if cell else np.nan for cell in row[len(before) :]] for row in rows])
    seconds = np.array([float(row[2]) if len(before) > 1 else 0.0 for row in rows])
    truth, output = np.split(numbers.astype(np.float32), 2, axis=1)
    if not np.isfinite(output).all() or np.isinf(truth).any():
        raise ValueError("a value that is not finite")
    return Trace(seconds, truth, output)


def _rows(path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(read_text(path, _MOST_BYTES).splitlines(keepends=True), strict=True))
    except (OSError, FileError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}); {_AGAIN}") from error


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
