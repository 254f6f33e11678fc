"""Checkpoints of others: right ones load, wrong ones are named, hostile ones do nothing."""

import builtins
import io
import json
import os
import pickle
import re
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_setup import ENCODER, LABELS, TINY, clips, open_gates
from published_setup import encoder_state, save_fold, state_dict, stream_of, zip_of
from torch.nn.functional import interpolate

import mmadfer
from mmadfer.config import ModelConfig
from mmadfer.errors import WeightsError
from mmadfer.model.build import build, encoder_hash, weights_hash
from mmadfer.model.mma_dfer import MMADFER, empty
from mmadfer.model.pickled import Inert, PickledFile
from mmadfer.model.published import DEAD, our_name, published_name

LAYOUT = Path(__file__).parent.parent / "parity" / "layout_mafw_224.json"


@pytest.fixture(scope="module")
def model() -> MMADFER:
    return open_gates(build(TINY, classes=7))


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
    assert (promise.encoder_hash, promise.weights_hash) == (encoder_hash(model), weights_hash(model))


def test_full_size_fold_loads(tmp_path: Path) -> None:
    """The published names and shapes; one number in the file stands for a whole tensor."""
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


def test_labels_of_unknown_sets_are_numbered(tmp_path: Path) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(build(TINY, classes=3)))
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
    model = empty(ModelConfig(image_size=224), classes=11)
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
    loaded = build(with_encoder(name, path), classes=7)
    values = {key: value.detach() for key, value in loaded.named_parameters()}
    assert torch.equal(values[f"{name}.blocks.3.mlp.fc2.weight"], state["blocks.3.mlp.fc2.weight"])
    assert torch.equal(values[f"{name}.cls"], state["cls_token"])
    rows = state["pos_embed"][0, 1:].T.reshape(1, 64, *old)
    grid = interpolate(rows, new, mode="bicubic", align_corners=False, antialias=False)
    assert torch.equal(values[f"{name}.positions"][:, :1], state["pos_embed"][:, :1])
    assert torch.equal(values[f"{name}.positions"][:, 1:-6], grid.flatten(2).transpose(1, 2))
    assert weights_hash(loaded) != weights_hash(model)
    fresh = build(TINY, classes=7)  # what learns is drawn as without files
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
        build(with_encoder("vision", tmp_path / "mae_face.pth"), classes=7)


@pytest.mark.parametrize(("name", "other", "grid"), [("audio", "vision", (14, 14)), ("vision", "audio", (64, 8))])
def test_encoder_of_the_other_modality_is_refused(
    tmp_path: Path, model: MMADFER, name: str, other: str, grid: tuple[int, int]
) -> None:
    torch.save({"model": encoder_state(model, other, grid)}, tmp_path / "other.pth")
    channels = 1 if name == "audio" else 3
    with pytest.raises(WeightsError, match=rf"patch_embed.proj.weight is .*: expected \[64, {channels}, 16, 16\]"):
        build(with_encoder(name, tmp_path / "other.pth"), classes=7)


def test_fold_as_encoder_is_refused(tmp_path: Path, model: MMADFER) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(model))
    with pytest.raises(WeightsError, match=r"has no `model`: expected an encoder file of .*; it holds 'epoch'"):
        build(with_encoder("vision", path), classes=7)


class Calls:
    """Pickled as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _touch(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside", "instead"])
def test_hostile_calls_do_not_run(tmp_path: Path, model: MMADFER, legacy: bool, beside: bool) -> None:
    """Beside right weights they are passed over; instead of weights they are refused."""
    mark = tmp_path / "was-here"
    calls: list[tuple[Any, ...]] = [
        (os.system, f"touch {mark}"),
        (builtins.exec, f"open({str(mark)!r}, 'w')"),
        (builtins.eval, f"open({str(mark)!r}, 'w')"),
        (builtins.open, str(mark), "w"),
        (subprocess.Popen, ["touch", str(mark)]),
        (_touch, str(mark)),
        (torch.save, {}, str(mark)),
        (os.mkdir, str(mark)),
    ]
    for function, *arguments in calls:
        state: Any = state_dict(model) if beside else Calls(function, *arguments)
        path = save_fold(tmp_path / "fold.pth", state, legacy, recorder=Calls(function, *arguments))
        if beside:
            assert mmadfer.load(path).config == TINY
        else:
            with pytest.raises(WeightsError, match="state_dict"):
                mmadfer.load(path)
        assert not mark.exists()
    _touch(str(mark))
    assert mark.exists()


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


TOUCH = b"X" + struct.pack("<I", len(b"touch MARK")) + b"touch MARK"
"""Opcode that pushes the string `touch MARK`; the test puts a path for MARK."""


def test_such_programs_run_in_a_plain_unpickler(tmp_path: Path) -> None:
    """Else the next test would prove nothing."""
    mark = tmp_path / "was-here"
    pickle.loads(_global("os", "system") + b"(" + pickle.dumps(f"touch {mark}", 2)[2:-1] + b"tR.")
    assert mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(_global("os", "system") + b"(" + TOUCH + b"tR.", id="REDUCE"),
        pytest.param(b"(" + _global("os", "system") + TOUCH + b"o.", id="OBJ"),
        pytest.param(b"(" + TOUCH + b"ios\nsystem\n.", id="INST"),
        pytest.param(b"\x80\x02" + _global("subprocess", "Popen") + b"(" + TOUCH + b"t\x81.", id="NEWOBJ"),
        pytest.param(b"\x80\x04" + _global("subprocess", "Popen") + b"(" + TOUCH + b"t}\x92.", id="NEWOBJ_EX"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + TOUCH + b"tR.", id="STACK_GLOBAL"),
        pytest.param(b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93(" + TOUCH + b"tR.", id="dotted"),
        pytest.param(
            _global("builtins", "getattr") + b"(" + _global("os", "path") + b"X\x02\0\0\0ostR(" + TOUCH + b"tR.",
            id="getattr",
        ),
        pytest.param(_global("__main__", "A") + b")R}(X\x0c\0\0\0__setstate__" + TOUCH + b"ub.", id="BUILD on object"),
        pytest.param(_global("__main__", "A") + b"N}(X\x07\0\0\0__new__" + TOUCH + b"u\x86b.", id="BUILD on Inert"),
        pytest.param(
            _global("torch._utils", "_rebuild_tensor_v2") + b"N}(X\x04\0\0\0read" + TOUCH + b"u\x86b.",
            id="BUILD on tensor",
        ),
        pytest.param(
            _global("torch._utils", "_rebuild_parameter") + b"N}(X\x07\0\0\0__new__" + TOUCH + b"u\x86b.",
            id="BUILD on parameter",
        ),
        pytest.param(
            _global("torch", "FloatStorage") + b"N}(X\x04\0\0\0name" + TOUCH + b"u\x86b.", id="BUILD on dtype"
        ),
        pytest.param(_global("torch", "FloatStorage") + b")R.", id="REDUCE of dtype"),
        pytest.param(_global("torch._utils", "_rebuild_tensor_v2") + b")\x81.", id="empty tensor"),
        pytest.param(b"(X\x01\0\0\0aX\x01\0\0\0bt" + b"Q.", id="BINPERSID"),
        pytest.param(b"\x82\x01.", id="EXT1"),
        pytest.param(b"]" + TOUCH + b"R.", id="call of a list"),
    ],
)
@pytest.mark.parametrize("wrap", [zip_of, stream_of])
def test_hostile_programs_do_nothing(tmp_path: Path, program: bytes, wrap: Callable[[Path, bytes], Path]) -> None:
    """Every opcode that can call or change something: the file is refused, and nothing has changed."""
    mark = tmp_path / "was-here"
    command = b"touch " + str(mark).encode()
    program = program.replace(TOUCH, b"X" + struct.pack("<I", len(command)) + command)
    before = {name: dict(vars(kind)) for name, kind in vars(mmadfer.model.pickled).items() if isinstance(kind, type)}
    path = wrap(tmp_path / "hostile.pth", program)
    with pytest.raises(WeightsError, match=r"hostile\.pth"):
        mmadfer.load(path)
    assert not mark.exists()
    after = {name: dict(vars(kind)) for name, kind in vars(mmadfer.model.pickled).items() if isinstance(kind, type)}
    assert after == before


def test_unknown_objects_are_inert(tmp_path: Path, model: MMADFER) -> None:
    tree = PickledFile(save_fold(tmp_path / "fold.pth", state_dict(model))).tree
    assert type(tree["recorder"]) is Inert
    assert type(tree["args"]) is Inert
    assert tree["epoch"] == 25


def _tensor_file(path: Path, shape: tuple[int, ...], stride: tuple[int, ...], count: int, record: bytes) -> Path:
    """A file with one tensor, described as given, in `state_dict`."""
    out = io.BytesIO()
    out.write(b"\x80\x02}X\x0a\0\0\0state_dict}X\x01\0\0\0x" + _global("torch._utils", "_rebuild_tensor_v2") + b"((")
    out.write(b"X\x07\0\0\0storage" + _global("torch", "FloatStorage") + b"X\x01\0\0\0" + b"0X\x03\0\0\0cpu")
    out.write(pickle.dumps(count, 2)[2:-1] + b"tQK\0")
    out.write(pickle.dumps(shape, 2)[2:-1] + pickle.dumps(stride, 2)[2:-1] + b"\x89}tRss.")
    return zip_of(path, out.getvalue(), **{"0": record})


def test_sound_tensor_of_a_made_file(tmp_path: Path) -> None:
    """The maker of the next test makes right files, too."""
    file = PickledFile(_tensor_file(tmp_path / "a.pth", (2, 2), (1, 2), 4, struct.pack("<4f", 1, 2, 3, 4)))
    assert file.read(file.tree["state_dict"])["x"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("shape", "stride", "count", "record"),
    [
        pytest.param((8,), (1,), 4, bytes(16), id="beyond its storage"),
        pytest.param((4,), (1,), 4, bytes(12), id="record too short"),
        pytest.param((4,), (-1,), 4, bytes(16), id="negative stride"),
        pytest.param((4, 1), (1,), 4, bytes(16), id="sizes and strides differ"),
        pytest.param((10**12,), (1,), 10**12, bytes(16), id="huge"),
    ],
)
def test_impossible_tensors_are_refused(
    tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...], count: int, record: bytes
) -> None:
    path = _tensor_file(tmp_path / "a.pth", shape, stride, count, record)
    with pytest.raises(WeightsError, match="cannot be read"):
        (file := PickledFile(path)).read(file.tree["state_dict"])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_cut_off_files_are_refused(tmp_path: Path, model: MMADFER, legacy: bool, keep: float) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(model), legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(WeightsError, match=r"fold.pth.*cannot be read"):
        mmadfer.load(path)


def test_flipped_bit_is_found(tmp_path: Path, model: MMADFER) -> None:
    path = save_fold(tmp_path / "fold.pth", state_dict(model))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"cannot be read as weights of torch.save \(Bad CRC-32"):
        mmadfer.load(path)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    """Such an archive holds code, which torch.load would take up."""
    with zipfile.ZipFile(zip_of(tmp_path / "script.pt", pickle.dumps({})), "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    with pytest.raises(WeightsError, match="a zip archive of another kind"):
        mmadfer.load(tmp_path / "script.pt")
