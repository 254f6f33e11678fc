"""All that mmadfer does with TensorRT, done with doubles of one version's bindings."""

import importlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from trt_double import Api, Double
from trt_simulation import Cuda, api

import mmadfer
from mmadfer.contract import Contract
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.export.engine.builder import EngineOptions, build_engine, monitor_of
from mmadfer.export.engine.to_trt import shapes
from mmadfer.runtime.backends import cuda, engines, ports
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.backends.tensorrt_backend import Execution, context_of, deserialised, engine_batches

EVERYTHING = {"version_compatible": True, "hardware_compatible": True, "workspace": 64}


def main(module: str, onnx: str) -> None:
    """Build and run, and print what was used."""
    real = importlib.import_module(module)
    used = building(real, Path(onnx)) | running(real, Path(onnx))
    print(f"version: {real.__version__}\nmmadfer: {mmadfer.__file__}\nused: {' '.join(sorted(used))}")


def building(real: object, onnx: Path) -> set[str]:
    names = iter(("frames", "fbank"))
    answers = {
        ("INetworkDefinition", "num_inputs"): 2,
        ("INetworkDefinition", "get_input"): lambda network, index: Named(trt, next(names)),
    }
    trt = Api(real, answers)
    ranges = shapes(OrtBackend(onnx).contract, (1, 2, 4))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "timing.cache"
        assert build_engine(trt, onnx, ranges, EngineOptions(**EVERYTHING, timing_cache=cache)) == b"plan"
        assert cache.read_bytes() == b"plan"
    used = trt.used | refused(real, onnx, ranges)
    assert own(monitor_of(real)) <= own(real.IProgressMonitor)
    return used


class Named(Double):
    """A tensor with a name."""

    def __init__(self, trt: Api, name: str) -> None:
        super().__init__(trt, trt._real.ITensor)
        self.__dict__["name"] = name


def own(kind: type) -> set[str]:
    """What a class offers under names of its own."""
    return {name for name in vars(kind) if not name.startswith("_")}


def refused(real: object, onnx: Path, ranges: dict) -> set[str]:
    """The ways that a build fails."""
    used: set[str] = set()
    for answers, options, error in (
        ({("OnnxParser", "parse_from_file"): False}, EngineOptions(), WeightsError),
        (
            {("Builder", "build_serialized_network"): None, ("INetworkDefinition", "num_inputs"): 0},
            EngineOptions(),
            WeightsError,
        ),
        (
            {("IBuilderConfig", "set_timing_cache"): False, ("INetworkDefinition", "num_inputs"): 0},
            EngineOptions(timing_cache=Path("none")),
            ConfigError,
        ),
    ):
        trt = Api(real, answers)
        try:
            build_engine(trt, onnx, ranges, options)
        except error:
            used |= trt.used
        else:
            raise AssertionError(f"{answers} passes")
    return used


def running(real: object, onnx: Path) -> set[str]:
    """Batches of several sizes, from a double of the engine that computes as the ONNX model."""
    device = Cuda(cuda.bindings())
    with mock.patch.object(cuda, "bindings", return_value=device):
        trt, backend = api(real, onnx, device), OrtBackend(onnx)
        log = engines.tensorrt_logger(trt)
        engine = deserialised(trt, log, b"plan", trusted=True)
        execution = Execution(*context_of(trt, engine, log), backend.contract, 4, log)
        arrays = made_up(backend.contract, 9)
        for count in (1, 1, 1, 3, 3, 3, 9, 2, 2):
            frames, fbank = (arrays[name][:count] for name in ("frames", "fbank"))
            feed = {"frames": frames, "fbank": fbank}
            found = np.concatenate([execution(part)[:n] for part, n in engine_batches(feed, (2, 2, 4))])
            np.testing.assert_allclose(found, backend.logits(frames, fbank), rtol=0, atol=1e-6)
        del execution
        assert not device.held
        assert not device.graphs
        assert not device.streams
    return trt.used


def made_up(contract: Contract, count: int) -> dict[str, np.ndarray]:
    """Arrays of so many clips, by input."""
    rng = np.random.default_rng(0)
    kinds = ports.inputs(contract).items()
    return {name: rng.integers(0, 256, (count, *shape)).astype(kind) for name, (kind, shape) in kinds}
