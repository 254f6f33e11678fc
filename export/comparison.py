"""How far two forms of a model are apart on the same clips: numbers, a table, and a verdict."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmadfer.errors import ParityError
from mmadfer.metrics import confusion, uar, war

TOLERANCE = 1e-4
"""Largest difference of a logit that is accepted."""

WORST = 5
"""Clips that the report names."""


@dataclass(frozen=True)
class Comparison:
    """Logits of the same clips from both forms of the model, and from the store."""

    ids: list[str]
    media: list[str]
    truth: list[int]
    """Class indexes in the contract's label order."""
    reference: np.ndarray
    """float32 (clips, classes), PyTorch, from the file."""
    candidate: np.ndarray
    """float32 (clips, classes), the exported model, from the file."""
    stored: np.ndarray
    """float32 (clips, classes), PyTorch, from the store."""
    tolerance: float = TOLERANCE
    facts: dict[str, Any] = field(default_factory=dict)
    """What was compared: names, hashes, fold."""

    @property
    def flips(self) -> list[str]:
        """Ids of the clips whose label differs."""
        differ = self.reference.argmax(1) != self.candidate.argmax(1)
        return [name for name, differs in zip(self.ids, differ, strict=True) if differs]

    @property
    def passed(self) -> bool:
        """Whether every logit is within the tolerance and every label is the same; never with a NaN."""
        return bool(_apart(self.reference, self.candidate).max() <= self.tolerance) and not self.flips

    def to_dict(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "passed": self.passed,
            "tolerance": self.tolerance,
            "clips": len(self.ids),
            **self.facts,
            "logit_difference": differences(self.reference, self.candidate),
            "scores": {name: self._scores(logits) for name, logits in self._forms().items()},
            "label_flips": self.flips,
            "worst": self._worst(),
            "file_vs_store": differences(self.reference, self.stored),
        }

    def _forms(self) -> dict[str, np.ndarray]:
        return {"torch": self.reference, self.facts["backend"]: self.candidate, "torch, from the store": self.stored}

    def _scores(self, logits: np.ndarray) -> dict[str, float]:
        table = confusion(self.truth, logits.argmax(1), logits.shape[1])
        return {"uar": float(uar(table)), "war": float(war(table))}

    def _worst(self) -> list[dict[str, Any]]:
        largest = _apart(self.reference, self.candidate).max(1)
        order = np.argsort(-largest, kind="stable")[:WORST]
        return [{"id": self.ids[i], "media": self.media[i], "difference": float(largest[i])} for i in order]


def differences(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far two arrays of logits (clips, classes) are apart, over all logits, and the share of equal labels."""
    apart = _apart(one, other)
    return {
        "max": float(apart.max()),
        "mean": float(apart.mean()),
        "median": float(np.median(apart)),
        "p99": float(np.quantile(apart, 0.99, method="higher")),
        "label_agreement": float((one.argmax(1) == other.argmax(1)).mean()),
    }


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences float64; infinite where either is not a finite number, even if both are."""
    finite = np.isfinite(one) & np.isfinite(other)
    return np.where(finite, np.abs(np.where(finite, one, 0).astype(np.float64) - np.where(finite, other, 0)), np.inf)


def check(comparison: Comparison) -> None:
    """Pass, or say what differs.

    Raises:
        ParityError: a logit beyond the tolerance, a label that differs, or a value that is not finite.
    """
    if comparison.passed:
        return
    worst, largest = comparison.to_dict()["worst"][0], comparison.to_dict()["logit_difference"]["max"]
    raise ParityError(
        f"{comparison.facts['file']} does not give PyTorch's answer on {len(comparison.ids)} clips: the largest "
        f"difference of a logit is {largest:.3g} (clip {worst['id']!r}, {worst['media']}; at most "
        f"{comparison.tolerance:g} is accepted), and {len(comparison.flips)} labels differ. Don't serve this file; "
        "export it anew, and if that does not help, report it with these numbers."
    )


def show(comparison: Comparison) -> None:
    """Print the comparison as tables, and the clips that are furthest apart."""
    report, console = comparison.to_dict(), Console()
    console.print(_scores_table(report), _differences_table(report))
    for clip in report["worst"][:3]:
        console.print(f"  {clip['difference']:.2e}  {clip['id']}", markup=False, highlight=False)


def _scores_table(report: dict[str, Any]) -> Table:
    table = Table("form", "UAR", "WAR", title=f"{report['clips']} clips, from file to label")
    scores = {**report["scores"], "recorded in training, whole fold": report.get("recorded", {})}
    for name, score in scores.items():
        if {"uar", "war"} <= set(score):
            table.add_row(name, f"{score['uar']:.2%}", f"{score['war']:.2%}")
    return table


def _differences_table(report: dict[str, Any]) -> Table:
    table = Table("logits", "max", "mean", "median", "99 %", "labels equal", title="Differences")
    for name, key in (("exported - torch", "logit_difference"), ("file - store", "file_vs_store")):
        numbers = (f"{report[key][kind]:.2e}" for kind in ("max", "mean", "median", "p99"))
        table.add_row(name, *numbers, f"{report[key]['label_agreement']:.1%}")
    return table
