import shutil
from pathlib import Path

import pytest
import torch
from export_setup import CONTRACT, MODEL, awake, clips
from typer.testing import CliRunner

import mmadfer
from mmadfer.cli.main import app
from mmadfer.errors import WeightsError
from mmadfer.export.to_weights import to_weights
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, save_weights


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A file in MAE-Face's layout, made of a model's own encoder."""
    path = tmp_path / "here/mae_face.pth"
    path.parent.mkdir()
    state = {"pos_embed": torch.randn(1, 1 + 4, MODEL.vision.width)}
    for name, value in awake(1).frozen().items():
        if name.startswith("vision."):
            theirs = name.removeprefix("vision.").replace("cls", "cls_token").replace("patch.", "patch_embed.proj.")
            state[theirs] = value + 0.01
    torch.save({"model": state}, path)
    return path


@pytest.fixture
def run(tmp_path: Path, encoder: Path) -> Path:
    """A run with one fold, whose vision encoder lies in a file."""
    config = MODEL.model_copy(update={"vision": MODEL.vision.model_copy(update={"weights": encoder})})
    contract = CONTRACT.model_copy(update={"model": config})
    path = tmp_path / "run/fold-1/checkpoints/step-00000007/weights.safetensors"
    model = build_model(config, len(contract.labels))
    model.load_state_dict(awake(3).trainable(), strict=False)
    save_weights(path, model, contract, frozen=False)
    return tmp_path / "run"


def logits(model: MMADFER) -> torch.Tensor:
    with torch.inference_mode():
        return model(*map(torch.from_numpy, clips(2)))


def test_the_file_needs_nothing_of_the_machine_it_was_trained_on(run: Path, encoder: Path, tmp_path: Path) -> None:
    before = logits(mmadfer.load(run))
    out = tmp_path / "there/model.safetensors"
    done = CliRunner().invoke(app, ["export", "weights", str(run), "--fold", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "encoders included" in done.output
    shutil.rmtree(encoder.parent)
    with pytest.raises(WeightsError, match=r"(?s)trained part only.*mae_face\.pth.*mmadfer export weights"):
        mmadfer.load(run)
    model = mmadfer.load(out)
    assert torch.equal(logits(model), before)
    assert model.contract is not None
    assert (model.contract.labels, model.contract.fold) == (CONTRACT.labels, 1)
    assert str(tmp_path).encode() not in out.read_bytes()
    assert torch.equal(logits(mmadfer.load(to_weights(out, tmp_path / "again.safetensors"))), before)


def test_what_would_not_load_again_is_not_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.bin must end in \.safetensors"):
        to_weights(run, tmp_path / "model.bin")
    unfinished = CONTRACT.model_copy(update={"epoch": 1, "epochs": 2})
    save_weights(tmp_path / "half.safetensors", awake(1), unfinished, frozen=True)
    with pytest.raises(WeightsError, match="not fully trained: 1 of 2"):
        to_weights(tmp_path / "half.safetensors", tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()
