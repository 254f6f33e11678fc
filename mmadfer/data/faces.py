"""Where the face is: MTCNN on some frames, one face followed through the clip, a square crop of every frame.

`union` gives the published program's box for MAFW instead: all faces of one frame together.

Boxes are float64 (x0, y0, x1, y1) in shares of the picture's width and height, so that they fit any size of it.
MTCNN is the detector that the paper used (section 4.1).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby, islice

import numpy as np
from PIL import Image

from mmadfer.data.detector import Detector
from mmadfer.data.networks import WITHOUT_TORCH

LONGEST = 320
"""Longer side in pixels of the pictures that faces are looked for in; larger ones find no more and take longer."""
REACH = 1.5
"""Widths that a face may move between two pictures; one more for each picture without it."""
BATCH = {"cpu": 16, WITHOUT_TORCH: 16, "cuda": 64}
"""Pictures of LONGEST x LONGEST that are looked at in one go; of larger ones fewer, so that the memory is bounded."""


@cache
def detector(device: str = "cpu") -> Detector:
    """MTCNN on a device of `networks`, loaded once per process.

    Raises:
        MissingDependencyError: neither PyTorch nor ONNX Runtime is installed, or there is no such device.
    """
    return Detector(device)


def detect(images: Iterable[np.ndarray], device: str = "cpu") -> Iterator[np.ndarray]:
    """Find the faces in pictures, uint8 RGB (H, W, 3).

    Yields:
        for each picture float64 (faces, 5): box and probability.
    """
    for shape, same in groupby(images, key=np.shape):  # a batch has one size
        while batch := list(islice(same, _batch(shape, device))):
            yield from _detect_batch(batch, device)


def _batch(shape: tuple[int, ...], device: str) -> int:
    most = BATCH[device.split(":", maxsplit=1)[0]]
    return max(1, min(most, most * LONGEST**2 // max(1, shape[0] * shape[1])))


def _detect_batch(batch: list[np.ndarray], device: str) -> list[np.ndarray]:
    height, width = batch[0].shape[:2]
    size = np.array([width, height, width, height, 1], dtype=np.float64)
    return [found / size for found in detector(device).detect(np.stack(batch))]


def lacks_gpu(error: BaseException | None) -> bool:
    """Whether an exception says that the GPU failed, which would make every clip one without a face."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("CUDA", "cuDNN", "CUBLAS", "NVML"))


def track(found: Iterable[np.ndarray]) -> list[np.ndarray | None]:
    """Follow one face: the surest and largest at first, then the one that covers or is nearest to the last box.

    A face more than 1.5 widths away is taken for someone else, unless the first one stays away.

    Args:
        found: for each picture looked at (faces, 5), as `detect` gives.

    Returns:
        for each picture a box, or None where the face was not found.
    """
    boxes, last, missed = list[np.ndarray | None](), None, 0
    for faces in found:
        box = _first(faces) if last is None else _next(faces, last, reach=REACH + missed)
        missed = 0 if box is not None else missed + 1
        last = box if box is not None else last
        boxes.append(box)
    return boxes


def _first(faces: np.ndarray) -> np.ndarray | None:
    return faces[np.argmax(faces[:, 4] * _area(faces)), :4] if len(faces) else None


def _next(faces: np.ndarray, last: np.ndarray, reach: float) -> np.ndarray | None:
    if not len(faces):
        return None
    distance = np.linalg.norm((_centre(faces) - _centre(last[None])) / (last[2:] - last[:2]), axis=1)
    best = np.argmax(_overlap(faces, last) - distance / 1000)  # distance decides where nothing overlaps
    return faces[best, :4] if distance[best] <= reach else None


def _overlap(faces: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Intersection over union of every face with the last box."""
    sides = np.minimum(faces[:, 2:4], last[2:]) - np.maximum(faces[:, :2], last[:2])
    common = sides.clip(0).prod(axis=1)
    return common / (_area(faces) + _area(last[None]) - common)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:4] - boxes[:, :2]).clip(0).prod(axis=1)


def _centre(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:4]) / 2


def interpolate(indexes: Sequence[int], boxes: Sequence[np.ndarray | None], count: int) -> np.ndarray | None:
    """Boxes of all frames from those found in some: linear between two, the nearest one at the ends.

    Args:
        indexes: the frames looked at, rising.
        boxes: what was found there.
        count: number of all frames.

    Returns:
        float64 (count, 4), or None if no box was found.
    """
    found = [(index, box) for index, box in zip(indexes, boxes, strict=True) if box is not None]
    if not found:
        return None
    at, values = [index for index, _ in found], np.stack([box for _, box in found])
    return np.stack([np.interp(np.arange(count), at, values[:, side]) for side in range(4)], axis=1)


def union(found: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The box that the published program cuts out of a MAFW frame, faults and all.

    All faces together, rounded; the shorter side is widened to a square, which the picture's border then cuts. Without
    a face it is the middle of the picture, a square as large as half of its shorter side.

    Args:
        found: (faces, 5) of this frame, as `detect` gives.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        x0, y0, x1, y1 in pixels, within the picture and not empty.
    """
    if len(found):
        size = np.array([width, height])
        x0, y0 = (max(0, round(value)) for value in (found[:, :2].min(axis=0) * size).tolist())
        x1, y1 = (round(value) for value in (found[:, 2:4].max(axis=0) * size).tolist())
        widen, heighten = max(0, (y1 - y0) - (x1 - x0)) // 2, max(0, (x1 - x0) - (y1 - y0)) // 2
        x0, x1 = max(0, x0 - widen), min(width, x1 + widen)
        y0, y1 = max(0, y0 - heighten), min(height, y1 + heighten)
        if x0 < x1 and y0 < y1:
            return x0, y0, x1, y1
    half = max(1, min(height // 2, width // 2) // 2)
    x, y = width // 2, height // 2
    return max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half)


def crop(image: np.ndarray, box: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Cut a square around a box and resize it (antialiased bilinear); outside of the picture its edge is repeated.

    Args:
        image: uint8 RGB (H, W, 3).
        box: (x0, y0, x1, y1) in shares of width and height.
        size: side of the result in pixels.
        margin: width added to the box's longer side, as a share of it.

    Returns:
        uint8 RGB (size, size, 3).
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box * (width, height, width, height)
    half = max(x1 - x0, y1 - y0, 2.0) * (1 + margin) / 2
    x, y = np.clip((x0 + x1) / 2, 0, width), np.clip((y0 + y1) / 2, 0, height)
    reach = int(np.ceil(max(1.0, 2 * half / size))) + 1  # the filter also reads pixels next to the square
    left, top = int(np.floor(x - half)) - reach, int(np.floor(y - half)) - reach
    right, bottom = int(np.ceil(x + half)) + reach, int(np.ceil(y + half)) + reach
    area = Image.fromarray(_area_of(image, left, top, right, bottom))
    exact = (x - half - left, y - half - top, x + half - left, y + half - top)
    return np.asarray(area.resize((size, size), Image.Resampling.BILINEAR, box=exact))


def _area_of(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A part of a picture; pixels outside of it are those of its edge."""
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]  # a hundred times faster than by index
    columns, rows = np.arange(left, right).clip(0, width - 1), np.arange(top, bottom).clip(0, height - 1)
    return image[rows[:, None], columns]
