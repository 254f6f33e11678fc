"""Work in a copy of the process: what becomes of it, and that nothing is left of it."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmadfer.runtime.backends import cuda
from mmadfer.runtime.subprocess_call import in_subprocess

HERE = os.getpid()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def kill() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def wait() -> bytes:
    with open("/dev/null") as file:
        time.sleep(60)
        return bytes(file.fileno())


def leave() -> bytes:
    raise SystemExit(3)


def test_it_gives_what_the_work_gives_however_large() -> None:
    large = os.urandom(5_000_001)
    assert in_subprocess(lambda: large, 60) == large
    assert in_subprocess(bytes, 60) == b""
    assert int(in_subprocess(lambda: str(os.getpid()).encode(), 60)) != HERE


@pytest.mark.parametrize(
    ("work", "seconds", "error", "told"),
    [
        (wait, 0.2, TimeoutError, r"^more than 0\.2 s$"),
        (kill, 60, ChildProcessError, "^SIGKILL$"),
        (leave, 60, RuntimeError, "^an error in a copy of this process$"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_left(
    work: Callable[[], bytes], seconds: float, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked, fork = list[int](), os.fork

    def noted() -> int:
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(os, "fork", noted)
    before, start = open_files(), time.monotonic()
    with pytest.raises(error, match=told):
        in_subprocess(work, seconds)
    assert time.monotonic() - start < 30
    assert open_files() <= before  # others may be closed meanwhile
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], os.WNOHANG)  # it is gone, not only dead


PIPES = """
import os
from contextlib import suppress
from mmadfer.runtime.subprocess_call import in_subprocess

def pipes():
    ends = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # of the listing itself
            ends.append(os.readlink(f"/proc/self/fd/{number}"))
    return [end for end in ends if end.startswith("pipe:")]

before = set(pipes())
found = in_subprocess(lambda: "\\n".join(pipes()).encode(), 60).decode().split("\\n")
print(len([end for end in found if end not in before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, no file tells of open ones")
def test_a_copy_holds_no_end_but_its_own() -> None:
    """In a process of its own: threads that other tests have left may open pipes at any time."""
    done = subprocess.run([sys.executable, "-c", PIPES], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a copy that never writes goes on")
def test_a_copy_ends_with_its_reader() -> None:
    program = (
        "import time\nfrom mmadfer.runtime.subprocess_call import in_subprocess\n"
        "in_subprocess(lambda: print('reading', flush=True) or time.sleep(120), 100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        reader.kill()
        assert reader.communicate(timeout=30)[0] == b""  # ends when nobody is left who could write


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way to choose")
def test_where_memory_runs_out_the_copy_goes_first() -> None:
    assert in_subprocess(Path("/proc/self/oom_score_adj").read_bytes, 60) == b"1000\n"


def test_a_copy_that_cannot_be_made_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    before = open_files()
    with pytest.raises(BlockingIOError):
        in_subprocess(bytes, 60)
    assert open_files() <= before  # others may be closed meanwhile


def test_a_failure_of_the_gpu_comes_back_from_another_process() -> None:
    one = cuda.CudaError("cudaErrorIllegalAddress", "an illegal address")
    other = pickle.loads(pickle.dumps(one))
    assert (str(other), other.reason) == (str(one), one.reason)
    assert str(one).startswith("the GPU failed: an illegal address (cudaErrorIllegalAddress). Look")
