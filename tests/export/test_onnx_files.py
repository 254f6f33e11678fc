"""Weights that are too many for one ONNX file go beside it, and never part from it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_setup import CONTRACT, awake, clips

from mmadfer.errors import WeightsError
from mmadfer.export.graph import external
from mmadfer.export.graph.to_onnx import build_graph, carried, to_onnx
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.utils.files import sha256

LIMIT = 100_000


@pytest.fixture
def large(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in two files."""
    monkeypatch.setattr(external, "ONE_FILE", LIMIT)
    return external.save(onnx.load(onnx_file), tmp_path / "product" / "model.onnx")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_large_model_is_two_files_and_gives_the_same(onnx_file: Path, large: Path) -> None:
    (data,) = external.weight_files(large)
    assert names(large.parent) == sorted([large.name, data.name])
    assert data.name.startswith("model.onnx.")
    assert data.name.endswith(".data")
    assert large.stat().st_size < LIMIT < data.stat().st_size
    np.testing.assert_array_equal(OrtBackend(large).logits(*clips(2)), OrtBackend(onnx_file).logits(*clips(2)))
    assert external.weight_files(onnx_file) == []


def test_the_exporter_writes_it(
    checkpoint: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "ONE_FILE", LIMIT)
    out = to_onnx(checkpoint, tmp_path / "model.onnx", input="waveform", rate=16000)
    (data,) = external.weight_files(out)
    assert names(tmp_path) == sorted([out.name, data.name])
    assert OrtBackend(out).contract.input == "waveform"


def test_other_weights_have_another_file_and_the_old_goes(large: Path) -> None:
    (before,) = external.weight_files(large)
    other = large.parent / "other.onnx.0123456789ab.data"
    other.write_bytes(b"of another model")
    model = awake(2)
    external.save(build_graph(model, carried(model, CONTRACT)), large)
    (after,) = external.weight_files(large)
    assert before.name != after.name
    assert names(large.parent) == sorted([large.name, after.name, other.name])


def test_a_graph_that_fails_the_check_leaves_both_files(large: Path) -> None:
    files = {name: sha256(large.parent / name) for name in names(large.parent)}
    model = awake(2)
    broken = build_graph(model, carried(model, CONTRACT))
    broken.graph.node[5].input[0] = "nowhere"
    with pytest.raises(Exception, match="nowhere"):
        external.save(broken, large)
    assert {name: sha256(large.parent / name) for name in names(large.parent)} == files


def test_both_are_delivered(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    (tmp_path / "model.onnx.0123456789ab.data").write_bytes(b"before")
    (data,) = external.weight_files(large)
    external.deliver(large, out)
    assert names(tmp_path) == sorted(["product", out.name, data.name])
    assert names(large.parent) == []
    assert np.isfinite(OrtBackend(out).logits(*clips(1))).all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("location", "../secret", "must lie in a file beside it"),
        ("location", "/etc/passwd", "must lie in a file beside it"),
        ("location", "", "must lie in a file beside it"),
        ("location", "gone.data", "not there in full"),
        ("length", "999999999", "not there in full"),
        ("offset", "-4096", "where the offset of a weight should be"),
    ],
)
def test_weights_from_elsewhere_are_refused(large: Path, key: str, value: str, words: str) -> None:
    model = onnx.load(large, load_external_data=False)
    tensor = next(one for one in model.graph.initializer if one.external_data)
    next(entry for entry in tensor.external_data if entry.key == key).value = value
    large.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=words):
        external.weight_files(large)


def test_weights_that_have_changed_are_refused(large: Path) -> None:
    (data,) = external.weight_files(large)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(WeightsError, match="has changed since: copy both files again"):
        external.weight_files(large)
    foreign = data.rename(large.with_name("weights.bin"))
    large.write_bytes(repointed(large, foreign.name).SerializeToString())
    assert external.weight_files(large) == [foreign]  # not named after its content: nothing to compare it with


def repointed(path: Path, location: str) -> onnx.ModelProto:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    return model


@pytest.mark.parametrize("place", ["constant", "function", "sparse"])
def test_weights_are_found_wherever_they_hide(onnx_file: Path, tmp_path: Path, place: str) -> None:
    model = onnx.load(onnx_file)
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    constant = onnx.helper.make_node("Constant", [], ["hidden"], value=tensor)
    if place == "constant":
        model.graph.node.append(constant)
    elif place == "function":
        model.functions.append(onnx.helper.make_function("a", "f", [], ["hidden"], [constant], []))
    else:
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="must lie in a file beside it"):
        external.weight_files(path)


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_what_is_no_model_has_nothing_beside_it(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"no model at|not a whole ONNX model"):
        external.weight_files(tmp_path / "model.onnx")


def test_weights_that_were_cut_off_are_refused(large: Path) -> None:
    (data,) = external.weight_files(large)
    data.write_bytes(data.read_bytes()[:-5000])
    with pytest.raises(WeightsError):
        OrtBackend(large)
    data.unlink()
    with pytest.raises(WeightsError):
        OrtBackend(large)


def test_fewer_bits_of_a_large_model_are_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "ONE_FILE", LIMIT)
    with pytest.raises(WeightsError, match="fp16 can be made of"):
        to_onnx(checkpoint, tmp_path / "model.onnx", precision="fp16")
    assert names(tmp_path) == []
