import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from export_setup import CONTRACT, awake
from typer.testing import CliRunner

from mmadfer import contract as contracts
from mmadfer.data.agreement import check_store
from mmadfer.data.store import Store, write
from mmadfer.errors import DataError, ParityError, WeightsError
from mmadfer.export import parity as module
from mmadfer.export.comparison import Comparison, check, differences
from mmadfer.export.parity import choose_clips, export, main, parity
from mmadfer.files import sha256
from mmadfer.model.build import save_weights
from mmadfer.runtime import Recogniser


def perturbed(source: Path, target: Path) -> Path:
    """The same graph and contract, with one weight of the classifier moved."""
    model = onnx.load(source)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
    onnx.save(model, target)
    return target


def comparison(reference: list[list[float]], candidate: list[list[float]]) -> Comparison:
    one, other = np.array(reference, np.float32), np.array(candidate, np.float32)
    names = [f"clip-{i}" for i in range(len(one))]
    media, truth = [f"{name}.mp4" for name in names], [0] * len(one)
    return Comparison(names, media, truth, one, other, one, facts={"file": "model.onnx", "backend": "onnxruntime"})


def test_export_delivers_what_it_has_proven(checkpoint: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "product" / "model.onnx"
    assert export(checkpoint, out, store) == out
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "parity.json"]
    report = json.loads((out.parent / "parity.json").read_text())
    assert (report["passed"], report["clips"], report["label_flips"]) == (True, 4, [])
    assert report["logit_difference"]["max"] < 1e-5
    assert report["file_vs_store"]["max"] == 0  # preparation and runtime are one way
    assert report["sha256"] == sha256(out)
    assert report["scores"]["torch"] == report["scores"]["onnxruntime"]
    assert len(report["worst"]) == 4
    assert Recogniser(out).contract.weights_hash == report["weights_hash"]


def test_export_delivers_nothing_when_parity_fails(
    checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    monkeypatch.setattr(module, "to_onnx", lambda path, target, fold: perturbed(onnx_file, target))
    with pytest.raises(ParityError, match=r"model\.onnx does not give PyTorch's answer.*0\.001"):
        export(checkpoint, out, store, clips=1)
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_fails_and_keeps_numbers(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    model = perturbed(onnx_file, tmp_path / "model.onnx")
    application = typer.Typer()
    application.command()(main)
    result = CliRunner().invoke(
        application, [str(checkpoint), "--model", str(model), "--data", str(store), "--clips", "2"]
    )
    assert isinstance(result.exception, ParityError)
    assert result.exception.exit_code == 2
    report = json.loads((tmp_path / "parity.json").read_text())
    assert (report["passed"], report["clips"]) == (False, 2)
    assert report["logit_difference"]["max"] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    ("candidate", "passes"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], True),
        ([[1.0, 0.0], [0.00005, 1.0]], True),
        ([[1.0, 0.0], [0.001, 1.0]], False),
        ([[1.0, 0.0], [0.0, float("nan")]], False),
        ([[1.0, 0.0], [0.0, float("inf")]], False),
    ],
)
def test_the_verdict(candidate: list[list[float]], passes: bool) -> None:
    compared = comparison([[1.0, 0.0], [0.0, 1.0]], candidate)
    assert compared.passed == passes
    if passes:
        return check(compared)
    with pytest.raises(ParityError, match="'clip-1'"):
        check(compared)
    return None


def test_a_label_that_flips_within_the_tolerance_fails() -> None:
    compared = comparison([[0.50001, 0.5]], [[0.49999, 0.5]])
    assert compared.flips == ["clip-0"]
    with pytest.raises(ParityError, match="1 labels differ"):
        check(compared)


def test_differences_are_over_all_logits() -> None:
    apart = differences(np.zeros((2, 2), np.float32), np.array([[0, 0], [1, 3]], np.float32))
    assert (apart["max"], apart["mean"], apart["median"], apart["label_agreement"]) == (3, 1, 0.5, 0.5)


def test_a_model_of_other_classes_is_refused(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    contract = CONTRACT.model_copy(update={"labels": CONTRACT.labels[::-1]})
    next(entry for entry in model.metadata_props if entry.key == contracts.KEY).value = contract.dumps()
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="labels differ"):
        parity(checkpoint, tmp_path / "other.onnx", store)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"labels": ("happy", "sad")}, "labels that the model does not know: angry, surprise"),
        ({"prepare": CONTRACT.prepare.model_copy(update={"face_margin": 0.5})}, "prepared with"),
    ],
)
def test_a_store_of_another_kind_is_refused(store: Path, tmp_path: Path, update: dict[str, object], words: str) -> None:
    contract = CONTRACT.model_copy(update=update)
    with Store(store) as opened, pytest.raises(DataError, match=words):
        check_store(contract, opened)


def test_media_that_moved_away_are_named(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        name, clip = next(iter(opened.clips.items()))
        header = replace(opened.header, root=tmp_path / "gone")
        write(tmp_path / "moved.store", header, [(clip, opened.read(name))])
    with pytest.raises(DataError, match=r"1 of 1 are not there.*gone"):
        parity(checkpoint, onnx_file, tmp_path / "moved.store")


def test_a_fold_is_not_tested_on_its_training_clips(checkpoint: Path, onnx_file: Path, store: Path) -> None:
    with pytest.raises(WeightsError, match="holds fold 1, not 2"):
        parity(checkpoint, onnx_file, store, fold=2)


def test_clips_are_spread_evenly(store: Path) -> None:
    with Store(store) as opened:
        ids = list(opened.clips)
        assert choose_clips(opened, 1, None) == choose_clips(opened, None, 9) == ids
        assert choose_clips(opened, 1, 2) == [ids[0], ids[2]]


def test_other_weights_with_the_same_contract_do_not_pass(onnx_file: Path, store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", awake(2), CONTRACT, frozen=True)
    with pytest.raises(ParityError):
        check(parity(tmp_path / "other.safetensors", onnx_file, store, clips=1))
