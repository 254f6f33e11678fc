"""Cards beside each exported form, and what `--commercial` refuses before anything is written."""

from pathlib import Path

import pytest
from export_setup import CONTRACT, awake

from mmadfer.cli.main import app, run
from mmadfer.contract import Contract
from mmadfer.model.weights.build import save_weights
from mmadfer.report.cards.writing import card_path


@pytest.fixture
def bound(tmp_path: Path) -> Path:
    """A model from AudioMAE's weights, trained on somebody's own clips."""
    found: Contract = CONTRACT.model_copy(
        update={"licences": {"mmadfer": "Apache-2.0", "AudioMAE": "CC BY-NC 4.0"}, "data_set": "my clips"}
    )
    path = tmp_path / "bound.safetensors"
    save_weights(path, awake(1), found, frozen=True)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["weights", "--out", "out/m.safetensors"],
        ["onnx", "--out", "out/m.onnx", "--data", "nowhere.store"],
        ["engine", "--out", "out/m.engine"],
    ],
)
def test_commercial_use_is_refused_before_work_with_the_parts_in_its_way(
    words: list[str], bound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    form, *others = words
    assert run(app, ["export", form, str(bound), *others, "--commercial"]) == 2
    told = capsys.readouterr().err
    assert "AudioMAE (weights): CC BY-NC 4.0, commercial use not allowed" in told
    assert "my clips (data): not known" in told
    assert [path.name for path in tmp_path.iterdir()] == [bound.name]


def test_a_licence_that_is_held_opens_the_gate_and_the_card_says_so(bound: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    stated = ["--licence", "AudioMAE=own", "--licence", "my clips=own"]
    assert run(app, ["export", "weights", str(bound), "--out", str(out), "--commercial", *stated]) == 0
    assert "| my clips | data | own (stated by the exporter) | allowed |" in card_path(out).read_text()


@pytest.mark.parametrize("form", ["onnx", "weights", "engine", "triton"])
def test_a_licence_that_cannot_be_is_told_before_a_model_is_fetched(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(app, ["export", form, "hub:me/toy", "--out", str(tmp_path / "m"), "--licence", "own"]) == 2
    assert "--licence 'own' must read PART=LICENCE" in capsys.readouterr().err
