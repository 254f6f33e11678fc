"""Memory for big tensors that is used again: to get 77 MB from the system anew for each batch costs the time of
decoding half of its JPEGs, nearly all of it in page faults."""

import weakref
from collections import defaultdict, deque

import numpy as np
import torch
from torch import Tensor

DTYPES = {torch.uint8: np.uint8, torch.float32: np.float32}


class Blocks:
    """Gives uninitialised tensors on the CPU, and takes their memory back when nothing refers to it any more.

    It never holds more than was in use at once. Threads may share it.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[np.ndarray]] = defaultdict(deque)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with whatever was in memory.

        Args:
            shape: of the tensor.
            dtype: uint8 or float32.
        """
        size = int(np.prod(shape)) * dtype.itemsize
        free = self._free[size]
        try:
            block = free.popleft()
        except IndexError:
            block = np.empty(size, np.uint8)
        # A tensor's storage holds the array that it was made from, through views and autograd alike, so the array's end
        # is the end of all use.
        array = block.view(DTYPES[dtype]).reshape(shape)
        weakref.finalize(array, free.append, block).atexit = False
        return torch.from_numpy(array)
