"""Clips kept for validation: which they are, that nothing trains on them, and that the test fold is looked at once."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from setting import StopAt, checkpoints, events, make_config, promises, train_on_two_ranks, weights

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import Config
from mmadfer.contract.description import describe_contract
from mmadfer.contract.facts import Looks
from mmadfer.data.fold_clips import steps_per_epoch, training_clips, validation_clips
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.splits import hold_out
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError
from mmadfer.evaluation.evaluate import evaluate, evaluate_path
from mmadfer.evaluation.predictions import Predictions
from mmadfer.launch import extrapolate, follow
from mmadfer.model.weights.load import load
from mmadfer.report import report
from mmadfer.run.measurement import read
from mmadfer.tasks.calibration import RANGE
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.train.loop import train
from mmadfer.train.measure import measure

Seen = dict[str, list[list[str]]]
LABELS = {f"clip{k}": ("often", "rare")[k % 10 == 0] for k in range(200)}
NOBODY = dict.fromkeys(LABELS)


def validated(store: Path, share: float = 0.25, **train: Any) -> Config:
    config = make_config(store, **train)
    return config.model_copy(update={"data": config.data.model_copy(update={"validation": share})})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The clips of every pass of training and of every test; what reads them stays as it is."""
    found: Seen = {"train": [], "test": []}
    trains, tests = Loader.train, Loader.test

    def noted_training(self: Loader, epoch: int, picked: Sequence[Sequence[Pick]]) -> Iterator[Batch]:
        found["train"].append([pick.clip for picks in picked for pick in picks])
        return trains(self, epoch, picked)

    def noted_tests(self: Loader, rows: Sequence[Pick], *how: Any, **more: Any) -> Iterator[Batch]:
        found["test"].append([row.clip for row in rows])
        return tests(self, rows, *how, **more)

    monkeypatch.setattr(Loader, "train", noted_training)
    monkeypatch.setattr(Loader, "test", noted_tests)
    return found


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold trained in one go with a quarter of its training clips for validation."""
    folder = tmp_path_factory.mktemp("run") / "fold-1"
    assert train(validated(store), 1, folder).finished
    return folder


def told(folder: Path) -> dict[str, Any]:
    """The result, without the time it took."""
    return {**json.loads((folder / "result.json").read_text()), "seconds": 0}


def test_the_same_clips_of_every_label_are_held_out() -> None:
    held = hold_out(LABELS, 0.1, NOBODY)
    assert [sum(LABELS[clip] == label for clip in held) for label in ("often", "rare")] == [18, 2]
    assert hold_out(dict(reversed(LABELS.items())), 0.1, NOBODY) == held
    assert held < hold_out(LABELS, 0.2, NOBODY)
    other = {clip: label for clip, label in LABELS.items() if clip != "clip0"}
    assert len(held ^ hold_out(other, 0.1, NOBODY)) <= 2, (
        "a clip that leaves moves no other label, and at most its place"
    )
    assert [sum(LABELS[clip] == "rare" for clip in hold_out(LABELS, share, NOBODY)) for share in (0.01, 0.04)] == [1, 1]


def test_people_are_held_out_whole() -> None:
    people = {clip: f"person{k // 8}" for k, clip in enumerate(LABELS)}  # 25 with 8 clips
    labels = {clip: ("a", "b")[k % 2] for k, clip in enumerate(LABELS)}
    held = hold_out(labels, 0.2, people)
    assert len(held) == 40
    assert len({people[clip] for clip in held}) == 5
    assert not {people[clip] for clip in held} & {people[clip] for clip in labels.keys() - held}
    assert len(hold_out(labels, 0.01, people)) == 8, "at least one of them"
    some = {clip: person if person > "person2" else None for clip, person in people.items()}
    alone = hold_out(labels, 0.2, some)
    assert len(alone) == 40
    assert any(some[clip] is None for clip in alone)


@pytest.mark.parametrize(
    ("share", "labels", "people", "message"),
    [
        (0.1, {**LABELS, "one": "single"}, {**NOBODY, "one": None}, "keeps 1 of the 1 .* 'single'"),
        (0.95, {"a": "x", "b": "x", "c": "x"}, dict.fromkeys("abc"), "keeps 3 of the 3"),
        (0.5, {"a": "x", "b": "y"}, {"a": "p", "b": "q"}, "keeps . of the 1"),
    ],
)
def test_a_label_must_be_trained_on_and_validated(
    share: float, labels: dict[str, str], people: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"data.validation {share} {message}.*another share, or 0"):
        hold_out(labels, share, people)


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_clips_are_trained_on_or_validated_or_tested(store: Path, sampler: str) -> None:
    base = validated(store, 0.25)
    config = base.model_copy(update={"data": base.data.model_copy(update={"sampler": sampler})})
    with Store(store) as opened:
        for fold in (1, 2):
            held, test = validation_clips(config, opened, fold), set(opened.fold(fold))
            trained = {clip.id for clip in training_clips(config, opened, fold)}
            assert len(held) == 3
            assert trained | set(held) | test == set(opened.clips)
            assert len(trained) + len(held) + len(test) == len(opened.clips)
            assert steps_per_epoch(config, opened, fold) == 2
            for world in (1, 2, 4):
                parts = [batches(config, opened, fold, 5, rank=rank, world=world) for rank in range(world)]
                used = {pick.clip for part in parts for picks in part for pick in picks}
                assert used <= trained
                assert len(parts[0]) == 2
        other = validated(store, 0.25, seed=9)
        assert validation_clips(other, opened, 1) == validation_clips(config, opened, 1), "seeds share it"
        assert validation_clips(make_config(store), opened, 1) == []


def test_the_test_fold_is_looked_at_once_after_the_last_epoch(store: Path, tmp_path: Path, seen: Seen) -> None:
    config = validated(store, epochs=3)
    assert train(config, 1, tmp_path).finished
    with Store(store) as opened:
        held, test = validation_clips(config, opened, 1), opened.fold(1)
        assert seen["test"] == [held, held, held, test]
        for clips in seen["train"]:
            assert set(clips) <= {clip.id for clip in training_clips(config, opened, 1)}
    assert len(seen["train"]) == 3


def test_the_result_is_of_the_test_fold_and_best_is_picked_on_validation(store: Path, whole: Path) -> None:
    found, epochs = told(whole), events(whole, "epoch")
    tested = evaluate_path(whole, store)
    assert tested.ids == [line.partition(",")[0] for line in (whole / "predictions.csv").read_text().splitlines()[1:]]
    assert {name: found[name] for name in ("uar", "war")} == tested.scores()
    config = validated(store)
    with Store(store) as opened:
        held = validation_clips(config, opened, 1)
        kept = evaluate(load(whole), opened, config, opened.labels, held).scores()
    assert found["validation"] == {"epoch": 2, "clips": 3, **kept}
    assert {name: epochs[-1][f"validation_{name}"] for name in ("uar", "war")} == kept
    assert found["best"]["uar"] == max(event["validation_uar"] for event in epochs)
    assert [("uar" in event, "war" in event) for event in epochs] == [(False, False), (True, True)]
    assert (epochs[-1]["uar"], events(whole, "end")[0]["uar"]) == (found["uar"], found["uar"])
    assert follow.epoch_line(epochs[0], 2, CLASSIFICATION).count("validation") == 2
    assert "validation UAR" in (whole / "log.txt").read_text()


def test_a_checkpoint_says_what_its_scores_are_of(whole: Path) -> None:
    found, metrics = told(whole), {len(m := promises(path).metrics): m for path in checkpoints(whole)}
    assert metrics[2].keys() == {"validation_uar", "validation_war"}
    assert metrics[4]["uar"] == found["uar"]
    assert metrics[4]["validation_uar"] == found["validation"]["uar"]
    shown = describe_contract(promises(checkpoints(whole)[-1]))
    assert shown["UAR"] == f"{found['uar']:.2%}"
    assert shown["validation WAR"] == f"{found['validation']['war']:.2%}"


def test_the_temperature_is_of_validation_clips_and_travels_with_the_weights(
    store: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, found = validated(store), told(whole)["temperature"]
    with Store(store) as opened:
        kept = evaluate(load(whole), opened, config, opened.labels, validation_clips(config, opened, 1))
    assert isinstance(kept, Predictions)
    assert found["clips"] == 3
    assert found["cross_entropy"] == pytest.approx(kept.cross_entropy())
    grid = np.geomspace(*RANGE, 2000)
    losses = [kept.calibrated(one).cross_entropy() for one in grid]
    assert found["value"] == pytest.approx(grid[np.argmin(losses)], rel=4e-3)
    assert found["calibrated"] == pytest.approx(min(losses), abs=1e-6)
    assert [promises(path).temperature is None for path in checkpoints(whole)] == [False, False], "one after each epoch"
    assert promises(checkpoints(whole)[-1]).temperature == found["value"]
    assert describe_contract(promises(checkpoints(whole)[-1]))["temperature"] == f"{found['value']:.3f}"
    plain, calibrated = evaluate_path(whole, store), evaluate_path(whole, store, calibrated=True)
    assert isinstance(plain, Predictions)
    assert isinstance(calibrated, Predictions)
    assert (calibrated.predicted == plain.predicted).all()
    scaled = np.exp(plain.logits.astype(np.float64) / found["value"])
    np.testing.assert_allclose(calibrated.probabilities, scaled / scaled.sum(1, keepdims=True), rtol=1e-12)
    exported = tmp_path / "model.safetensors"
    assert command(app, ["export", "weights", str(whole), "--out", str(exported)]) == 0
    assert command(app, ["evaluate", str(exported), "--data", str(store), "--calibrated"]) == 0
    assert "calibrated by the model's temperature: ECE" in capsys.readouterr().out


def test_the_looks_of_a_temperature_travel_with_it(
    store: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert promises(checkpoints(whole)[-1]).temperature_looks is None
    config = validated(store, epochs=1)
    config = config.model_copy(update={"data": config.data.model_copy(update={"test_flips": True})})
    assert train(config, 1, tmp_path).finished
    found = promises(checkpoints(tmp_path)[-1])
    assert found.temperature == told(tmp_path)["temperature"]["value"]
    assert found.temperature_looks == Looks(flips=True)
    with caplog.at_level("WARNING"):
        evaluate_path(tmp_path, store, flips=True, calibrated=True)
        assert "other looks" not in caplog.text
        evaluate_path(tmp_path, store, calibrated=True)
    assert "other looks (1 index set of frames, each also mirrored; here" in caplog.text


def test_without_validation_clips_there_is_no_temperature(
    store: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "temperature" not in promises(checkpoints(straight)[-1]).dumps()
    assert command(app, ["evaluate", str(straight), "--data", str(store), "--calibrated"]) == 2
    assert "carries no temperature" in capsys.readouterr().err


def test_without_it_nothing_is_other_than_before(straight: Path, config: Config, store: Path) -> None:
    assert list(told(straight)) == [
        *("fold", "epoch", "epochs", "uar", "war", "best", "cross_entropy", "confusion", "labels", "finished"),
        "seconds",
    ]
    assert [list(event) for event in events(straight, "epoch")] == [
        ["event", "epoch", "step", "loss", "lr", "uar", "war", "seconds", "clips_per_second"]
    ] * 2
    assert promises(checkpoints(straight)[-1]).metrics.keys() == {"uar", "war"}
    with Store(store) as opened:
        assert {clip.id for clip in training_clips(config, opened, 1)} == set(opened.clips) - set(opened.fold(1))


@pytest.mark.parametrize("asked", [1, 2, 3, 5, 6, 7, 8])
def test_stopped_anywhere_it_goes_on_to_the_same_result(store: Path, whole: Path, tmp_path: Path, asked: int) -> None:
    """In a step, in a test on validation clips, in the one of the test fold."""
    config = validated(store)
    assert not train(config, 1, tmp_path, resume=True, stop=StopAt(asked)).finished
    assert not (tmp_path / "result.json").exists()
    assert train(config, 1, tmp_path, resume=True).finished
    assert told(tmp_path) == told(whole)
    assert weights(tmp_path) == weights(whole)
    assert (tmp_path / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_a_crash_between_the_last_checkpoint_and_the_result_costs_nothing(store: Path, tmp_path: Path) -> None:
    assert train(validated(store), 1, tmp_path).finished
    before = told(tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "predictions.csv").unlink()
    assert train(validated(store), 1, tmp_path, resume=True).finished
    assert told(tmp_path) == before


def test_two_ranks_validate_and_test_the_same_clips(store: Path, whole: Path, tmp_path: Path) -> None:
    train_on_two_ranks(validated(store), tmp_path / "run")
    found, one = told(tmp_path / "run" / "fold-1"), told(whole)
    assert {key: found["validation"][key] for key in ("epoch", "clips")} == {"epoch": 2, "clips": 3}
    assert sum(map(sum, found["confusion"])) == sum(map(sum, one["confusion"])) == 12
    assert found["best"]["uar"] == max(
        event["validation_uar"] for event in events(tmp_path / "run" / "fold-1", "epoch")
    )


def test_the_estimate_counts_these_tests(store: Path, tmp_path: Path, seen: Seen) -> None:
    config = validated(store, epochs=3)
    config = config.model_copy(update={"data": config.data.model_copy(update={"test_clips": 3, "test_flips": True})})
    measure(config, 1, [1, 2], tmp_path / "measured")
    measured = read(tmp_path / "measured")
    assert measured is not None
    assert [(size.steps, size.clips, size.validation) for size in measured.sizes] == [(2, 12, 3)] * 2
    seen["test"].clear()
    assert train(config, 1, tmp_path / "fold").finished
    clips = sum(map(len, seen["test"]))
    only_tests = replace(measured, start=0.0, step=0.0, save=0.0, clip=1.0)
    assert extrapolate.fold_seconds(only_tests, measured.sizes[0], config) == clips == 6 * (3 * 3 + 12)
    plain = replace(measured.sizes[0], validation=0)
    assert extrapolate.fold_seconds(only_tests, plain, config) == 6 * 3 * 12


def test_reports_show_it_beside_the_result(store: Path, whole: Path, tmp_path: Path) -> None:
    run, found = tmp_path / "run", told(whole)
    run.mkdir()
    (run / "config.yaml").write_text(validated(store).to_yaml())
    (run / "fold-1").symlink_to(whole)
    console = Console(record=True, width=140, file=open("/dev/null", "w"))  # noqa: SIM115
    made = report(run, {}, console).to_dict()
    assert made["mean"]["uar"] == found["uar"]
    assert made["validation"]["uar"] == found["validation"]["uar"]
    assert made["best_on_validation"]["war"] == found["best"]["war"]
    assert not [key for key in (*made, *made["folds"][0]) if "on_test" in key]
    assert made["folds"][0]["validation"]["war"] == found["validation"]["war"]
    page, text = (run / "report" / "report.html").read_text(), console.export_text()
    pair = " / ".join(f"{100 * found['validation'][name]:.2f}" for name in ("uar", "war"))
    for shown in (page, text, json.dumps(made)):
        assert "picked on validation data" in shown
        assert "picked on test data" not in shown
    for shown in (page, text):
        assert pair in shown
    assert "UAR on validation clips" in page
    assert "on the test fold, %" not in page
