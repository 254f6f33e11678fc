"""TensorRT 10, TensorRT 11 and TensorRT-RTX: the engines that `mmadfer.export` writes, on the GPU they are for."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import DataError, WeightsError
from mmadfer.runtime.backends import cuda, engines, ports
from mmadfer.runtime.backends.cuda import Buffer, CudaError, call, captured
from mmadfer.runtime.backends.device import Device, parse_device
from mmadfer.runtime.backends.engines import Sidecar
from mmadfer.utils.files import read_bytes
from mmadfer.utils.memory import first_line, lacks_memory, no_room

Feed = dict[str, np.ndarray]
Sizes = dict[str, tuple[int, ...]]


class TensorRTBackend:
    """An engine, which its sidecar must allow here; many threads may use it, and are served one after the other.

    Args:
        path: `*.engine`, with its sidecar beside it.
        device: `cuda`, the default, or `cuda:1` for the second of several GPUs.
        fold: not used; an engine is of one fold.

    Raises:
        WeightsError: no engine, or one of another GPU, version or build; says how to build it here.
        MissingDependencyError: TensorRT is not installed, or there is no GPU, or another device is asked for.
    """

    def __init__(self, path: Path, device: str | None = None, fold: int | None = None) -> None:
        self.device = parse_device(device, ("cuda",))
        sidecar, trt, data = _checked(path, self.device)
        self.contract: Contract = sidecar.contract
        self.input: str = self.contract.input
        self._batch, self._lock = sidecar.batch, Lock()
        call("cudaSetDevice", self.device.index)
        log = engines.tensorrt_logger(trt)
        engine = _loaded(trt, log, path, data, sidecar, self.device)
        try:
            self._execution = Execution(*context_of(trt, engine, log), self.contract, self._batch[2], log)
        except (CudaError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            raise WeightsError(_too_large(path, sidecar, engine, self.device, error)) from error

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        """As in `Backend`; more clips than the engine takes at once are given to it in parts."""
        feed = ports.check_arrays(self.contract, arrays)
        with self._lock:
            call("cudaSetDevice", self.device.index)  # which is each thread's own
            return np.concatenate([self._execution(part)[:count] for part, count in engine_batches(feed, self._batch)])


def _checked(path: Path, where: Device) -> tuple[Sidecar, Any, bytes]:
    """The sidecar, TensorRT's module, and the engine, which is read once: it is large."""
    sidecar = engines.read_sidecar(path)
    _, trt = engines.flavour(sidecar.flavour)
    engines.check_engine_version(path, sidecar, trt.__version__)
    data = read_bytes(path, path.stat().st_size)
    engines.check_engine_files(path, sidecar, data)
    engines.check_gpu(path, sidecar, cuda.gpu(where.index), where)
    return sidecar, trt, data


def engine_batches(feed: Feed, batch: tuple[int, int, int]) -> Iterator[tuple[Feed, int]]:
    """Batches that an engine takes, and how many of their clips are asked for.

    The last clip of one that is too small is repeated.
    """
    least, _, most = batch
    for start in range(0, _count(feed), most):
        part = {name: array[start : start + most] for name, array in feed.items()}
        count = _count(part)
        if count < least:
            part = {name: np.concatenate([array, *[array[-1:]] * (least - count)]) for name, array in part.items()}
        yield part, count


def _count(feed: Feed) -> int:
    """Clips."""
    return len(next(iter(feed.values())))


def _loaded(trt: Any, log: Any, path: Path, data: bytes, sidecar: Sidecar, where: Device) -> Any:
    again = engines.remedy(path, sidecar, cuda.gpu(where.index))
    try:
        engine = deserialised(trt, log, data, sidecar.version_compatible)
    except WeightsError as error:
        if lacks_memory(error):
            raise no_room(path, where, error) from error
        raise WeightsError(f"TensorRT cannot load {path} here: {error}. {again}") from error
    found = {name: _port(trt, engine, name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))}
    ports.check_ports(path, sidecar.contract, found, again)
    return engine


def deserialised(trt: Any, log: Any, data: bytes, trusted: bool = False) -> Any:
    """An engine out of its file.

    Args:
        trt: TensorRT's module.
        log: of `engines.tensorrt_logger`; TensorRT writes what goes wrong into it, also later.
        data: the file.
        trusted: run the program code in it, which version-compatible engines have; `check_engine_version`
            has asked for leave.

    Raises:
        WeightsError: TensorRT refuses it; why, in its words.
    """
    runtime = trt.Runtime(log)
    if trusted:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise WeightsError(log.told())
    return engine


def _port(trt: Any, engine: Any, name: str) -> tuple[str, tuple[int, ...]]:
    sizes = tuple(engine.get_tensor_shape(name))[1:]  # fixed, but for the batch
    return np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name, sizes


def _too_large(path: Path, sidecar: Sidecar, engine: Any, where: Device, error: Exception) -> str:
    free, _ = call("cudaMemGetInfo")
    need, (_, usual, most) = engine.device_memory_size_v2, sidecar.batch
    told = (
        f"{path} needs {need >> 20} MiB of GPU memory and more for {most} clips at once, and {free >> 20} MiB are "
        f"free ({first_line(error)}). Free some, or "
    )
    if most == 1:
        return told + "take another GPU, or an engine of another --precision"
    fits = max(1, min(most - 1, most * free // max(need, 1)))
    again = engines.rebuild(path, sidecar, (1, min(usual, fits), fits), where)
    return f"{told}build it for about {fits} at once: {again}"


def context_of(trt: Any, engine: Any, log: Any) -> tuple[Any, bool]:
    """A context, and whether CUDA graphs are for us to record: TensorRT-RTX does that itself, if it is told to.

    Raises:
        MemoryError: the GPU has no room for it.
    """
    if not hasattr(trt, "CudaGraphStrategy"):
        context, by_hand = engine.create_execution_context(), True
    else:
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context, by_hand = engine.create_execution_context(config), False
    if context is None:
        raise MemoryError(f"TensorRT makes no execution context: {log.told()}")
    return context, by_hand


class Execution:
    """A context with the memory it needs, for one thread at a time.

    Where graphs are recorded by hand, the second batch of one size does so, and all that follow launch it: one call
    starts thousands of kernels. A graph is tied to the sizes in the context, so the next size is its end.
    """

    def __init__(self, context: Any, by_hand: bool, contract: Contract, most: int, log: Any) -> None:
        self._context, self._by_hand, self._log = context, by_hand, log
        self._stream = call("cudaStreamCreate")
        held, self._graphs = list[Buffer](), list[Any]()  # one graph at most
        weakref.finalize(self, _free, self._stream, held, self._graphs).atexit = False  # the process's end frees it
        _, self._size = ports.outputs(contract)[ports.OUTPUT]
        self._inputs = {
            name: Buffer((most, *size), kind, held) for name, (kind, size) in ports.inputs(contract).items()
        }
        self._output = Buffer((most, *self._size), "float32", held)
        self._sizes: Sizes = {}
        for name, buffer in (*self._inputs.items(), (ports.OUTPUT, self._output)):
            context.set_tensor_address(name, buffer.address)

    def __call__(self, feed: Feed) -> np.ndarray:
        """Logits float32 (B, C) of a batch that the engine takes, or values (B, T, C)."""
        for name, array in feed.items():
            self._inputs[name].fill(array)
        sizes = {name: array.shape for name, array in feed.items()}
        if sizes != self._sizes:
            self._resize(sizes)
            self._enqueue(sizes)
            self._sizes = sizes  # from now on it can be recorded
        elif self._by_hand:
            if not self._graphs:
                self._graphs.append(self._recorded(sizes))
            call("cudaGraphLaunch", self._graphs[0], self._stream)
        else:
            self._enqueue(sizes)
        call("cudaStreamSynchronize", self._stream)
        return self._output.array[: _count(feed)].copy()

    def _resize(self, sizes: Sizes) -> None:
        _forget(self._graphs)
        self._sizes = {}
        for name, size in sizes.items():
            if not self._context.set_input_shape(name, size):
                raise DataError(f"the engine does not take {name} {size}: {self._log.told()}")

    def _enqueue(self, sizes: Sizes) -> None:
        for name, size in sizes.items():
            self._inputs[name].upload(self._stream, size)
        if not self._context.execute_async_v3(int(self._stream)):
            raise CudaError("execute_async_v3", self._log.told())
        self._output.download(self._stream, (next(iter(sizes.values()))[0], *self._size))

    def _recorded(self, sizes: Sizes) -> Any:
        with captured(self._stream) as graphs:
            self._enqueue(sizes)
        return graphs[0]


def _forget(graphs: list[Any]) -> None:
    while graphs:
        call("cudaGraphExecDestroy", graphs.pop())


def _free(stream: Any, buffers: list[Buffer], graphs: list[Any]) -> None:
    _forget(graphs)
    for buffer in buffers:
        buffer.free()
    call("cudaStreamDestroy", stream)
