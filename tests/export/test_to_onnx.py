import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_setup import CONTRACT, awake, clips

import mmadfer
from mmadfer import contract as contracts
from mmadfer.config.schema import EncoderConfig
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.export.graph.to_onnx import build_graph, carried, to_onnx
from mmadfer.model.weights.build import encoder_hash, weights_hash
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.backends.torch_backend import TorchBackend

pytestmark = pytest.mark.usefixtures("traced_anew")


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_gives_torchs_logits(checkpoint: Path, onnx_file: Path, batch: int) -> None:
    frames, fbank = clips(batch)
    one, other = (backend.logits(frames, fbank) for backend in (TorchBackend(checkpoint), OrtBackend(onnx_file)))
    assert one.shape == other.shape == (batch, 4)
    assert one.dtype == other.dtype == np.float32
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def test_bytes_are_scaled_inside_the_graph(checkpoint: Path, onnx_file: Path) -> None:
    frames, fbank = clips(1)
    with torch.inference_mode():
        unit = TorchBackend(checkpoint).model(torch.from_numpy(frames).float() / 255, torch.from_numpy(fbank))
    np.testing.assert_allclose(OrtBackend(onnx_file).logits(frames, fbank), unit.numpy(), rtol=0, atol=1e-5)


def test_every_input_moves_the_answer(onnx_file: Path) -> None:
    frames, fbank = clips(1)
    backend = OrtBackend(onnx_file)
    logits = backend.logits(frames, fbank)
    assert np.abs(backend.logits(frames[:, ::-1].copy(), fbank) - logits).max() > 1e-4  # the order of frames
    assert np.abs(backend.logits(frames, fbank + 1) - logits).max() > 1e-4


def test_the_graph_is_what_products_bind_to(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    ports = {
        port.name: [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    assert ports == {"frames": ["batch", 4, 3, 32, 32], "fbank": ["batch", 1, 512, 128], "logits": ["batch", 4]}
    assert [port.type.tensor_type.elem_type for port in model.graph.input] == [
        onnx.TensorProto.UINT8,
        onnx.TensorProto.FLOAT,
    ]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not {"Attention", "If", "Loop"} & {node.op_type for node in model.graph.node}


def test_the_contract_is_inside(checkpoint: Path, onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = contracts.loads(metadata[contracts.KEY])
    source = TorchBackend(checkpoint).model
    assert (contract.weights_hash, contract.encoder_hash) == (weights_hash(source), encoder_hash(source))
    assert metadata["weights_hash"] == contract.weights_hash
    assert (
        contract.model_copy(update={"weights_hash": "", "encoder_hash": "", "version": "", "batch": None}) == CONTRACT
    )
    assert (contract.input, contract.arithmetic, contract.batch) == ("fbank", "fp32", (1, 8, 32))
    assert contract.version == model.producer_version == mmadfer.__version__
    assert all(label in model.doc_string for label in CONTRACT.labels)


def test_it_does_not_tell_where_it_was_made(tmp_path: Path) -> None:
    model = awake(1)
    encoder = EncoderConfig(**{**model.config.vision.model_dump(), "weights": tmp_path / "mae_face.pth"})
    sizes = model.config.model_copy(update={"vision": encoder})
    proto = build_graph(model, carried(model, CONTRACT.model_copy(update={"model": sizes})))
    data = proto.SerializeToString()
    for word in (str(tmp_path), str(Path(mmadfer.__file__).parent), "site-packages", str(Path.home())):
        assert word.encode() not in data
    assert json.loads(proto.metadata_props[0].value)["model"]["vision"]["weights"] == "mae_face.pth"


def test_again_gives_the_same_bytes_and_says_nothing(
    checkpoint: Path, onnx_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert to_onnx(checkpoint, tmp_path / "again.onnx").read_bytes() == onnx_file.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_no_checkpoint_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    with pytest.raises(WeightsError, match="nowhere"):
        to_onnx(tmp_path / "nowhere.safetensors", out)
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int8"}, "--precision int8 needs --data"),
        ({"precision": "fp64"}, "--precision fp64: give one of fp32, fp16, bf16, int8, fp8"),
        ({"input": "mp3"}, "--input mp3: give one of fbank, waveform"),
        ({"rate": 16000}, "needs --input waveform"),
        ({"batch": (1, 8, 4)}, "--batch 1 8 4.*rising from 1"),
        ({"batch": (0, 1, 1)}, "rising from 1"),
    ],
)
def test_options_that_do_not_go_together(checkpoint: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        to_onnx(checkpoint, tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())
