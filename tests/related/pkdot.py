"""Distillation by optimal transport: every value of a reference file, of the product's own functions in float64."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from draw import draw
from golden import FormError, Row, compared, lacking, seed_of
from pkdot_released import annealed
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmadfer.tasks import optimal_transport
from mmadfer.tasks.optimal_transport import Anchors, anchor_rows, divergence, similarity, transport

Arrays = Mapping[str, np.ndarray]
Values = Iterator[tuple[str, np.ndarray]]
CASE = re.compile(r"(\d+)x(\d+)k(\d+)\.")
CLOUDS = re.compile(r"clouds\.(\d+)x(\d+)x(\d+)\.")
WHICH: tuple[Anchors, ...] = ("lowest", "highest")
ITERATIONS = 100_000
"""At the smallest blur, the gradient comes within its tolerance after 60,000."""
WEIGHT, BLUR, SCALING = 0.6, 0.1, 0.5
"""Of the published program."""
EXACT, SUMS, CLOSE, TARGET, GRADIENT = 0.0, 1e-9, 1e-12, 1e-6, 1e-5
LIBRARY, RELEASED, LINEAR, SAME = 1e-4, 1e-9, 1e-5, 1e-9
"""Tolerances. What other libraries give is theirs: POT stops early, and the transport's cost alone converges slowly."""


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    names = [sorted({match[0] for key in golden if (match := form.match(key))}) for form in (CASE, CLOUDS)]
    if not any(names):
        raise FormError("it has neither a case `BxWkK.` nor clouds `clouds.NxMxK.`")
    lacking(golden, iter(f"{name}sums" for one in names for name in one))
    lacking(golden, iter(f"{name}labels" for name in names[0]))
    if seed is None:
        seed = seed_of(path, partial(_draws, golden, names))
    found = dict[str, np.ndarray]()
    for name in names[0]:
        found |= dict(_case_values(Case.of(name, golden, seed), golden))
    for name in names[1]:
        found |= dict(_cloud_values(name, golden, seed))
    lacking(golden, iter(found))
    if unknown := golden.keys() - found.keys() - {f"{name}labels" for name in names[0]}:
        raise FormError(f"the key {min(unknown)} is not known")
    return [compared(key, value, golden[key], *_tolerance(key)) for key, value in found.items()]


def _tolerance(key: str) -> tuple[float, str]:
    last = key.rpartition(".")[2]
    if last == "indices":
        return EXACT, ""
    if ".released." in key:
        return (SAME, "absolute") if last == "sinkhorn_same_features" else (RELEASED, "")
    named = {"sums": SUMS, "divergence": TARGET, "parts": TARGET, "pot": LIBRARY, "transport_cost_only": LINEAR}
    if last.startswith("gradient"):
        return GRADIENT, ""
    return (RELEASED, "") if "geomloss" in key else (named.get(last, CLOSE), "")


def _draws(golden: Arrays, names: list[list[str]], seed: int) -> bool:
    """Whether a seed draws what one part of the file has the sums of."""
    if names[0]:
        first = Case.of(names[0][0], golden, seed)
        return bool(np.isclose(first.teacher.sum(), golden[f"{names[0][0]}sums"][0], rtol=1e-9))
    x, _ = _clouds(names[1][0], seed)
    return bool(np.isclose(float(x.sum()), golden[f"{names[1][0]}sums"][0], rtol=1e-9))


# ---------------------------------------------------------------- features of a batch


@dataclass
class Case:
    """One batch of a file."""

    name: str
    clips: int
    width: int
    k: int
    labels: Tensor
    seed: int

    @classmethod
    def of(cls, name: str, golden: Arrays, seed: int) -> "Case":
        """As its name says its sizes."""
        match = CASE.match(name)
        assert match is not None
        clips, width, k = map(int, match.groups())
        labels = golden[f"{name}labels"]
        if not 1 <= k < clips or width < 1:
            raise FormError(f"{name} has B, W and k: k must be less than B, and all of them 1 or more")
        if labels.shape != (clips,) or labels.dtype.kind not in "iu" or not all(0 <= one < 4 for one in labels):
            raise FormError(f"{name}labels must be {clips} of four classes, 0 to 3")
        return cls(name, clips, width, k, torch.from_numpy(labels.astype(np.int64)), seed)

    def _drawn(self, what: str, *last: int) -> Tensor:
        return torch.from_numpy(draw(f"{what}.{self.clips}x{self.width}", (self.clips, *last), self.seed))

    @cached_property
    def teacher(self) -> Tensor:
        """(B, W)."""
        return self._drawn("teacher", self.width)

    @cached_property
    def student(self) -> Tensor:
        """(B, W), with a gradient."""
        return (0.5 * self.teacher + self._drawn("student", self.width)).requires_grad_()

    @cached_property
    def logits(self) -> Tensor:
        """(B, 4)."""
        return self._drawn("logits", 4)

    def rows(self, which: Anchors) -> tuple[Tensor, Tensor]:
        """(B, k) each."""
        return anchor_rows(self.teacher, self.student, self.k, which)


def _case_values(case: Case, golden: Arrays) -> Values:
    name = case.name
    yield f"{name}sums", np.array([float(one.detach().sum()) for one in (case.teacher, case.student, case.logits)])
    for side in ("teacher", "student"):
        yield f"{name}similarity_{side}", similarity(getattr(case, side)).detach().numpy()
    for which in WHICH:
        yield f"{name}{which}.indices", _anchors(case, which)
        for side, found in zip(("teacher", "student"), case.rows(which), strict=True):
            if (key := f"{name}{which}.anchors_{side}") in golden:
                yield key, found.detach().numpy()
        x, y = case.rows(which)
        for start, blur in _blurs(golden, f"{name}{which}."):
            yield from _divergence(start, blur, x, y, golden, "gradient_student", case.student)
    if any(key.startswith(f"{name}released.") for key in golden):
        yield from _released(case)


def _anchors(case: Case, which: Anchors) -> np.ndarray:
    return optimal_transport.anchors(similarity(case.teacher), case.k, which).numpy()


def _released(case: Case) -> Values:
    """What the published program computes: the lowest anchors, ascending, and the annealed approximation."""
    x, y = case.rows("lowest")
    loss, entropy = annealed(x, y, BLUR, SCALING), cross_entropy(case.logits, case.labels)
    (gradient,) = torch.autograd.grad(WEIGHT * loss, case.student)
    same = anchor_rows(case.teacher, case.teacher, case.k, "lowest")
    values = {"indices": torch.from_numpy(_anchors(case, "lowest")), "sinkhorn_geomloss": loss}
    values |= {"cross_entropy": entropy, "total": entropy + WEIGHT * loss, "gradient_student": gradient}
    values |= {"sinkhorn_same_features": divergence(*same, BLUR)}
    for key, value in values.items():
        yield f"{case.name}released.{key}", value.detach().numpy()


# ---------------------------------------------------------------- transport


def _blurs(golden: Arrays, name: str) -> Iterator[tuple[str, float]]:
    """Starts of keys, and the blur that they name."""
    found = {match[1] for key in golden if (match := re.match(re.escape(name) + r"blur(\d+(?:\.\d+)?)\.", key))}
    for blur in sorted(found):
        if not float(blur) > 0:
            raise FormError(f"{name}blur{blur}: a blur is larger than 0")
        yield f"{name}blur{blur}.", float(blur)


def _divergence(start: str, blur: float, x: Tensor, y: Tensor, golden: Arrays, name: str, by: Tensor) -> Values:
    """All that a file has of two clouds and a blur; `name` is that of the gradient `by` a tensor."""
    factor = torch.ones((), dtype=x.dtype, requires_grad=True)
    found = divergence(factor * x, factor * y, blur, ITERATIONS)
    yield f"{start}divergence", found.detach().numpy()
    within = [float(transport(one, one, blur)) for one in (x.detach(), y.detach())]
    yield f"{start}parts", np.array([float(found.detach()) + sum(within) / 2, *within])
    gradient, by_factor = torch.autograd.grad(found, [by, factor], retain_graph=True)
    norm_only = f"{start}{name}" in golden and golden[f"{start}{name}"].ndim == 0
    yield f"{start}{name}", (gradient.norm() if norm_only else gradient).numpy()
    libraries = {"pot": found.detach().numpy(), "transport_cost_only": by_factor.numpy() / 2}  # costs are squares
    yield from ((f"{start}{key}", value) for key, value in libraries.items() if f"{start}{key}" in golden)
    for key in golden:
        if match := re.fullmatch(re.escape(start) + r"geomloss_scaling(0\.\d+)", key):
            yield key, annealed(x.detach(), y.detach(), blur, float(match[1])).numpy()


def _clouds(name: str, seed: int) -> tuple[Tensor, Tensor]:
    match = CLOUDS.match(name)
    assert match is not None
    n, m, width = map(int, match.groups())
    x = torch.from_numpy(draw(f"cloud.x.{n}x{width}", (n, width), seed))
    return x, (0.7 * torch.from_numpy(draw(f"cloud.y.{m}x{width}", (m, width), seed)) + 0.3).requires_grad_()


def _cloud_values(name: str, golden: Arrays, seed: int) -> Values:
    x, y = _clouds(name, seed)
    yield f"{name}sums", np.array([float(one.detach().sum()) for one in (x, y)])
    for start, blur in _blurs(golden, name):
        yield from _divergence(start, blur, x, y, golden, "gradient_y", y)
