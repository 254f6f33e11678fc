"""Training with the sampler `tss`: the same windows on any ranks, the same bytes after any stop."""

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from setting import (
    LABELS,
    StopAt,
    checkpoints,
    make_config,
    make_store,
    regression,
    seal,
    start_ranks,
    train_on_two_ranks,
    wait_for_step,
    weights,
)

from mmadfer.config.schema import Config, parse
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick, sampler_of
from mmadfer.data.store.store import Store
from mmadfer.data.training_files import check_files
from mmadfer.errors import ConfigError, DataError
from mmadfer.model.weights.load import load
from mmadfer.run.directory import latest_checkpoint
from mmadfer.train.loop import train

EPOCHS = 6
"""One uniform, three of exploration, two of softmax."""


def windowed(store: Path, data: dict[str, Any] | None = None, **train_: Any) -> Config:
    tree = make_config(store, **{"epochs": EPOCHS, **train_}).model_dump(exclude_unset=True)
    tree["model"]["frames"] = 2
    tree["data"] |= {
        "window": {"hop": 1, "pool": "softmax"},
        "sampler": "tss",
        "sampler_options": {"uniform_epochs": 1, "exploration_epochs": 3},
        **(data or {}),
    }
    return parse(tree, "the test")


def state(fold: Path) -> dict[str, Any]:
    return json.loads((checkpoints(fold)[-1] / "sampler.json").read_text())


@pytest.fixture(scope="module")
def straight(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fold = tmp_path_factory.mktemp("straight") / "fold-1"
    assert train(windowed(store), 1, fold).finished
    return fold


def test_the_checkpoint_holds_a_weight_for_each_window(straight: Path, store: Path) -> None:
    found = state(straight)
    assert found["told"] == []
    with Store(store) as opened:
        made = sampler_of(windowed(store), opened, 1)
        made.load_state_dict(found["sampler"])
        assert {name: len(rows) for name, rows in made.weights.items()} == {  # type: ignore[attr-defined]
            clip.id: max(1, clip.frames - 1) for clip in opened.clips.values() if clip.fold != 1
        }
    assert found["sampler"]["epochs"] == EPOCHS
    assert set(found["sampler"]["seen"]) == {7}, "all three places of each clip, as all batches are full"


@pytest.mark.parametrize("asked", [1, 4, 7, 13, 16, 24])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(straight: Path, store: Path, tmp_path: Path, asked: int) -> None:
    fold = tmp_path / "fold-1"
    assert not train(windowed(store), 1, fold, stop=StopAt(asked)).finished
    assert train(windowed(store), 1, fold, resume=True).finished
    assert weights(fold) == weights(straight)
    last = [checkpoints(one)[-1] / "sampler.json" for one in (fold, straight)]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_killed_within_an_epoch_on_two_ranks_it_goes_on_to_the_same_bytes(
    straight: Path, store: Path, tmp_path: Path
) -> None:
    config = windowed(store)
    train_on_two_ranks(config, tmp_path / "whole")
    killed = start_ranks(config, tmp_path / "run")
    wait_for_step(tmp_path / "run" / "fold-1", 11, killed[0])
    for rank in killed:
        rank.send_signal(signal.SIGKILL)
    for rank in killed:
        rank.communicate()
    train_on_two_ranks(config, tmp_path / "run", "--resume")
    run, whole = tmp_path / "run" / "fold-1", tmp_path / "whole" / "fold-1"
    assert weights(run) == weights(whole)
    assert state(run) == state(whole)
    # One rank adds up in another order, so scores differ by rounding; the windows that they are of do not.
    assert state(whole)["sampler"]["seen"] == state(straight)["sampler"]["seen"]
    with Store(store) as opened:
        two, one = sampler_of(config, opened, 1), sampler_of(config, opened, 1)
    two.load_state_dict(state(whole)["sampler"])
    one.load_state_dict(state(straight)["sampler"])
    for name, rows in one.weights.items():  # type: ignore[attr-defined]
        np.testing.assert_allclose(two.weights[name], rows, atol=1e-4)  # type: ignore[attr-defined]
    assert two.epoch(EPOCHS) == one.epoch(EPOCHS)
    pairs = [load_file(checkpoints(fold)[-1] / "weights.safetensors") for fold in (whole, straight)]
    assert all(np.abs(pairs[0][name] - value).max() < 1e-3 for name, value in pairs[1].items())


def test_reading_ahead_changes_nothing(straight: Path, store: Path, tmp_path: Path) -> None:
    assert train(windowed(store, {"read_ahead": 9, "threads": 2}), 1, tmp_path / "fold-1").finished
    assert weights(tmp_path / "fold-1") == weights(straight)


def test_the_result_has_the_loss_of_the_pooled_logits(straight: Path, store: Path) -> None:
    config, model, losses = windowed(store), load(straight), []
    with Store(store) as opened, closing(Loader(opened, config, opened.labels)) as loader:
        for clip in opened.fold(1):
            windows = [Pick(clip, window=(first, 2)) for first in range(opened.clips[clip].frames - 1)]
            (batch,) = loader.test(windows, len(windows))
            with torch.no_grad():
                s = model(preprocess(batch), batch.fbank).double().numpy()
            shares = np.exp(config.data.window.gamma * s)  # type: ignore[union-attr]
            z = (shares / shares.sum(0) * s).sum(0)
            losses.append(np.log(np.exp(z).sum()) - z[LABELS.index(opened.clips[clip].label)])
    result = json.loads((straight / "result.json").read_text())
    assert len(losses) == 12
    assert result["cross_entropy"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_the_first_epochs_are_those_of_plain_windows(store: Path, tmp_path: Path) -> None:
    """Uniform epochs draw what training without the sampler draws."""
    options = {"sampler_options": {"uniform_epochs": 2}}
    train(windowed(store, options, epochs=2), 1, tmp_path / "tss")
    plain = {"sampler": "shuffle", "sampler_options": {}}
    train(windowed(store, plain, epochs=2), 1, tmp_path / "plain")
    one, other = (load_file(checkpoints(tmp_path / name)[-1] / "weights.safetensors") for name in ("tss", "plain"))
    assert all(np.array_equal(value, other[name]) for name, value in one.items())
    assert latest_checkpoint(tmp_path / "plain") is not None
    assert not (checkpoints(tmp_path / "plain")[-1] / "sampler.json").exists()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"window": None}, r"data\.sampler tss draws windows, and data\.window is not set"),
        ({"augment": {"mixup": 0.4}}, r"with mixup \(data\.augment\.mixup 0\.4\) a clip has two: set 0"),
        ({"sampler_options": {"gamma": -1.0}}, r"gamma is -1: give 0"),
        ({"sampler_options": {"epochs": 3}}, r"data\.sampler tss does not take .*epochs"),
        ({"sampler_options": {"uniform_epochs": -3}}, "uniform_epochs is -3: give a whole number from 0 on"),
        ({"sampler_options": {"span": 3}}, r"data\.sampler tss does not take .*span"),
    ],
)
def test_what_it_does_not_go_with_is_named_before_anything_is_made(
    store: Path, data: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        check_files(windowed(store, data), [1])


def test_values_have_no_class_to_go_by(tmp_path: Path) -> None:
    store = make_store(tmp_path / "values.store", values=True)
    tree = windowed(store, {"window": {"hop": 1}}).model_dump(exclude_unset=True)
    values = regression(store)
    tree["task"] = values.task.model_dump()
    tree["model"]["head"] = values.model.head.model_dump()
    with pytest.raises(ConfigError, match="task regression gives values: take shuffle"):
        check_files(parse(tree, "the test"), [1])


def test_a_state_of_other_clips_is_refused_by_name(straight: Path, store: Path, tmp_path: Path) -> None:
    fold = tmp_path / "fold-1"
    assert not train(windowed(store), 1, fold, stop=StopAt(5)).finished
    path = checkpoints(fold)[-1] / "sampler.json"
    tree = json.loads(path.read_text())
    first = min(tree["sampler"]["windows"])
    tree["sampler"]["windows"][first] += 1
    path.write_text(json.dumps(tree))
    seal(path.parent, lambda _: None)
    with pytest.raises(DataError, match=rf"1 clips differ, the first is {first}, which has \d windows here"):
        train(windowed(store), 1, fold, resume=True)
    assert DataError.exit_code == 2
