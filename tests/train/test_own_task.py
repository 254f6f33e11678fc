"""What a task of its own brings: modules that learn, are averaged, saved and resumed to the bit; parts with names."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from own_task import TwoHeads
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmadfer.config.schema import Config, parse
from mmadfer.data.loading.batch import Batch
from mmadfer.errors import ConfigError
from mmadfer.export.to_weights import to_weights
from mmadfer.model.weights.load import load
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.tasks.tables import TASKS
from mmadfer.train.loop import train
from mmadfer.utils.console import Console


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS.own, "two_heads", "own_task:SPEC")  # type: ignore[arg-type]


def two_heads(store: Path, **way: Any) -> Config:
    return make_config(store, task={"name": "two_heads"}, **way)


def saved(folder: Path, which: int = -1) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(folder)[which] / "weights.safetensors")


@pytest.mark.parametrize("way", [{}, {"ema": 0.7}, {"zero_stage": 1}, {"zero_stage": 3}, {"accumulate": 2}], ids=str)
def test_own_modules_learn_and_resume_to_the_bit(store: Path, tmp_path: Path, way: dict[str, Any]) -> None:
    config = two_heads(store, **way)
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(1)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    before, after = (saved(tmp_path / "straight", which) for which in (0, -1))
    own = {"task.second.weight", "task.second.bias", "task.seen"}
    assert {name for name in after if name.startswith("task.")} == own
    assert not torch.equal(before["task.second.weight"], after["task.second.weight"]), "it learns"
    assert after["task.seen"] == 6 * config.train.accumulate


def test_own_modules_are_averaged(store: Path, tmp_path: Path) -> None:
    for name, ema in (("plain", 0.0), ("average", 0.9)):
        assert train(two_heads(store, ema=ema), 1, tmp_path / name).finished
    plain, average = (saved(tmp_path / name)["task.second.weight"] for name in ("plain", "average"))
    assert not torch.equal(plain, average)


def test_parts_stand_by_their_names_in_metrics_tensorboard_and_report(store: Path, tmp_path: Path) -> None:
    config = two_heads(store)
    fold = tmp_path / "run" / "fold-1"
    runs.open_fold(tmp_path / "run", config, 1)
    assert train(config, 1, fold, resume=True).finished
    steps, epochs = events(fold, "step"), events(fold, "epoch")
    for event in [*steps, *epochs]:
        assert event["loss"] == pytest.approx(event["first"] + 0.5 * event["second"], abs=1e-5)
    assert epochs[0]["second"] == pytest.approx(fmean(event["second"] for event in steps[:3]))
    board = EventAccumulator(str(fold / "tensorboard")).Reload()
    assert {"step/first", "step/second", "epoch/second", "epoch/uar"} <= set(board.Tags()["scalars"])
    report(tmp_path / "run", {}, Console(quiet=True))
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "Training first" in page
    assert "Training second" in page


def test_a_part_that_is_not_finite_has_no_mean_and_stops_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts(self: TwoHeads, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        self.seen += 1
        odd = torch.where(self.seen == 1, torch.nan, self.seen)
        return {"loss": self.loss(output, batch.targets["label"]), "kind": self.seen, "odd": odd}

    monkeypatch.setattr(TwoHeads, "parts", parts)
    config, fold = two_heads(store, save_every=1), tmp_path / "fold"
    assert not train(config, 1, fold, stop=StopAt(1)).finished
    assert train(config, 1, fold, resume=True).finished
    assert [event["odd"] for event in events(fold, "step")] == [None, 2, 3, 4, 5, 6]
    assert [(event["odd"], event["kind"]) for event in events(fold, "epoch")] == [(None, 2), (5, 5)]
    told = [line for line in (fold / "log.txt").read_text().splitlines() if "WARNING" in line]
    assert len(told) == 1
    assert "odd of the task is not finite at step 1, so epoch 1 has no mean of it" in told[0]


@pytest.mark.parametrize("name", ["seconds", "lr", "event", "uar", "validation_war"])
def test_a_part_cannot_have_a_name_of_the_log(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loss = TwoHeads.parts
    monkeypatch.setattr(TwoHeads, "parts", lambda *given: {**loss(*given), name: torch.ones(())})
    with pytest.raises(ConfigError, match=f"the task gives a part '{name}', which metrics.jsonl has for a number of"):
        train(two_heads(store), 1, tmp_path / "fold")


def test_the_model_loads_without_the_tasks_tensors_and_an_export_keeps_them(store: Path, tmp_path: Path) -> None:
    assert train(two_heads(store), 1, tmp_path / "fold").finished
    assert not any(name.startswith("task.") for name in load(tmp_path / "fold").state_dict())
    written = to_weights(tmp_path / "fold", tmp_path / "whole.safetensors")
    assert "task.second.weight" in load_file(written)
    contract = load(written).contract
    assert contract is not None
    assert contract.task == "two_heads"


def test_a_group_may_be_of_own_modules(store: Path, tmp_path: Path) -> None:
    still = two_heads(store, groups=[{"match": "task.*", "lr": 1e-12, "weight_decay": 0.0}])
    assert train(still, 1, tmp_path / "fold").finished
    before, after = (saved(tmp_path / "fold", which) for which in (0, -1))
    torch.testing.assert_close(before["task.second.weight"], after["task.second.weight"], rtol=0, atol=1e-9)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_a_task_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"task\.name: there is no task 'clasification': did you mean classification"):
        parse({"name": "x", "task": {"name": "clasification"}}, "the test")
    with pytest.raises(ConfigError, match="task regression needs values"):
        parse({"name": "x", "task": {"name": "regression"}}, "the test")
