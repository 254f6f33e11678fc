"""Frames and sound of a media file through PyAV; a file that is cut off is noticed, never used in part.

Needs nothing but FFmpeg's libraries, which PyAV brings. Times are seconds from the start of the container. Only
containers of media are opened, and only this one file: a playlist under a video's name leads nowhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import av.error
import numpy as np

from mmadfer.errors import ClipError

SHORTER = 0.05
"""A file is cut off if this share of its duration, and `SHORTER_SECONDS`, are missing at the end."""
SHORTER_SECONDS = 0.25
MOST_PIXELS = 8192 * 4320
"""Of a picture: 8K video, the largest in use. A damaged header can promise gigabytes."""
MOST_FPS = 1000
"""A file with more pictures per second of the limit is too long, whatever its time stamps say."""
RATES = (1000, 192_000)
"""Lowest and highest rate of sound in Hz; what is outside is a damaged header."""
MOST_CHANNELS = 24
"""22.2 surround; more is a damaged header too."""
CONTAINERS = (
    "mov,matroska,webm,avi,flv,live_flv,wav,w64,mpeg,mpegvideo,mpegts,asf,ogg,mp3,aac,flac,aiff,au,caf,amr,ac3,eac3,"
    "h264,hevc,av1,obu,ivf,m4v,mjpeg,dv,gif,nut,rm,mxf,swf,wtv,gxf,yuv4mpegpipe"
)
"""FFmpeg's demuxers for media; left out are those that read text as video or follow links to other files."""


def read_frames(path: Path | str) -> Iterator[tuple[float, np.ndarray]]:
    """Decode all frames of the first video stream.

    Yields:
        time in seconds, and the upright picture, uint8 RGB (H, W, 3).

    Raises:
        ClipError: `unreadable` (no such file, not a video, damaged, cut off) or `empty` (no picture in it).
    """
    for frame in video_frames(path):
        yield frame_time(frame), to_rgb(frame)


def video_frames(path: Path | str, limit: float | None = None) -> Iterator[av.VideoFrame]:
    """Like `read_frames`, with pictures as the decoder made them; `to_rgb` converts those that are wanted.

    Raises:
        ClipError: as `read_frames`; `too long` as soon as pictures lie more than `limit` seconds apart.
    """
    count, first = 0, 0.0
    for frame in _decode(Path(path), "video", limit):
        first = first if count else frame_time(frame)
        count += 1
        _check_length(path, limit, max(frame_time(frame) - first, count / MOST_FPS))
        yield frame
    if not count:
        raise ClipError(f"{path} has no pictures: give a video file", "empty")


def frame_time(frame: av.VideoFrame) -> float:
    """When the frame is shown, in seconds; frames without a time stamp are at 0."""
    return float(frame.time or 0.0)


def to_rgb(frame: av.VideoFrame, longest: int | None = None) -> np.ndarray:
    """The upright picture, uint8 RGB (H, W, 3), made smaller if its longer side has more than `longest` pixels."""
    width, height = frame.width, frame.height
    if longest and max(width, height) > longest:
        scale = longest / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))  # both count counter-clockwise


def read_sound(
    path: Path | str, rate: int | Literal["native"] = "native", limit: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode the first sound stream, resampled by libswresample unless `rate` is `native`.

    Returns:
        waveform float32 (channels, samples) in [-1, 1], and its rate in Hz.

    Raises:
        ClipError: `no sound` (no sound stream, or nothing in it), `too long` (more than `limit` seconds) or
            `unreadable`.
    """
    chunks, heard = list[np.ndarray](), 0
    for chunk in sound_chunks(path, rate, limit):
        chunks.append(chunk.waveform.T)
        heard = chunk.rate
    packed = np.concatenate(chunks)
    chunks.clear()  # before the next copy is made
    return np.ascontiguousarray(packed.T), heard


class Sound(NamedTuple):
    """A piece of sound."""

    waveform: np.ndarray
    """float32 (channels, samples) in [-1, 1]."""
    rate: int
    """In Hz."""
    start: float
    """When the sound that it is a piece of starts, in seconds."""


def sound_chunks(
    path: Path | str, rate: int | Literal["native"] = "native", limit: float | None = None
) -> Iterator[Sound]:
    """Like `read_sound`, piece by piece, so that a film's sound need not fit into the memory.

    Raises:
        ClipError: as `read_sound`; `no sound` comes before the first piece, the others may come behind some.
    """
    samples, kind, start, any_ = 0, (0, 0), 0.0, False
    # packed samples are one plane; of 8 planes and more, PyAV 18 reads on behind the last one
    resampler = av.AudioResampler(format="flt", rate=None if rate == "native" else rate)
    with _readable(Path(path)):
        for frame in chain(_decode(Path(path), "audio", limit), [None]):  # None: the end, which the resampler holds
            if frame is not None:
                kind, start = _same_sound(path, frame, kind), start if samples else float(frame.time or 0.0)
                samples += frame.samples
                _check_length(path, limit, samples / frame.sample_rate)
            for part in resampler.resample(frame) if samples else ():
                if part.samples:
                    any_ = True
                    packed = part.to_ndarray().reshape(-1, kind[1])
                    yield Sound(packed.T, kind[0] if rate == "native" else rate, start)
    if not any_:
        raise ClipError(f"{path} has no sound: give a video with a sound track", "no sound")


def _same_sound(path: Path | str, frame: Any, before: tuple[int, int]) -> tuple[int, int]:
    """Rate and number of channels, which stay what they were in a sound file."""
    kind = (frame.sample_rate, frame.layout.nb_channels)
    if not (RATES[0] <= kind[0] <= RATES[1] and 1 <= kind[1] <= MOST_CHANNELS):
        raise ClipError(
            f"{path} says that its sound has {kind[1]} channels at {kind[0]} Hz, but at most {MOST_CHANNELS} at "
            f"{RATES[0]} to {RATES[1]} Hz can be: it is damaged; copy it again"
        )
    if before[0] and kind != before:
        raise ClipError(
            f"the sound of {path} changes from {before[1]} channels at {before[0]} Hz to {kind[1]} at {kind[0]} Hz: it "
            "is damaged, or several recordings in one file; copy it again, or cut it"
        )
    return kind


def _check_length(path: Path | str, limit: float | None, seconds: float) -> None:
    if limit is not None and seconds > limit:
        raise ClipError(
            f"{path} is longer than {limit:g} s: cut it into clips, or raise prepare.max_seconds", "too long"
        )


def _decode(path: Path, kind: Literal["video", "audio"], limit: float | None) -> Iterator[Any]:
    """The frames of the first stream of a kind; all packets are read, so that a missing end is seen."""
    with _opened(path) as container:
        _check_length(path, limit, (container.duration or 0) / av.time_base)
        stream = next((stream for stream in container.streams if stream.type == kind), None)
        if stream is not None:
            _ready(path, stream.codec_context)
        end, expected = 0.0, _duration(path, container)
        for packet in container.demux():
            end = max(end, _end(packet))
            if packet.is_corrupt:
                raise ClipError(f"{path} is damaged or cut off at {end:.1f} s: copy it again")
            if packet.stream is stream:
                yield from packet.decode()
        if expected - end > max(SHORTER_SECONDS, SHORTER * expected):
            raise ClipError(f"{path} is cut off: it ends after {end:.1f} of {expected:.1f} s; copy it again")


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
    with _readable(path), av.open(f"file:{path}", options=options) as container:
        yield container


@contextmanager
def _readable(path: Path) -> Iterator[None]:
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
    if packet.pts is None or packet.time_base is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * Fraction(packet.time_base))


def _duration(path: Path, container: Any) -> float:
    """When the container says that it ends, in seconds; 0 if it does not say."""
    if not len(container.streams):
        raise ClipError(f"{path} holds neither pictures nor sound: it is not a video, or cut off")
    if container.format.name == "avi" and _riff_size(path) > path.stat().st_size:
        raise ClipError(f"{path} is cut off: it has {path.stat().st_size} of {_riff_size(path)} bytes; copy it again")
    return ((container.start_time or 0) + (container.duration or 0)) / av.time_base if container.duration else 0.0


def _riff_size(path: Path) -> int:
    """Bytes of an AVI file by its own header; FFmpeg guesses a duration from the bytes that are there."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little") + 8
