"""How well a picture of importance tells what a model makes use of: numbers that are usual for such pictures.

    deletion    the places of a picture are taken from the input in order of their importance (Petsiuk et al. 2018,
                "RISE", section 3.3); area under the probability of the class against the share taken. Low is good
    insertion   the same places are put into an input that shows nothing; area. High is good
    pointing    whether the highest place of the picture lies inside the right area (Zhang et al. 2018, "Top-down neural
                attention by excitation backprop", section 4.2); beside it, how often a place at random would
    cosine      of picture and area, over all places

Of the curves, the same area for places in random order stands beside: on a clip, only the difference says anything.

Shapes: n rows (frames, or one filter bank), C channels, H x W pixels, h x w places of a picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from mmadfer.tasks.alignment import cosines

STEPS = 12
"""Steps of a curve; it has a point more."""
RANDOM_ORDERS = 3
"""Random orders whose areas are averaged."""
LEVEL = 0.5
"""From which value on a place belongs to a map's area, of its highest 1."""
_BATCH = 8
"""Inputs that are computed together."""

Probability = Callable[[Tensor], np.ndarray]
"""Inputs float32 (k, n, C, H, W) -> the probability of the class in each, (k,)."""


@dataclass(frozen=True)
class Curve:
    """The probability of a class while places are taken or put in."""

    shares: np.ndarray
    """float64 (STEPS + 1,): of all places, from 0 to 1."""
    probabilities: np.ndarray
    """float64 (STEPS + 1,)."""

    @property
    def area(self) -> float:
        """Under the curve, 0 to 1 (trapezoidal rule)."""
        return float(np.trapezoid(self.probabilities, self.shares))


class Curves(NamedTuple):
    """Both curves of a picture, and the areas of random orders."""

    deletion: Curve
    insertion: Curve
    random_deletion: float
    random_insertion: float

    def areas(self) -> dict[str, float]:
        """By the names of columns."""
        return {
            "deletion": self.deletion.area,
            "deletion_random": self.random_deletion,
            "insertion": self.insertion.area,
            "insertion_random": self.random_insertion,
        }


def curves(
    probability: Probability, images: Tensor, picture: np.ndarray, patch: int, seed: int = 0, steps: int = STEPS
) -> Curves:
    """Deletion and insertion of one input.

    What is taken becomes the mean of the input; what is put in comes into the input blurred, so that no edges are made
    that the model never saw.

    Args:
        probability: of the class that is explained.
        images: float32 (n, C, H, W).
        picture: importance of places, (n, h, w), or (h, w) of one row; all rows are ordered together.
        patch: side of a place in pixels, by which the blur is chosen.
        seed: of the random orders.
        steps: in which places are taken.
    """
    shape = (len(images), *picture.shape[-2:])
    own, rng = order_of(picture), np.random.default_rng(seed)
    others = [rng.permutation(own.size) for _ in range(RANDOM_ORDERS)]
    grey, soft = torch.full_like(images, float(images.mean())), blurred(images, patch)

    def area(order: np.ndarray, insertion: bool) -> Curve:
        pair = (soft, images) if insertion else (images, grey)
        return perturbed(probability, *pair, order, shape, steps)

    random = [[area(order, insertion).area for order in others] for insertion in (False, True)]
    return Curves(area(own, False), area(own, True), *(float(np.mean(areas)) for areas in random))


def order_of(picture: np.ndarray) -> np.ndarray:
    """All places, int64, from the most important to the least; equal ones as they lie."""
    return np.argsort(-picture.ravel(), kind="stable")


def perturbed(
    probability: Probability, start: Tensor, end: Tensor, order: np.ndarray, shape: tuple[int, int, int], steps: int
) -> Curve:
    """The curve from `start` to `end`, both (n, C, H, W): place by place in `order` the one becomes the other.

    `shape` is (n, h, w): the places in `order` are counted in it.
    """
    counts = np.round(np.linspace(0, order.size, steps + 1)).astype(np.int64)
    found = [probability(part) for part in _mixed(start, end, order, shape, counts)]
    return Curve(counts / order.size, np.concatenate(found).astype(np.float64))


def _mixed(
    start: Tensor, end: Tensor, order: np.ndarray, shape: tuple[int, int, int], counts: np.ndarray
) -> Iterator[Tensor]:
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    ranks = torch.from_numpy(rank.reshape(shape)).to(start.device)
    for some in np.array_split(counts, -(-len(counts) // _BATCH)):
        masks = torch.stack([ranks < int(count) for count in some]).float()
        masks = interpolate(masks, size=start.shape[-2:], mode="nearest")[:, :, None]
        yield torch.where(masks > 0, end, start)


def blurred(images: Tensor, patch: int) -> Tensor:
    """(n, C, H, W) without what is smaller than a patch: a Gaussian with half of its side as deviation."""
    side = min(2 * patch + 1, *((size - 1) // 2 * 2 + 1 for size in images.shape[-2:]))
    return gaussian_blur(images, [side, side], [patch / 2, patch / 2])


class Pointed(NamedTuple):
    """The pointing game over the frames of a clip."""

    hits: int
    frames: int
    """That have a map."""
    chance: float
    """Mean share of the area in a frame: what a place at random would hit."""


def pointing(picture: np.ndarray, maps: np.ndarray, level: float = LEVEL) -> Pointed:
    """Count the frames in which the highest place of the picture lies where the map is at least `level`.

    The picture is enlarged to the map; where it is the same everywhere, it points nowhere.

    Args:
        picture: (n, h, w).
        maps: (n, H, W) in [0, 1]; NaN in frames without one.
        level: of the area.
    """
    there = mapped(maps)
    if not there.any():
        return Pointed(0, 0, 0.0)
    large, inside = resized(picture, maps.shape[-2:])[there], maps[there] >= level
    highest = large.reshape(len(large), -1).argmax(1)
    contrast = np.ptp(large.reshape(len(large), -1), axis=1) > 0
    hits = inside.reshape(len(inside), -1)[np.arange(len(inside)), highest] & contrast
    return Pointed(int(hits.sum()), len(inside), float(inside.mean()))


def cosine(picture: np.ndarray, maps: np.ndarray) -> float:
    """Mean over the frames with a map of the cosine of picture and map, over all places; NaN without any.

    Args:
        picture: (n, h, w).
        maps: (n, h, w); NaN in frames without one.
    """
    there = mapped(maps)
    if not there.any():
        return float("nan")
    return float(cosines(*(torch.from_numpy(x[there].astype(np.float64)) for x in (picture, maps))).mean())


def mapped(maps: np.ndarray) -> np.ndarray:
    """bool (n,): the frames of maps (n, H, W) that have one, with a place that is above 0."""
    flat = maps.reshape(len(maps), -1)
    return np.asarray(np.isfinite(flat).all(1) & (np.nan_to_num(flat).max(1) > 0))


def resized(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(n, h, w) enlarged to (n, H, W), bilinear."""
    large = interpolate(torch.from_numpy(picture).float()[:, None], size=size, mode="bilinear", align_corners=False)
    return large[:, 0].numpy()


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation of each measure over clips, and how many have it; one that none has is left
    out. The deviation of a single clip is 0."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        numbers = np.array([row[name] for row in rows if name in row and np.isfinite(row[name])])
        if numbers.size:
            spread = float(numbers.std(ddof=1)) if numbers.size > 1 else 0.0
            found[name] = {"mean": float(numbers.mean()), "std": spread, "clips": int(numbers.size)}
    return found
