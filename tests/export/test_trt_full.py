"""The full-size model, 16 frames of 160 pixels through two ViT-B, as a real engine of every precision."""

import resource
from pathlib import Path

import pytest
from export_setup import CONTRACT
from needs import needed

from mmadfer.config.schema import ModelConfig
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime.backends.engines import read_sidecar

needed("tensorrt_rtx")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MEGABYTES = {"fp32": (690, 900), "fp16": (340, 460), "bf16": (340, 460), "int8": (170, 300), "fp8": (170, 300)}
"""Of the engine: 183 million parameters, and kernels."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contract = CONTRACT.model_copy(update={"model": ModelConfig()})
    path = tmp_path_factory.mktemp("full") / "full.safetensors"
    save_weights(path, build_model(contract.model, len(contract.labels)), contract, frozen=True)
    return path


@pytest.mark.parametrize("precision", MEGABYTES)
def test_the_full_size_model_is_built(
    full: Path, calibration_store: Path, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = {"data": calibration_store, "calibration": 1} if precision in ("int8", "fp8") else {}
    source = to_onnx(full, tmp_path / "model.onnx", precision=precision, **low)
    out = to_engine(source, tmp_path / "model.engine", flavour="rtx")
    sidecar, size = read_sidecar(out), out.stat().st_size / 1e6
    assert sidecar.precision == precision
    assert MEGABYTES[precision][0] < size < MEGABYTES[precision][1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\n{precision}: {sidecar.seconds} s, {size:.0f} MB; the process has taken up to {peak:.1f} GiB")
