"""Where faces are in a picture (MTCNN), and a square crop of one of them.

`union_box` gives the published program's box for MAFW instead: all faces of one frame together.

Boxes are float64 (x0, y0, x1, y1) in shares of the picture's width and height, so that they fit any size of it.
MTCNN is the detector that the paper used (section 4.1).
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby, islice

import numpy as np
from PIL import Image

from mmadfer.data.faces.mtcnn import Detector
from mmadfer.data.faces.mtcnn_networks import WITHOUT_TORCH

DETECTION_SIDE_PX = 320
"""Longer side in pixels of the pictures that faces are looked for in first. Each has to have 20 pixels there, a 16th of
the longer side; smaller ones are looked for in larger pictures (`mmadfer.data.faces.search`), which
take four times as long for each step.
"""
_PICTURES_PER_BATCH = {"cpu": 16, WITHOUT_TORCH: 16, "cuda": 64}
"""Square pictures of DETECTION_SIDE_PX in one batch; of larger ones fewer, so that the memory is bounded."""


@cache
def detector(device: str = "cpu") -> Detector:
    """MTCNN on a device of `mtcnn_networks`, loaded once per process.

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
    most = _PICTURES_PER_BATCH[device.split(":", maxsplit=1)[0]]
    return max(1, min(most, most * DETECTION_SIDE_PX**2 // max(1, shape[0] * shape[1])))


def _detect_batch(batch: list[np.ndarray], device: str) -> list[np.ndarray]:
    height, width = batch[0].shape[:2]
    size = np.array([width, height, width, height, 1], dtype=np.float64)
    return [found / size for found in detector(device).detect(np.stack(batch))]


def lacks_gpu(error: BaseException | None) -> bool:
    """Whether an exception says that the GPU failed, which would make every clip one without a face."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("CUDA", "cuDNN", "CUBLAS", "NVML"))


def union_box(found: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
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
    x, y, half = _around(box, height, width, margin)
    reach = int(np.ceil(max(1.0, 2 * half / size))) + 1  # the filter also reads pixels next to the square
    left, top = int(np.floor(x - half)) - reach, int(np.floor(y - half)) - reach
    right, bottom = int(np.ceil(x + half)) + reach, int(np.ceil(y + half)) + reach
    area = Image.fromarray(_area_of(image, left, top, right, bottom))
    exact = (x - half - left, y - half - top, x + half - left, y + half - top)
    return np.asarray(area.resize((size, size), Image.Resampling.BILINEAR, box=exact))


def square_around(box: np.ndarray, height: int, width: int, margin: float) -> tuple[float, float, float, float]:
    """The square that `crop` cuts out of a picture of so many pixels: x0, y0, x1, y1 in pixels, also outside of it."""
    x, y, half = _around(box, height, width, margin)
    return x - half, y - half, x + half, y + half


def _around(box: np.ndarray, height: int, width: int, margin: float) -> tuple[float, float, float]:
    """The middle of the square around a box, and half of its side."""
    x0, y0, x1, y1 = box * (width, height, width, height)
    half = max(x1 - x0, y1 - y0, 2.0) * (1 + margin) / 2
    return np.clip((x0 + x1) / 2, 0, width), np.clip((y0 + y1) / 2, 0, height), half


def _area_of(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A part of a picture; pixels outside of it are those of its edge."""
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]  # a hundred times faster than by index
    columns, rows = np.arange(left, right).clip(0, width - 1), np.arange(top, bottom).clip(0, height - 1)
    return image[rows[:, None], columns]
