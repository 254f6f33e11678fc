"""What a model says of the clips of a fold: scores, and a line for each clip."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

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
    """float32 (N, classes); where a clip is looked at in several ways, the logarithm of their mean probabilities."""
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

    def scores(self) -> dict[str, float]:
        """The task's, by name."""
        return self.spec.score(self.labels, self.predicted, len(self.names))

    def details(self) -> dict[str, Any]:
        """What a result has beside the scores: which clips were taken for which."""
        return {"confusion": self.confusion.tolist(), "labels": list(self.names)}

    def table(self) -> Table:
        """The recall of every class, for a person."""
        table, counts = Table("label", "clips", "recall"), self.confusion.sum(1)
        for name, clips, recall in zip(self.names, counts, metrics.recalls(self.confusion), strict=True):
            table.add_row(escape(name), str(clips), f"{recall:.1%}" if clips else "-")
        return table

    def adjusted(self, priors: Sequence[float], tau: float) -> "Predictions":
        """The same with adjusted logits; arguments and errors are those of `adjust.shift`."""
        return replace(self, logits=self.logits - adjustment.shift(self.names, priors, tau))

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


@dataclass(frozen=True)
class Values:
    """What a model says of N clips: numbers by name."""

    ids: list[str]
    truth: np.ndarray
    """float32 (N, C)."""
    output: np.ndarray
    """float32 (N, C); where a clip is looked at in several ways, their mean."""
    names: tuple[str, ...]
    spec: TaskSpec

    def scores(self) -> dict[str, float]:
        """The task's, by name."""
        return self.spec.score(self.truth, self.output, len(self.names))

    def details(self) -> dict[str, Any]:
        """What a result has beside the scores."""
        return {"clips": len(self.ids), "values": list(self.names)}

    def csv(self) -> str:
        """One line a clip: id, true_<name> and <name> for each value."""
        heads = [f"{kind}{name}" for kind in ("true_", "") for name in self.names]
        rows = zip(self.ids, self.truth, self.output, strict=True)
        cells = ([cell(clip), *(f"{value:.6f}" for value in (*truth, *found))] for clip, truth, found in rows)
        return to_csv([["id", *heads], *cells])

    def table(self) -> Table:
        """The root of the mean squared error of every value, for a person."""
        table = Table("value", "clips", "RMSE")
        for name, column in zip(self.names, (self.output - self.truth).T, strict=True):
            table.add_row(escape(name), str(len(column)), f"{np.sqrt((column.astype(np.float64) ** 2).mean()):.4f}")
        return table


Scored = Predictions | Values


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
