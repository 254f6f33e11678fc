"""Checkpoints of others: right ones load, wrong ones are named (hostile ones: test_published_hostile.py)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_setup import ENCODER, LABELS, TINY, clips, open_gates
from published_setup import encoder_state, save_fold, state_dict
from torch.nn.functional import interpolate

import mmadfer
from mmadfer.config.schema import ModelConfig, PrepareConfig, load
from mmadfer.data.compatibility import check_store, other_crops
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.weights import torch_pickle
from mmadfer.model.weights.build import build_model, encoder_hash, weights_hash
from mmadfer.model.weights.published import DEAD, our_name, published_name

LAYOUT = Path(__file__).parent.parent / "parity" / "layout_mafw_224.json"
DOCS = Path(__file__).parent.parent.parent / "docs" / "data.md"


@pytest.fixture(scope="module")
def model() -> MMADFER:
    return open_gates(build_model(TINY, classes=7))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_fold_loads(tmp_path: Path, model: MMADFER, legacy: bool) -> None:
    path = save_fold(tmp_path / "model_best.pth", state_dict(model), legacy)
    loaded = mmadfer.load(path)
    assert loaded.config == TINY
    assert torch.equal(loaded(*clips()), model(*clips()))
    assert set(loaded.trainable()) == set(model.trainable())
    promise = loaded.contract
    assert promise is not None
    assert (promise.labels, promise.data_set, promise.prepare.sound.rate) == (LABELS, "dfew", "native")
    assert (promise.cropped, promise.prepare.face_box) == (True, "track")
    assert (promise.encoder_hash, promise.weights_hash) == (encoder_hash(model), weights_hash(model))


def test_full_size_fold_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published names and shapes; one number in the file stands for a whole tensor, which else is refused."""
    monkeypatch.setattr(torch_pickle, "SHARED", 1e6)
    shapes: dict[str, list[int]] = json.loads(LAYOUT.read_text())
    state = {
        f"module.{name}": torch.full((1,), i / 1000).expand(shape) for i, (name, shape) in enumerate(shapes.items())
    }
    loaded = mmadfer.load(save_fold(tmp_path / "mafw.pth", state))
    assert loaded.config == ModelConfig(image_size=224)
    assert loaded.contract is not None
    assert loaded.contract.data_set == "mafw"
    assert loaded.contract.labels[4:8] == ("surprise", "disgust", "fear", "contempt")
    place = list(shapes).index("vision_proj.bias")
    assert torch.equal(loaded.joint.bias, torch.full((512,), place / 1000))


def documented(command: str) -> PrepareConfig:
    """The settings of an example in docs/data.md, which starts so."""
    text = DOCS.read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.strip().startswith(command))
    assert "mafw_224" in line
    return load("mafw_224", re.findall(r"--set (\S+)", line)).prepare


def test_released_weights_are_tested_on_the_store_made_for_them(tmp_path: Path) -> None:
    contract = mmadfer.load(save_fold(tmp_path / "fold.pth", state_dict(build_model(TINY, classes=11)))).contract
    assert contract is not None
    made = contract.prepare
    assert (made.face_box, made.mafw_frame_order, made.no_sound) == ("union", "published", "silence")
    settings = documented("mmadfer prepare mafw --root /data/mfaw --lists")
    for cropped in (True, False):
        clip = Clip("00001", "anger", 1, "00001", 1, cropped=cropped)
        record = ClipRecord([b"x"], np.zeros((512, 128), np.float32))
        path = tmp_path / f"{cropped}.store"
        write_store(path, Header("mafw", contract.labels, settings), [(clip, record)])
        check_store(contract, Store(path))
        assert other_crops(contract, Store(path)) == ""


def test_labels_of_unknown_sets_are_numbered(tmp_path: Path) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(build_model(TINY, classes=3)))
    loaded = mmadfer.load(path)
    assert loaded.contract is not None
    assert loaded.contract.labels == ("class_0", "class_1", "class_2")


def test_names_map_both_ways() -> None:
    names = list(json.loads(LAYOUT.read_text()))
    ours = {name: our_name(name) for name in names}
    dead = {name for name, mapped in ours.items() if mapped is None}
    assert len(dead) == 8
    assert all(any(name.startswith(d.replace("{}", "0")) for d in DEAD) for name in dead)
    assert all(published_name(mapped) == name for name, mapped in ours.items() if mapped)
    model = empty_model(ModelConfig(image_size=224), classes=11)
    assert {mapped for mapped in ours.values() if mapped} == set(model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("module.image_encoder.blocks.2.attn.qkv.bias"),
            "image_encoder.blocks.2.attn.qkv.bias is miss",
        ),
        (lambda s: s.pop("module.vision_proj.weight"), "vision_proj.weight is missing"),
        (lambda s: s.pop("module.our_classifier.weight"), "our_classifier.weight is missing"),
        (lambda s: s.update({"module.extra": torch.ones(2)}), r"extra \[2\] is unknown"),
        (
            lambda s: s.update({"module.audio_model.norm.bias": torch.ones(65)}),
            r"audio_model.norm.bias is \[65\]: expected \[64\]",
        ),
        (lambda s: s.update({"module.vision_proj.bias": torch.ones(64).long()}), "vision_proj.bias holds torch.int64"),
        (lambda s: s.update({"module.vision_proj.bias": "text"}), "module.vision_proj.bias' is not a named tensor"),
    ],
)
def test_wrong_tensors_are_named(tmp_path: Path, model: MMADFER, change: Callable[[Any], Any], message: str) -> None:
    state = state_dict(model)
    change(state)
    path = save_fold(tmp_path / "fold.pth", state)
    with pytest.raises(WeightsError, match=f"(?s){re.escape(str(path))}.*{message}"):
        mmadfer.load(path)


def test_encoder_file_as_model_is_refused(tmp_path: Path, model: MMADFER) -> None:
    torch.save({"model": encoder_state(model, "vision", (14, 14))}, tmp_path / "mae.pth")
    with pytest.raises(WeightsError, match=r"no `state_dict`.*belongs in model.vision.weights"):
        mmadfer.load(tmp_path / "mae.pth")


def with_encoder(name: str, path: Path) -> ModelConfig:
    return TINY.model_copy(update={name: ENCODER.model_copy(update={"weights": path})})


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("name", "old", "new"), [("vision", (14, 14), (2, 2)), ("audio", (64, 8), (32, 8))])
def test_encoder_file_loads(
    tmp_path: Path, model: MMADFER, name: str, old: tuple[int, int], new: tuple[int, int], legacy: bool
) -> None:
    path, state = tmp_path / "encoder.pth", encoder_state(model, name, old)
    torch.save({"model": state}, path, _use_new_zipfile_serialization=not legacy)
    loaded = build_model(with_encoder(name, path), classes=7)
    values = {key: value.detach() for key, value in loaded.named_parameters()}
    assert torch.equal(values[f"{name}.blocks.3.mlp.fc2.weight"], state["blocks.3.mlp.fc2.weight"])
    assert torch.equal(values[f"{name}.cls"], state["cls_token"])
    rows = state["pos_embed"][0, 1:].T.reshape(1, 64, *old)
    grid = interpolate(rows, new, mode="bicubic", align_corners=False, antialias=False)
    assert torch.equal(values[f"{name}.positions"][:, :1], state["pos_embed"][:, :1])
    assert torch.equal(values[f"{name}.positions"][:, 1:-6], grid.flatten(2).transpose(1, 2))
    assert weights_hash(loaded) != weights_hash(model)
    fresh = build_model(TINY, classes=7)  # what learns is drawn as without files
    assert torch.equal(values[f"{name}.positions"][:, -6:], fresh.get_parameter(f"{name}.positions")[:, -6:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.weight"), r"norm.weight is missing: expected \[64\]"),
        (lambda s: s.pop("pos_embed"), r"pos_embed is missing: expected \[1, 197, 64\]"),
        (lambda s: s.update(pos_embed=torch.ones(1, 514, 64)), r"pos_embed is \[1, 514, 64\]: expected \[1, 197, 64\]"),
        (lambda s: s.update({"head.weight": torch.ones(12, 64)}), r"head.weight \[12, 64\] is unknown"),
        (lambda s: s.update(cls_token=torch.ones(1, 1, 96)), r"cls_token is \[1, 1, 96\]: expected \[1, 1, 64\]"),
    ],
)
def test_wrong_encoder_file_is_refused(
    tmp_path: Path, model: MMADFER, change: Callable[[Any], Any], message: str
) -> None:
    state = encoder_state(model, "vision", (14, 14))
    change(state)
    torch.save({"model": state}, tmp_path / "mae_face.pth")
    with pytest.raises(WeightsError, match=f"(?s)mae_face.pth.*MAE-Face, for the vision encoder.*{message}"):
        build_model(with_encoder("vision", tmp_path / "mae_face.pth"), classes=7)


@pytest.mark.parametrize(("name", "other", "grid"), [("audio", "vision", (14, 14)), ("vision", "audio", (64, 8))])
def test_encoder_of_the_other_modality_is_refused(
    tmp_path: Path, model: MMADFER, name: str, other: str, grid: tuple[int, int]
) -> None:
    torch.save({"model": encoder_state(model, other, grid)}, tmp_path / "other.pth")
    channels = 1 if name == "audio" else 3
    with pytest.raises(WeightsError, match=rf"patch_embed.proj.weight is .*: expected \[64, {channels}, 16, 16\]"):
        build_model(with_encoder(name, tmp_path / "other.pth"), classes=7)


def test_fold_as_encoder_is_refused(tmp_path: Path, model: MMADFER) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(model))
    with pytest.raises(WeightsError, match=r"has no `model`: expected an encoder file of .*; it holds 'epoch'"):
        build_model(with_encoder("vision", path), classes=7)


def test_a_fold_with_a_number_that_is_none_is_refused_by_file_and_tensor(tmp_path: Path) -> None:
    state = state_dict(build_model(TINY, classes=7))
    state["module.our_classifier.bias"][2] = float("nan")
    with pytest.raises(WeightsError, match=r"fold\.pth: our_classifier\.bias holds 1 number\(s\) that are not finite"):
        mmadfer.load(save_fold(tmp_path / "fold.pth", state))
