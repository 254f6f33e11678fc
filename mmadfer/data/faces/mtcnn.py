"""Faces in pictures: the cascade of MTCNN (Zhang et al. 2016), with the settings of the published program.

One network looks at the picture in many sizes and proposes squares, two more look at these closely: each tells which
hold a face, and how far their edges are off. Of boxes that overlap, the surest stays.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mmadfer.data.faces.area_resize import AreaTable
from mmadfer.data.faces.mtcnn_networks import Network, networks

_MIN_FACE_PX = 20
"""Side in pixels of the smallest face that is found."""
SHRINK = 0.709
"""From one size of the picture to the next."""
CELL, STRIDE = 12, 2
"""Pixels that the first network sees at once, and between two of its views."""
_MIN_PROBABILITY = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}
"""Network -> the least probability of a face that passes."""
_MAX_CANDIDATES = 512
"""Squares that are looked at closely in one go, so that the memory is bounded."""

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of boxes (K, 4) with others (M, 4): (K, M)."""


class Boxes(NamedTuple):
    """Candidates in several pictures."""

    edges: np.ndarray
    """float32 (K, 4) x0, y0, x1, y1 in pixels."""
    scores: np.ndarray
    """float32 (K,) log-odds of a face."""
    offsets: np.ndarray
    """float32 (K, 4): how far each edge is off, in widths and heights."""
    owner: np.ndarray
    """int (K,), the picture."""

    def of(self, chosen: np.ndarray | slice) -> "Boxes":
        """Some of them."""
        return Boxes(*(field[chosen] for field in self))


class Detector:
    """MTCNN on a device of `networks`; may be used by several threads at once.

    Raises:
        MissingDependencyError: neither PyTorch nor ONNX Runtime is installed, or there is no such device.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.networks = networks(device)

    def detect(self, images: np.ndarray) -> list[np.ndarray]:
        """Find the faces in pictures uint8 RGB (N, H, W, 3).

        Returns:
            for each picture float64 (faces, 5): x0, y0, x1, y1 in pixels, which may lie outside of the picture, and
            probability; the largest first.
        """
        table = AreaTable(images)
        found = _propose(table, self.networks["pnet"])
        found = self._look(table, found, "rnet", 24)
        found = _thin(found, 0.7, _shared)
        found = found._replace(edges=_square(_moved(found, 1)))
        found = self._look(table, found, "onet", 48)
        found = found._replace(edges=_moved(found, 1)).of(np.s_[::-1])  # of equals the published program takes the last
        found = _thin(found, 0.7, _covered)
        return [_faces(found.of(np.equal(found.owner, k))) for k in range(len(images))]

    def _look(self, table: AreaTable, found: Boxes, name: str, side: int) -> Boxes:
        """Those in which a network sees a face, with its scores and offsets."""
        edges = _within(found.edges, table)
        real = np.flatnonzero((edges[:, 2:] > edges[:, :2]).all(axis=1))  # others lie outside of the picture
        found, edges = found.of(real), edges[real]
        starts = range(0, len(edges), _MAX_CANDIDATES)
        parts = (
            table.parts(found.owner[k : k + _MAX_CANDIDATES], edges[k : k + _MAX_CANDIDATES], side) for k in starts
        )
        seen = [self.networks[name](_scaled(part))[:, :, 0, 0] for part in parts]
        told = np.concatenate([np.empty((0, 5), np.float32), *seen])
        return found._replace(scores=told[:, 0], offsets=told[:, 1:]).of(told[:, 0] > _odds(_MIN_PROBABILITY[name]))


def _propose(table: AreaTable, network: Network) -> Boxes:
    """Squares in which there may be a face."""
    levels = [_level(table, network, scale) for scale in _scales(table.height, table.width)]
    none = Boxes(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 4), np.float32), np.empty(0, int))
    found = _thin(Boxes(*map(np.concatenate, zip(none, *levels, strict=True))), 0.7, _shared)
    return found._replace(edges=_square(_moved(found, 0)))


def _scales(height: int, width: int) -> list[float]:
    """The sizes in which a picture is looked at: a face of _MIN_FACE_PX becomes a cell, then ever larger ones do."""
    scales, scale = list[float](), CELL / _MIN_FACE_PX
    while min(height, width) * scale >= CELL:
        scales.append(scale)
        scale *= SHRINK
    return scales


def _level(table: AreaTable, network: Network, scale: float) -> Boxes:
    told = network(_scaled(table.whole(int(table.height * scale + 1), int(table.width * scale + 1))))
    owner, row, column = np.nonzero(told[:, 0] >= _odds(_MIN_PROBABILITY["pnet"]))
    cells = STRIDE * np.stack([column, row], axis=1).astype(np.float32)
    edges = np.concatenate([cells + 1, cells + CELL], axis=1) / np.float32(scale)
    numbers = told[owner, :, row, column]
    return _thin(Boxes(np.floor(edges), numbers[:, 0], numbers[:, 1:], owner), 0.5, _shared)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    pixels -= np.float32(127.5)
    pixels *= np.float32(1 / 128)
    return pixels


def _odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _moved(found: Boxes, more: int) -> np.ndarray:
    """The boxes with each edge moved by its offset; the last two networks learned with a side of one pixel more."""
    sides = found.edges[:, 2:] - found.edges[:, :2] + np.float32(more)
    return np.asarray(found.edges + found.offsets * np.tile(sides, 2))


def _square(edges: np.ndarray) -> np.ndarray:
    """Squares with the same centres and the longer sides."""
    sides = edges[:, 2:] - edges[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    start = edges[:, :2] + (sides - longest) / 2
    return np.concatenate([start, start + longest], axis=1)


def _within(edges: np.ndarray, table: AreaTable) -> np.ndarray:
    """Whole pixels within the picture, the first one counted as 1 and both ends belonging to the box."""
    edges = edges.astype(np.int64)
    start, end = np.maximum(edges[:, :2], 1) - 1, np.minimum(edges[:, 2:], (table.width, table.height))
    return np.concatenate([start, end], axis=1)


def _thin(found: Boxes, most: float, overlap: Overlap) -> Boxes:
    """Without boxes that overlap with a surer one of the same picture by more than `most`; the surest first."""
    found = found.of(np.argsort(-found.scores, kind="stable"))
    kept = [np.empty(0, int)]
    for picture in np.unique(found.owner):
        members = np.flatnonzero(found.owner == picture)
        kept.append(members[_surest(found.edges[members], most, overlap)])
    return found.of(np.concatenate(kept))


def _surest(edges: np.ndarray, most: float, overlap: Overlap, block: int = 128) -> np.ndarray:
    """Which of the boxes, the surest first, overlap with none before by more than `most`: bool (K,)."""
    kept = np.ones(len(edges), bool)
    for start in range(0, len(edges), block):
        near = np.flatnonzero(kept[start : start + block]) + start
        clash = overlap(edges[near], edges[start:]) > most
        for row, each in zip(clash, near, strict=True):
            if kept[each]:
                kept[each + 1 :] &= ~row[each - start + 1 :]
    return kept


def _shared(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union."""
    common, areas, areas_of_others = _common(boxes, others, 0)
    with np.errstate(invalid="ignore"):  # boxes without an area overlap with none
        return np.asarray(common / (areas + areas_of_others - common))


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over the smaller one, with sides of one pixel more."""
    common, areas, areas_of_others = _common(boxes, others, 1)
    return np.asarray(common / np.minimum(areas, areas_of_others))


def _common(boxes: np.ndarray, others: np.ndarray, more: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The intersections (K, M), and the areas (K, 1) and (1, M)."""
    one, two = boxes.T[:, :, None], others.T[:, None]
    wide = np.minimum(one[2], two[2]) - np.maximum(one[0], two[0]) + more
    high = np.minimum(one[3], two[3]) - np.maximum(one[1], two[1]) + more
    areas, areas_of_others = ((box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (one, two))
    return wide.clip(0) * high.clip(0), areas, areas_of_others


def _faces(found: Boxes) -> np.ndarray:
    edges = found.edges.astype(np.float64)
    largest = np.argsort(-(edges[:, 2:] - edges[:, :2]).prod(axis=1), kind="stable")
    return np.column_stack([edges, 1 / (1 + np.exp(-found.scores.astype(np.float64)))])[largest]
