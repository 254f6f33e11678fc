"""A pool of big buffers that are used again.

To get 77 MB from the system anew for each batch costs the time of decoding half of its JPEGs, nearly all of it in page
faults.
"""

import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

_DTYPES = {torch.uint8: np.uint8, torch.float32: np.float32}
MAX_FREE_BLOCKS = 4
"""Unused blocks; one that comes back to so many replaces the oldest."""


class Blocks:
    """Gives uninitialised tensors on the CPU, and takes their memory back when nothing refers to it any more.

    Threads may share it. It is meant for tensors of about one size: a block that is too small for what is wanted next,
    or more than twice as large, goes back to the system.

    Args:
        kept: blocks that may wait for being used again.
    """

    def __init__(self, kept: int = MAX_FREE_BLOCKS) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=kept)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with whatever was in memory.

        Args:
            shape: of the tensor.
            dtype: uint8 or float32.
        """
        size = int(np.prod(shape)) * dtype.itemsize
        block = self._block(size)
        # A tensor's storage holds the array that it was made from, through views and autograd alike, so the array's end
        # is the end of all use.
        array = block[:size].view(_DTYPES[dtype]).reshape(shape)
        weakref.finalize(array, self._free.append, block).atexit = False
        return torch.from_numpy(array)

    def _block(self, size: int) -> np.ndarray:
        # No lock: the garbage collector may give a block back in the middle of this, in this very thread.
        while True:
            try:
                block = self._free.popleft()
            except IndexError:
                return np.empty(size, np.uint8)
            if size <= len(block) <= 2 * size:
                return block
