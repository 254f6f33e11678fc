"""Optimizers, schedules, groups and clipping: as plain torch computes them, and resumed to the bit."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, make_store, weights
from torch import nn
from torch.nn import functional

from mmadfer.config.schema import Config, TrainConfig, parse
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError
from mmadfer.model.weights.build import build_model
from mmadfer.train.loop import train
from mmadfer.train.schedules import learning_rate

GROUPS = [{"match": "temporal.*", "lr": 2e-3, "weight_decay": 0.0}, {"match": "classifier.*", "lr": 5e-4}]
WAYS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "schedule": "constant"},
    {"warmup_epochs": 1},
    {"groups": GROUPS},
    {"clip_norm": 0.5},
    {"optimizer": "sgd", "lr": 0.1, "groups": GROUPS, "clip_norm": 0.5, "warmup_epochs": 1, "epochs": 3},
]


def rates(config: Config, epoch: int, step: int) -> dict[str, float]:
    """By hand: epochs of 3 steps."""
    train = config.train
    warm, left = train.warmup_epochs, train.epochs - train.warmup_epochs
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (epoch - warm) / left, dtype=torch.float64)).item())
    share = (3 * epoch + step + 1) / (3 * warm) if epoch < warm else 1.0 if train.schedule == "constant" else cosine
    own = {"temporal": 2e-3, "classifier": 5e-4} if train.groups else {}
    return {name: share * own.get(name, train.lr) for name in ("temporal", "classifier", "")}


def by_hand(config: Config) -> dict[str, torch.Tensor]:
    """Fold 1 in plain torch."""
    opened = Store(config.data.store or "")
    model = build_model(config.model, len(opened.labels), config.train.seed)
    for encoder in (model.vision, model.audio):
        for block in encoder.blocks:
            block.attn.fused_attn = False
    named = model.trainable()
    parts: dict[str, list[nn.Parameter]] = {"temporal": [], "classifier": [], "": []}
    for name, weight in named.items():
        parts[name.split(".")[0] if name.startswith(("temporal.", "classifier.")) else ""].append(weight)
    decay = {name: 0.0 if config.train.groups and name == "temporal" else config.train.weight_decay for name in parts}
    groups = [{"params": found, "name": name, "weight_decay": decay[name]} for name, found in parts.items()]
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    momentum = {"momentum": config.train.momentum} if config.train.optimizer == "sgd" else {}
    optimizer = kinds[config.train.optimizer](groups, lr=1.0, **momentum)
    with closing(Loader(opened, config, opened.labels)) as loader:
        for epoch in range(config.train.epochs):
            for step, batch in enumerate(loader.train(epoch, batches(config, opened, 1, epoch))):
                for group in optimizer.param_groups:
                    group["lr"] = rates(config, epoch, step)[group["name"]]
                optimizer.zero_grad()
                logits = model(preprocess(batch), batch.fbank, batch.drop_path)
                functional.cross_entropy(logits, batch.targets["label"]).backward()
                if config.train.clip_norm:
                    nn.utils.clip_grad_norm_(named.values(), config.train.clip_norm)
                optimizer.step()
    return {name: value.detach() for name, value in named.items()}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_way_moves_the_weights_as_plain_torch_does(store: Path, tmp_path: Path, way: dict[str, Any]) -> None:
    config = make_config(store, precision="reference", **way)
    assert train(config, 1, tmp_path / "fold").finished
    found, wanted = load_file(checkpoints(tmp_path / "fold")[-1] / "weights.safetensors"), by_hand(config)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("way", [WAYS[-1], {"groups": GROUPS, "clip_norm": 0.5, "warmup_epochs": 1}], ids=str)
def test_each_way_resumes_to_the_bit(store: Path, tmp_path: Path, way: dict[str, Any], stage: int) -> None:
    config = make_config(store, zero_stage=stage, **way)
    train(config, 1, tmp_path / "straight")
    train(config, 1, tmp_path / "stopped", stop=StopAt(1))
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    steps = [[(e["step"], e["loss"], e["lr"]) for e in events(tmp_path / f, "step")] for f in ("stopped", "straight")]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_compute_the_same(store: Path, tmp_path: Path, stage: int) -> None:
    whole, spread = (make_config(store, zero_stage=zero, **WAYS[-1]) for zero in (0, stage))
    found = []
    for name, config in (("whole", whole), ("spread", spread)):
        assert train(config, 1, tmp_path / name).finished
        found.append(load_file(checkpoints(tmp_path / name)[-1] / "weights.safetensors"))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-5, msg=name)


def test_a_first_step_that_is_skipped_leaves_no_momentum(tmp_path: Path) -> None:
    """The fused optimizer decides on the device; torch would take the momentum from memory that nobody set."""
    config = make_config(tmp_path / "spoilt.store", optimizer="sgd", lr=0.1, epochs=1)
    make_store(tmp_path / "spoilt.store", spoilt=[_first_clip(tmp_path)])
    assert train(config, 1, tmp_path / "fold").finished
    assert [event["step"] for event in events(tmp_path / "fold", "skip")] == [1]
    found = load_file(checkpoints(tmp_path / "fold")[-1] / "weights.safetensors")
    for name, value in build_model(config.model, 3, config.train.seed).trainable().items():
        assert (found[name] - value).abs().max() < 1, name


def _first_clip(tmp_path: Path) -> str:
    path = make_store(tmp_path / "whole.store")
    with Store(path) as opened:
        return batches(make_config(path), opened, 1, 0)[0][0].clip


def test_warm_up_is_a_line_before_the_schedule() -> None:
    config = TrainConfig(epochs=5, warmup_epochs=2, lr=8.0)
    assert [learning_rate(config, epoch, step, 2) for epoch in (0, 1) for step in (0, 1)] == [2.0, 4.0, 6.0, 8.0]
    assert [learning_rate(config, epoch) for epoch in (2, 3, 4)] == pytest.approx([8.0, 6.0, 2.0])
    assert learning_rate(TrainConfig(schedule="constant", lr=3.0), 24) == 3.0


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"optimizer": "adamv"}, r"train\.optimizer: there is no optimizer 'adamv': did you mean adamw\?"),
        ({"schedule": "cosin"}, r"train\.schedule: there is no schedule 'cosin': did you mean cosine\?"),
        ({"warmup_epochs": 25}, "warmup_epochs 25 leaves none of 25 epochs for the schedule"),
        ({"clip_norm": 0}, r"train\.clip_norm: .* greater than 0"),
        ({"groups": [{"match": "a"}]}, r"train\.groups\.0\.lr: Field required"),
    ],
    ids=str,
)
def test_what_is_no_recipe_is_refused_by_key_and_rule(train: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse({"name": "x", "train": train}, "the test")


def test_a_loss_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"task\.loss: there is no loss 'cross_entrop': did you mean cross_entropy\?"):
        parse({"name": "x", "task": {"loss": "cross_entrop"}}, "the test")


def test_a_group_of_no_weights_is_refused(store: Path, tmp_path: Path) -> None:
    config = make_config(store, groups=[{"match": "temporl.*", "lr": 1e-3}])
    with pytest.raises(ConfigError, match=r"train\.groups\.0\.match is 'temporl\.\*', but .* no weight that learns"):
        train(config, 1, tmp_path / "fold")
