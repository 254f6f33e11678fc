"""The little of CUDA that running an engine takes: a GPU's name, pinned memory, a stream and graphs of its work."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np

from mmadfer.errors import MissingDependencyError, MmadferError
from mmadfer.runtime.backends.engines import Gpu
from mmadfer.utils.optional import need

_INSTALL = "pip install cuda-bindings"


class CudaError(MmadferError):
    """CUDA or TensorRT refused something; `reason` has the name for why, such as `cudaErrorMemoryAllocation`."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(code, words)  # what it is made of again in another process
        self.reason = f"{words} ({code})"

    def __str__(self) -> str:
        return f"the GPU failed: {self.reason}. Look at it with `nvidia-smi`, and start the program anew"


def bindings() -> Any:
    """The bindings of CUDA's runtime library.

    Raises:
        MissingDependencyError: they are not installed.
    """
    return need("cuda.bindings.runtime", None, _INSTALL)


def call(name: str, *arguments: Any) -> Any:
    """Call a function of CUDA's runtime library.

    Returns:
        What it returns besides its status; None, one value, or several.

    Raises:
        CudaError: a status other than success.
    """
    cuda = bindings()
    status, *values = getattr(cuda, name)(*arguments)
    if status != cuda.cudaError_t.cudaSuccess:
        raise CudaError(status.name, cuda.cudaGetErrorString(status)[1].decode())
    return values[0] if len(values) == 1 else tuple(values) or None


def gpu(index: int = 0) -> Gpu:
    """The GPU of this number.

    Raises:
        MissingDependencyError: there is none, or no driver for it.
    """
    try:
        facts = call("cudaGetDeviceProperties", index)
    except CudaError as error:
        raise MissingDependencyError(
            f"device cuda:{index}: no GPU that CUDA can use: {error.reason}. Mend the driver (`nvidia-smi` must show "
            "the GPU), or take the .onnx model, which a CPU can run"
        ) from error
    return Gpu(facts.name.decode(), (facts.major, facts.minor))


class Buffer:
    """Memory for one array of a batch, twice: pinned on the host, where `array` is, and on the GPU, at `address`.

    Args:
        shape: of the largest array.
        kind: numpy's name of its type.
        held: where it enters itself, for whoever frees all.
    """

    def __init__(self, shape: tuple[int, ...], kind: str, held: list["Buffer"]) -> None:
        size = prod(shape) * np.dtype(kind).itemsize
        self.address: int = call("cudaMalloc", size)
        self._host: int | None = None
        held.append(self)
        self._host = call("cudaHostAlloc", size, bindings().cudaHostAllocDefault)
        flat = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._host))
        self.array: np.ndarray = flat.view(kind).reshape(shape)

    def fill(self, array: np.ndarray) -> None:
        """Put an array of no more than this size, of the same type, at the start of the pinned memory."""
        self.array.reshape(-1)[: array.size].reshape(array.shape)[...] = array

    def upload(self, stream: Any, shape: tuple[int, ...]) -> None:
        """Copy an array of this shape to the GPU, in the stream's turn."""
        kind = bindings().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", self.address, self._host, self._bytes(shape), kind, stream)

    def download(self, stream: Any, shape: tuple[int, ...]) -> None:
        """Copy an array of this shape from the GPU, in the stream's turn."""
        kind = bindings().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", self._host, self.address, self._bytes(shape), kind, stream)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) * self.array.itemsize

    def free(self) -> None:
        """Give both back."""
        call("cudaFree", self.address)
        if self._host is not None:
            call("cudaFreeHost", self._host)


@contextmanager
def captured(stream: Any) -> Iterator[list[Any]]:
    """Record what the block puts into the stream, without doing it; the list then holds the graph to launch."""
    cuda, graphs = bindings(), list[Any]()
    call("cudaStreamBeginCapture", stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
    try:
        yield graphs
    except BaseException:
        with suppress(CudaError):  # the first error says more
            call("cudaGraphDestroy", call("cudaStreamEndCapture", stream))
        raise
    graph = call("cudaStreamEndCapture", stream)
    try:
        graphs.append(call("cudaGraphInstantiate", graph, 0))
    finally:
        call("cudaGraphDestroy", graph)
