"""One way to build an engine with TensorRT 10, TensorRT 11 and TensorRT-RTX.

Only what all of them have is used: the network is strongly typed, so that each layer computes as the graph says. The
flags and calibrators by which version 10 could choose another precision are gone in 11, and are not missed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from mmadfer.errors import ConfigError, WeightsError
from mmadfer.runtime.backends.engines import tensorrt_logger
from mmadfer.utils.console import Console
from mmadfer.utils.files import atomic, read_bytes

TIMINGS = 1 << 30
"""Bytes of a timing cache."""
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> its smallest, usual and largest shape."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built."""

    workspace: int | None = None
    """MiB of GPU memory that one layer may use; None leaves it to TensorRT."""
    version_compatible: bool = False
    """Later versions of TensorRT can load it; it holds program code for that."""
    hardware_compatible: bool = False
    """Runs on every GPU from compute capability 8.0 on, more slowly."""
    timing_cache: Path | None = None
    """Measurements of layers that an earlier build has left; read, and written anew."""
    tf32: bool = False
    """Products of float32 may lose 13 bits. Off, though TensorRT has it on: fp32 would be 1e-3 away from itself."""


def build_engine(trt: Any, onnx: Path, shapes: Shapes, options: EngineOptions) -> Any:
    """Build an engine; Ctrl-C stops it.

    Args:
        trt: TensorRT's module.
        onnx: the graph; weights in files beside it are found.
        shapes: of each input.
        options: how.

    Returns:
        The engine, an `IHostMemory`, that goes into a file as it is.

    Raises:
        WeightsError: TensorRT cannot parse the graph, or finds no way to compute it; says which node, and why.
    """
    log = tensorrt_logger(trt)
    builder = _created(lambda: trt.Builder(log), log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, onnx, log)
    config = builder.create_builder_config()
    _profile(builder, network, config, shapes)
    _configure(trt, config, options)
    cache = _read_cache(config, options.timing_cache)
    with _progress(trt, onnx.name) as monitor:
        config.progress_monitor = monitor
        engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise WeightsError(f"TensorRT cannot build {onnx}: {log.told()}")
    if cache is not None and options.timing_cache:
        _keep(config.get_timing_cache(), options.timing_cache)
    return engine


def _keep(cache: Any, path: Path) -> None:
    """Write a timing cache; one that cannot be written costs time the next time, and not this engine."""
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(cache.serialize())
    except OSError as error:
        warnings.warn(f"the timing cache {path} was not written ({error.strerror}); the engine is whole", stacklevel=3)


def _created(make: Callable[[], Any], log: Any) -> Any:
    try:
        return make()
    except TypeError as error:  # the bindings' word for "there is none"
        raise WeightsError(
            f"TensorRT cannot build here: {log.told()}. It builds on the GPU that is to run the engine; TensorRT-RTX "
            "(--flavour rtx) builds without one"
        ) from error


def _parse(trt: Any, network: Any, onnx: Path, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        faults = [_told(parser.get_error(index)) for index in range(parser.num_errors)]
        raise WeightsError(f"TensorRT cannot parse {onnx}: {'; '.join(faults) or log.told()}")


def _told(fault: Any) -> str:
    node = f"node {fault.node_name()!r} ({fault.node_operator()}): " if fault.node_name() else ""
    return f"{node}{fault.desc()}"


def _profile(builder: Any, network: Any, config: Any, shapes: Shapes) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        name = network.get_input(index).name
        profile.set_shape(name, *shapes[name])
    config.add_optimization_profile(profile)


def _configure(trt: Any, config: Any, options: EngineOptions) -> None:
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _read_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    cache = config.create_timing_cache(read_bytes(path, TIMINGS) if path.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise ConfigError(f"{path} is no timing cache of this GPU and version of TensorRT: delete it, or name another")
    return cache


@contextmanager
def _progress(trt: Any, name: str) -> Iterator[Any]:
    """TensorRT's phases as bars on the terminal, each below the one that it is a part of."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        monitor = monitor_of(trt)(progress, name)
        yield monitor
    if monitor.stopped is not None:
        raise monitor.stopped


def monitor_of(trt: Any) -> type[Any]:
    """The class that TensorRT tells how far it is; from several threads, if it likes."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self, progress: Progress, name: str) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None
            self._progress, self._name = progress, name
            self._tasks: dict[str, TaskID] = {}
            self._depth: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            depth = self._depth[phase_name] = self._depth.get(parent_phase or "", -1) + 1
            title = self._name if not depth else "  " * depth + phase_name
            with self._kept():
                self._tasks[phase_name] = self._progress.add_task(title, total=num_steps or None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._kept():
                self._progress.update(self._tasks[phase_name], completed=step + 1)
            return self.stopped is None

        def phase_finish(self, phase_name: str) -> None:
            with self._kept():
                self._progress.remove_task(self._tasks.pop(phase_name))

        @contextmanager
        def _kept(self) -> Iterator[None]:
            """Keep Ctrl-C: TensorRT's code would end the process; told to stop, it returns. A bar that fails is no
            reason to stop a build."""
            try:
                with suppress(Exception):
                    yield
            except BaseException as error:
                self.stopped = self.stopped or error

    return Monitor
