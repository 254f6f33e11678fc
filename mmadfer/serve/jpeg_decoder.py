"""JPEGs of strangers, decoded in a process of their own (`jpeg_process`), which may crash or hang without harm."""

import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL

from mmadfer.errors import DataError, MmadferError
from mmadfer.serve import jpeg_process
from mmadfer.utils.terminal import shown

_SECONDS = 5.0
"""For one picture; a usual one takes milliseconds, one of many scans much longer."""
_START_SECONDS = 60.0
_PIPE_BYTES = 1 << 20
_MOST_WORDS = 4000
"""Bytes of what is said by a process that does not start."""
_KEPT = ("LD_LIBRARY_PATH",)
"""Of the environment: without it Pillow may not find its libraries."""


class JpegDecoder:
    """One such process, which is waited for before it decodes; one thread decodes, and any may close.

    Args:
        most_pixels: of a picture.

    Raises:
        OSError: there can be no further process.
    """

    def __init__(self, most_pixels: int) -> None:
        self._most, self._busy = most_pixels, threading.Lock()
        pillow = Path(PIL.__file__).resolve().parents[1]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", jpeg_process.__file__, str(most_pixels), str(pillow)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=Path("/"),
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            start_new_session=True,  # ctrl-C is for the server
        )

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    def wait(self) -> None:
        """Until it can decode.

        Raises:
            MmadferError: it does not start, or the decoder was closed.
        """
        with self._busy:
            try:
                self._read(len(jpeg_process.READY), time.monotonic() + _START_SECONDS)
            except (EOFError, OSError, ValueError, DataError) as error:
                raise MmadferError(f"the process that decodes pictures does not start: {self._said()}") from error
            assert self._process.stderr is not None
            self._process.stderr.close()  # nothing that it says later is read

    def _said(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        with suppress(OSError, ValueError):  # it is closed
            return shown((self._process.stderr.read(_MOST_WORDS) or b"").decode("utf-8", "replace"), lines=True)
        return ""

    def decode(self, data: bytes) -> np.ndarray:
        """The picture in a JPEG file's bytes, uint8 RGB (H, W, 3).

        Raises:
            DataError: it is none, or too large, damaged, or takes too long; or the decoder was closed.
        """
        with self._busy:
            return self._decoded(data, time.monotonic() + _SECONDS)

    def _decoded(self, data: bytes, end: float) -> np.ndarray:
        try:
            self._write(jpeg_process.LENGTH.pack(len(data)) + data, end)
            width, height = jpeg_process.ANSWER.unpack(self._read(jpeg_process.ANSWER.size, end))
            if not width:
                words = self._read(min(height, 800), end).decode("utf-8", "replace")
                raise DataError(f"the picture is no JPEG that can be decoded ({words})")
            if not 0 < width * height <= self._most:
                raise EOFError
            return np.frombuffer(self._read(3 * width * height, end), np.uint8).reshape(height, width, 3)
        except (EOFError, OSError, ValueError) as error:
            raise DataError("the process that decodes pictures was lost: a picture is damaged") from error

    def _write(self, data: bytes, end: float) -> None:
        """The process reads all of a picture before it answers, so that neither waits for the other."""
        pipe, left = self._process.stdin, memoryview(data)
        assert pipe is not None
        while left:
            _wait(pipe.fileno(), select.POLLOUT, end)
            left = left[os.write(pipe.fileno(), left[: select.PIPE_BUF]) :]

    def _read(self, size: int, end: float) -> bytes:
        pipe, found = self._process.stdout, bytearray()
        assert pipe is not None
        while len(found) < size:
            _wait(pipe.fileno(), select.POLLIN, end)
            if not (chunk := os.read(pipe.fileno(), min(_PIPE_BYTES, size - len(found)))):
                raise EOFError
            found += chunk
        return bytes(found)

    def kill(self) -> None:
        """End the process, from any thread; who decodes gets a DataError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and give its pipes back."""
        self._process.kill()
        self._process.wait()
        with self._busy:
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()


def _wait(pipe: int, event: int, end: float) -> None:
    ready = select.poll()
    ready.register(pipe, event)
    if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
        raise DataError(f"a picture takes more than {_SECONDS:g} s to decode: send baseline JPEGs")
