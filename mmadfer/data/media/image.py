"""Face crops to the model's frames without DALI: what a deployment uses (the preprocessing of tests)."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmadfer.errors import DataError

_MAX_SIDE_PX = 4096
"""Longer side in pixels of a stored frame that is decoded; preparation makes none of more than 1024."""


def resize(frames: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Resize whole frames with bilinear filtering, antialiased.

    Args:
        frames: T images, uint8 (H, W, 3) RGB; they may differ in size.
        size: S, the model's image side in pixels.

    Returns:
        uint8 (T, 3, S, S), as the model takes them.
    """
    return np.ascontiguousarray(np.stack([square(frame, size) for frame in frames]).transpose(0, 3, 1, 2))


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The whole image (H, W, 3) as uint8 (size, size, 3), whatever its shape; bilinear, antialiased."""
    # reducing_gap would trade exactness for speed, so it stays off.
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A JPEG file's bytes, as the store keeps them, of an RGB image uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
    """The RGB image in a JPEG file's bytes; uint8 (H, W, 3).

    Raises:
        DataError: the bytes are no image, cut off, or far larger than a face.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if max(image.size) > _MAX_SIDE_PX:
            raise DataError(f"a stored frame is {image.width} x {image.height} pixels, which no face is")
        return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise DataError(f"a stored frame is not a readable JPEG ({error}); run `mmadfer prepare` again") from error
