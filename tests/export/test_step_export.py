"""Models that give values of each step, as graph, engine and server: each step as PyTorch's model has it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, clips
from needs import needed

from mmadfer.config.schema import ModelConfig
from mmadfer.config.windows import WindowConfig
from mmadfer.contract import Contract
from mmadfer.contract.description import describe_contract
from mmadfer.errors import ConfigError, DataError, ParityError
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity import parity as module
from mmadfer.export.parity.comparison import Form, ParityComparison, Reading
from mmadfer.export.parity.parity import export_onnx, parity
from mmadfer.export.server.configs import Serving, configs
from mmadfer.export.server.to_triton import to_triton
from mmadfer.export.to_weights import to_weights
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime import triton
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.backends.ort import OrtBackend

pytestmark = pytest.mark.slow
VALUES = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0)}


def contract(per: str, window: WindowConfig | None = None) -> Contract:
    model = ModelConfig.model_validate({**dict(MODEL), "head": {"name": "values", "range": [-1, 1], "per": per}})
    told = {"labels": (), "output": "values", "values": VALUES, "task": "regression", "metrics": {}}
    return CONTRACT.model_copy(update={**told, "model": model, "window": window})


def awake(per: str) -> MMADFER:
    model = build_model(contract(per).model, len(VALUES))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    path = folder / "steps.safetensors"
    save_weights(path, awake("step"), contract("step"), frozen=True)
    return path


@pytest.fixture(scope="module")
def graph(weights: Path) -> Path:
    return to_onnx(weights, weights.with_suffix(".onnx"))


def test_a_graph_gives_each_step_for_any_number_of_clips(graph: Path) -> None:
    model, backend = awake("step"), OrtBackend(graph)
    assert ports.outputs(backend.contract) == {"logits": ("float32", (4, 2))}
    for count in (1, 2, 5):
        frames, fbank = clips(count)
        with torch.no_grad():
            wanted = model(torch.from_numpy(frames), torch.from_numpy(fbank)).numpy()
        found = backend.logits(frames, fbank)
        assert found.shape == (count, 4, 2)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.ptp(found, axis=1).min() > 1e-3, "steps differ"


def test_export_proves_each_step(weights: Path, store: Path, tmp_path: Path, graph: Path) -> None:
    out = export_onnx(weights, tmp_path / "model.onnx", store)
    report = json.loads(out.with_name("model.parity.json").read_text())
    (form,) = report["forms"]
    assert (report["passed"], form["passed"], report["file_vs_store"]["max"]) == (True, True, 0)
    assert list(form["by_label"]) == list(VALUES)
    assert 0 < form["logit_difference"]["max"] < 1e-5
    assert form["worst"][0]["step"] in range(4)
    own = to_weights(weights, tmp_path / "own.safetensors")
    assert parity(own, [graph], store, clips=2).passed


def test_one_step_that_is_off_is_found(
    weights: Path, graph: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda path, target, fold: off(graph, target))
    with pytest.raises(ParityError, match=r"model\.onnx \(fp32\) does not give PyTorch's answer.*0\.001"):
        export_onnx(weights, tmp_path / "model.onnx", store, clips=1)
    assert not (tmp_path / "model.onnx").exists()
    own = np.zeros((2, 4, 2), np.float32)
    other = own.copy()
    other[1, 2, 0] = 0.5
    read = [Reading(name, own, np.zeros(2), np.zeros(2)) for name in ("served", "stored")]
    form = Form("m.onnx", other, span=2.0)
    made = ParityComparison(tuple(VALUES), ["a", "b"], ["a", "b"], [], Form("torch", own, span=2.0), *read, [form])
    assert made.worst(form)[0] == {"id": "b", "media": "b", "difference": 0.5, "step": 2}


def off(source: Path, target: Path) -> Path:
    """The same graph, with a thousandth more in step 2 alone."""
    onnx = needed("onnx")
    model = onnx.load(source)
    more = np.zeros((1, 4, 2), np.float32)
    more[0, 2] = 1e-3
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(more, "more"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "more"], ["logits"]))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("per", ["clip", "step"])
def test_an_engine_is_built_of_values(per: str, tmp_path: Path) -> None:
    trt = needed("tensorrt_rtx")
    save_weights(tmp_path / "w.safetensors", awake(per), contract(per), frozen=True)
    source = to_onnx(tmp_path / "w.safetensors", tmp_path / "model.onnx")
    engine = to_engine(source, tmp_path / "model.engine", batch=(1, 2, 4), flavour="rtx")
    sidecar = read_sidecar(engine)
    assert sidecar.contract.names == tuple(VALUES)
    assert sidecar.contract.per_step == (per == "step")
    network = trt.Builder(log := trt.Logger()).create_network()
    assert trt.OnnxParser(network, log).parse(source.read_bytes())
    assert tuple(network.get_output(0).shape)[1:] == ports.outputs(sidecar.contract)["logits"][1]


def test_a_model_of_windows_is_proven_on_one_of_each_clip_and_pools_none(store: Path, tmp_path: Path) -> None:
    window = contract("step", WindowConfig(stride=2, hop=5))
    save_weights(tmp_path / "w.safetensors", awake("step"), window, frozen=True)
    out = export_onnx(tmp_path / "w.safetensors", tmp_path / "model.onnx", store, clips=2)
    report = json.loads(out.with_name("model.parity.json").read_text())
    assert (report["passed"], report["file_vs_store"]["max"]) == (True, 0)
    told = describe_contract(OrtBackend(out).contract)
    assert told["values"] == "valence (-1 to 1), arousal (-1 to 1), of each of 4 frames"
    with pytest.raises(ConfigError, match="answers for each step: leave it out"):
        to_onnx(tmp_path / "w.safetensors", tmp_path / "m.onnx", windows=3)


def test_triton_serves_each_step_with_its_second(graph: Path, tmp_path: Path) -> None:
    needed("tritonclient.grpc.model_config_pb2")
    made = configs("felt", contract("step"), Serving("onnxruntime", (1, 4, 8)))
    assert [(one["name"], one["dims"]) for one in made["felt"]["output"]] == [
        ("values", [4, 2]),
        ("seconds", [4]),
        ("notes", [1]),
    ]
    assert json.loads(made["felt"]["parameters"]["values"]["string_value"]) == list(VALUES)
    assert made["felt_model"]["output"][0]["dims"] == [4, 2]
    written = to_triton(graph, tmp_path / "repo", backend="python")
    step = triton.Model()
    step.start(written / "mmadfer_model/1", {"model_instance_kind": "CPU", "model_instance_device_id": "0"})
    frames, fbank = clips(3)
    logits = step.work({"frames": frames, "fbank": fbank})["logits"]
    np.testing.assert_allclose(logits, OrtBackend(graph).logits(frames, fbank), atol=1e-5)
    namer = triton.Namer()
    namer.start(written / "mmadfer_label/1", {})
    np.testing.assert_array_equal(namer.work({"logits": logits})["values"], logits)


def started(graph: Path, place: Path) -> triton.Reader:
    reader = triton.Reader()
    parameters = {"seconds": {"string_value": "60"}}
    reader.start(to_triton(graph, place) / "mmadfer_read/1", {"model_config": json.dumps({"parameters": parameters})})
    return reader


def test_a_server_reads_the_steps_seconds(graph: Path, video: Path, tmp_path: Path) -> None:
    needed("tritonclient.grpc.model_config_pb2")
    found = started(graph, tmp_path / "repo").work({"video": np.array([[video.read_bytes()]] * 2, object)})
    assert found["frames"].shape == (2, 4, 3, 32, 32)
    assert found["seconds"].shape == (2, 4)
    assert (np.diff(found["seconds"]) > 0).all()


def test_a_server_takes_one_window_at_once(video: Path, tmp_path: Path) -> None:
    needed("tritonclient.grpc.model_config_pb2")
    save_weights(tmp_path / "w.safetensors", awake("step"), contract("step", WindowConfig(stride=2)), frozen=True)
    reader = started(to_onnx(tmp_path / "w.safetensors", tmp_path / "m.onnx"), tmp_path / "repo")
    with pytest.raises(DataError, match="is longer than one window of the model: send 7 frames or fewer at once"):
        reader.work({"video": np.array([[video.read_bytes()]], object)})
    images = np.zeros((1, 6, 64, 64, 3), np.uint8)
    sound = np.ones((1, 16_000), np.float32)
    given = {"samples": sound, "rate": np.array([[16_000]]), "cropped": np.array([[True]])}
    found = reader.work({"images": images, **given})
    np.testing.assert_allclose(found["seconds"], [[0, 0.08, 0.16, 0.2]], atol=1e-9)
