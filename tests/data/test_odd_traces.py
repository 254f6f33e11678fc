"""Trace files and .npy files of strangers: each wrong one is told with its place, and no other error comes out."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_trace_files import FRAMES, SMALL, by_frame, film, prepared

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.data.preparation.tensor_files import read_tensors
from mmadfer.data.sets import table, table_csv
from mmadfer.data.sets.trace_files import check_ranges, ranges_of, read_trace
from mmadfer.data.store.store import Store
from mmadfer.errors import ClipError, DataError
from mmadfer.utils.numpy_files import read_array

PAIR = ("v", "a")


def npy(values: object, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)  # type: ignore[arg-type, call-overload]
    return file.getvalue()


def headed(header: str, data: bytes = bytes(48)) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


LIE = "{'descr': '<f8', 'fortran_order': False, 'shape': (300000000000, 2), }"
ARRAYS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "reading magic string"),
    "a ZIP": (b"PK\x03\x04garbage", "magic string"),
    "a whole ZIP": (b"", "magic string"),
    "an open bracket": (headed("{'descr': ('<f8'"), r"it is damaged \(TokenError"),
    "no header": (headed("42"), "[Hh]eader"),
    "a lie": (headed(LIE), r"\(300000000000, 2\) of float64, 4800000000000 bytes, but 48 follow"),
    "less than nothing": (headed(LIE.replace("300000000000", "-3")), "it is damaged"),
    "cut off": (npy(np.zeros((3, 2)))[:-8], "48 bytes, but 40 follow: it is damaged"),
    "cut off in the header": (npy(np.zeros((3, 2)))[:60], "EOF: reading array header"),
    "more than it says": (npy(np.zeros((3, 2))) + b"more", "48 bytes, but 52 follow"),
    "objects": (npy(np.array([{}, []], object), allow_pickle=True), r"it holds no numbers \(dtype object\)"),
    "complex": (npy(np.zeros((3, 2), complex)), r"it holds no numbers \(dtype complex128\)"),
    "a record": (npy(np.zeros(3, [("a", "<f4"), ("b", "O")]), allow_pickle=True), "it holds no numbers"),
    "version 3": (b"\x93NUMPY\x03\x00" + bytes(100), "version 3.0"),
    "version 9": (b"\x93NUMPY\x09\x00" + bytes(100), "version 9.0"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_a_damaged_or_lying_array_is_a_value_error(case: str, tmp_path: Path) -> None:
    data, told = ARRAYS[case]
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    if case == "a whole ZIP":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", npy(np.zeros((3, 2))))
    with pytest.raises(ValueError, match=told):
        read_array(path)
    with pytest.raises(ValueError, match=told):
        read_trace(path, PAIR)
    with pytest.raises(ClipError, match=r"marks: .*a\.npy cannot be read") as caught:
        read_tensors({"marks": path}, {}, np.arange(3) / 10)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("save", [np.asfortranarray, np.ascontiguousarray, lambda x: x.astype(">f4")])
def test_whole_arrays_are_read_in_any_order(save: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", save(np.arange(6.0).reshape(3, 2)))
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), [[0, 1], [2, 3], [4, 5]])
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    assert read_array(tmp_path / "none.npy").shape == (0, 2)


LINES: dict[str, tuple[str, str]] = {
    "a cell too long": ('v,a\n0,1\n"' + "x" * 200_000 + '",1\n', "line 3: field larger than field limit"),
    "an open quote": ('v,a\n0,"1\n0.3,0.4\n', "line 3: unexpected end of data; close the quotes"),
    "a frame beyond all": ("frame,v,a\n0,0,0\n1e30,0,0\n", r"line 3 has frame 1e\+30: .* below 2\^31"),
    "the first frame too far": ("frame,v,a\n2147483648,0,0\n", r"line 2 has frame 2\.14748e\+09"),
    "too large for float32": ("v,a\n0,0\n1e300,0\n", "line 3 has v '1e300', which is too large for float32"),
    "as low": ("v,a\n0,-4e38\n", "line 2 has a '-4e38', which is too large for float32"),
    "infinite": ("v,a\n0,inf\n", "line 2 has a 'inf', which is not a number"),
}


@pytest.mark.parametrize("case", LINES)
def test_an_odd_line_is_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, told = LINES[case]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        read_trace(tmp_path / "a.csv", PAIR)
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "b.csv").write_text(by_frame())
    words = ["prepare", "folder", "--root", str(tmp_path), "--out", str(tmp_path / "a.store"), *SMALL]
    assert command(app, words) == 2
    assert "a.csv" in capsys.readouterr().err


def test_an_array_too_large_for_float32_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 2), 1e300))
    with pytest.raises(ValueError, match="too large for float32"):
        read_trace(tmp_path / "a.npy", PAIR)


def test_names_are_found_in_any_case(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
        (tmp_path / f"{name}.csv").write_text("Frame,Valence\n1,0.5\n")
    (tmp_path / "list.csv").write_text("path,Steps:Mood:Valence\na.mp4,a.csv\nb.mp4,b.csv\n")
    found = table_csv.table(tmp_path / "list.csv", 2)
    assert found.targets["mood"].names == ("valence",)
    assert found.trace_ranges["mood"][tmp_path / "a.csv"].tolist() == [[0.5], [0.5]]
    (tmp_path / "list.csv").unlink()
    assert table("folder", tmp_path, 2).targets["values"].names == ("Valence",)
    (tmp_path / "a.csv").write_text("v,V\n1,0.5\n")
    with pytest.raises(DataError, match="each once"):
        table("folder", tmp_path, 2)


@pytest.mark.parametrize("column", ["steps:time", "steps:mood:valence|Time", "steps:frame", "steps:mood:frame"])
def test_no_value_is_called_like_the_place_of_a_row(column: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path,{column}\na.mp4,a.csv\n")
    with pytest.raises(DataError, match=r"line 1 has the column 'steps:.* no value can be called frame or time"):
        table_csv.table(tmp_path / "list.csv")


def test_labelled_films_are_not_dropped_for_traces(tmp_path: Path) -> None:
    films = [*(f"{label}/{k}.mp4" for label in ("happy", "sad") for k in range(5)), "intro.mp4"]
    for name in films:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert table("folder", tmp_path).labels == ("happy", "sad")
    for text in ("frame,v\n0,1\n", "name,size\nintro,large\n"):
        (tmp_path / "intro.csv").write_text(text)
        with pytest.raises(DataError, match=r"films in label folders \(happy, sad\), and .* \(intro\.csv\)"):
            table("folder", tmp_path)


def test_films_below_traces_are_told(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "raw/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("frame,v\n0,1\n")
    assert table("folder", tmp_path, 2).notes == ("1 films in the folder raw have no traces, and were passed over",)


def test_a_table_that_has_not_read_its_traces_has_them_read(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
        (tmp_path / f"{name}.csv").write_text("v\n2\n")
    found = replace(table("folder", tmp_path, 2), trace_ranges={})
    with pytest.raises(DataError, match=r"2 traces cannot be used: .*a\.csv: line 2 has v 2, outside of -1 to 1"):
        check_ranges(ranges_of(found), found.targets, {"v": (-1, 1)})


def test_few_values_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"one": "time,v,a\n0,0.5,\n", "half": "\n".join(["v,a", *["0,0"] * 10, *["-5,"] * 10]), "all": by_frame()}
    for name, text in texts.items():
        film(tmp_path / f"{name}.mp4")
        (tmp_path / f"{name}.csv").write_text(text)
    assert prepared(tmp_path, {f"{name}.mp4": f"{name}.csv" for name in texts}, tmp_path / "a.store") == 0
    assert f"1 of {FRAMES} frames have values of mood (5%)" in " ".join(capsys.readouterr().out.split())
    with Store(tmp_path / "a.store") as store:
        told = {name: "values of mood" in clip.note for name, clip in store.clips.items()}
    assert told == {"one": True, "half": False, "all": False}
