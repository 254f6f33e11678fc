"""Whatever stops a run, it goes on to the same weights, bit for bit; what is on disk is whole and is not trusted."""

import json
import os
import resource
import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from setting import (
    StopAt,
    checkpoints,
    events,
    make_config,
    promises,
    seal,
    start,
    train_on_two_ranks,
    wait_for_step,
    weights,
)

from mmadfer import contract
from mmadfer.config.schema import Config
from mmadfer.data.training_files import from_store
from mmadfer.errors import MmadferError, RunError, WeightsError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import build_model, encoder_hash
from mmadfer.model.weights.load import load
from mmadfer.run import directory as runs
from mmadfer.train.loop import train
from mmadfer.utils.cores import granted
from mmadfer.utils.files import sha256


def test_killed_then_stopped_then_resumed_ends_in_the_same_weights(store: Path, tmp_path: Path) -> None:
    config = make_config(store, epochs=12)
    assert train(config, 1, tmp_path / "straight").finished
    fold = tmp_path / "run" / "fold-1"

    killed = start(config, tmp_path / "run")
    wait_for_step(fold, 8, killed)
    killed.kill()
    killed.communicate()
    assert checkpoints(fold)

    stopped = start(config, tmp_path / "run", "--resume")
    wait_for_step(fold, 18, stopped)
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate()
    assert stopped.returncode == 2, out + err
    assert "--resume" in err
    assert "waiting" not in err, "the killed one is known to be dead"
    assert "Traceback" not in err
    assert not (fold / "result.json").exists()
    assert int(checkpoints(fold)[-1].name[5:]) == events(fold, "stop")[-1]["step"]

    assert train(config, 1, fold, resume=True).finished
    assert weights(fold) == weights(tmp_path / "straight")
    steps = [[(event["step"], event["loss"]) for event in events(f, "step")] for f in (fold, tmp_path / "straight")]
    assert steps[0] == steps[1], "no step is in metrics.jsonl twice"
    assert [e["loss"] for e in events(fold, "epoch")] == [e["loss"] for e in events(tmp_path / "straight", "epoch")]
    results = [runs.result(f) for f in (fold, tmp_path / "straight")]
    assert all(results), "what was resumed is a result as any"
    assert len({json.dumps(found["best"]) for found in results if found}) == 1


@pytest.mark.parametrize("asked", [0, 2, 4, 8])
def test_stopped_anywhere(config: Config, straight: Path, tmp_path: Path, asked: int) -> None:
    """Asked after 1, 3 (the end of an epoch), 5 (in its test) and 9 questions."""
    assert not train(config, 1, tmp_path, resume=True, stop=StopAt(asked)).finished
    assert train(config, 1, tmp_path, resume=True).finished
    assert weights(tmp_path) == weights(straight)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_resume_exactly(store: Path, tmp_path: Path, stage: int) -> None:
    config = make_config(store, zero_stage=stage, accumulate=2)
    train(config, 1, tmp_path / "straight")
    train(config, 1, tmp_path / "stopped", stop=StopAt(1))
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_two_ranks_train_as_one_does(config: Config, straight: Path, tmp_path: Path) -> None:
    auto = config.model_copy(update={"data": config.data.model_copy(update={"threads": "auto"})})
    first, second = train_on_two_ranks(auto, tmp_path / "run")
    assert [begin["threads"] for begin in events(tmp_path / "run" / "fold-1", "begin")] == [max(1, granted() // 2)]
    assert "epoch 2/2" in first
    assert second == "", "rank 0 alone talks"
    fold = tmp_path / "run" / "fold-1"
    for one, two in zip(events(straight, "step"), events(fold, "step"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    one, two = (load_file(checkpoints(folder)[-1] / "weights.safetensors") for folder in (straight, fold))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-4, msg=name)


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # bytes; less than DeepSpeed's state


def test_full_disk_leaves_the_older_checkpoint(config: Config, straight: Path, tmp_path: Path) -> None:
    fold = tmp_path / "run" / "fold-1"
    train(config, 1, fold, stop=StopAt(1))
    (tmp_path / "run" / "config.yaml").write_text(from_store(config).to_yaml())
    before = {path: sha256(path) for path in checkpoints(fold)[-1].rglob("*") if path.is_file()}
    full = start(config, tmp_path / "run", "--resume", preexec_fn=_small_files)
    out, err = full.communicate()
    assert full.returncode == 2, out + err
    assert str(fold / "checkpoints" / "step-") in err
    assert "File too large" in err
    assert "Traceback" not in err
    assert {path: sha256(path) for path in before} == before
    assert not list(fold.glob("checkpoints/*.tmp"))
    assert train(config, 1, fold, resume=True).finished
    assert weights(fold) == weights(straight)


def test_checkpoint_holds_trainable_weights_and_the_encoders_hash(config: Config, straight: Path) -> None:
    newest, model = checkpoints(straight)[-1], build_model(config.model, 3)
    assert len(checkpoints(straight)) == config.train.keep
    with safe_open(newest / "weights.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.trainable())
        promises = contract.loads(file.metadata()[contract.KEY])
    assert promises.encoder_hash == encoder_hash(model)
    assert (promises.epoch, promises.labels, promises.fold) == (2, ("glad", "sad", "calm"), 1)
    assert promises.metrics["uar"] == json.loads((straight / "result.json").read_text())["uar"]
    (states,) = (newest / "deepspeed").iterdir()
    assert set(torch.load(states, weights_only=True)["module"]) == {f"model.{name}" for name in model.trainable()}


def test_checkpoint_in_an_epoch_says_what_it_is(config: Config, half: Path, straight: Path, tmp_path: Path) -> None:
    whole, part = (promises(path) for path in checkpoints(half))
    assert (whole.epoch, whole.epochs, set(whole.metrics)) == (1, 2, {"uar", "war"})
    assert (part.epoch, part.metrics) == (1, {}), "the numbers of epoch 1 are of other weights"
    with pytest.warns(UserWarning, match="1 of 2 epochs"):
        load(half)
    with pytest.raises(WeightsError, match=r"1 of 2 epochs.*--resume"):
        to_onnx(half, tmp_path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load(straight).contract.unfinished


@pytest.fixture
def half(config: Config, tmp_path: Path) -> Path:
    """Stopped after step 4, with a checkpoint of step 3 before."""
    train(config, 1, tmp_path / "half", stop=StopAt(6))
    assert [path.name for path in checkpoints(tmp_path / "half")] == ["step-00000003", "step-00000004"]
    return tmp_path / "half"


def test_damaged_newest_checkpoint_falls_back_loudly(
    config: Config, straight: Path, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = checkpoints(half)[-1]
    with open(damaged / "weights.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert train(config, 1, half, resume=True).finished
    assert f"WARNING: checkpoint {damaged} is damaged (weights.safetensors has changed)" in capsys.readouterr().out
    assert weights(half) == weights(straight)


def test_no_whole_checkpoint_is_an_error(config: Config, half: Path) -> None:
    for path in checkpoints(half):
        (path / "state.json").write_text("{")
    with pytest.raises(RunError, match=r"no checkpoint in .* is whole"):
        train(config, 1, half, resume=True)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_malicious_pickle_is_refused_and_not_run(config: Config, half: Path, tmp_path: Path) -> None:
    (states,) = (checkpoints(half)[-1] / "deepspeed").iterdir()
    torch.save({"module": Bomb(tmp_path / "ran")}, states)
    seal(states.parents[1], lambda tree: None)
    with pytest.raises(WeightsError, match=r"was refused: it holds posix.mkdir, which could run code"):
        train(config, 1, half, resume=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"train": {"lr": 0.5}}, RunError, r"train.lr: 0.001 in the checkpoint, 0.5 now"),
        ({"model": {"vision": {"width": 32, "depth": 2, "heads": 2, "seed": 9}}}, WeightsError, "other encoders"),
        ({"data": {"labels": ["sad", "glad", "calm"]}}, RunError, "data.labels"),
    ],
)
def test_another_configuration_cannot_go_on(
    config: Config, half: Path, change: dict, error: type[MmadferError], words: str
) -> None:
    tree = config.model_dump()
    for section, values in change.items():
        tree[section].update(values)
    with pytest.raises(error, match=words):
        train(Config.model_validate(tree), 1, half, resume=True)


def test_begun_fold_is_refused_and_finished_fold_is_returned(config: Config, half: Path, straight: Path) -> None:
    with pytest.raises(RunError, match="--resume"):
        train(config, 1, half)
    before = (straight / "metrics.jsonl").read_bytes()
    result = train(config, 1, straight, resume=True)
    assert (result.finished, result.epoch) == (True, 2)
    assert (straight / "metrics.jsonl").read_bytes() == before
