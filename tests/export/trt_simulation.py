# ruff: noqa: N802 - names of CUDA's
"""A GPU that is not there: memory, streams and graphs of CUDA in the host's memory; ONNX Runtime plays the engine.

What it can show: that the right bytes are in the right place when the engine starts, and that graphs replay what was
recorded. What it cannot: that TensorRT computes the same.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from trt_double import Api, Double

from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.ort import OrtBackend

FREE = 10 << 30


class Cuda:
    """Stands in for `cuda.bindings.runtime`, with its names, numbers of parameters and statuses."""

    def __init__(self, real: Any, most: int = FREE) -> None:
        self.real, self.most = real, most
        self.held: dict[int, Any] = {}
        """Address -> memory."""
        self.streams = 0
        self.graphs: list[list[Callable[[], None]]] = []
        """Recorded ones and those ready to launch, until they are destroyed."""
        self.recording: list[Callable[[], None]] | None = None
        self.launches = 0
        self.failing: set[str] = set()
        """Functions that fail; `execute` is TensorRT's."""
        self._functions = {name.removeprefix("_"): getattr(self, name) for name in dir(self) if name[:5] == "_cuda"}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        if name not in self._functions:
            assert isinstance(value, type | int) or name == "cudaGetErrorString", f"the simulation has no {name}"
            return value
        given = re.match(r"\w+\((.*)\)", value.__doc__.strip())[1]

        def call(*arguments: Any) -> tuple[Any, ...]:
            assert len(arguments) == len(given.split(",") if given else []), (name, given, arguments)
            if name in self.failing:
                return self.real.cudaError_t.cudaErrorIllegalAddress, None
            return self._functions[name](*arguments)

        return call

    def done(self, *values: Any) -> tuple[Any, ...]:
        return (self.real.cudaError_t.cudaSuccess, *values)

    def work(self, do: Callable[[], Any]) -> tuple[Any, ...]:
        """Do it, or keep it for the graph that is being recorded."""
        if self.recording is None:
            do()
        else:
            self.recording.append(do)
        return self.done()

    def _cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size + sum(map(ctypes.sizeof, self.held.values())) > self.most:
            return self.real.cudaError_t.cudaErrorMemoryAllocation, None
        memory = (ctypes.c_uint8 * size)()
        self.held[ctypes.addressof(memory)] = memory
        return self.done(ctypes.addressof(memory))

    def _cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._cudaMalloc(size)

    def _cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.held[address]
        return self.done()

    def _cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        return self._cudaFree(address)

    def _cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        assert size <= min(ctypes.sizeof(self.held[to]), ctypes.sizeof(self.held[source]))
        return self.work(lambda: ctypes.memmove(to, source, size))

    def _cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self.done(self.most, self.most)

    def _cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        return self.done()

    def _cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        return self.done(SimpleNamespace(name=b"NVIDIA H200", major=9, minor=0))

    def _cudaStreamCreate(self) -> tuple[Any, ...]:
        self.streams += 1
        return self.done(self.real.cudaStream_t(7))

    def _cudaStreamDestroy(self, stream: Any) -> tuple[Any, ...]:
        self.streams -= 1
        return self.done()

    def _cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        assert self.recording is None
        return self.done()

    def _cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Any, ...]:
        self.recording = []
        return self.done()

    def _cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        recorded, self.recording = self.recording or [], None
        self.graphs.append(recorded)
        return self.done(recorded)

    def _cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        self.graphs.append(list(graph))
        return self.done(self.graphs[-1])

    def _cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        self.graphs = [other for other in self.graphs if other is not graph]
        return self.done()

    def _cudaGraphExecDestroy(self, graph: Any) -> tuple[Any, ...]:
        self._cudaGraphDestroy(graph)
        graph.clear()
        return self.done()

    def _cudaGraphLaunch(self, graph: Any, stream: Any) -> tuple[Any, ...]:
        assert graph, "destroyed"
        self.launches += 1
        for do in graph:
            do()
        return self.done()


class Engine:
    """What the double of an engine and its context answer: ONNX Runtime's logits, of memory and into memory."""

    def __init__(self, onnx: Path, cuda: Cuda, real: Any) -> None:
        self.cuda, self.backend = cuda, OrtBackend(onnx)
        self.addresses: dict[str, int] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}
        inputs, outputs = ports.inputs(self.backend.contract), ports.outputs(self.backend.contract)
        names, kinds = [*inputs, *outputs], inputs | outputs
        types = {"uint8": real.DataType.UINT8, "float32": real.DataType.FLOAT, "int64": real.DataType.INT64}
        self.answers = {
            ("ICudaEngine", "num_io_tensors"): len(names),
            ("ICudaEngine", "get_tensor_name"): lambda engine, index: names[index],
            ("ICudaEngine", "get_tensor_dtype"): lambda engine, name: types[kinds[name][0]],
            ("ICudaEngine", "get_tensor_shape"): lambda engine, name: real.Dims((-1, *kinds[name][1])),
            ("ICudaEngine", "device_memory_size_v2"): 4 << 30,
            ("IExecutionContext", "set_tensor_address"): self.put,
            ("IExecutionContext", "set_input_shape"): self.shape,
            ("IExecutionContext", "execute_async_v3"): self.execute,
        }

    def put(self, context: Double, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def shape(self, context: Double, name: str, size: tuple[int, ...]) -> bool:
        self.sizes[name] = size
        return True

    def execute(self, context: Double, stream: int) -> bool:
        if "execute" in self.cuda.failing:
            return False
        sizes = dict(self.sizes)
        self.cuda.work(lambda: self.compute(sizes))
        return True

    def compute(self, sizes: dict[str, tuple[int, ...]]) -> None:
        kinds = ports.inputs(self.backend.contract)
        arrays = [self.array(name, kind, sizes[name]) for name, (kind, _) in kinds.items()]
        logits = self.backend.logits(*arrays)
        self.array(ports.OUTPUT, "float32", logits.shape)[...] = logits

    def array(self, name: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        flat = np.frombuffer(self.cuda.held[self.addresses[name]], np.dtype(kind), int(np.prod(shape)))
        return flat.reshape(shape)


def api(real: Any, onnx: Path, cuda: Cuda) -> Api:
    """The double of a module whose engines do what the ONNX model does."""
    return Api(real, Engine(onnx, cuda, real).answers)
