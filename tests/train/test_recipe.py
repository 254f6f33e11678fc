"""What training computes: the published recipe, and nothing that is not finite."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import CLIPS, checkpoints, events, make_config, make_store
from torch.nn import functional

from mmadfer.config.schema import Config
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Store
from mmadfer.errors import TrainingError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.model.weights.build import build_model
from mmadfer.tasks.metrics import uar
from mmadfer.train.loop import train
from mmadfer.train.schedules import learning_rate


def by_hand(config: Config) -> dict[str, torch.Tensor]:
    """The recipe in plain torch: weights after training fold 1, leaving out steps whose loss is not finite."""
    store = Store(config.data.store or "")
    model, loader = build_model(config.model, len(store.labels), config.train.seed), Loader(store, config, store.labels)
    for encoder in (model.vision, model.audio):
        for block in encoder.blocks:
            block.attn.fused_attn = False
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1.0, weight_decay=config.train.weight_decay)
    for epoch in range(config.train.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(config.train, epoch)
        for batch in loader.train(epoch, batches(config, store, 1, epoch)):
            logits = model(preprocess(batch), batch.fbank, batch.drop_path)
            loss = functional.cross_entropy(logits, batch.targets["label"])
            optimizer.zero_grad()
            loss.backward()
            if loss.isfinite():
                optimizer.step()
    loader.close()
    return {name: value.detach() for name, value in model.trainable().items()}


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(folder)[-1] / "weights.safetensors")


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance, msg=name)


def test_reference_moves_the_weights_as_plain_torch_does_to_the_bit(store: Path, tmp_path: Path) -> None:
    config = make_config(store, precision="reference")
    assert train(config, 1, tmp_path / "fold").finished
    assert_equal(saved(tmp_path / "fold"), by_hand(config))


def test_learning_rate_is_a_cosine_stepped_once_an_epoch() -> None:
    train = make_config(Path("x"), epochs=4, lr=2.0).train
    assert [learning_rate(train, epoch) for epoch in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])


@pytest.mark.parametrize("way", [{"precision": "reference"}, {}, {"zero_stage": 2}, {"zero_stage": 3}], ids=str)
def test_a_clip_of_nan_does_not_reach_the_weights(tmp_path: Path, way: dict[str, Any]) -> None:
    config = make_config(make_store(tmp_path / "spoilt.store", spoilt=["c04"]), **way)
    assert train(config, 1, tmp_path / "fold").finished
    skipped = events(tmp_path / "fold", "skip")
    assert len(skipped) == 2, "once in each epoch"
    assert all("c04" in event["ids"] and "rank 0: loss nan" in event["reason"] for event in skipped)
    assert_equal(saved(tmp_path / "fold"), by_hand(config), tolerance=1e-5 if config.train.precision == "fp32" else 0)


def test_three_such_steps_in_a_row_end_training(tmp_path: Path) -> None:
    store = make_store(tmp_path / "spoilt.store", spoilt=[f"c{k:02d}" for k in range(CLIPS)])
    with pytest.raises(TrainingError, match=r"(?s)3 steps in a row.*step 3 \(rank 0: loss nan.*train.lr"):
        train(make_config(store, save_every=9), 1, tmp_path / "fold")
    assert not checkpoints(tmp_path / "fold")


def test_an_epoch_of_which_no_step_counts_is_no_result(tmp_path: Path) -> None:
    """An epoch is one step, and three in a row are never seen."""
    store = make_store(tmp_path / "spoilt.store", spoilt=["c03"])
    with pytest.raises(TrainingError, match=r"all 1 steps of epoch 1 were skipped.*nothing was learnt"):
        train(make_config(store, batch_size=12), 1, tmp_path / "fold")
    assert not (tmp_path / "fold" / "result.json").exists()


def test_bfloat16_trains(store: Path, straight: Path, tmp_path: Path) -> None:
    assert train(make_config(store, precision="bf16"), 1, tmp_path / "fold").finished
    losses = [[event["loss"] for event in events(folder, "step")] for folder in (straight, tmp_path / "fold")]
    assert losses[0] != losses[1]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=0.05)


def test_result_is_the_last_epoch_and_can_be_had_again(
    config: Config, straight: Path, store: Path, tmp_path: Path
) -> None:
    result = json.loads((straight / "result.json").read_text())
    epochs = events(straight, "epoch")
    assert [event["epoch"] for event in epochs] == [1, 2]
    assert (result["uar"], result["war"]) == (epochs[-1]["uar"], epochs[-1]["war"])
    assert result["best"]["uar"] == max(event["uar"] for event in epochs)
    again = evaluate_path(straight, store, 1, out=tmp_path / "again.csv")
    assert again.confusion.tolist() == result["confusion"]
    assert uar(again.confusion) == result["uar"]
    assert (tmp_path / "again.csv").read_bytes() == (straight / "predictions.csv").read_bytes()
    two = evaluate_path(straight, store, 1, clips=2)
    assert two.ids == again.ids
    assert two.probabilities.sum(1) == pytest.approx(1, abs=1e-6)
