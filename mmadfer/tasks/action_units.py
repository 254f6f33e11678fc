"""Where the action units of an expression are in a picture, by the 68 landmarks of its face (Belharbi et al. 2024).

A unit is one or two filled ellipses around landmarks. They are drawn at h x w, shrunk to 28 x 28 by samples and
blurred; a class map is the largest of its expression's units in each place, enlarged to h x w again and scaled to
[0, 1].

The published program draws with OpenCV, whose ellipses are polygons, filled together with their outline. Here a pixel
is inside where ((x - cx) / (a + 1/2))^2 + ((y - cy) / (b + 1/2))^2 <= 1, and only the pixels that the shrinking samples
are looked at. Radii of 20, 25 and 10 pixels fit pictures of about 224 pixels, so landmarks of other sizes are scaled to
that first (`class_map`).

Shapes: N faces, U units, E ellipses, h x w of the picture in pixels. Everything is on the device of the landmarks.
"""

from functools import cache
from math import floor

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mmadfer.tasks.codebook import EXPRESSIONS, FACS, NONE, Disgust, expression_of, units_of

SIDE = 224
"""Of the picture in which ellipses are drawn."""
UNIT_SIDE = 28
"""Of a unit map."""
DRAWN, GROUND = 255.0, 1e-4
"""Inside and outside of a unit's ellipses."""
_POINTS = 68
_OUTLINE = 0.5
"""How much longer than its half axes an ellipse is with its outline."""
_AT_ONCE = 128
"""Faces whose maps are made at once, in 60 MB."""

Number = Tensor | float
Ellipse = tuple[Tensor, Tensor, Number, Number]
"""Centre x and y, half axes along x and y, each (N,)."""


def class_map(
    landmarks: Tensor,
    size: tuple[int, int],
    label: str,
    side: tuple[int, int] | None = None,
    disgust: Disgust = "program",
) -> tuple[Tensor, Tensor]:
    """The map of a class in pictures of one size.

    Args:
        landmarks: (..., 68, 2), x to the right and y down, in pixels of the picture; NaN where there are none.
        size: h and w of the picture.
        label: of the class; one without units has no map.
        side: h' and w' of the map, by default those of the picture.
        disgust: which units Disgust has.

    Returns:
        float32 (..., h', w') in [0, 1], and bool (...) whether there is a map; 0 everywhere where there is none.
    """
    points = landmarks.reshape(-1, _POINTS, 2)
    wanted = torch.full(points.shape[:1], expression_of(label), device=points.device)
    maps, valid = expression_maps(points, size, wanted, side or size, disgust)
    leading = landmarks.shape[:-2]
    return maps.reshape(*leading, *maps.shape[1:]), valid.reshape(leading)


def expression_maps(
    landmarks: Tensor,
    size: tuple[int, int],
    expressions: Tensor,
    side: tuple[int, int],
    disgust: Disgust = "program",
) -> tuple[Tensor, Tensor]:
    """As `class_map`, for landmarks (N, 68, 2) and int64 (N,) places in `EXPRESSIONS`, or `NONE`."""
    known = landmarks.isfinite().all(dim=(1, 2)) & (expressions != NONE)
    if not len(known):
        return landmarks.new_zeros((0, *side), dtype=torch.float32), known
    height, width = size
    points = landmarks.float().nan_to_num() * SIDE / torch.tensor([width, height], device=landmarks.device)
    parts = zip(points.split(_AT_ONCE), expressions.split(_AT_ONCE), strict=True)
    made = [whole_maps(*unit_maps(some, (SIDE, SIDE)), of, (SIDE, SIDE), side, disgust) for some, of in parts]
    maps, drawn = (torch.cat(one) for one in zip(*made, strict=True))
    valid = known & drawn
    return maps * valid[:, None, None], valid


def unit_maps(landmarks: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Every unit by itself, in a picture whose landmarks are not scaled.

    Args:
        landmarks: float (N, 68, 2) in pixels, cut to whole ones here.
        size: h and w.

    Returns:
        float (N, U, 28, 28), `GROUND` where nothing of a unit is, and bool (N, U) whether any pixel of it is inside of
        the picture.
    """
    found = ellipses(landmarks, size)
    rows, columns = (samples(length)[0].to(landmarks) for length in size)
    parts = [[_Ellipses(*one) for one in found[unit]] for unit in range(len(FACS))]
    covered = [torch.stack([part.covers(columns, rows) for part in unit]).any(0) for unit in parts]
    inside = [torch.stack([part.meets(size) for part in unit]).any(0) for unit in parts]
    share = shrunk(torch.stack(covered, dim=1).to(landmarks.dtype), size)
    return share * (DRAWN - GROUND) + GROUND, torch.stack(inside, dim=1)


def whole_maps(
    units: Tensor,
    inside: Tensor,
    expressions: Tensor,
    size: tuple[int, int],
    side: tuple[int, int],
    disgust: Disgust = "program",
) -> tuple[Tensor, Tensor]:
    """The maps of expressions: the largest of their units at h x w, resized and scaled to [0, 1].

    Args:
        units: (N, U, 28, 28), as `unit_maps` gives them.
        inside: bool (N, U).
        expressions: int64 (N,); of `NONE`, the map is any.
        size: h and w; 28 x 28 leaves the units as they are.
        side: h' and w'.
        disgust: which units Disgust has.

    Returns:
        (N, h', w'), and bool (N,) whether a unit is inside and the map has any contrast: a unit that is thinner than
        the distance of two samples can be lost.
    """
    members = _members(disgust, units.device)[expressions.clamp(min=0)]
    largest = _enlarged(_taken(units, members[:, 0]), size)
    for k in range(1, members.shape[1]):
        torch.maximum(largest, _enlarged(_taken(units, members[:, k]), size), out=largest)
    low, high = largest.amin(dim=(1, 2), keepdim=True), largest.amax(dim=(1, 2), keepdim=True)
    contrast = high > low
    maps = (resized(largest, side) - low) / torch.where(contrast, high - low, 1)
    return maps, inside.gather(1, members).any(1) & contrast.view(-1)


# ---------------------------------------------------------------- ellipses


def ellipses(landmarks: Tensor, size: tuple[int, int]) -> dict[int, list[Ellipse]]:
    """Unit -> its one or two ellipses, as in the published program; its left and right differ in units 7 and 12."""
    height, width = size
    x, y = (of.unbind(1) for of in landmarks.trunc().unbind(-1))

    def around(points: tuple[int, ...], a: Number = 20, b: Number = 20) -> list[Ellipse]:
        return [(x[point], y[point], a, b) for point in points]

    def lids(beyond: float, least: float) -> list[Ellipse]:
        def one(left: int, right: int, top: int, bottom: int) -> Ellipse:
            halves = _half(x[left], x[right], least), _half(y[top] - beyond, y[bottom] + beyond, least)
            return _middle(x[left], x[right]), _middle(y[top], y[bottom]), *halves

        return [one(36, 39, 38, 41), one(42, 45, 44, 47)]

    def between(one: int, other: int, a: Number, b: Number) -> Ellipse:
        return _middle(x[one], x[other]), _middle(y[one], y[other]), a, b

    brow, cheek = (round(width / 8), round(height / 10)), (round(width / 10), round(height / 10))
    corners, drop = around((48, 54)), round(height / 6)
    lips: list[Ellipse] = [
        (_middle(x[48], x[54]), _middle(y[51], y[57]), _half(x[48], x[54], 5), _half(y[51], y[57], 5))
    ]
    return {
        0: around((20, 23), *brow),
        1: around((18, 25), *brow),
        2: [between(19, 24, _half(x[19], x[24], 10), _half(y[19], y[24], 10))],
        3: lids(0, 5),
        4: [(x[41], y[41] + drop, *cheek), (x[46], y[46] + drop, *cheek)],
        5: lids(10, 5),
        6: [(x[31], y[29], 20, 20), (x[35], y[29], 20, 20)],
        7: [(x[48], y[50], 20, 20), (x[52], y[54], 20, 20)],
        8: corners,
        9: [((x[48] - 20).clamp(min=0), y[48], 20, 20), ((x[54] + 20).clamp(max=width), y[54], 20, 20)],
        10: corners,
        11: [between(59, 8, _half(x[59], x[8], 5), _half(y[59], y[8], 5))],
        12: [between(48, 6, 20, 20), between(50, 10, 20, 20)],
        13: lips,
        14: lips,
        15: around((51, 57), 25, 10),
        16: lips,
        17: lids(10, 0),
        18: lips,
        19: around((59, 55)),
    }


def _middle(one: Tensor, other: Tensor) -> Tensor:
    return ((one + other) / 2).trunc()


def _half(one: Tensor, other: Tensor, least: float) -> Tensor:
    """Half the way to a point that is further right or down; `least` where it is not."""
    half = ((other - one) / 2).trunc()
    return torch.where(half > 0, half, least)


class _Ellipses:
    """One ellipse in each of N pictures."""

    def __init__(self, x: Tensor, y: Tensor, a: Number, b: Number) -> None:
        self.x, self.a = x[:, None], (torch.as_tensor(a).to(x) + _OUTLINE).expand_as(x)[:, None]
        self.y, self.b = y[:, None], (torch.as_tensor(b).to(y) + _OUTLINE).expand_as(y)[:, None]

    def covers(self, columns: Tensor, rows: Tensor) -> Tensor:
        """bool (N, rows, columns): which of these pixels are inside."""
        across, down = self._across(columns), self._down(rows)
        return across[:, None] + down[:, :, None] <= 1

    def meets(self, size: tuple[int, int]) -> Tensor:
        """bool (N,): whether any pixel of the picture is inside; the nearest to the centre is."""
        height, width = size
        near = self._across(self.x.clamp(0, width - 1)) + self._down(self.y.clamp(0, height - 1))
        return (near <= 1)[:, 0]

    def _across(self, columns: Tensor) -> Tensor:
        return ((columns - self.x) / self.a) ** 2

    def _down(self, rows: Tensor) -> Tensor:
        return ((rows - self.y) / self.b) ** 2


# ---------------------------------------------------------------- sizes


@cache
def samples(length: int) -> tuple[Tensor, Tensor]:
    """How a row of h or w pixels is shrunk to 28 and blurred.

    Returns:
        int64 (2 x 28,): the pixels that are looked at, two for each place, as OpenCV's INTER_LINEAR does; and float64
        (28, 2 x 28): the share of each pixel in each place, after a mean over three places that is mirrored at the
        ends.
    """
    each = length / UNIT_SIDE
    places = [max(0.0, (k + 0.5) * each - 0.5) for k in range(UNIT_SIDE)]
    pixels = torch.tensor([(floor(place), min(floor(place) + 1, length - 1)) for place in places])
    weights = torch.tensor([(1 - place % 1, place % 1) for place in places], dtype=torch.float64)
    shrinking = torch.block_diag(*weights[:, None])
    rows = pad(shrinking.T[None], (1, 1), mode="reflect")[0].T
    return pixels.flatten(), (rows[:-2] + rows[1:-1] + rows[2:]) / 3


def shrunk(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of `samples` of pictures h x w, (..., 2 x 28, 2 x 28) -> blurred maps (..., 28, 28)."""
    down, across = (samples(length)[1].to(pixels) for length in size)
    return down @ (pixels @ across.T)


def resized(maps: Tensor, side: tuple[int, int]) -> Tensor:
    """(N, h, w) -> (N, h', w'), within the range of each map."""
    if maps.shape[1:] == side:
        return maps
    small = interpolate(maps[:, None], size=side, mode="bilinear", align_corners=True, antialias=True)[:, 0]
    return torch.clamp(small, maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True))


def _enlarged(unit: Tensor, size: tuple[int, int]) -> Tensor:
    if unit.shape[1:] == size:
        return unit.clone()
    return interpolate(unit[None], size=size, mode="bilinear")[0]


def _taken(units: Tensor, members: Tensor) -> Tensor:
    """(N, U, 28, 28) and one unit of each -> (N, 28, 28)."""
    return units[torch.arange(len(units), device=units.device), members]


@cache
def _members(disgust: Disgust, device: torch.device) -> Tensor:
    """int64 (expressions, most units): the units of each, the last one repeated; kept, for a step must not wait."""
    lists = [units_of(expression, disgust) for expression in EXPRESSIONS]
    most = max(map(len, lists))
    return torch.tensor([[*units, *[units[-1]] * (most - len(units))] for units in lists], device=device)
