"""How far exported forms of a model are from PyTorch on the same clips: numbers, and a verdict on each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np

from mmadfer.errors import ParityError
from mmadfer.export.parity.tolerance import ENOUGH, TOLERANCES, Tolerance, of_values, reading_faults
from mmadfer.tasks.classification import CLASSIFICATION

WORST = 5
"""Clips of each form that the report names."""


@dataclass(frozen=True)
class Form:
    """One form of the model, and what it said of the clips."""

    name: str
    """The file's name; `torch` for the reference."""
    logits: np.ndarray
    """float32 (clips, classes), from the media files: as it serves, or of the reference as PyTorch's model does; of a
    model that gives values of each step (clips, steps, values)."""
    arithmetic: str = "fp32"
    """By which its tolerance is chosen."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which model it is: file, hashes, backend, scores in training."""
    note: str = ""
    """What a person should know of how it was run."""
    span: float = 0.0
    """Of a model that gives values, the width of the widest range; 0 of one that gives classes."""
    simulated: bool = False
    """Something else ran in the file's place."""
    alone: float | None = None
    """Largest difference of a logit where the clip that is furthest apart is computed without others; if looked for."""

    @property
    def tolerance(self) -> Tolerance:
        """How far from PyTorch it may be."""
        usual = TOLERANCES[self.arithmetic]
        return of_values(usual, self.span) if self.span else usual


@dataclass(frozen=True)
class Reading:
    """The clips read another way, and what PyTorch's model says of that."""

    name: str
    logits: np.ndarray
    """float32, as of a form."""
    frames: np.ndarray
    """float64 (clips,): mean absolute difference of a clip's frames from those of the reference, of 255."""
    sound: np.ndarray
    """float64 (clips,): the same of its filter bank."""
    cure: str = ""
    """What to do where it differs."""


@dataclass(frozen=True)
class ParityComparison:
    """The same clips through all forms; classes are in the order of the labels."""

    labels: tuple[str, ...]
    """Of the outputs: class names, or names of values."""
    ids: list[str]
    media: list[str]
    truth: list[int]
    reference: Form
    """PyTorch, from the media files."""
    served: Reading
    """The media files as the forms were fed with them."""
    stored: Reading
    """The records in the store."""
    forms: list[Form]
    facts: dict[str, Any] = field(default_factory=dict)
    """Which clips these are."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Files for which something is missing here, and why."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Files that are damaged or not for this machine, and why."""
    unread: dict[str, str] = field(default_factory=dict)
    """Clips that could not be read, and why; the numbers are without them."""

    @property
    def passed(self) -> bool | None:
        """Whether everything is within its tolerance; None if it is, but something was only simulated."""
        if self.unread or self.unusable:
            return False
        if any(map(self.reading_faults, self.readings)) or any(map(self.faults, self.forms)):
            return False
        return None if any(form.simulated for form in self.forms) else True

    @property
    def readings(self) -> tuple[Reading, Reading]:
        """The other ways to arrays."""
        return self.served, self.stored

    def faults(self, form: Form) -> list[str]:
        """What is beyond the form's tolerance, in words: against PyTorch on the very same arrays.

        Of 8 bits nothing is asked but labels and score, so these are asked of the whole way from the file, too.
        """
        found = list(form.tolerance.faults(float(self.apart(form).max()), *self._told_apart(form, self.served.logits)))
        if not found and form.tolerance.difference == inf:
            whole = form.tolerance.faults(0.0, *self._told_apart(form, self.reference.logits))
            found = [f"against PyTorch on its own arrays, {fault}" for fault in whole]
        return found

    def _told_apart(self, form: Form, logits: np.ndarray) -> tuple[float, float, str]:
        """Share of equal labels, how far the primary score is off, and how that is called."""
        if self.gives_values:
            return 1.0, 0.0, ""
        equal, primary = float((logits.argmax(1) == form.logits.argmax(1)).mean()), CLASSIFICATION.primary
        off = abs(self.score(form.logits)[primary.name] - self.score(logits)[primary.name])
        return equal, off, primary.title

    def reading_faults(self, reading: Reading) -> list[str]:
        """In what a reading of the clips is not the reference's, in words."""
        flips = self._told_otherwise(self.reference.logits, reading.logits)
        return list(reading_faults(reading.frames, reading.sound, int(flips.sum())))

    @property
    def gives_values(self) -> bool:
        """Whether the outputs are values, and not logits of classes."""
        return self.reference.span > 0

    def _told_otherwise(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Clips (N,) that get another label; none where there are values."""
        return np.zeros(len(one), bool) if self.gives_values else one.argmax(1) != other.argmax(1)

    def flips(self, form: Form) -> list[str]:
        """Ids of the clips to which the form gives another label than PyTorch does on the same arrays."""
        differ = self._told_otherwise(self.served.logits, form.logits)
        return [name for name, differs in zip(self.ids, differ, strict=True) if differs]

    def apart(self, form: Form) -> np.ndarray:
        """Absolute differences of the logits, float64 of their shape; infinite where one is not finite."""
        return distance(self.served.logits, form.logits)

    def largest(self, form: Form) -> np.ndarray:
        """The largest of these in each step of each clip, float64 (clips, steps); one step where clips have none."""
        return np.asarray(self.apart(form).max(axis=-1).reshape(len(self.ids), -1))

    def verdict(self, form: Form) -> str:
        """In a word."""
        return "differs" if self.faults(form) else "simulated" if form.simulated else "passes"

    def remarks(self) -> Iterator[str]:
        """Why the clips prove less than they could."""
        missing = [label for k, label in enumerate(self.labels) if k not in self.truth and not self.gives_values]
        if len(self.ids) < ENOUGH:
            yield f"{len(self.ids)} clips are few: a proof has {ENOUGH} or more"
        if missing:
            yield f"no clip is of class {', '.join(missing)}"

    def to_dict(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "passed": self.passed,
            "clips": len(self.ids),
            **self.facts,
            "remarks": list(self.remarks()),
            "reference": {**self.reference.facts, "scores": self.score(self.reference.logits)},
            "forms": [self._told(form) for form in self.forms],
            "not_run": self.not_run,
            "unusable": self.unusable,
            "unread": self.unread,
            "served": self._told_reading(self.served),
            "file_vs_store": self._told_reading(self.stored),
        }

    def _told(self, form: Form) -> dict[str, Any]:
        limits = {name: value if isfinite(value) else None for name, value in vars(form.tolerance).items()}
        columns = zip(self.labels, *(np.moveaxis(one.logits, -1, 0) for one in (self.served, form)), strict=True)
        verdict = self.verdict(form)
        return {
            "name": form.name,
            "arithmetic": form.arithmetic,
            **form.facts,
            "note": form.note,
            "verdict": verdict,
            "passed": {"passes": True, "differs": False}.get(verdict),
            "faults": self.faults(form),
            "tolerance": limits,
            "logit_difference": self._differences(self.served.logits, form.logits),
            "from_the_file": self._differences(self.reference.logits, form.logits),
            "by_label": {label: _difference_summary(distance(one, other)) for label, one, other in columns},
            "scores": self.score(form.logits),
            "label_flips": self.flips(form),
            "worst": self.worst(form),
        }

    def _told_reading(self, reading: Reading) -> dict[str, Any]:
        return {
            "name": reading.name,
            "passed": not self.reading_faults(reading),
            "faults": self.reading_faults(reading),
            **self._differences(self.reference.logits, reading.logits),
            "scores": self.score(reading.logits),
            "clips_that_differ": int(((reading.frames > 0) | (reading.sound > 0)).sum()),
            "frames": float(reading.frames.max()),
            "filter_bank": float(reading.sound.max()),
        }

    def worst(self, form: Form) -> list[dict[str, Any]]:
        """The clips that are furthest apart, the furthest first, with their furthest step where they have steps."""
        steps = self.largest(form)
        largest = steps.max(1)
        order = np.argsort(-largest, kind="stable")[:WORST]
        return [
            {"id": self.ids[i], "media": self.media[i], "difference": _finite(largest[i])}
            | ({"step": int(steps[i].argmax())} if steps.shape[1] > 1 else {})
            for i in order
        ]

    def score(self, logits: np.ndarray) -> dict[str, float]:
        """The task's, by name; none of values, of which the report on the run tells."""
        if self.gives_values:
            return {}
        return CLASSIFICATION.score(np.asarray(self.truth), logits.argmax(1), len(self.labels))

    def _differences(self, one: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
        if self.gives_values:
            return {**_difference_summary(distance(one, other)), "label_agreement": None}
        return logit_differences(one, other)


def logit_differences(one: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    """How far two arrays of logits (clips, classes) are apart, over all logits, and the share of equal labels."""
    agreement = float((one.argmax(1) == other.argmax(1)).mean())
    return {**_difference_summary(distance(one, other)), "label_agreement": agreement}


def _difference_summary(apart: np.ndarray) -> dict[str, float | None]:
    """Largest, mean and median difference, and the one that 99 % do not exceed; None for one that is not finite."""
    return {
        "max": _finite(apart.max()),
        "mean": _finite(apart.mean()),
        "median": _finite(np.median(apart)),
        "p99": _finite(np.quantile(apart, 0.99, method="higher")),
    }


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences float64; infinite where either is not a finite number, even if both are."""
    finite = np.isfinite(one) & np.isfinite(other)
    return np.where(finite, np.abs(np.where(finite, one, 0).astype(np.float64) - np.where(finite, other, 0)), inf)


def _finite(value: Any) -> float | None:
    return float(value) if isfinite(value) else None


def check_parity(comparison: ParityComparison) -> None:
    """Pass, or say what differs.

    Raises:
        ParityError: a form or a reading is beyond its tolerance, or a file or a clip could not be used.
    """
    told = [*_forms(comparison), *_readings(comparison)]
    told += [f"{name} cannot be used: {reason}" for name, reason in comparison.unusable.items()]
    if comparison.unread:
        name, reason = next(iter(comparison.unread.items()))
        told.append(f"{len(comparison.unread)} clips cannot be read; the first is {name}: {reason}")
    if told:
        raise ParityError("; ".join(told))


def _forms(comparison: ParityComparison) -> Iterator[str]:
    told = [_fault(comparison, form) for form in comparison.forms if comparison.faults(form)]
    if told:
        yield (
            f"{'; '.join(told)}. Don't serve what differs; export it anew, in float32 (--precision fp32) if it is not, "
            "and if that does not help, report it with these numbers"
        )


def _fault(comparison: ParityComparison, form: Form) -> str:
    worst = comparison.worst(form)[0]
    cause = f"; {form.note}" if form.note else ""
    together = float(comparison.apart(form).max())
    if form.alone is not None and form.alone < together / 2:
        cause += f"; computed alone it is {form.alone:.3g} apart: the answer depends on the clips in the same batch"
    return (
        f"{form.name} ({form.arithmetic}) does not give PyTorch's answer on {len(comparison.ids)} clips: "
        f"{', and '.join(comparison.faults(form))}; clip {worst['id']!r}, {worst['media']}, is furthest apart{cause}"
    )


def _readings(comparison: ParityComparison) -> Iterator[str]:
    for reading in comparison.readings:
        faults = comparison.reading_faults(reading)
        if faults:
            worst = comparison.ids[int(np.argmax(reading.frames))]
            yield f"{reading.name}: {', and '.join(faults)}; the worst is clip {worst!r}. {reading.cure}"
