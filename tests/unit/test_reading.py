"""Small files are read by one reader, and what is opened in place follows no link."""

import json
import os
from pathlib import Path

import pytest

from mmadfer.errors import FileError
from mmadfer.run.lock import lock
from mmadfer.utils.files import no_link, open_lock, parse_json, read_bytes, read_json, read_object, read_text

BROKEN = {
    "not a number": '{"a": NaN}',
    "infinite": '{"a": Infinity}',
    "infinite by its exponent": '{"a": 1e400}',
    "infinite by its digits": '{"a": 1' + 400 * "0" + ".0}",
    "too many digits": "1" * 5000,
    "deep": 100_000 * "[",
    "cut off": '{"a": 1',
    "two values": "{} {}",
    "half a sign": r'"\ud800"',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_json_that_is_none_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(FileError, match=r"result\.json holds no valid JSON"):
        read_json(tmp_path / "result.json")


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    value = {"name": "déçu 1e999", "numbers": [1, -2.5, 1e300, 10**30], "none": None, "nested": [[{"a": True}]]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_object(tmp_path / "a.json") == value
    assert parse_json(json.dumps(value, ensure_ascii=False), "text") == value


def test_an_object_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(FileError, match=r"a\.json must hold a JSON object, not a list"):
        read_object(tmp_path / "a.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert read_bytes(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(FileError, match="larger than the 10 bytes"):
        read_bytes(tmp_path / "a", 10)


def test_text_has_one_encoding(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffé".encode())
    (tmp_path / "b").write_bytes("é".encode("latin-1"))
    assert read_text(tmp_path / "a") == "é"
    with pytest.raises(FileError, match="is not UTF-8 text"):
        read_text(tmp_path / "b")


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="a device or a named pipe"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(FileError, match="a device or a named pipe"):
        open_lock(tmp_path / "pipe")


def test_a_lock_that_is_a_link_leaves_the_other_file_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("all of it")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(mine)
    with pytest.raises(FileError, match=r"\.lock is a link"), lock(tmp_path / "run"):
        pass
    with pytest.raises(FileError, match="is a link"):
        no_link(str(tmp_path / "run" / ".lock"), os.O_WRONLY | os.O_TRUNC)
    assert mine.read_text() == "all of it"


def test_a_lock_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("kept")
    with lock(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "kept"
