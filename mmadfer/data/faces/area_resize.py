"""Pictures resized by the mean of the area below each pixel, many parts of many pictures at once.

Sums of whole rectangles come from a summed-area table in integers, so that they are exact, whatever the part's size.
"""

import numpy as np


class AreaTable:
    """Summed-area table of pictures of one size.

    Args:
        images: uint8 (N, H, W, 3), of less than 2^31 / 255 pixels each for the whole picture's mean.
    """

    def __init__(self, images: np.ndarray) -> None:
        count, height, width, channels = images.shape
        self.height, self.width = height, width
        self.sums = np.zeros((count, height + 1, width + 1, channels), np.int32)  # may wrap; differences do not mind
        inner = self.sums[:, 1:, 1:]
        np.cumsum(images, axis=1, dtype=np.int32, out=inner)
        np.cumsum(inner, axis=2, out=inner)

    def whole(self, height: int, width: int) -> np.ndarray:
        """Every picture at another size: float32 (N, height, width, 3) in 0..255."""
        top, bottom = _bins(np.zeros(1, np.intp), np.array([self.height]), height)
        left, right = _bins(np.zeros(1, np.intp), np.array([self.width]), width)
        rows = self.sums.take(bottom[0], axis=1) - self.sums.take(top[0], axis=1)
        sums = rows.take(right[0], axis=2) - rows.take(left[0], axis=2)
        return _mean(sums, (bottom - top)[0, :, None] * (right - left)[0])

    def parts(self, owner: np.ndarray, edges: np.ndarray, side: int) -> np.ndarray:
        """Parts of pictures as squares.

        Args:
            owner: int (K,), the picture of each part.
            edges: int (K, 4) x0, y0, x1, y1 of each part within its picture, not empty.
            side: of the squares in pixels.

        Returns:
            float32 (K, side, side, 3) in 0..255.
        """
        x0, y0, x1, y1 = edges.T.astype(np.intp)
        left, right = _bins(x0, x1 - x0, side)
        top, bottom = _bins(y0, y1 - y0, side)
        flat, stride = self.sums.reshape(-1, self.sums.shape[-1]), self.width + 1
        above, below = ((owner[:, None] * (self.height + 1) + row) * stride for row in (top, bottom))
        sums = flat.take(below[:, :, None] + right[:, None], axis=0)
        sums -= flat.take(below[:, :, None] + left[:, None], axis=0)
        sums -= flat.take(above[:, :, None] + right[:, None], axis=0)
        sums += flat.take(above[:, :, None] + left[:, None], axis=0)
        return _mean(sums, (bottom - top)[:, :, None] * (right - left)[:, None])


def _bins(start: np.ndarray, length: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` bins starts and ends, (K, count); next to each other, or overlapping by one pixel."""
    step = np.arange(count + 1) * length[:, None]
    return start[:, None] + step[:, :-1] // count, start[:, None] - (-step[:, 1:] // count)


def _mean(sums: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(sums / pixels[..., None].astype(np.float32), np.float32)
