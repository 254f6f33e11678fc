"""Action units: every value of a reference file, of the product's own functions.

Maps are computed twice: with OpenCV's ellipses, as the reference was, from where on the product's own functions go on;
and with the product's ellipses, which differ from OpenCV's by single pixels. Keys of the latter end with `own`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from draw import draw
from golden import FormError, Row, compared, lacking, seed_of
from torch import Tensor

from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.tasks import action_units as au
from mmadfer.tasks.alignment import LOSSES, cosines, mean_loss
from mmadfer.tasks.codebook import EXPRESSIONS, FACS

try:
    import cv2
except ImportError:  # then maps are only compared with the product's own ellipses
    cv2 = None

WORDS = ("classes", "align.classes")
"""Keys that are text."""
UNITS, MAPS, FULL, POINTS, ATTENTION, EXACT = 1e-4, 1e-6, 1e-3, 1e-9, 1e-12, 1e-9
OWN_COSINE, OWN_LARGEST = 0.01, 0.25
"""Tolerances; the last two of ellipses that are not OpenCV's."""
FACE = re.compile(r"(face\d+)\.(?:(\w+)\.)?(landmarks|size|parameters|drawn|units|valid|full|map\d+(?:_direct)?)")
LOSS = re.compile(r"align\.(\w+)\.lambda(\d+(?:\.\d+)?)\.(loss|gradient)")
GIVEN = re.compile(r"classes|face\d+\.(size|parameters)|align\.(size|draw|classes|faces)")
"""Keys that other values are computed from."""

Arrays = Mapping[str, np.ndarray]
Rows = Iterator[Row]


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    lacking(golden, iter(["classes"]))
    if tuple(golden["classes"]) != EXPRESSIONS:
        raise FormError(f"classes are {golden['classes'].tolist()}: {', '.join(EXPRESSIONS)} are meant")
    names = sorted({match[1] for key in golden if (match := FACE.fullmatch(key))})
    found = [row for name in names for row in _face(name, golden)]
    if any(key.startswith("align.") for key in golden):
        found += _alignment(path, golden, seed)
    known = {row.key.split(" ")[0] for row in found}
    if unknown := {key for key in golden if not GIVEN.fullmatch(key)} - known:
        raise FormError(f"the key {min(unknown)} is not known")
    if not found:
        raise FormError("it has neither faces nor values of the loss")
    return found


# ---------------------------------------------------------------- maps


@dataclass
class Face:
    """Landmarks (1, 68, 2), h and w."""

    landmarks: Tensor
    size: tuple[int, int]

    @cached_property
    def own(self) -> tuple[Tensor, Tensor]:
        """Unit maps (1, U, 28, 28), and which are inside (1, U)."""
        return au.unit_maps(self.landmarks, self.size)

    @cached_property
    def opencv(self) -> tuple[Tensor, Tensor]:
        """The same with OpenCV's ellipses."""
        ellipses = au.ellipses(self.landmarks, self.size)
        drawn = torch.tensor(np.stack([self._drawn(ellipses[unit]) for unit in range(len(FACS))]))
        down, across = (au.samples(length)[0] for length in self.size)
        maps = au.shrunk(drawn[:, down][:, :, across].double(), self.size)
        return maps[None], (drawn > 1).any(dim=2).any(dim=1)[None]

    def _drawn(self, ellipses: list[au.Ellipse]) -> np.ndarray:
        picture = np.full(self.size, au.GROUND, np.float32)
        for x, y, a, b in ellipses:
            cv2.ellipse(picture, (int(x), int(y)), (int(a), int(b)), 0, 0, 360, au.DRAWN, cv2.FILLED)
        return picture

    def map(self, units: tuple[Tensor, Tensor], expression: int, kind: str) -> tuple[np.ndarray, bool]:
        """A class map as a key is called, and whether there is one."""
        whole = (au.UNIT_SIDE, au.UNIT_SIDE) if kind.endswith("_direct") else self.size
        side = self.size if kind == "full" else (int(kind.removeprefix("map").removesuffix("_direct")),) * 2
        maps, valid = au.whole_maps(*units, torch.tensor([expression]), whole, side)
        return maps[0].numpy(), bool(valid)


def _face(name: str, golden: Arrays) -> Rows:
    lacking(golden, iter([f"{name}.landmarks", f"{name}.size"]))
    points, size = golden[f"{name}.landmarks"], golden[f"{name}.size"]
    if points.shape != (68, 2) or size.shape != (2,) or size.dtype.kind not in "iu" or min(size) < au.UNIT_SIDE:
        raise FormError(
            f"{name} has landmarks {points.shape} and the size {size.tolist()}: 68 points, h and w are meant"
        )
    face = Face(torch.from_numpy(points.astype(np.float64))[None], (int(size[0]), int(size[1])))
    if f"{name}.parameters" in golden:
        yield compared(f"{name}.landmarks", _made(golden[f"{name}.parameters"]), points, POINTS)
    else:
        yield Row(f"{name}.landmarks", 0.0, POINTS, "given")
    for key, value in golden.items():
        match = FACE.fullmatch(key)
        if match and match[1] == name and match[3] in ("drawn", "units", "valid"):
            yield from _units(face, key, match[3], value)
        elif match and match[1] == name and match[3] not in ("landmarks", "size", "parameters"):
            yield from _map(face, key, _place(key, match[2]), match[3], value)


def _made(parameters: np.ndarray) -> np.ndarray:
    x, y, size, tilt, mouth, brow = parameters.tolist()
    return placed(unit_points(mouth, brow), x, y, size, tilt)


def _place(key: str, expression: str | None) -> int:
    if expression not in EXPRESSIONS:
        raise FormError(f"{key} is of no expression")
    return EXPRESSIONS.index(expression)


def _units(face: Face, key: str, kind: str, wanted: np.ndarray) -> Rows:
    ways = [("", face.opencv), (" own", face.own)] if cv2 else [(" own", face.own)]
    for suffix, units in ways:
        if kind == "valid":
            found = np.array([face.map(units, place, "map28")[1] for place in range(len(EXPRESSIONS))])
            yield compared(key + suffix, found, wanted, 0.0)
        elif kind == "drawn":
            yield compared(key + suffix, units[1][0].numpy(), wanted, 0.0)
        elif not suffix:
            maps = units[0][0].numpy()
            yield compared(key, np.where(units[1][0][:, None, None], maps, np.inf), wanted, UNITS, "absolute")
    if kind == "units" and not cv2:  # single units are near OpenCV's only in most places
        yield Row(f"{key} shape", float(face.own[0][0].shape != wanted.shape), 0.0, "")


def _map(face: Face, key: str, expression: int, kind: str, wanted: np.ndarray) -> Rows:
    if cv2:
        found, valid = face.map(face.opencv, expression, kind)
        tolerance = FULL if kind == "full" else MAPS
        yield compared(key, found if valid else np.full_like(found, np.inf), wanted, tolerance, "absolute")
    own, valid = face.map(face.own, expression, kind)
    one, other = own.ravel().astype(np.float64), wanted.ravel().astype(np.float64)
    if not valid or one.shape != other.shape:
        yield Row(f"{key} own", np.inf, OWN_COSINE, "cosine")
        return
    yield Row(f"{key} own", float(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)), OWN_COSINE, "cosine")
    yield compared(f"{key} own largest", own, wanted, OWN_LARGEST, "absolute")


# ---------------------------------------------------------------- loss


@dataclass
class Case:
    """Features of a layer and the maps they are compared with."""

    features: Tensor
    """(B, C, h', w')."""
    maps: Tensor
    """(B, 28, 28), inf where there is none."""

    @property
    def valid(self) -> Tensor:
        """bool (B,)."""
        return self.maps.isfinite().all(dim=(1, 2))

    @property
    def attention(self) -> Tensor:
        """(B, h', w')."""
        return self.features.mean(dim=1)

    @property
    def fitted(self) -> Tensor:
        """The maps at the features' size, 0 where there is none."""
        known = torch.where(self.valid[:, None, None], self.maps, 0)
        return au.resized(known, (self.features.shape[2], self.features.shape[3]))

    def loss(self, kind: str, factor: float, *others: "Case") -> Tensor:
        """`factor` times the loss, over this layer and others."""
        of = (self, *others)
        attentions, maps = [case.attention for case in of], [case.fitted for case in of]
        return factor * mean_loss(attentions, maps, self.valid, kind, max(1, int(self.valid.sum())))


def _alignment(path: Path, golden: Arrays, seed: int | None) -> Rows:
    given = ("size", "draw", "sums", "heatmaps28", "classes", "faces")
    lacking(golden, (f"align.{name}" for name in given))
    size, how, maps = (golden[f"align.{name}"] for name in ("size", "draw", "heatmaps28"))
    if size.shape != (3,) or how.shape != (2,) or maps.shape != (size[0], 1, 28, 28):
        raise FormError(f"align.size is {size.tolist()}, .draw {how.tolist()}, .heatmaps28 {maps.shape}")
    clips, channels, side = map(int, size)
    draws = partial(draw, mean=float(how[0]), std=float(how[1]))
    drawn = partial(draws, "features", (clips, channels, side, side))
    if seed is None:
        seed = seed_of(path, lambda one: bool(np.isclose(drawn(one).sum(), golden["align.sums"], rtol=1e-9).all()))
    heatmaps = torch.from_numpy(maps[:, 0])
    case = Case(torch.tensor(drawn(seed), requires_grad=True), heatmaps)
    second = Case(torch.from_numpy(draws("features2", (clips, channels, 7, 7), seed)), heatmaps)
    for key, value in golden.items():
        if key.startswith("align.") and not GIVEN.fullmatch(key):
            yield from _of_loss(key, value, case, second, golden)


def _of_loss(key: str, wanted: np.ndarray, case: Case, second: Case, golden: Arrays) -> Rows:
    match, valid = LOSS.fullmatch(key), case.valid
    if match and match[1] in LOSSES | {"cosine": None}:
        loss = case.loss("random_avg" if match[1] == "cosine" else match[1], float(match[2]))
        found = torch.autograd.grad(loss, case.features)[0] if match[3] == "gradient" else loss.detach()
        yield compared(key, found.numpy(), wanted, EXACT)
    elif key in ("align.sums", "align.sums2"):
        of = second if key.endswith("2") else case
        yield compared(key, of.features.detach().sum().reshape(1).numpy(), wanted, EXACT)
    elif key == "align.attention":
        yield compared(key, case.attention.detach().numpy(), wanted, ATTENTION)
    elif key == "align.heatmaps":
        yield compared(key, case.fitted[valid].numpy(), wanted, MAPS)
    elif key == "align.heatmaps28":
        yield from _inputs(key, wanted, golden)
    elif key == "align.cosine":
        yield compared(key, cosines(case.attention, case.fitted)[valid].detach().numpy(), wanted, EXACT)
    elif key == "align.two_layers.loss":
        yield compared(key, case.loss("random_avg", 9.0, second).detach().numpy(), wanted, EXACT)
    elif key == "align.none_valid.loss":
        none = Case(case.features, torch.full_like(case.maps, torch.inf))
        yield compared(key, none.loss("random_avg", 9.0).detach().reshape(1).numpy(), wanted, EXACT)


def _inputs(key: str, wanted: np.ndarray, golden: Arrays) -> Rows:
    """The maps that the loss is given are those of the faces that are named."""
    classes, faces = golden["align.classes"].tolist(), golden["align.faces"].tolist()
    if not len(classes) == len(faces) == len(wanted):
        raise FormError(f"align.classes and .faces are not of {len(wanted)} samples")
    maps = [golden.get(f"face{face}.{name}.map28") for name, face in zip(classes, faces, strict=True)]
    found = np.stack([np.full((28, 28), np.inf) if one is None else one for one in maps])[:, None]
    yield compared(key, found, wanted, MAPS)
