"""What a model says of the clips of a fold: scores, and a line for each clip."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from mmadfer.data.traces import Trace
from mmadfer.tasks import logit_adjustment as adjustment
from mmadfer.tasks import metrics
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.csv_cells import cell, to_csv
from mmadfer.utils.files import write_text


@dataclass(frozen=True)
class Predictions:
    """What a model says of N clips: a class of each."""

    ids: list[str]
    labels: np.ndarray
    """int64 (N,): the truth, as places in `names`."""
    logits: np.ndarray
    """float32 (N, classes), float64 once calibrated; where a clip is looked at in several ways, the logarithm of their
    mean probabilities."""
    names: tuple[str, ...]
    spec: TaskSpec = CLASSIFICATION

    @property
    def probabilities(self) -> np.ndarray:
        """float32 (N, classes), each row adding up to 1."""
        return torch.from_numpy(self.logits).softmax(1).numpy()

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,): the most probable class."""
        return self.logits.argmax(1)

    @property
    def confusion(self) -> np.ndarray:
        """int64 (classes, classes), rows are the truth."""
        return metrics.confusion(self.labels, self.predicted, len(self.names))

    def of(self, clips: Collection[str]) -> "Predictions":
        """Those of these clips alone, in the order that they have here."""
        rows = [row for row, clip in enumerate(self.ids) if clip in clips]
        return replace(self, ids=[self.ids[row] for row in rows], labels=self.labels[rows], logits=self.logits[rows])

    def scores(self) -> dict[str, float]:
        """The task's, by name."""
        return self.spec.score(self.labels, self.predicted, len(self.names))

    def cross_entropy(self) -> float:
        """The mean of -log p of the true class, in float64; of a clip with windows, p is of their pooled logits."""
        return functional.cross_entropy(torch.from_numpy(self.logits).double(), torch.from_numpy(self.labels)).item()

    def details(self) -> dict[str, Any]:
        """What a result has beside the scores: its loss, and which clips were taken for which."""
        return {
            "cross_entropy": self.cross_entropy(),
            "confusion": self.confusion.tolist(),
            "labels": list(self.names),
        }

    def table(self) -> Table:
        """The recall of every class, for a person."""
        table, counts = Table("label", "clips", "recall"), self.confusion.sum(1)
        for name, clips, recall in zip(self.names, counts, metrics.recalls(self.confusion), strict=True):
            table.add_row(escape(name), str(clips), f"{recall:.1%}" if clips else "-")
        return table

    def adjusted(self, priors: Sequence[float], tau: float) -> "Predictions":
        """The same with adjusted logits; arguments and errors are those of `adjust.shift`."""
        return replace(self, logits=self.logits - adjustment.shift(self.names, priors, tau))

    def calibrated(self, temperature: float) -> "Predictions":
        """The same with divided logits, in float64: so close ones stay apart, and every clip keeps its label."""
        return replace(self, logits=self.logits.astype(np.float64) / temperature)

    def csv(self) -> str:
        """One line a clip: id, label, predicted, and p_<label> for each class."""
        names = [cell(name) for name in self.names]
        rows = zip(self.ids, self.labels, self.predicted, self.probabilities, strict=True)
        return to_csv(
            [
                ["id", "label", "predicted", *(f"p_{name}" for name in self.names)],
                *([cell(clip), names[k], names[guess], *(f"{p:.6f}" for p in row)] for clip, k, guess, row in rows),
            ]
        )


class _OfValues:
    """What scores of values need; `Values` and `Traces` say where the numbers are."""

    names: tuple[str, ...]
    spec: TaskSpec

    @property
    def compared(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Truth and output, both float (N, C) or (N, T, C)."""
        raise NotImplementedError

    def scores(self) -> dict[str, float]:
        """The task's, by name."""
        return self._scored([*range(len(self.names))])

    def by_value(self) -> dict[str, dict[str, float]]:
        """The scores of each value by itself."""
        return {name: self._scored([k]) for k, name in enumerate(self.names)}

    def _scored(self, columns: list[int]) -> dict[str, float]:
        parts = [(truth[..., columns], output[..., columns]) for truth, output in self.compared]
        sums = [self.spec.statistics(*part, len(columns)).sum(0) for part in parts]
        return dict(zip(self.spec.names, self.spec.from_sums(np.sum(sums, axis=0)).tolist(), strict=True))

    def _counts(self) -> list[int]:
        """How many true values each has."""
        rows = [np.isfinite(truth).reshape(-1, len(self.names)).sum(0) for truth, _ in self.compared]
        return np.sum(rows, axis=0).tolist()

    def _details(self) -> dict[str, Any]:
        each = {f"{score}_{name}": value for name, row in self.by_value().items() for score, value in row.items()}
        return {"values": list(self.names), "by_value": each}

    def table(self) -> Table:
        """The scores of every value, for a person."""
        table = Table("value", "compared", *self.spec.titles)
        for (name, row), count in zip(self.by_value().items(), self._counts(), strict=True):
            table.add_row(escape(name), str(count), *(score.number(row[score.name]) for score in self.spec.scores))
        return table


@dataclass(frozen=True)
class Values(_OfValues):
    """What a model says of N clips: numbers by name."""

    ids: list[str]
    truth: np.ndarray
    """float32 (N, C)."""
    output: np.ndarray
    """float32 (N, C); where a clip is looked at in several ways, their mean."""
    names: tuple[str, ...]
    spec: TaskSpec

    @property
    def compared(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """As one pair (N, C)."""
        return [(self.truth, self.output)]

    def details(self) -> dict[str, Any]:
        """What a result has beside the scores."""
        return {"clips": len(self.ids), **self._details()}

    def csv(self) -> str:
        """One line a clip: id, true_<name> and <name> for each value."""
        rows = zip(self.ids, self.truth, self.output, strict=True)
        cells = ([cell(clip), *map(_number, (*truth, *found))] for clip, truth, found in rows)
        return to_csv([["id", *_heads(self.names)], *cells])


@dataclass(frozen=True)
class Traces(_OfValues):
    """What a model says of N clips over time: numbers by name, for every frame."""

    ids: list[str]
    traces: list[Trace]
    names: tuple[str, ...]
    spec: TaskSpec

    @property
    def compared(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """A pair (1, L, C) for each clip."""
        return [(one.truth[None], one.output[None]) for one in self.traces]

    def details(self) -> dict[str, Any]:
        """What a result has beside the scores; `steps` counts the frames with a true value."""
        steps = dict(zip(self.names, self._counts(), strict=True))
        return {"clips": len(self.ids), "steps": steps, **self._details()}

    def csv(self) -> str:
        """One line a frame: id, frame, seconds, true_<name> (empty where there is none) and <name> for each value."""
        rows = [["id", "frame", "seconds", *_heads(self.names)]]
        for clip, one in zip(self.ids, self.traces, strict=True):
            name = cell(clip)
            for k, (seconds, truth, output) in enumerate(zip(*one, strict=True)):
                rows.append([name, str(k), f"{seconds:.3f}", *map(_number, (*truth, *output))])
        return to_csv(rows)


def _heads(names: Sequence[str]) -> list[str]:
    return [cell(f"{kind}{name}") for kind in ("true_", "") for name in names]


def _number(value: float) -> str:
    """With the digits that give the same float32 again."""
    return "" if np.isnan(value) else f"{value:.9g}"


Scored = Predictions | Values | Traces


def write_csv(found: Scored, path: Path) -> None:
    """Write `found.csv()`; atomic."""
    write_text(path, found.csv())


def combined(outputs: Tensor, spec: TaskSpec) -> Tensor:
    """(N, C) of all ways (ways, N, C) in which clips were looked at; NaN where one has no finite number.

    Values are averaged, and of logits it is the logarithm of mean probabilities.
    """
    if len(outputs) == 1:
        mean = outputs[0]
    else:
        mean = outputs.softmax(-1).mean(0).log() if spec.output == "classes" else outputs.mean(0)
    return mean.masked_fill(~outputs.isfinite().all(0).all(1, keepdim=True), torch.nan)
