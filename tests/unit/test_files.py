import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from mmadfer.errors import FileError
from mmadfer.utils.files import atomic, read_bytes, sha256, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "out.txt"
    with atomic(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert names(target.parent) == ["out.txt"]


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    write_text(target, "old")
    with pytest.raises(UnicodeEncodeError), atomic(target) as temporary:
        temporary.write_text("half of the new \udc00", encoding="utf-8")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_small_file_under_a_large_limit_takes_its_own_memory(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 3000)
    tracemalloc.start()
    try:
        assert read_bytes(tmp_path / "small", 1 << 30) == b"x" * 3000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_does_not_tell_its_size_is_read_whole() -> None:
    path = Path("/proc/self/environ")
    assert path.stat().st_size == 0
    assert read_bytes(path) == path.read_bytes() != b""
    with pytest.raises(FileError, match="larger than the 5 bytes"):
        read_bytes(path, 5)


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_the_limit_is_the_largest_that_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert len(read_bytes(tmp_path / "file", 100)) == size
    (tmp_path / "file").write_bytes(bytes(101 + size))
    with pytest.raises(FileError, match="larger than the 100 bytes"):
        read_bytes(tmp_path / "file", 100)


def test_a_new_file_is_not_kept_when_writing_it_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "out.txt"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_kill_never_publishes_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    write_text(target, "old")
    program = (
        "import sys\nfrom mmadfer.utils.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary, open(temporary, 'wb') as file:\n"
        "    print('writing', flush=True)\n    while True:\n        file.write(bytes(4096)); file.flush()\n"
        "        if file.tell() > 1 << 20: import time; time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    time.sleep(0.1)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert target.read_text() == "old"


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    write_text(target, "old")
    program = (
        "import resource, signal, sys\nfrom mmadfer.utils.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(sys.argv[1], 'x' * 5000)"
    )
    result = subprocess.run([sys.executable, "-c", program, str(target)], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert f"File too large: {str(target)!r}" in result.stderr
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_others_may_read_as_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "out.txt", "")
    finally:
        os.umask(old)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o640


def test_json_is_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"fold": 1, "uar": 0.5, "labels": ["ü"]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"fold": 1, "uar": 0.5, "labels": ["ü"]}
    assert text.endswith("}\n")


def test_what_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"path": tmp_path})
    with pytest.raises(ValueError, match="not JSON"):
        write_json(tmp_path / "a.json", {"share": float("nan")})
    assert names(tmp_path) == []


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 5000)
    assert sha256(tmp_path / "a") == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
