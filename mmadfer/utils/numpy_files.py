"""Numbers from .npy files of strangers: nothing is unpickled, and no header makes us ask for more than the file has."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Version of the format -> reader of its header; 3.0 is for tables with names beyond ASCII, which are no numbers."""


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file: numbers or bool, of any shape.

    Raises:
        ValueError: it is no such file, is cut off, or holds something else than numbers.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
            file.seek(0)
            return npy.read_array(file, allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # its header is parsed as Python, which has many ways to fail
        raise ValueError(f"it is damaged ({type(error).__name__}: {str(error)[:100]})") from error


def _check_header(file: BinaryIO, size: int) -> None:
    """Hold the header against the file of `size` bytes."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of the .npy format, not 1.0 or 2.0")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in "fiub":
        raise ValueError(f"it holds no numbers (dtype {str(dtype)[:60]})")
    due, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min((0, *shape)) < 0 or due != there:
        raise ValueError(
            f"its header says {str(shape)[:60]} of {dtype}, {due} bytes, but {there} follow: it is damaged"
        )
