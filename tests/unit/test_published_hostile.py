"""Hostile and damaged files of others: nothing in them runs, and they are refused by name."""

import builtins
import io
import os
import pickle
import resource
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_setup import TINY, open_gates
from published_setup import save_fold, state_dict, stream_of, zip_of

import mmadfer
from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights import pickle_reader
from mmadfer.model.weights.build import build_model, weights_hash
from mmadfer.model.weights.pickle_reader import Storage
from mmadfer.model.weights.torch_pickle import Inert, Lazy, PickledFile


@pytest.fixture(scope="module")
def model() -> MMADFER:
    return open_gates(build_model(TINY, classes=7))


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
    before = {
        name: dict(vars(kind))
        for name, kind in vars(mmadfer.model.weights.torch_pickle).items()
        if isinstance(kind, type)
    }
    path = wrap(tmp_path / "hostile.pth", program)
    with pytest.raises(WeightsError, match=r"hostile\.pth"):
        mmadfer.load(path)
    assert not mark.exists()
    after = {
        name: dict(vars(kind))
        for name, kind in vars(mmadfer.model.weights.torch_pickle).items()
        if isinstance(kind, type)
    }
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


PAIRS = b"".join(b"0h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) for k in range(60))
BOMBS = {
    "a large memo number": b"}r" + struct.pack("<I", (1 << 27) - 1) + b"(K\x00K\x00t.",
    "the largest memo number": b"}r" + struct.pack("<I", (1 << 32) - 1) + b"(K\x00K\x00t.",
    "a key of pairs": b"}K\x01\x85q\0" + PAIRS + b"K\x01s.",
    "a key of pairs, in one go": b"}(K\x01\x85q\0" + PAIRS + b"K\x01u.",
    "a key of pairs, in an ordered dict": _global("collections", "OrderedDict")
    + b"]K\x01\x85q\0" + PAIRS + b"K\x01\x86a\x85R.",
    "a key of pairs, in operations that torch.load allows": b"K\x01\x85q\0"
    + PAIRS.replace(b"0h", b"h")
    + b"}h\x3cK\x01s.",
    "a set of pairs": b"\x8f(K\x01\x85q\0" + PAIRS + b"\x90}.",
    "a number of 100 kB": b"\x8b" + struct.pack("<I", 100_000) + b"\x7f" * 100_000 + b".",
    "a number of 4 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a number of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
    "a text of 2^40": b"\x8d" + struct.pack("<Q", 1 << 40) + b".",
    "bytes of 2^62": b"\x8e" + struct.pack("<Q", 1 << 62) + b".",
    "bytes to change of 2^40": b"\x96" + struct.pack("<Q", 1 << 40) + b".",
    "a frame of 2^60": b"\x95" + struct.pack("<Q", 1 << 60) + b"]K\x05a.",
    "a list in itself": b"]q\0h\0a.",
    "nested lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested tuples": b")" + b"\x85" * 100_000 + b".",
    "many copies": b"]" + b"2" * 100_000 + b".",
    "too many operations": b"0".join([b"N"] * 600_000) + b".",
    "a dict of a long list, again and again": _global("collections", "OrderedDict") + b"q\0(" + b"N" * 1000 + b"tq\1"
    + b"0h\0(h\1t" * 10 + b".",
    "nothing on the stack": b"0.",
    "no mark": b"t.",
    "over a mark": b"N(0.",
}  # fmt: skip


@pytest.mark.parametrize("wrap", [zip_of, stream_of])
@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS.keys())
def test_small_pickles_take_little(tmp_path: Path, program: bytes, wrap: Callable[[Path, bytes], Path]) -> None:
    path = wrap(tmp_path / "bomb.pth", b"\x80\x04" + program)
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"bomb\.pth"):
        mmadfer.load(path)
    assert time.process_time() - begun < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # of kB


def test_a_pickle_of_more_than_64_mib_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MAX_PICKLE_BYTES", 1000)
    for wrap in (zip_of, stream_of):
        with pytest.raises(WeightsError, match=r"more than 1000 bytes|cannot be read"):
            mmadfer.load(wrap(tmp_path / "a.pth", b"\x80\x02X" + struct.pack("<I", 2000) + bytes(2000) + b"."))


def test_tensors_are_no_more_than_the_file_holds(tmp_path: Path) -> None:
    """One number seen as many; and one storage seen by many tensors."""
    wide = _tensor_file(tmp_path / "a.pth", (1 << 20, 1 << 20), (0, 0), 1, bytes(4))
    lazy = PickledFile(wide).tree["state_dict"]
    for tensors in (lazy, {f"{k}": _tensor(4) for k in range(5000)}):
        with pytest.raises(WeightsError, match=r"its tensors are more than its .* bytes hold"):
            PickledFile(wide).read(tensors)
    several = _tensor_file(tmp_path / "b.pth", (4,), (1,), 4, bytes(16))
    assert set(PickledFile(several).read({f"{k}": _tensor(4) for k in range(3)})) == {"0", "1", "2"}


def _tensor(count: int) -> Lazy:
    return Lazy(Storage(torch.float32, "0", count), 0, (count,), (1,))


@pytest.mark.parametrize(
    ("shape", "stride"), [((1,) * 17, (1,) * 17), ((1 << 63,), (0,)), ((0, 1 << 64), (1, 1)), ((True,), (1,))]
)
def test_shapes_that_torch_does_not_have(tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError, match="not described by a storage and sizes"):
        PickledFile(_tensor_file(tmp_path / "a.pth", shape, stride, 4, bytes(16)))


@pytest.mark.parametrize("name", ["data.pkl", "byteorder"])
def test_records_that_swell_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "swollen.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, data in (("data.pkl", b"}."), ("byteorder", b"little")):
            swollen = other == name
            archive.writestr(f"archive/{other}", bytes(100 << 20) if swollen else data, None if swollen else 0)
    with pytest.raises(WeightsError, match="cannot be read"):
        mmadfer.load(path)


def test_an_archive_of_too_many_records_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "many.pth", b"}.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist *= 200_000
        archive._didModify = True  # type: ignore[attr-defined]
    begun = time.process_time()
    with pytest.raises(WeightsError, match="more records than weights have"):
        mmadfer.load(path)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_is_read(tmp_path: Path, model: MMADFER, protocol: int) -> None:
    path = tmp_path / "fold.pth"
    state = state_dict(model)
    tree = {"state_dict": state, "seen": {1, 2}, "frozen": frozenset("ab"), "bytes": b"\xff", "none": None}
    for legacy in (False, True):
        torch.save(tree, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
        assert weights_hash(mmadfer.load(path)) == weights_hash(model)
