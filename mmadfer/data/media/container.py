"""A media file opened through PyAV, and what its packets hold; one that is cut off is noticed, never used in part.

Needs nothing but FFmpeg's libraries, which PyAV brings. Times are seconds from the start of the file, as players and
the ffmpeg program count. Only containers of media are opened, and only this one file: a playlist under a video's name
leads nowhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import av.error
import numpy as np
from av.stream import Disposition

from mmadfer.data.media import durations
from mmadfer.data.media.timeline import Clock
from mmadfer.errors import ClipError

SHORTER = 0.05
"""A file is cut off if this share of its duration, and `SHORTER_SECONDS`, are missing at the end."""
SHORTER_SECONDS = 0.25
MOST_PIXELS = 8192 * 4320
"""Of a picture: 8K video, the largest in use. A damaged header can promise gigabytes."""
BROADCAST = ("mpegts", "mpeg")
"""Containers made for lines that lose bits, in which a damaged packet is no reason to refuse the rest."""
JOINED = ("mp3", "aac")
"""Containers that are put one behind the other byte by byte, with all that is in front of their sound."""
MOST_JUNK = 10
"""Packets without sound that these may have; a file with more is damaged."""
CONTAINERS = (
    "mov,matroska,webm,avi,flv,live_flv,wav,w64,mpeg,mpegvideo,mpegts,asf,ogg,mp3,aac,flac,aiff,au,caf,amr,ac3,eac3,"
    "h264,hevc,av1,obu,ivf,m4v,mjpeg,dv,gif,nut,rm,mxf,swf,wtv,gxf,yuv4mpegpipe"
)
"""FFmpeg's demuxers for media; left out are those that read text as video or follow links to other files."""


def check_length(path: Path | str, limit: float | None, seconds: float) -> None:
    """Raises ClipError, `too long`, where a file has more than `limit` seconds."""
    if limit is not None and seconds > limit:
        raise ClipError(
            f"{path} is longer than {limit:g} s: cut it into clips, or raise prepare.max_seconds", "too long"
        )


_watcher = ContextVar[Callable[[float], None] | None]("_watcher", default=None)


@contextmanager
def watched(tell: Callable[[float], None]) -> Iterator[None]:
    """In the block, tell of each picture that is decoded in this thread its time in seconds, for whoever waits."""
    token = _watcher.set(tell)
    try:
        yield
    finally:
        _watcher.reset(token)


def declared_seconds(path: Path) -> float:
    """How long a file is by its own header; 0 where it does not say.

    Raises:
        ClipError: `unreadable`.
    """
    with _opened(path) as container:
        return max(0.0, durations.declared(path, container) - float(_start(container)))


class DecodedFrame(NamedTuple):
    """A frame of pictures or sound, as the decoder made it."""

    frame: Any
    """av.VideoFrame or av.AudioFrame."""
    time: float | None
    """In seconds from the start of the file; None where it says no time."""
    stream: Any
    """av.VideoStream or av.AudioStream."""


def decode_stream(
    path: Path, kind: Literal["video", "audio"], limit: float | None, told: list[str]
) -> Iterator[DecodedFrame]:
    """The frames of the first stream of a kind; all packets are read, so that a missing end is seen.

    Args:
        path: of the file.
        kind: which stream; a cover picture is no video.
        limit: seconds that the file may say it has.
        told: gets what a person should know of the file.

    Raises:
        ClipError: `unreadable`, or `too long`.
    """
    with _opened(path) as container:
        expected = durations.declared(path, container)
        check_length(path, limit, expected - float(_start(container)))
        streams = [stream for stream in container.streams if _is(stream, kind)]
        told.extend(f"{len(streams)} {kind} streams, the first is taken" for _ in streams[1:2])
        for stream in streams[:1]:
            _ready(path, stream.codec_context)
        reader, start = _Reader(path, container, expected), float(_start(container))
        tell = _watcher.get() if kind == "video" else None
        by_dts = container.format.name == "avi" and kind == "video"  # which has no other times
        for packet in reader.packets():
            if packet.stream in streams[:1]:
                for frame in reader.decoded(packet):
                    time = _dts(frame) if by_dts else frame.time
                    if tell is not None and time is not None:
                        tell(time - start)
                    yield DecodedFrame(frame, None if time is None else time - start, packet.stream)
        told.extend(reader.told())


def _dts(frame: Any) -> float | None:
    return None if frame.dts is None else float(frame.dts * frame.time_base)


def _is(stream: Any, kind: str) -> bool:
    return stream.type == kind and not (kind == "video" and stream.disposition & Disposition.attached_pic)


def _start(container: Any) -> Fraction:
    """When the file starts by its own clock, in seconds: FFmpeg tells it in microseconds, the stream as it is."""
    told = Fraction(container.start_time or 0, av.time_base)
    streams = (one.start_time * one.time_base for one in container.streams if one.start_time is not None)
    return min(streams, key=lambda start: abs(start - told), default=told) if told else told


class _Reader:
    """The packets of a file, in its order, on one line of time."""

    def __init__(self, path: Path, container: Any, expected: float) -> None:
        self._path, self._container, self._expected = path, container, expected
        self._placed = {one.index for one in container.streams if _is(one, "video") or _is(one, "audio")}
        self._clock, self._end, self._spoilt, self._junk = Clock(container.format.flags), 0.0, 0, 0

    def packets(self) -> Iterator[Any]:
        """All packets; those of pictures and sound have their place in time."""
        for packet in self._container.demux():
            self._end = max(self._end, _end(packet))
            if packet.is_corrupt:
                self._doubt(packet)
            if packet.stream.index in self._placed:
                self._clock.place(packet)
            yield packet
        missing = self._expected - self._end
        if missing > max(SHORTER_SECONDS, SHORTER * self._expected):
            raise ClipError(
                f"{self._path} is cut off: it ends after {self._end:.1f} of {self._expected:.1f} s; copy it again"
            )

    def _doubt(self, packet: Any) -> None:
        """What FFmpeg marks as damaged: a place in a broadcast, or the end of samples whose number nobody knew."""
        if self._container.format.name in BROADCAST:
            self._spoilt += 1
        elif self._expected or not durations.in_bytes(self._container):
            raise ClipError(f"{self._path} is damaged or cut off at {self._end:.1f} s: copy it again")

    def decoded(self, packet: Any) -> list[Any]:
        """The frames in a packet; junk between two recordings that were joined byte by byte has none."""
        if not packet.size and packet.dts is not None:
            return []  # Theora's way to say that the picture before goes on
        try:
            return list(packet.decode())
        except av.error.InvalidDataError:
            self._junk += 1
            if self._container.format.name not in JOINED or self._junk > MOST_JUNK:
                raise
            return []

    def told(self) -> Iterator[str]:
        """What a person should know of the file, once it is read."""
        if self._clock.parts > 1:
            yield f"its clock starts again: {self._clock.parts} recordings one after the other"
        if self._junk:
            yield f"{self._junk} packets hold no sound, as where files are joined: passed over"
        if self._spoilt:
            yield f"{self._spoilt} packets of its transport stream damaged"


def _ready(path: Path, decoder: Any) -> None:
    if decoder is None:
        raise ClipError(f"{path} has a codec that FFmpeg does not know: convert it to H.264 and AAC")
    if isinstance(decoder, av.VideoCodecContext) and decoder.width * decoder.height > MOST_PIXELS:
        raise ClipError(
            f"{path} says that its pictures have {decoder.width} x {decoder.height} pixels, more than 8K video: it is "
            "damaged, or to be made smaller"
        )
    decoder.thread_count = 1  # preparation runs one process per core
    decoder.options = {"max_pixels": str(MOST_PIXELS)}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "max_pixels": str(MOST_PIXELS)}
    # the prefix keeps names such as 12:30.mp4 from being taken for a protocol
    with readable_file(path), av.open(f"file:{path}", options=options) as container:
        yield container


@contextmanager
def readable_file(path: Path) -> Iterator[None]:
    """Tell in plain words what FFmpeg says of a file that is read meanwhile: raises ClipError, `unreadable`."""
    if not path.is_file() or path.stat().st_size == 0:
        what = "has zero bytes" if path.is_file() else "is not a file" if path.exists() else "does not exist"
        raise ClipError(f"{path} {what}: give a video file")
    before = _errors()
    try:
        yield
    except PermissionError as error:
        raise ClipError(f"{path} may not be read: mend its permissions") from error
    except (av.error.FFmpegError, ValueError) as error:
        # FFmpeg refuses to ask for more than 2 GiB; where these are to be had, it is the header that asks for too much
        lies = isinstance(error, MemoryError) and _has_memory()
        raise ClipError(
            f"{path} cannot be decoded ({_reason(error, before)}): it is not a video, or damaged or cut off"
        ) from (None if lies else error)


def _has_memory() -> bool:
    try:
        return bool(np.empty(2**31, np.uint8).nbytes)  # reserved, not used
    except MemoryError:
        return False


@contextmanager
def explained() -> Iterator[None]:
    """Have FFmpeg's own words in the messages meanwhile, and still none of them on the console.

    Only for processes in which nothing else decodes: PyAV can hang where threads that decode have something to say.
    """
    before = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    try:
        yield
    finally:
        av.logging.set_level(before)


@contextmanager
def remarked() -> Iterator[list[str]]:
    """Yield a list that gets what FFmpeg found wrong with the files read meanwhile, for a `ClipError` or a note.

    FFmpeg puts something in the place of pictures that it cannot decode; a clip without a face may be a damaged one.
    """
    before, remarks = _errors(), list[str]()
    try:
        yield remarks
    except ClipError as error:
        if error.reason == "unreadable" or not (said := _said(before)):
            raise
        raise ClipError(f"{error}; FFmpeg says that it is damaged: {said}", error.reason) from error
    if said := _said(before):
        remarks.append(f"damaged in places, FFmpeg says: {said}")


def _reason(error: Exception, before: int) -> str:
    """An error's name, and what FFmpeg said of it."""
    said = _said(before)
    if "whitelist" in said:
        return "text, a list of other files, or anything else that holds no media"
    reason = getattr(error, "strerror", None) or str(error)
    return f"{reason}: {said}" if said else reason


def _errors() -> int:
    """Those that FFmpeg told of up to now; none unless `explained`."""
    return int(av.logging.get_last_error()[0])


def _said(before: int) -> str:
    """FFmpeg's last words, if there are any since the errors that there were `before`."""
    count, said = av.logging.get_last_error()
    return said[2].strip() if said and count > before else ""


def _end(packet: av.Packet) -> float:
    """When the packet's content ends, in seconds; 0 for the empty packets that flush a decoder."""
    base = packet.time_base
    if packet.pts is None or base is None:
        return 0.0
    return (packet.pts + (packet.duration or 0)) * base.numerator / base.denominator
