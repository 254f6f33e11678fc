"""What the tests on a GPU share besides fixtures: engines built here, other clips, and memory that is taken away."""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from needs import missing, needed

from mmadfer.export.engine.to_trt import to_engine
from mmadfer.runtime.backends import cuda, engines
from mmadfer.runtime.backends.cuda import CudaError
from mmadfer.runtime.backends.providers import PROVIDERS

BATCH = (1, 4, 8)
RTX = ((8, 0), (8, 6), (8, 9))
"""Compute capabilities that TensorRT-RTX knows, besides all from (12, 0) on."""


@cache
def why_not() -> str:
    """Why there is no GPU here, by the driver's own word."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "needs an NVIDIA GPU; here is no driver for one (libcuda.so.1)"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "needs an NVIDIA GPU; the driver shows none"
    return ""


def needs_provider(device: str) -> None:
    """Skip where ONNX Runtime is built without it; one that only lacks its libraries says so when it is used."""
    if PROVIDERS[device][0] not in needed("onnxruntime").get_available_providers():
        missing(f"ONNX Runtime has no {PROVIDERS[device][0]} here (extra gpu)")


def needs_flavour(name: str) -> None:
    """Skip where this TensorRT does not know the GPU.

    Raises:
        MissingDependencyError: it is not installed, which is a skip, too (conftest.py).
    """
    engines.flavour(name)
    here = cuda.gpu()
    if name == "rtx" and here.capability not in RTX and here.capability < (12, 0):
        pytest.skip(f"TensorRT-RTX does not run on {here}")


def built(flavour: str, source: Path, out: Path, batch: tuple[int, int, int] = BATCH) -> Path:
    """A real engine, built here."""
    needs_flavour(flavour)
    return to_engine(source, out, flavour=flavour, batch=batch)


def others(feed: tuple[np.ndarray, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """As many clips as in the feed, with other pictures and sound for each number."""
    return feed[0] + np.uint8(number), np.roll(feed[1], number, axis=2)


class Hog:
    """Takes the GPU's memory away from others."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def leave(self, size: int) -> None:
        """Take all but about `size` bytes."""
        piece = 1 << 40
        while piece >= 1 << 20:
            free, _ = cuda.call("cudaMemGetInfo")
            piece = min(piece, free - size)
            try:
                self._held.append(cuda.call("cudaMalloc", max(piece, 1)))
            except CudaError:
                piece //= 2

    def free(self) -> None:
        """Give it back."""
        while self._held:
            cuda.call("cudaFree", self._held.pop())
