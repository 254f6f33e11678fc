"""How long a media file says that it is, where it really says so."""

from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import av

from mmadfer.errors import ClipError

SAID = 0.002
"""Seconds by which FFmpeg's guess from bytes and bit rate may differ from bytes by bit rate."""
UNSAID = ("mpegts", "mpeg", "ogg")
"""Containers whose headers have no length."""
FROM_START = ("mov,mp4,m4a,3gp,3g2,mj2", "flv", "mp3")
"""Containers whose length counts from their first time stamp; that of others counts from 0."""
TOO_LONG = {"asf": 0.5}
"""Seconds by which writers of a container say too much, where sound or pictures start late."""
NOT_KNOWN = 0x7FFF0000
"""Lengths from here on, up to 64 kB above 2^31, and the last 64 kB below 2^32 are what writers to a pipe leave, who
cannot go back to write the real one; likewise 0, and -1 of 64 bits."""


def declared(path: Path, container: Any) -> float:
    """When a file (`av.container.InputContainer`) ends by its own header, in seconds of its own clock.

    Returns:
        0 where it does not say: a length that FFmpeg guesses from the bit rate of the first frames, and one that a
        writer to a pipe could not know, are none. Nor is one that FFmpeg reads off the last time stamp that is there
        (`UNSAID`).

    Raises:
        ClipError: there are no streams in it, or it has less bytes than its header says.
    """
    if not len(container.streams):
        raise ClipError(f"{path} holds neither pictures nor sound: it is not a video, or cut off")
    if not container.duration or container.format.name in UNSAID:
        return 0.0
    there = path.stat().st_size
    size = _written(path, container.format.name)
    if size is not None and size > there:
        raise ClipError(f"{path} is cut off: it has {there} of {size} bytes; copy it again")
    rate = sum(stream.codec_context.bit_rate or 0 for stream in container.streams if stream.codec_context)
    seconds = container.duration / av.time_base
    if container.format.name == "avi" and size and size + 1 >= there:
        return 0.0  # all bytes are there; its header counts sound that starts late twice
    if size == 0 or (rate and abs(seconds - there * 8 / rate) <= SAID):
        return 0.0
    begin = (container.start_time or 0) / av.time_base if container.format.name in FROM_START else 0.0
    return begin + seconds - TOO_LONG.get(container.format.name, 0.0)


def in_bytes(container: Any) -> bool:
    """Whether a file's header counts the bytes of its samples."""
    return container.format.name in (*FORMS, "au")


def _written(path: Path, form: str) -> int | None:
    """Bytes of a file by its own header, 0 where its writer did not know; None for forms that say nothing of bytes.

    FFmpeg takes the length of such files from the bytes that are there.
    """
    with path.open("rb") as file:
        if form == "avi":
            return _known(int.from_bytes(file.read(8)[4:], "little"), 8)
        if form == "au":
            head = file.read(12)
            return _known(int.from_bytes(head[8:], "big"), int.from_bytes(head[4:8], "big"))
        return _chunked(file, FORMS[form]) if form in FORMS else None


class _Form(NamedTuple):
    """A file of chunks: bytes before the first one, of a name and of a size, and how they are counted."""

    head: int
    name: int
    size: int
    order: Literal["little", "big"]
    data: bytes
    """Name of the chunk with the samples."""
    pad: int = 1
    """Chunks begin at multiples of so many bytes."""
    whole: bool = False
    """A chunk's size counts its name and size."""


FORMS = {
    "wav": _Form(12, 4, 4, "little", b"data", 2),
    "aiff": _Form(12, 4, 4, "big", b"SSND", 2),
    "caf": _Form(8, 4, 8, "big", b"data"),
    "w64": _Form(40, 16, 8, "little", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 8, True),
}
MOST_CHUNKS = 1000


def _chunked(file: BinaryIO, form: _Form) -> int | None:
    """Where the chunk with the samples ends; None where there is none."""
    at, large = form.head, 0
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        name, size = file.read(form.name), int.from_bytes(file.read(form.size), form.order)
        begin = at + form.name + form.size
        if name == form.data:
            size = large if size == 2**32 - 1 and form.name == 4 and large else size
            return _known(size - (begin - at if form.whole else 0), begin)
        if name == b"ds64":  # of RF64: sizes of more than 32 bits
            large = int.from_bytes(file.read(16)[8:], "little")
        if len(name) < form.name or size >= 2**62:
            return None
        at = -(-(at + size if form.whole else begin + size) // form.pad) * form.pad
    return None


def _known(size: int, begin: int) -> int:
    """Where `size` bytes end that begin somewhere; 0 where the size is none that was known."""
    return 0 if _unknown(size) else begin + size


def _unknown(size: int) -> bool:
    return size <= 0 or NOT_KNOWN <= size <= 2**31 + 0xFFFF or 2**32 - 2**16 <= size < 2**32 or size >= 2**62
