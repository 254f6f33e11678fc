"""Temporary folders of commands that end, fail, are killed, or run side by side."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmadfer.utils.temporary_folders import BEFORE, LOCK, take_place, workplace


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_it_goes_with_the_block(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "m.onnx"
    with workplace(out) as folder:
        (folder / "m.onnx").write_text("whole")
        assert (folder.parent, hidden(out.parent)) == (out.parent, [folder.name])
    assert hidden(out.parent) == []
    with pytest.raises(ValueError, match="wrong"), workplace(out):
        raise ValueError("wrong")
    assert hidden(out.parent) == []


HOLDS = """
import sys, time; from pathlib import Path; from mmadfer.utils.temporary_folders import workplace
with workplace(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half"); print(folder, flush=True); time.sleep(600)
"""


def test_what_a_killed_one_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    out = tmp_path / "m [1].onnx"
    command = [sys.executable, "-c", HOLDS, str(out)]
    living, killed = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        places = [Path(child.stdout.readline().strip()) for child in (living, killed) if child.stdout]
        killed.kill()
        killed.wait()
        assert all((place / "half").is_file() for place in places)
        with workplace(out) as folder:
            assert hidden(tmp_path) == sorted([places[0].name, folder.name])
            assert (places[0] / "half").is_file()
    finally:
        for child in (living, killed):
            child.kill()
            child.wait()
    with workplace(out):
        pass
    assert hidden(tmp_path) == []


def test_what_is_of_others_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    (tmp_path / ".m.onnx.abcdefgh").symlink_to("elsewhere")
    (tmp_path / ".m.onnx.backup").mkdir()
    (tmp_path / ".other.onnx.abcdefgh").mkdir()
    (tmp_path / ".m.onnx.12345678").write_text("a file")
    left = tmp_path / ".m.onnx.a_left_1"
    left.mkdir()
    (left / LOCK).symlink_to("../elsewhere/file")
    (tmp_path / ".m.onnx.a_left_2").mkdir()  # of an earlier version, without a lock
    before = hidden(tmp_path)
    with workplace(tmp_path / "m.onnx"):
        pass
    assert hidden(tmp_path) == [name for name in before if name != ".m.onnx.a_left_2"]
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"


SWAPS = """
import os, signal, sys; from pathlib import Path
from mmadfer.utils.temporary_folders import take_place, workplace
steps = iter(range(4))
def killed(event, _):
    if event == "os.rename" and next(steps) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
with workplace(Path(sys.argv[1])) as folder:
    (folder / "new").mkdir(); (folder / "new" / "new.txt").touch()
    sys.addaudithook(killed)
    take_place(folder / "new", Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("step", "left"), [*enumerate(["old.txt", "old.txt", "new.txt", "new.txt", "new.txt"])])
def test_one_that_is_killed_while_it_takes_a_place_leaves_old_or_new(tmp_path: Path, step: int, left: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").touch()
    done = subprocess.run([sys.executable, "-c", SWAPS, str(out), str(step)], check=False)
    assert done.returncode == (0 if step == 4 else -signal.SIGKILL)
    assert out.exists() == (step != 1), "the kill was between both renames"
    with workplace(out):
        assert [path.name for path in out.iterdir()] == [left]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_a_place_cannot_be_taken_what_was_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").touch()
    with pytest.raises(FileNotFoundError), workplace(out) as folder:
        take_place(folder / "none", out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old.txt"]


def test_what_has_come_meanwhile_is_not_replaced_by_what_was_there(tmp_path: Path) -> None:
    out, left = tmp_path / "out", tmp_path / ".out.a_left_1"
    for folder in (out, left / BEFORE, tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (tmp_path / ".out.a_left_2").mkdir()
    (tmp_path / ".out.a_left_2" / BEFORE).symlink_to(tmp_path / "elsewhere")
    (out / "mine").touch()
    with workplace(out):
        pass
    assert sorted(path.name for path in out.iterdir()) == ["file", "mine"]
    assert (tmp_path / "elsewhere" / "file").exists()


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    errors = list[BaseException]()

    def work() -> None:
        try:
            for _ in range(30):
                with workplace(tmp_path / "m.onnx") as folder:
                    (folder / "half").write_text("half")
                    assert (folder / "half").is_file()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert hidden(tmp_path) == []


def test_a_full_disk_names_what_was_to_be_written(tmp_path: Path) -> None:
    full = errno.ENOSPC, os.strerror(errno.ENOSPC)
    with (
        pytest.raises(OSError, match=r"No space left on device: .*/m\.onnx'$") as caught,
        workplace(tmp_path / "m.onnx"),
    ):
        raise OSError(*full)
    assert caught.value.filename == str(tmp_path / "m.onnx")
    with pytest.raises(OSError, match="No space") as caught, workplace(tmp_path / "m.onnx") as folder:
        raise OSError(*full, str(folder / "part"))
    assert caught.value.filename == str(tmp_path / "m.onnx")
