"""An upload: a multipart form, written to files of our own names as it comes in, and never further than it may."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from mmadfer.serve.errors import HttpError
from mmadfer.serve.limits import MOST_NAME
from mmadfer.utils.terminal import shown

FILES, OPTIONS = ("video", "sound"), ("window", "hop", "faces")
BESIDE = 64 << 10
"""Bytes of a form beside its files."""
_MOST_TEXT = 100
"""Bytes of an option."""
_WRITE_BYTES = 1 << 20
STALL_SECONDS = 30.0
"""Without a byte, after which a client is given up."""
_LOOK_SECONDS = 0.5
"""Between two looks whether the server stops."""


@dataclass
class Upload:
    """What was sent; its files are removed as soon as they are read."""

    video: Path
    name: str
    """Of the video, for people only."""
    sound: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    def told(self, text: str) -> str:
        """A message without the names of our files."""
        if self.sound is not None:
            text = text.replace(str(self.sound), f"the sound of {self.name}")
        return text.replace(str(self.video), self.name)

    def remove(self) -> None:
        """Remove its files, if they are there."""
        self.video.unlink(missing_ok=True)
        if self.sound is not None:
            self.sound.unlink(missing_ok=True)


def shown_name(name: bytes) -> str:
    """What a client calls a file, for people: its last part, shortened, with nothing hidden."""
    text = name.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    text = shown(text).strip()
    return (text[: MOST_NAME - 1] + "…" if len(text) > MOST_NAME else text) or "video"


class _Form:
    """Takes a form apart; what is to be written collects in `held`."""

    def __init__(self, boundary: bytes, folder: Path, job: str) -> None:
        self._folder, self._job = folder, job
        self.upload = Upload(folder / f"{job}.video", "video")
        self._seen, self._disposition = set[str](), b""
        self._header, self._value, self._field, self._text = b"", b"", "", b""
        self.held, self.size, self.whole = list[tuple[BinaryIO, bytes]](), 0, False
        self._files = dict[str, BinaryIO]()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_end,
                "on_end": self._on_whole,
            },
        )

    def take(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise HttpError(400, "the body is no whole multipart form: send it as multipart/form-data") from error

    def write(self) -> None:
        """Write what is held."""
        held, self.held, self.size = self.held, [], 0
        for file, data in held:
            file.write(data)
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # of a full disk, which was told when it was written
                file.close()

    def _begin(self) -> None:
        self._disposition = self._header = self._value = self._text = b""
        self._field = ""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        kind, told = parse_options_header(self._disposition)
        name = told.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or name not in (*FILES, *OPTIONS) or name in self._seen:
            what = "a field twice" if name in self._seen else "a field that there is not"
            raise HttpError(400, f"the form has {what}: it takes one of each of {', '.join((*FILES, *OPTIONS))}")
        self._seen.add(name)
        self._field = name
        if name in FILES:
            self._open(name, told.get(b"filename", b""))

    def _open(self, name: str, told: bytes) -> None:
        path = self._folder / f"{self._job}.{name}"  # nothing of it is the client's
        if name == "video":
            self.upload.name = shown_name(told)
        else:
            self.upload.sound = path
        self._files[name] = open(path, "xb")  # noqa: SIM115  # until the form is whole

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field in FILES:
            self.held.append((self._files[self._field], data[start:end]))
            self.size += end - start
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_TEXT:
            raise HttpError(400, f"{self._field} has more than {_MOST_TEXT} letters")

    def _on_end(self) -> None:
        if self._field in OPTIONS:
            self.upload.options[self._field] = self._text.decode("utf-8", "replace").strip()

    def _on_whole(self) -> None:
        self.whole = True

    def check(self) -> Upload:
        """The whole upload."""
        if not self.whole:
            raise HttpError(400, "the form ends too early: send it again")
        if "video" not in self._seen or not self.upload.video.stat().st_size:
            raise HttpError(400, "there is no video in the form, or an empty one: give a file in the field `video`")
        return self.upload


def boundary_of(request: Request) -> bytes:
    """Of the request's form.

    Raises:
        HttpError: it is no form.
    """
    kind, told = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise HttpError(415, "the video is sent as multipart/form-data, in the field `video`")
    boundary = told.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise HttpError(400, "the form has no boundary of 1 to 70 letters: send it as multipart/form-data")
    return boundary


def check_length(request: Request, most: int) -> None:
    """Raises HttpError where a request says that it has more than `most` bytes of files."""
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:20]) > most + BESIDE:
        raise too_large(most)


def too_large(most: int) -> HttpError:
    """The error of an upload of more than `most` bytes."""
    return HttpError(413, f"the upload has more than {most} bytes, the most that this server takes: make it smaller")


def check_running(stopping: Callable[[], bool]) -> None:
    """Raises HttpError where the server stops."""
    if stopping():
        raise HttpError(503, "the server stops: send it again later")


async def chunks(request: Request, stopping: Callable[[], bool]) -> AsyncIterator[bytes]:
    """A request's body as it comes.

    Raises:
        HttpError: the server stops.
        TimeoutError: nothing comes.
        ClientDisconnect: the client is gone.
    """
    body = aiter(request.stream())
    while (data := await _next(body, stopping)) is not None:
        yield data


async def _next(body: AsyncIterator[bytes], stopping: Callable[[], bool]) -> bytes | None:
    loop = asyncio.get_running_loop()
    coming, end = asyncio.ensure_future(anext(body, None)), loop.time() + STALL_SECONDS
    try:
        while True:
            check_running(stopping)
            done, _ = await asyncio.wait({coming}, timeout=_LOOK_SECONDS)
            if done:
                return coming.result()
            if loop.time() > end:
                raise TimeoutError
    finally:
        coming.cancel()


async def received(
    request: Request, folder: Path, job: str, most: int, seconds: float, stopping: Callable[[], bool]
) -> Upload:
    """Receive a form.

    Args:
        request: its body has not been read.
        folder: of ours.
        job: names the files in it.
        most: bytes that it may have.
        seconds: that it may take.
        stopping: whether the server stops.

    Raises:
        HttpError: it is no form, or larger, or slower, or the server stops; no file is left.
        ClientDisconnect: the client is gone; no file is left.
        OSError: the disk is full, for example; no file is left.
    """
    form = _Form(boundary_of(request), folder, job)
    try:
        async with asyncio.timeout(seconds):
            await _receive(chunks(request, stopping), form, most)
        check_running(stopping)
        return form.check()
    except BaseException as error:
        form.upload.remove()
        if isinstance(error, TimeoutError):
            raise HttpError(408, "the upload came too slowly: send a smaller one, or over a faster line") from error
        raise
    finally:
        form.close()


async def _receive(body: AsyncIterator[bytes], form: _Form, most: int) -> None:
    taken = 0
    async for data in body:
        taken += len(data)
        if taken > most + BESIDE:
            raise too_large(most)
        form.take(data)
        if form.size >= _WRITE_BYTES:
            await anyio.to_thread.run_sync(form.write)
    await anyio.to_thread.run_sync(form.write)


def number(options: dict[str, str], name: str) -> float | None:
    """An option that is a number of seconds; None where it is not given.

    Raises:
        HttpError: it is no number.
    """
    text = options.get(name, "")
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise HttpError(400, f"{name} must be a number of seconds, such as 5")
    return found
