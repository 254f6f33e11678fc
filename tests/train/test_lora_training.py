"""Training with low-rank updates: they learn, and whatever stops a run, it goes on to the same weights."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, weights
from torch import Tensor

from mmadfer.config.lora import LoraConfig
from mmadfer.config.schema import Config
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.model.weights.build import build_model, encoder_hash
from mmadfer.model.weights.load import load
from mmadfer.train.loop import train


def updated(store: Path, **way: Any) -> Config:
    """The tiny configuration with updates of rank 4."""
    config = make_config(store, **way)
    return config.model_copy(update={"model": config.model.model_copy(update={"lora": LoraConfig(rank=4)})})


def moved(folder: Path, config: Config) -> dict[str, Tensor]:
    """How far each of the updates is from where it started."""
    start, end = build_model(config.model, 3).trainable(), load_file(checkpoints(folder)[-1] / "weights.safetensors")
    assert set(end) == set(start)
    return {name: (value - start[name]).detach().abs().amax() for name, value in end.items() if ".lora_" in name}


def test_updates_learn(store: Path, tmp_path: Path) -> None:
    config = updated(store, epochs=10)
    assert train(config, 1, tmp_path / "fold").finished
    losses = [event["loss"] for event in events(tmp_path / "fold", "epoch")]
    assert losses[-1] < 0.8 * losses[0]
    found = moved(tmp_path / "fold", config)
    assert len(found) == 2 * 2 * 4 * 2
    assert all(change > 1e-3 for change in found.values()), found
    model = load(tmp_path / "fold")
    assert encoder_hash(model) == encoder_hash(build_model(make_config(store).model, 3)), (
        "the encoders have not changed"
    )
    evaluate_path(tmp_path / "fold", store, 1, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "fold" / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    "way",
    [
        {"precision": "reference"},
        {"precision": "bf16", "checkpoint_activations": True},
        {"precision": "fp8"},
        {"zero_stage": 2, "accumulate": 2},
        {"zero_stage": 3},
    ],
    ids=str,
)
def test_resuming_is_exact(store: Path, tmp_path: Path, way: dict[str, Any]) -> None:
    config = updated(store, **way)
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(1)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    assert all(change > 0 for change in moved(tmp_path / "straight", config).values())
