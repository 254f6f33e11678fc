"""A model is trained on the store that its configuration tells of, and tested on clips that it has not seen."""

from pathlib import Path
from typing import Any

import pytest
from setting import LABELS, checkpoints, make_config, make_store, promises

from mmadfer.config.schema import Config, ModelConfig, PrepareConfig, parse
from mmadfer.contract import Contract
from mmadfer.contract.description import describe_contract
from mmadfer.data.compatibility import adopted, check_rate, check_store, other_crops, sound_rates
from mmadfer.data.store.store import Store
from mmadfer.errors import ClipError, ConfigError, DataError, WeightsError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.model.weights.build import save_weights
from mmadfer.model.weights.load import load
from mmadfer.run import checkpoint_state
from mmadfer.train.loop import train

RATES = (
    r"other\.store has sound at 16000 Hz \(8 of 24 clips\), 22050 Hz \(8 of 24 clips\), but the model was trained at "
    r"44100, 48000 Hz: .*silently.*ffmpeg .*-ar 44100.*prepare\.sound\.rate=16000"
)


def promise(**prepare: Any) -> Contract:
    """Of a model trained on stores as `make_store` makes them, but for `prepare`."""
    settings = PrepareConfig.model_validate({"face_size": 32, **prepare})
    return Contract(labels=LABELS, model=ModelConfig(), prepare=settings, data_set="tiny")


def changed(config: Config, **sections: dict) -> Config:
    tree = config.model_dump(exclude_unset=True)
    for name, values in sections.items():
        tree.setdefault(name, {}).update(values)
    return parse(tree, "the test")


def test_another_sound_rate_is_refused_with_a_cure_that_works(config: Config, store: Path, tmp_path: Path) -> None:
    other = changed(config, prepare={"sound": {"rate": 16000}})
    with pytest.raises(ConfigError, match=r"rate native.*rate 16000.*--set prepare\.sound\.rate=native"):
        train(other, 1, tmp_path / "fold")
    short = make_store(tmp_path / "short.store", sound={"frames": 256})
    named = changed(make_config(short), prepare={"sound": {"frames": 512}})
    with pytest.raises(ConfigError, match=r"prepare\.sound\.frames=256 --set 'model\.fbank=\[256, 128\]'"):
        train(named, 1, tmp_path / "other")
    unnamed = make_config(short).model_copy(update={"prepare": PrepareConfig()})
    assert adopted(unnamed, Store(short))[0].model.fbank == (256, 128)


def test_a_setting_that_is_named_and_makes_other_clips_is_refused(config: Config, tmp_path: Path) -> None:
    other = changed(config, prepare={"face_size": 64})
    with pytest.raises(ConfigError, match=r"face_size 32, .*face_size 64: .*--set prepare\.face_size=32"):
        train(other, 1, tmp_path / "fold")


def test_what_is_not_named_comes_from_the_store(config: Config, tmp_path: Path) -> None:
    unnamed = config.model_copy(update={"prepare": PrepareConfig()})
    train(unnamed, 1, tmp_path / "fold")
    assert "WARNING" not in (tmp_path / "fold" / "log.txt").read_text()
    newest = checkpoints(tmp_path / "fold")[-1]
    assert promises(newest).prepare.face_size == 32
    assert checkpoint_state.read(newest).belonging.config["prepare"]["face_size"] == 32


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


@pytest.mark.parametrize(
    ("key", "trained", "found"), [("face_box", "union", "track"), ("mafw_frame_order", "published", "time")]
)
def test_published_processing_is_told_with_a_cure(tmp_path: Path, key: str, trained: str, found: str) -> None:
    contract, store = promise(**{key: trained}), make_store(tmp_path / "one.store")
    with pytest.raises(DataError, match=rf"{key} {found}, .*{key} {trained}:.*--set prepare\.{key}={trained}$"):
        check_store(contract, Store(store))


def test_which_clips_are_kept_does_not_change_those_that_are(tmp_path: Path) -> None:
    store = Store(make_store(tmp_path / "one.store", no_sound="silence", max_seconds=10, fps=30))
    check_store(promise(), store)


def test_a_runs_configuration_is_its_stores_in_every_key(tmp_path: Path) -> None:
    store = Store(make_store(tmp_path / "one.store", no_sound="silence"))
    config = changed(make_config(store.path), prepare={"no_sound": "leave_out"})
    whole, told = adopted(config, store)
    assert (whole.prepare, whole.data.labels) == (store.prepare, LABELS)
    assert told == (
        f"{store.path} was prepared with no_sound silence, not no_sound leave_out: the store's settings hold"
    )
    assert adopted(whole, store) == (whole, "")


def test_folds_come_from_the_store_where_none_are_named(tmp_path: Path) -> None:
    store = Store(make_store(tmp_path / "three.store", folds=3))
    config = make_config(store.path)
    tree = config.model_dump(exclude_unset=True)
    del tree["data"]["folds"]
    assert adopted(parse(tree, "the test"), store)[0].data.folds == 3


def test_a_subset_of_labels_leaves_the_others_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "own.store", fingerprint="own")
    config = make_config(store)
    some = changed(config, data={"labels": ("calm", "glad")})
    train(some, 1, tmp_path / "fold")
    tested = evaluate_path(tmp_path / "fold", store)
    assert tested.names == ("calm", "glad")
    assert len(tested.ids) == 8
    assert {Store(store).clips[name].label for name in tested.ids} == {"calm", "glad"}
    with pytest.raises(ConfigError, match=r"data\.labels names happy, but .* has glad, sad, calm"):
        train(changed(config, data={"labels": ("glad", "happy")}), 1, tmp_path / "other")


def test_who_cropped_the_faces_is_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cropped = make_store(tmp_path / "cropped.store", fingerprint="cropped", cropped=23)
    found = make_store(tmp_path / "found.store", fingerprint="found", cropped=1)
    for store, said in ((cropped, True), (found, False)):
        train(make_config(store, epochs=1), 1, tmp_path / store.stem)
        assert promises(checkpoints(tmp_path / store.stem)[-1]).cropped is said
        capsys.readouterr()
        evaluate_path(tmp_path / store.stem, store)
        assert capsys.readouterr().err == ""
    evaluate_path(tmp_path / "cropped", found)
    assert (
        "WARNING: the model was trained on faces cropped by the data set's owners; those of 23 of 24 clips of "
        f"{found} were found by mmadfer. Other crops cost accuracy"
    ) in capsys.readouterr().err
    evaluate_path(tmp_path / "found", cropped)
    assert "found by mmadfer; those of 23 of 24 clips" in capsys.readouterr().err


def test_who_cropped_the_faces_does_not_matter_to_the_blind_and_as_published(tmp_path: Path) -> None:
    store = Store(make_store(tmp_path / "one.store", cropped=24))
    assert "24 of 24" in other_crops(promise(), store)
    assert other_crops(promise().model_copy(update={"modalities": "audio"}), store) == ""
    assert other_crops(promise(face_box="union"), store) == ""


def test_what_has_no_effect_does_not_differ(tmp_path: Path) -> None:
    union = Store(make_store(tmp_path / "union.store", face_box="union", face_margin=0.5, detect_every=9))
    check_store(promise(face_box="union"), union)
    with pytest.raises(DataError, match=r"face_margin=0\.2.*face_box=track"):
        check_store(promise(), union)


def test_the_rates_of_a_store_are_kept_in_its_models(tmp_path: Path) -> None:
    store = make_store(tmp_path / "one.store", rates=(48000, 0, 44100, 44100))
    assert sound_rates(Store(store).clips.values()) == {44100: 12, 48000: 6}
    train(make_config(store, epochs=1), 1, tmp_path / "fold")
    contract = promises(checkpoints(tmp_path / "fold")[-1])
    assert contract.sound_rates == (44100, 48000)
    assert describe_contract(contract)["sound rate"] == "native (44100, 48000 Hz)"
    other = make_store(tmp_path / "other.store", fingerprint="other", rates=(44100, 22050, 16000))
    with pytest.raises(DataError, match=RATES):
        evaluate_path(tmp_path / "fold", other)
    assert len(evaluate_path(tmp_path / "fold", make_store(tmp_path / "fits.store", rates=(0, 48000))).ids) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"store": "new"},
        {"sound_rates": ()},
        {"modalities": "vision"},
        {"prepare": {"face_size": 32, "sound": {"rate": 16000}}},
    ],
    ids=["its own store", "rates unknown", "deaf", "resampled"],
)
def test_other_rates_do_no_harm_to(tmp_path: Path, changes: dict) -> None:
    prepare = changes.get("prepare", {})
    store = Store(make_store(tmp_path / "new.store", fingerprint="new", rates=(16000,), **prepare))
    known = promise().model_copy(update={"sound_rates": (48000,), "store": "old"})
    contract = Contract.model_validate(known.model_dump() | changes)
    check_store(contract, store)
    if "store" not in changes:
        check_rate(contract, 16000, "a.mp4")


def test_a_file_of_a_strange_rate_is_refused() -> None:
    contract = promise().model_copy(update={"sound_rates": (22050, 48000)})
    check_rate(contract, 48000, "a.mp4")
    check_rate(contract, 0, "a.mp4")  # no sound
    with pytest.raises(ClipError, match=r"a\.mp4 has sound at 44100 Hz.* 22050, 48000 Hz.*-ar 48000") as caught:
        check_rate(contract, 44100, "a.mp4")
    assert caught.value.reason == "sound rate"


def test_a_model_is_tested_in_the_arithmetic_it_was_trained_in(store: Path, tmp_path: Path) -> None:
    train(make_config(store, precision="bf16", epochs=1), 1, tmp_path / "fold")
    assert promises(checkpoints(tmp_path / "fold")[-1]).precision == "bf16"
    evaluate_path(tmp_path / "fold", store, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "fold" / "predictions.csv").read_bytes()
