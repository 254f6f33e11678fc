"""Uploads are read in processes of their own, which may crash, hang or be taken over without harm to the server."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmadfer.data.video_windows import Windows
from mmadfer.errors import DataError, FileError, MmadferError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.inputs import VideoPart
from mmadfer.runtime.packed import unpacked_part
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.serve.limits import TOKEN_VARIABLE
from mmadfer.serve.reading_process import ABOUT, END, ERROR, LENGTH, PART, READY
from mmadfer.utils.files import parse_json
from mmadfer.utils.import_path import import_path

_PIPE_BYTES = 1 << 20
_MOST_WORDS = 64 << 10
_MOST_BESIDE = 64 << 20
"""Bytes of a message beside the arrays for the model: times and boxes of a whole video."""
_MOST_SIDE = 1 << 20
"""Pixels of a picture's side."""
_START_SECONDS = 120.0
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX")
_START = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); "
    "from mmadfer.serve.reading_process import main; main(sys.argv[2:])"
)
"""Not `python -m`, which would import what lies in the current directory by chance."""
_LIES = "the process that reads the video has said what it may not: the video may want to do damage"


class About(NamedTuple):
    """What a file says of itself."""

    seconds: float | None
    size: tuple[int, int] | None
    """Width and height of its pictures."""
    looked: float = 0.0
    """Share of it that is looked at, for the first time or again."""


class Most(NamedTuple):
    """What an upload may take, in seconds."""

    of_video: float
    of_reading: float


class StoppedError(Exception):
    """Reading was ended by `Reading.kill`."""


class Reading:
    """An upload that is being read."""

    def __init__(self, parts: int, line: socket.socket, recogniser: Recogniser, seconds: float) -> None:
        self._parts, self._line, self._contract = parts, line, recogniser.contract
        self._end = time.monotonic() + seconds
        self._seconds, self._killed = seconds, False
        views = recogniser.views.clips * (1 + recogniser.views.flips)
        kinds = ports.inputs(self._contract).values()
        look = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in kinds)
        self._most = views * look + _MOST_BESIDE
        self._more, self._any = select.poll(), select.poll()
        for one in (self._more, self._any):
            one.register(parts, select.POLLIN)
        self._any.register(line, 0)  # its end alone

    def found(self) -> Iterator[About | VideoPart]:
        """What the file says of itself, and its parts, as they come.

        Raises:
            DataError: it cannot be read, or not in time, or its reader has crashed.
            StoppedError: it was ended.
        """
        while True:
            kind, data = self._message()
            if kind == PART:
                yield unpacked_part(data, self._contract)
            elif kind == ABOUT:
                yield _about(data)
            elif kind == ERROR:
                raise DataError(data[:_MOST_WORDS].decode("utf-8", "replace"))
            else:
                return

    def _message(self) -> tuple[bytes, bytes]:
        size = int.from_bytes(self._bytes(LENGTH), "big")
        if not 1 <= size <= self._most:
            raise DataError(_LIES)
        data = self._bytes(size)
        if data[:1] not in (ABOUT, PART, ERROR, END):
            raise DataError(_LIES)
        return data[:1], data[1:]

    def _bytes(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait()
            chunk = os.read(self._parts, min(_PIPE_BYTES, size - len(found)))
            if not chunk:
                raise self._ended()
            found += chunk
        return bytes(found)

    def _wait(self) -> None:
        """Until there is more of the parts, or their end.

        The end of the line is waited for, too: who is to end the reader may not answer.
        """
        left = self._end - time.monotonic()
        if left <= 0 or not self._any.poll(left * 1000):
            raise DataError(
                f"the video is not read within {self._seconds:g} s, the most that it gets here: cut it into "
                "shorter ones, or make its pictures smaller"
            )
        if self._killed or not self._more.poll(0):
            raise self._ended()

    def _ended(self) -> Exception:
        """Why there is no more."""
        status = b""
        if not self._killed:
            self._line.settimeout(10.0)
            with suppress(OSError):
                status = self._line.recv(16)
        if self._killed:
            return StoppedError()
        try:
            how = signal.Signals(-int(status)).name
        except ValueError:
            how = "it has ended early"
        return DataError(
            f"the process that read the video was lost ({how}): the video is damaged, or wants more memory than is left"
        )

    def kill(self) -> None:
        """End it, from any thread, whatever it is at."""
        self._killed = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and give its files back; only the thread that reads may."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()
        os.close(self._parts)


def _about(data: bytes) -> About:
    try:
        told = parse_json(data, "the video")
        seconds, size = told["seconds"], told["size"]
        if size is not None and not all(type(side) is int and 0 < side <= _MOST_SIDE for side in size[:2]):
            raise ValueError("a size")
        return About(
            None if seconds is None else min(1e9, max(0.0, float(seconds))),
            None if size is None else (int(size[0]), int(size[1])),
            min(1.0, max(0.0, float(told["looked"]))),
        )
    except (FileError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise DataError(_LIES) from error


def _environment() -> dict[str, str]:
    """Of what decodes files of strangers: one thread, and no secret."""
    kept = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return kept | dict.fromkeys(_ONE_THREAD, "1")


class Readers:
    """Starts a process for each upload, out of one that has loaded what they need.

    Args:
        recogniser: whose videos are read.
        folder: of ours, for the contract's file.
    """

    def __init__(self, recogniser: Recogniser, folder: Path) -> None:
        self._recogniser, self._lock = recogniser, threading.Lock()
        self._contract = folder / "contract.json"
        self._contract.write_text(recogniser.contract.dumps(), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._ready = self._killed = False
        with self._lock:
            self._start()

    @property
    def process(self) -> int:
        """The number of the process that starts the others."""
        assert self._process is not None
        return self._process.pid

    def _start(self) -> None:
        views = self._recogniser.views
        words = [self._contract, self._recogniser.path, views.clips, int(views.flips), os.getpid()]
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, "\n".join(import_path()), *map(str, words)],
                stdin=its.fileno(),
                env=_environment(),
                start_new_session=True,  # ctrl-C is for the server, which ends it
            )
        ours.settimeout(_START_SECONDS)
        self._requests, self._ready = ours, False

    def wait(self) -> None:
        """Until it is there.

        Raises:
            MmadferError: it does not start.
        """
        with self._lock:
            self._wait()

    def _wait(self) -> None:
        assert self._requests is not None
        if not self._ready:
            with suppress(TimeoutError):
                self._ready = self._requests.recv(1) == READY
        if not self._ready:
            self._end()
            raise MmadferError("the process that reads videos does not start: what it has said above tells why")

    def open(self, path: Path, sound: Path | None, windows: Windows | None, faces: str | int, most: Most) -> Reading:
        """Begin to read an upload.

        Args:
            path: of our own making.
            sound: the file with its sound, if that is another one.
            windows: as it is cut.
            faces: whose.
            most: that it may take.

        Raises:
            MmadferError, OSError: there can be no further process.
            StoppedError: `kill` was called.
        """
        asked = {
            "path": str(path),
            "sound": None if sound is None else str(sound),
            "windows": None if windows is None else [windows.seconds, windows.hop],
            "faces": faces,
            "limit": most.of_video,
        }
        data = json.dumps(asked).encode()
        (parts, its_parts), (line, its_line) = os.pipe(), socket.socketpair()
        try:
            with its_line:
                self._send(len(data).to_bytes(LENGTH, "big") + data, [its_parts, its_line.fileno()])
        except BaseException:
            os.close(parts)
            line.close()
            raise
        finally:
            os.close(its_parts)
        return Reading(parts, line, self._recogniser, most.of_reading)

    def _send(self, data: bytes, files: list[int]) -> None:
        with self._lock:
            if self._killed:
                raise StoppedError
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()
            self._wait()
            assert self._requests is not None
            socket.send_fds(self._requests, [data], files)

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._process.kill()  # it has nothing to tidy up, and its copies end with it
            self._process.wait()
        self._process = self._requests = None

    def kill(self) -> None:
        """End it, from any thread, whoever waits for it; there is no further one."""
        self._killed = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._end()
