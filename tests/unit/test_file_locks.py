"""Locks on files, by what a system has."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmadfer.utils import file_locks
from mmadfer.utils.file_locks import hold
from mmadfer.utils.files import open_lock


def windows() -> SimpleNamespace:
    """`msvcrt` as far as it is used: one byte of a file, at the place of the handle, for one handle at a time."""
    held = dict[tuple[int, int], int]()

    def locking(handle: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        place = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        if held.setdefault(place, handle) != handle:
            raise PermissionError(errno.EACCES, "Permission denied")

    return SimpleNamespace(locking=locking, LK_NBLCK=2)


@pytest.mark.parametrize("system", ["unix", "windows"])
def test_a_file_is_held_once(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if system == "windows":
        monkeypatch.setattr(file_locks, "_UNIX", None)
        monkeypatch.setattr(file_locks, "_WINDOWS", windows())
    with open_lock(tmp_path / "a") as first, open_lock(tmp_path / "a") as second, open_lock(tmp_path / "b") as other:
        assert hold(first)
        assert not hold(second)
        assert hold(other, wait=True)
        second.write("text")
    assert (tmp_path / "a").read_text() == "text"  # at the end of the file, wherever the lock lies


def test_a_file_is_free_again_when_it_is_closed(tmp_path: Path) -> None:
    with open_lock(tmp_path / "a") as first:
        assert hold(first)
    with open_lock(tmp_path / "a") as second:
        assert hold(second)


def test_a_system_without_locks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_locks, "_UNIX", None)
    monkeypatch.setattr(file_locks, "_WINDOWS", None)
    with open_lock(tmp_path / "a") as file, pytest.raises(OSError, match="no file locks") as caught:
        hold(file)
    assert caught.value.errno == errno.ENOLCK
