"""Engines of the paper's variants, as test_trt_build has them; a branch that is not there is no input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, clips
from needs import needed

from mmadfer.config.schema import ModelConfig
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.backends.ort import OrtBackend

needed("tensorrt_rtx")
ALONE = {"fusion": "none", "joint": "none", "temporal": "none"}


@pytest.mark.parametrize("change", [{**ALONE, "branches": "audio"}, {"fusion": "mult"}], ids=["audio alone", "mult"])
def test_a_variant_is_built(change: dict[str, Any], tmp_path: Path) -> None:
    config = ModelConfig(**{**dict(MODEL), **change})
    model = build_model(config, len(CONTRACT.labels))
    save_weights(tmp_path / "model.safetensors", model, CONTRACT.model_copy(update={"model": config}), frozen=True)
    source = to_onnx(tmp_path / "model.safetensors", tmp_path / "model.onnx")
    frames, fbank = clips(3)
    arrays = [array for array, name in ((frames, "vision"), (fbank, "audio")) if name in config.modalities]
    with torch.no_grad():
        wanted = model(torch.from_numpy(frames), torch.from_numpy(fbank)).numpy()
    np.testing.assert_allclose(OrtBackend(source).logits(*arrays), wanted, rtol=0, atol=1e-5)
    engine = to_engine(source, tmp_path / "model.engine", batch=(1, 2, 4), flavour="rtx")
    assert read_sidecar(engine).contract.model == config
    data = engine.read_bytes()
    assert [name in data for name in (b"frames", b"fbank", b"logits")] == ["vision" in config.modalities, True, True]
