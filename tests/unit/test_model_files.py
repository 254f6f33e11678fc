"""Our own weight files: what is saved comes back, and what is wrong is named."""

import resource
import time
from pathlib import Path

import pytest
import torch
from model_setup import LABELS, TINY, clips, contract, open_gates
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mmadfer
from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights import build as build_module
from mmadfer.model.weights.build import build_model, encoder_hash, load_weights, save_weights, weights_hash
from mmadfer.model.weights.load import load


@pytest.fixture
def model() -> MMADFER:
    return open_gates(build_model(TINY, classes=7))


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_saved_comes_back(tmp_path: Path, model: MMADFER, frozen: bool) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, contract(), frozen=frozen)
    assert set(load_file(path)) == set(model.state_dict() if frozen else model.trainable())
    again, promise = load_weights(path)
    assert torch.equal(again(*clips()), model(*clips()))
    assert (promise.encoder_hash, promise.weights_hash) == (encoder_hash(model), weights_hash(model))
    assert set(again.trainable()) == set(model.trainable())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_hashes_see_one_bit() -> None:
    model = build_model(TINY, classes=7)
    before = weights_hash(model), encoder_hash(model)
    model.classifier.bias.data[3] += 1e-7
    assert weights_hash(model) != before[0]
    assert encoder_hash(model) == before[1]


def test_other_encoders_are_refused(tmp_path: Path, model: MMADFER) -> None:
    path = tmp_path / "weights.safetensors"
    other = TINY.model_copy(update={"audio": TINY.audio.model_copy(update={"seed": 9})})
    save_weights(path, model, contract(other), frozen=False)
    with pytest.raises(WeightsError, match="vision seed 0 and audio seed 9 are not those"):
        load_weights(path)


def test_missing_encoder_file_is_named(tmp_path: Path, model: MMADFER) -> None:
    path, absent = tmp_path / "weights.safetensors", tmp_path / "mae_face.pth"
    config = TINY.model_copy(update={"vision": TINY.vision.model_copy(update={"weights": absent})})
    save_weights(path, model, contract(config), frozen=False)
    with pytest.raises(WeightsError, match=r"no weights file at .*mae_face.pth"):
        load_weights(path)


def test_contract_of_other_classes_is_refused(tmp_path: Path, model: MMADFER) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, contract(labels=LABELS[:5]), frozen=False)
    with pytest.raises(WeightsError, match=r"classifier.weight is \[7, 64\]: expected \[5, 64\]"):
        load_weights(path)


def test_missing_and_unknown_tensors_are_named(tmp_path: Path, model: MMADFER) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, contract(), frozen=False)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["surplus"] = tensors.pop("joint.bias")
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(WeightsError, match=r"(?s)joint.bias is missing.*surplus \[64\] is unknown"):
        load_weights(path)


def test_changed_weights_are_refused(tmp_path: Path, model: MMADFER) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, contract(), frozen=False)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["joint.bias"][0] += 1
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(WeightsError, match="is damaged"):
        load_weights(path)


@pytest.mark.parametrize("size", [0, 5, 1000, 100_000])
def test_cut_off_files_are_refused(tmp_path: Path, model: MMADFER, size: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, contract(), frozen=False)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_weights(path)


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="not written by mmadfer"):
        load_weights(tmp_path / "a.safetensors")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folds 1 and 3; fold 1 has two complete checkpoints and an unfinished one, fold 3 none."""
    run = tmp_path / "run"
    for step, seed in ((9, 1), (100, 2)):
        model = build_model(TINY, classes=7, seed=seed)
        folder = run / "fold-1" / "checkpoints" / f"step-{step:08d}"
        save_weights(folder / "weights.safetensors", model, contract(), frozen=False)
    (run / "fold-1" / "checkpoints" / ".step-00000200.tmp").mkdir()
    (run / "fold-3" / "checkpoints").mkdir(parents=True)
    return run


@pytest.mark.parametrize("part", ["", "fold-1", "fold-1/checkpoints/step-00000100"])
def test_run_fold_and_checkpoint_load(run: Path, part: str) -> None:
    model = mmadfer.load(run / part)
    assert not model.training
    assert model.contract is not None
    assert model.contract.labels == LABELS
    assert weights_hash(model) == weights_hash(build_model(TINY, classes=7, seed=2))


@pytest.mark.parametrize(
    ("part", "fold", "message"),
    [
        ("", 2, "has no fold 2: it has 1, 3"),
        ("", 3, "no complete checkpoint"),
        ("fold-3", None, "no complete checkpoint"),
        ("fold-1/checkpoints/.step-00000200.tmp", None, "is no run directory"),
        ("elsewhere", None, "no file or folder"),
    ],
)
def test_nothing_to_load_is_said(run: Path, part: str, fold: int | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load(run / part, fold)


def test_model_of_other_classes_is_refused(run: Path) -> None:
    with pytest.raises(WeightsError, match=r"7 classes \(happy, .*but here are 2 \(yes, no\)"):
        load(run, labels=("yes", "no"))
    assert load(run, labels=LABELS).contract is not None


def _promising(path: Path, model: MMADFER, frozen: bool, **sizes: int) -> Path:
    """The model's tensors, and a contract of another vision encoder."""
    config = TINY.model_copy(update={"vision": TINY.vision.model_copy(update=sizes)})
    save_weights(path, model, contract(config), frozen=frozen)
    return path


@pytest.mark.parametrize("sizes", [{"depth": 256}, {"width": 16384}, {"mlp_ratio": 16.0, "width": 16384}, {"patch": 1}])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_contract_asks_for_no_more_than_the_file_holds(
    tmp_path: Path, model: MMADFER, frozen: bool, sizes: dict[str, int]
) -> None:
    path, begun = _promising(tmp_path / "m.safetensors", model, frozen, **sizes), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"does not fit the model|than one drawn at random|another hash"):
        load_weights(path)
    assert time.process_time() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10  # of kB


def test_encoders_that_a_file_has_drawn_have_a_bound(
    tmp_path: Path, model: MMADFER, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(path := tmp_path / "m.safetensors", model, contract(), frozen=False)
    monkeypatch.setattr(build_module, "DRAWN", 1000)
    with pytest.raises(WeightsError, match=r"asks for a vision encoder of \d+ numbers, more than one drawn at random"):
        load_weights(path)


def test_weights_of_another_type_are_refused(tmp_path: Path, model: MMADFER) -> None:
    save_weights(path := tmp_path / "m.safetensors", model, contract(), frozen=True)
    with safe_open(path, "pt") as file:
        values, facts = {name: file.get_tensor(name).to(torch.int8) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(values, path, facts)
    with pytest.raises(WeightsError, match="is int8: expected float32"):
        load_weights(path)
