"""`mmadfer doctor` of what an export writes; runs and stores: test_spine.py; the machine: test_doctor_machine.py."""

import shutil
from pathlib import Path

import pytest
from test_triton import engine_in

from mmadfer.cli.doctor import examine
from mmadfer.cli.main import app, run
from mmadfer.errors import ConfigError, DataError, MissingDependencyError, WeightsError
from mmadfer.export.server.check import check_repository
from mmadfer.export.server.to_triton import to_triton


@pytest.fixture(scope="module")
def repository(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_triton(onnx_file, tmp_path_factory.mktemp("triton") / "repo")


def test_a_model_is_opened_and_computed(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["doctor", str(onnx_file)]) == 0
    said = capsys.readouterr().out
    assert "opens with onnxruntime, and computes an empty clip" in said
    assert "classes: happy, sad, angry" in said


def test_a_damaged_model_is_told(onnx_file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(onnx_file.read_bytes()[:-100_000])
    with pytest.raises(WeightsError, match=r"half\.onnx"):
        examine(half)
    with pytest.raises(ConfigError, match="--media compares the media files of a store"):
        examine(half, media=True)
    assert run(app, ["doctor", "--media"]) == 2
    (tmp_path / "card.md").write_text("# A card")
    with pytest.raises(DataError, match=r"card\.md is nothing that doctor knows: give a run, a store, a model"):
        examine(tmp_path / "card.md")


def test_an_engine_is_verified_where_it_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = engine_in(tmp_path, "rtx")
    with pytest.raises((WeightsError, MissingDependencyError)):
        examine(engine)  # of another version, and without a GPU
    assert "the engine of tiny.engine.json, whole; rtx 10.16.1.11" in capsys.readouterr().out
    engine.write_bytes(b"another")
    with pytest.raises(WeightsError, match="is not the engine that"):
        examine(engine)
    assert "whole" not in capsys.readouterr().out


def test_a_repository_is_verified(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["doctor", str(repository)]) == 0
    assert "mmadfer and mmadfer_frames, classes: happy, sad" in capsys.readouterr().out


def test_what_is_wrong_in_a_repository_is_named(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "repo"
    shutil.copytree(repository, copy)
    (copy / "mmadfer_frames" / "config.pbtxt").unlink()
    (copy / "mmadfer_read" / "1" / "model.py").write_text("import os\n")
    contract = copy / "mmadfer_label" / "1" / "contract.json"
    contract.write_text(contract.read_text().replace('"data_set": "', '"data_set": "other '))
    with pytest.raises(WeightsError) as caught:
        check_repository(copy)
    for word in (
        "mmadfer_frames is not whole",
        "another program than mmadfer wrote",
        "contract.json is of another model",
    ):
        assert word in str(caught.value)
    (copy / "mmadfer_model" / "1" / "model.onnx").unlink()
    with pytest.raises(WeightsError, match="has no model"):
        check_repository(copy)
    shutil.rmtree(copy / "mmadfer_read")
    with pytest.raises(WeightsError, match="holds 0 models of mmadfer"):
        check_repository(copy)
