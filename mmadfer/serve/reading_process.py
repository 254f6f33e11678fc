"""The process that starts a process for each upload, to read it; `reading.Readers` starts it.

It has one thread, and has loaded what reading needs; a copy of it (`fork`) reads one upload, and a second one watches
the first: it ends it when the server says so, or is gone, and tells how it ended. A copy is in a stranger's hands as
soon as it decodes, so nobody trusts what it says (`mmadfer.runtime.packed`).

    server -> this process           requests, each with two open files: where parts go, and the watcher's line
    reading copy -> server           parts
    watcher <-> server               the end of the line ends the copy; the copy's exit status
"""

import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.data.media.container import declared_seconds, watched
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ClipError, DataError, MmadferError
from mmadfer.runtime.inputs import ClipViews, Video, VideoPart, load_readers, read_parts, whole_pictures
from mmadfer.runtime.packed import packed_part
from mmadfer.runtime.sentences import VideoSentences
from mmadfer.runtime.subprocess_call import bind
from mmadfer.utils.files import read_bytes
from mmadfer.utils.logs import logger
from mmadfer.utils.memory import lacks_memory

LOGGER = logger(__name__)

LENGTH = 8
"""Bytes before each message: how long it is."""
ABOUT, PART, ERROR, END = b"A", b"P", b"E", b"Z"
"""First byte of a message: what the file says of itself and how far it was looked at, a part, what is wrong, and that
all is there."""
TELL_SECONDS = 0.5
"""Between two words on how far it was looked at."""
READY = b"r"
"""What this process says when it is ready."""
MOST_MEMORY = 8 << 30
"""Bytes that a copy may take beside what is loaded; decoders of 8K video take a tenth."""
MOST_FILES = 256


class Reader:
    """Reads uploads as one model asks for."""

    def __init__(self, contract: Contract, model: Path, clips: int, flips: bool) -> None:
        self.contract, self._views = contract, ClipViews(clips, flips)
        self._sees = "vision" in contract.model.modalities
        self.sentences = VideoSentences(model, contract) if contract.model.text is not None else None

    def parts(self, video: Video, asked: dict[str, Any]) -> Iterator[VideoPart]:
        """The parts of a video, as a request of `reading.Readers.open` asks for them."""
        windows = Windows(*asked["windows"]) if asked["windows"] else None
        if self.sentences is not None:
            return self.sentences.read_parts(video, windows, self._views)
        return read_parts(video, self.contract, windows, self._views, asked["faces"], asked["limit"])

    def about(self, video: Video) -> dict[str, Any]:
        """Seconds and size (width, height) of what is shown, as far as they are known before all is read."""
        told: dict[str, Any] = {"seconds": None, "size": None, "looked": 0.0}
        with suppress(DataError):
            told["seconds"] = declared_seconds(video.path) or None
            first = next(whole_pictures(video, self.contract.prepare), None) if self._sees else None
            if first is not None:
                height, width = first.rgb().shape[:2]
                told["size"] = [width, height]
        return told


class _Looks:
    """Tells how far a video is looked at: it is gone through before its first part is known."""

    def __init__(self, about: dict[str, Any], write: Callable[[bytes, bytes], None]) -> None:
        self._about, self._write, self._told = about, write, time.monotonic()

    def tell(self, seconds: float) -> None:
        """A picture of that time is decoded."""
        if self._about["seconds"] and time.monotonic() >= self._told + TELL_SECONDS:
            self._told = time.monotonic()
            looked = max(0.0, min(1.0, seconds / self._about["seconds"]))
            self._write(ABOUT, json.dumps(self._about | {"looked": looked}).encode())


def read(reader: Reader, asked: dict[str, Any], write: Callable[[bytes, bytes], None]) -> None:
    """Write all that there is to say of an upload."""
    video = Video(Path(asked["path"]), Path(asked["sound"]) if asked["sound"] else None)
    longer = f"{video.path} is longer than the {asked['limit']:g} s that this server reads"
    try:
        about = reader.about(video)
        write(ABOUT, json.dumps(about).encode())
        if (about["seconds"] or 0.0) > asked["limit"]:
            raise DataError(longer)
        with watched(_Looks(about, write).tell):
            for part in reader.parts(video, asked):
                write(PART, packed_part(part._replace(clip=None)))
        write(END, b"")
    except MmadferError as error:
        beyond = asked["windows"] and isinstance(error, ClipError) and error.reason == "too long"
        write(ERROR, (longer if beyond else str(error)).encode("utf-8", "backslashreplace"))
    except Exception as error:
        if lacks_memory(error):
            write(ERROR, f"{video.path} wants more memory than is left to read it".encode())
            return
        LOGGER.error(traceback.format_exc())
        write(ERROR, f"{video.path} cannot be read ({type(error).__name__}): it is damaged, or of a rare kind".encode())


def _writer(file: BinaryIO) -> Callable[[bytes, bytes], None]:
    def write(kind: bytes, data: bytes) -> None:
        file.write((1 + len(data)).to_bytes(LENGTH, "big") + kind + data)
        file.flush()

    return write


def _bounded() -> None:
    limits = {resource.RLIMIT_NOFILE: MOST_FILES, resource.RLIMIT_CORE: 0}  # a core would hold a stranger's face
    if sys.platform == "linux":
        here = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = here + MOST_MEMORY
    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _copy(work: Callable[[], None], parent: int) -> NoReturn:
    """In a copy of this process: work, and end."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        bind(parent)
        work()
        code = 0
    except BrokenPipeError:  # the server has had enough
        pass
    except BaseException:
        LOGGER.error(traceback.format_exc())
    finally:
        os._exit(code)


def _watch(reader: Reader, asked: dict[str, Any], parts: int, line: socket.socket) -> None:
    """Let a copy read, and end it when the line does; the copy's status goes on the line."""
    here, (ended, lives) = os.getpid(), os.pipe()
    child = os.fork()
    if not child:
        _copy(lambda: _read_bounded(reader, asked, parts, line, ended), here)
    os.close(parts)
    os.close(lives)
    waits = select.poll()
    for handle in (ended, line.fileno()):
        waits.register(handle, select.POLLIN | select.POLLHUP)
    if any(handle == line.fileno() for handle, _ in waits.poll()):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with suppress(OSError):  # nobody listens any more
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _read_bounded(reader: Reader, asked: dict[str, Any], parts: int, line: socket.socket, ended: int) -> None:
    line.close()
    os.close(ended)
    _bounded()
    with open(parts, "wb") as file:
        read(reader, asked, _writer(file))


def _received(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := line.recv(size - len(data))):
        data += more
    return data


def _serve(reader: Reader, requests: socket.socket) -> None:
    here = os.getpid()
    while True:
        head, files, _, _ = socket.recv_fds(requests, LENGTH, 2)
        if not head:
            return
        size = int.from_bytes(head + _received(requests, LENGTH - len(head)), "big")
        asked = json.loads(_received(requests, size))
        parts, line = files[0], socket.socket(fileno=files[1])
        if not os.fork():
            requests.close()
            _copy(lambda: _watch(reader, asked, parts, line), here)  # noqa: B023  # a copy has them for itself
        os.close(parts)
        line.close()


def main(arguments: list[str]) -> None:
    """Serve requests from the socket on standard input until its end.

    Args:
        arguments: file of the contract, path of the model, index sets, whether mirrored (0 or 1), the server's number.
    """
    contract_file, model, clips, flips, server = arguments
    bind(int(server))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the copies are nobody's to wait for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends this process
    requests = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    contract = contracts.loads(read_bytes(Path(contract_file)), Path(contract_file))
    reader = Reader(contract, Path(model), int(clips), flips == "1")
    load_readers(contract)
    requests.sendall(READY)
    _serve(reader, requests)
