"""Adaptation to a subject: every value of a reference file, of the product's own functions in float64."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from draw import draw
from golden import FormError, Row, compared, lacking, seed_of
from torch import Tensor

from mmadfer.config.adaptation import chooses, threshold_at
from mmadfer.tasks.discrepancy import bandwidths, discrepancy, linear
from mmadfer.tasks.pseudo_labels import PseudoLabels, pseudo_labels

Arrays = Mapping[str, np.ndarray]
Values = Iterator[tuple[str, np.ndarray]]
CASE = re.compile(r"mmd\.(\d+)x(\d+)x(\d+)\.")
CHOSEN = re.compile(r"pseudo\.(0(?:\.\d+)?|1)\.chosen")
GIVEN = re.compile(r"mmd\.\d+x\d+x\d+\.shift|pseudo\.(logits|logits_flipped|truth)|schedule\.epochs")
"""Keys that other values are computed from."""
EXACT, CLOSE, SUMS, SINGLE = 0.0, 1e-12, 1e-9, 1e-6
"""Tolerances; the last of what the published program has in float32."""
START, STEP = 0.9, 0.02
LINEAR_WIDEST = 64
"""Features for which the published program's linear loss was computed; of more, the file has 0."""


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    names = sorted({match[0] for key in golden if (match := CASE.match(key))})
    found = dict[str, np.ndarray]()
    if names:
        lacking(golden, (f"{name}{key}" for name in names for key in ("shift", "sums")))
        if seed is None:
            seed = seed_of(path, lambda one: bool(np.isclose(*_first_sum(names[0], golden, one), rtol=1e-9)))
        for name in names:
            found |= dict(_case(name, golden, seed))
    if any(key.startswith(("pseudo.", "schedule.")) for key in golden):
        found |= dict(_pseudo_labels(golden))
    if not found:
        raise FormError("it has neither a case `mmd.NxMxD.` nor `pseudo.logits`")
    lacking(golden, iter(found))
    if unknown := {key for key in golden if not GIVEN.fullmatch(key)} - found.keys():
        raise FormError(f"the key {min(unknown)} is not known")
    return [compared(key, value, golden[key], _tolerance(key)) for key, value in found.items()]


def _tolerance(key: str) -> float:
    last = key.rpartition(".")[2]
    named = {"sums": SUMS, "linear": SINGLE, "chosen": EXACT, "labels": EXACT}
    return named.get(last, EXACT if last.startswith(("kept", "gradient_released")) else CLOSE)


# ---------------------------------------------------------------- discrepancy


def _sizes(name: str) -> tuple[int, int, int]:
    match = CASE.match(name)
    assert match is not None
    n, m, width = map(int, match.groups())
    if min(n, m) < 2 or width < 1:
        raise FormError(f"{name} has N, M and D: N and M are 2 or more, and D is 1 or more")
    return n, m, width


def _sides(name: str, golden: Arrays, seed: int) -> tuple[Tensor, Tensor]:
    """(n, D) and (m, D), with a gradient."""
    n, m, width = _sizes(name)
    source = draw(f"source.{n}x{width}", (n, width), seed)
    target = 1.2 * draw(f"target.{m}x{width}", (m, width), seed) + golden[f"{name}shift"]
    return torch.tensor(source, requires_grad=True), torch.tensor(target, requires_grad=True)


def _first_sum(name: str, golden: Arrays, seed: int) -> tuple[float, float]:
    return float(_sides(name, golden, seed)[0].detach().sum()), float(golden[f"{name}sums"][0])


def _case(name: str, golden: Arrays, seed: int) -> Values:
    sides = source, target = _sides(name, golden, seed)
    value = discrepancy(source, target)
    yield f"{name}sums", np.array([float(one.detach().sum()) for one in sides])
    yield f"{name}value", value.detach().numpy()
    yield f"{name}bandwidths", bandwidths(source, target).numpy()
    for side, gradient in zip(("source", "target"), torch.autograd.grad(value, sides), strict=True):
        yield f"{name}gradient_{side}", gradient.numpy()
    yield f"{name}gradient_released_is_zero", np.array(not discrepancy(source, target, gradient=False).requires_grad)
    wide = source.shape[1] > LINEAR_WIDEST
    yield f"{name}linear", np.zeros(()) if wide else linear(source.float(), target.float()).detach().numpy()


# ---------------------------------------------------------------- pseudo-labels


def _pseudo_labels(golden: Arrays) -> Values:
    lacking(golden, iter(["pseudo.logits", "pseudo.logits_flipped"]))
    views = [torch.tensor(golden[key]).double() for key in ("pseudo.logits", "pseudo.logits_flipped")]
    if views[0].ndim != 2 or views[0].shape != views[1].shape:
        raise FormError("pseudo.logits and pseudo.logits_flipped are of N samples and C classes each")
    chosen = partial(pseudo_labels, *views)
    for threshold in sorted({match[1] for key in golden if (match := CHOSEN.fullmatch(key))}):
        found = chosen(float(threshold))
        for key, value in found._asdict().items():
            yield f"pseudo.{threshold}.{key}", value.numpy()
    if "schedule.epochs" in golden:
        yield from _schedule(golden["schedule.epochs"], chosen)


def _schedule(epochs: np.ndarray, chosen: "partial[PseudoLabels]") -> Values:
    """Thresholds by epoch, and how many are chosen of those that were chosen before, or of all."""
    if epochs.ndim != 1 or epochs.dtype.kind not in "iu" or len(epochs) < 2 or epochs[0] != 0 or epochs[1] < 1:
        raise FormError("schedule.epochs are whole numbers: 0, the epochs between two choices, and so on")
    every = int(epochs[1])
    if not all(chooses(int(epoch), every) for epoch in epochs):
        raise FormError(f"schedule.epochs must be multiples of {every}")
    thresholds = [threshold_at(int(epoch), START, STEP, every) for epoch in epochs]
    yield "schedule.thresholds", np.array(thresholds)
    among, kept = None, []
    for threshold in thresholds:
        found = chosen(threshold, among=among).chosen
        among = torch.zeros(len(chosen.args[0]), dtype=torch.bool)
        among[found] = True
        kept.append(len(found))
    yield "schedule.kept_as_released", np.array(kept)
    yield "schedule.kept_from_all", np.array([len(chosen(threshold).chosen) for threshold in thresholds])
