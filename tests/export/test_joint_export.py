"""Models with the joints `concat` and `jmt`, from training to exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, clips
from needs import needed

import mmadfer
from mmadfer.config.schema import ModelConfig, parse
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.parity import export_onnx, parity
from mmadfer.export.to_weights import to_weights
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.train.loop import train

JMT = {"name": "jmt", "width": 16, "heads": 2}
JOINTS: dict[str, dict[str, Any]] = {
    "concat": {"joint": {"name": "concat", "width": 16}},
    "tokens": {"joint": JMT},
    "six": {"joint": {**JMT, "combine": "concat"}, "fusion": "none"},
    "pair": {"joint": {**JMT, "combine": "pair"}, "fusion": "none"},
}
TOLERANCE = {"fp16": 5e-3, "int8": 0.2}
"""As in test_precision."""


def stored(change: dict[str, Any], path: Path) -> torch.nn.Module:
    """A model with all parts awake, and its file."""
    config = ModelConfig(**{**dict(MODEL), **change})
    model = build_model(config, len(CONTRACT.labels))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.trainable().values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    save_weights(path, model, CONTRACT.model_copy(update={"model": config}), frozen=True)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("joint", JOINTS)
def test_a_graph_gives_the_same_for_any_number_of_clips(joint: str, tmp_path: Path) -> None:
    model = stored(JOINTS[joint], tmp_path / "model.safetensors")
    graph = OrtBackend(to_onnx(tmp_path / "model.safetensors", tmp_path / "model.onnx"))
    for count in (1, 2, 5):
        frames, fbank = clips(count)
        with torch.no_grad():
            wanted = model(torch.from_numpy(frames), torch.from_numpy(fbank)).numpy()
        np.testing.assert_allclose(graph.logits(frames, fbank), wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCE)
def test_fewer_bits_give_nearly_the_same(precision: Any, calibration_store: Path, tmp_path: Path) -> None:
    needed("modelopt")
    model = stored(JOINTS["tokens"], tmp_path / "model.safetensors")
    out = to_onnx(tmp_path / "model.safetensors", tmp_path / "low.onnx", precision=precision, data=calibration_store)
    frames, fbank = clips(4)
    with torch.no_grad():
        wanted = model(torch.from_numpy(frames), torch.from_numpy(fbank)).numpy()
    found = OrtBackend(out).logits(frames, fbank)
    assert 0 < np.abs(found - wanted).max() < TOLERANCE[precision]


@pytest.mark.slow
def test_an_engine_is_built(tmp_path: Path) -> None:
    needed("tensorrt_rtx")
    stored(JOINTS["tokens"], tmp_path / "model.safetensors")
    source = to_onnx(tmp_path / "model.safetensors", tmp_path / "model.onnx")
    engine = to_engine(source, tmp_path / "model.engine", batch=(1, 2, 4), flavour="rtx")
    assert read_sidecar(engine).contract.model.joint.name == "jmt"


@pytest.fixture(scope="module")
def fold(calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for one epoch, of three steps."""
    folder = tmp_path_factory.mktemp("jmt") / "run" / "fold-1"
    assert train(trained_by(calibration_store), 1, folder).finished
    return folder


def trained_by(store: Path, **more: Any) -> Any:
    tree = {
        "name": "jmt",
        "prepare": {"face_size": 64, "detect_every": 20},
        "data": {"store": str(store), "folds": 4, "threads": 1},
        "model": {**MODEL.model_dump(mode="json"), "joint": JMT},
        "train": {"epochs": 1, "batch_size": 1, "lr": 0.01, **more},
    }
    return parse(tree, "the test")


@pytest.mark.slow
def test_a_trained_run_is_delivered_with_parity(fold: Path, calibration_store: Path, tmp_path: Path) -> None:
    graph = export_onnx(fold, tmp_path / "model.onnx", calibration_store)
    report = json.loads(graph.with_name("model.parity.json").read_text())
    assert report["passed"]
    assert report["file_vs_store"]["max"] == 0
    weights = to_weights(fold, tmp_path / "model.safetensors")
    assert parity(weights, [graph], calibration_store, clips=1).passed
    assert Recogniser(graph).contract.model == mmadfer.load(weights).config


@pytest.mark.slow
def test_layers_compiled_or_computed_again_learn_the_same(fold: Path, calibration_store: Path, tmp_path: Path) -> None:
    wanted = mmadfer.load(fold).learned()
    for name, way in {"again": {"checkpoint_activations": True}, "compiled": {"compile": True}}.items():
        assert train(trained_by(calibration_store, **way), 1, tmp_path / name / "fold-1").finished
        found = mmadfer.load(tmp_path / name / "fold-1").learned()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=2e-3, msg=key)
