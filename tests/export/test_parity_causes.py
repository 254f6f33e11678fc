"""What is deployed is broken in one place, and a comparison says in which."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_setup import CONTRACT, awake, relabelled

from mmadfer.data.faces import detection, mtcnn_networks
from mmadfer.data.media import fbank
from mmadfer.data.store.store import Store, write_store
from mmadfer.errors import ParityError, WeightsError
from mmadfer.export.parity.comparison import check_parity
from mmadfer.export.parity.parity import parity
from mmadfer.model.weights.build import save_weights


@pytest.mark.parametrize("kind", ["weights_hash", "encoder_hash"])
def test_other_weights_are_refused(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path, kind: str) -> None:
    other = relabelled(onnx_file, tmp_path / "other.onnx", **{kind: "0" * 64})
    with pytest.raises(WeightsError, match=r"other\.onnx holds other .* \(000000000000 and "):
        parity(checkpoint, [other], store)


def test_other_weights_that_do_not_say_so_do_not_pass(onnx_file: Path, store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", awake(2), CONTRACT, frozen=True)
    unknown = relabelled(onnx_file, tmp_path / "unknown.onnx", weights_hash="")
    with pytest.raises(ParityError, match=r"unknown\.onnx \(fp32\) does not give") as found:
        check_parity(parity(tmp_path / "other.safetensors", [unknown], store, clips=1))
    assert "same batch" not in str(found.value)


@pytest.fixture
def _other_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The networks by ONNX Runtime, of which the last puts every edge 2 % of a face to the right and down."""
    folder = Path(shutil.copytree(mtcnn_networks.WEIGHTS_FOLDER, tmp_path / "mtcnn"))
    model = onnx.load(folder / "onet.onnx")
    (last,) = (node for node in model.graph.node if "found" in node.output)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == last.input[-1])
    moved = onnx.numpy_helper.to_array(bias) + np.array([0, 0.02, 0.02, 0.02, 0.02], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(moved, bias.name))
    onnx.save(model, folder / "onet.onnx")
    monkeypatch.setattr(mtcnn_networks, "WEIGHTS_FOLDER", folder)
    detection.detector.cache_clear()
    detection.detector()  # PyTorch's reads its own file, which is the same
    yield
    detection.detector.cache_clear()


@pytest.mark.usefixtures("_other_detector")
def test_another_detector_is_found(checkpoint: Path, onnx_file: Path, store: Path) -> None:
    found = parity(checkpoint, [onnx_file], store)
    assert [form["passed"] for form in found.to_dict()["forms"]] == [True]  # the graph is what it was
    with pytest.raises(ParityError, match=r"^torch, as served: frames differ in 4 of 4 clips, by up to") as told:
        check_parity(found)
    assert "filter bank" not in str(told.value)


def test_another_filter_bank_is_found(
    checkpoint: Path, onnx_file: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fbank, "PRE_EMPHASIS", 0.9)
    fbank.matrices.cache_clear()
    try:
        found = parity(checkpoint, [onnx_file], store)
    finally:
        fbank.matrices.cache_clear()
    with pytest.raises(ParityError, match=r"^torch, from the store: filter banks differ in 4 of 4 clips") as told:
        check_parity(found)
    assert "frames" not in str(told.value)


def test_a_store_of_other_clips_is_found(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        records = [opened.read(name) for name in opened.clips]
        rotated = zip(opened.clips.values(), [*records[1:], records[0]], strict=True)
        others = [(replace(clip, frames=len(record.jpegs)), record) for clip, record in rotated]
        write_store(tmp_path / "other.store", opened.header, others)
    with pytest.raises(ParityError, match=r"from the store: frames differ in 4 of 4 .*prepare the store anew"):
        check_parity(parity(checkpoint, [onnx_file], tmp_path / "other.store"))


def test_a_form_that_mixes_the_clips_of_a_batch_is_found(
    checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path
) -> None:
    """Each clip gets the mean of its batch."""
    model = onnx.load(onnx_file)
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "unmixed"
    helper = onnx.helper
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "over_clips"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["unmixed", "over_clips"], ["mixed"], keepdims=1),
            helper.make_node("Sub", ["mixed", "unmixed"], ["towards"]),
            helper.make_node("Add", ["unmixed", "towards"], ["logits"]),
        ]
    )
    onnx.save(model, tmp_path / "mixing.onnx")
    check_parity(parity(checkpoint, [tmp_path / "mixing.onnx"], store, clips=1))
    with pytest.raises(
        ParityError, match=r"mixing\.onnx .*alone it is .*: the answer depends on the clips in the same"
    ):
        check_parity(parity(checkpoint, [tmp_path / "mixing.onnx"], store))


def test_a_clip_that_cannot_be_read_does_not_cost_the_others(
    checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path
) -> None:
    with Store(store) as opened:
        shutil.copytree(opened.header.root, tmp_path / "media")
        ids = list(opened.clips)
        (tmp_path / "media" / opened.clips[ids[1]].media).write_bytes(b"damaged")
        rows = [(clip, opened.read(name)) for name, clip in opened.clips.items()]
        write_store(tmp_path / "moved.store", replace(opened.header, root=tmp_path / "media"), rows)
    found = parity(checkpoint, [onnx_file], tmp_path / "moved.store")
    assert (found.ids, list(found.unread), found.passed) == ([ids[0], *ids[2:]], [ids[1]], False)
    with pytest.raises(ParityError, match=rf"^1 clips cannot be read; the first is {ids[1]}: "):
        check_parity(found)
