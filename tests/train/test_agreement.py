"""A model is trained on the store that its configuration tells of, and tested on clips that it has not seen."""

from pathlib import Path

import pytest
from setting import checkpoints, make_config, make_store, promises

from mmadfer.config import Config, parse
from mmadfer.errors import ConfigError, DataError, WeightsError
from mmadfer.model.build import save_weights
from mmadfer.model.load import load
from mmadfer.train import state
from mmadfer.train.evaluate import evaluate_path
from mmadfer.train.loop import train


def changed(config: Config, **sections: dict) -> Config:
    tree = config.model_dump()
    for name, values in sections.items():
        tree[name].update(values)
    return parse(tree, "the test")


def test_another_sound_rate_is_refused_with_a_cure_that_works(config: Config, store: Path, tmp_path: Path) -> None:
    other = changed(config, prepare={"sound": {"rate": 16000}})
    with pytest.raises(ConfigError, match=r"rate native.*rate 16000.*--set prepare\.sound\.rate=native"):
        train(other, 1, tmp_path / "fold")
    short = make_store(tmp_path / "short.store", sound={"frames": 256})
    with pytest.raises(ConfigError, match=r"prepare\.sound\.frames=256 --set 'model\.fbank=\[256, 128\]'"):
        train(make_config(short), 1, tmp_path / "other")


def test_other_settings_are_told_once_and_the_stores_hold(straight: Path) -> None:
    told = [line for line in (straight / "log.txt").read_text().splitlines() if "WARNING" in line]
    assert len(told) == 1
    assert "face_size 32, not face_size 224" in told[0]
    newest = checkpoints(straight)[-1]
    assert promises(newest).prepare.face_size == 32
    assert state.read(newest).belonging.config["prepare"]["face_size"] == 32


@pytest.mark.parametrize("folds", [1, 3])
def test_a_store_of_other_folds_is_refused(config: Config, tmp_path: Path, folds: int) -> None:
    with pytest.raises(ConfigError, match=rf"folds 1, 2, but data\.folds is {folds}.*--set data\.folds=2"):
        train(changed(config, data={"folds": folds}), 1, tmp_path / "fold")


def test_a_fold_is_only_tested_on_clips_it_has_not_seen(store: Path, tmp_path: Path) -> None:
    config = make_config(store, epochs=1)
    train(config, 2, tmp_path / "run" / "fold-2")
    weights = checkpoints(tmp_path / "run" / "fold-2")[-1]
    for path in (tmp_path / "run", tmp_path / "run" / "fold-2", weights / "weights.safetensors"):
        assert evaluate_path(path, store).ids == evaluate_path(path, store, 2).ids
    with pytest.raises(WeightsError, match="test fold is 2; it was trained on the clips of fold 1"):
        evaluate_path(weights, store, 1)


def test_a_model_that_does_not_say_its_fold_needs_one(straight: Path, store: Path, tmp_path: Path) -> None:
    model = load(straight)
    assert model.contract is not None
    silent = tmp_path / "silent.safetensors"
    save_weights(silent, model, model.contract.model_copy(update={"fold": None}), frozen=True)
    with pytest.raises(WeightsError, match="--fold"):
        evaluate_path(silent, store)
    assert len(evaluate_path(silent, store, 2).ids) == 12


def test_a_store_prepared_anew_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [make_store(tmp_path / f"{name}.store", fingerprint=name) for name in ("first", "second")]
    train(make_config(stores[0], epochs=1), 1, tmp_path / "fold")
    capsys.readouterr()
    evaluate_path(tmp_path / "fold", stores[0])
    assert capsys.readouterr().err == ""
    evaluate_path(tmp_path / "fold", stores[1])
    assert "prepared anew since this model was trained (fingerprint second, then first)" in capsys.readouterr().err


def test_a_store_of_other_faces_is_refused(straight: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other.store", face_margin=0.5)
    with pytest.raises(DataError, match=r"face_margin 0\.5.*face_margin 0\.2.*--set prepare\.face_margin=0\.2"):
        evaluate_path(straight, other)


def test_a_model_is_tested_in_the_arithmetic_it_was_trained_in(store: Path, tmp_path: Path) -> None:
    train(make_config(store, precision="bf16", epochs=1), 1, tmp_path / "fold")
    assert promises(checkpoints(tmp_path / "fold")[-1]).precision == "bf16"
    evaluate_path(tmp_path / "fold", store, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "fold" / "predictions.csv").read_bytes()
