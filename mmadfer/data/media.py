"""Frames and sound of a media file through PyAV; a file that is cut off is noticed, never used in part.

Needs nothing but FFmpeg's libraries, which PyAV brings. Times are seconds from the start of the container.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np

from mmadfer.errors import ClipError

SHORTER = 0.05
"""A file is cut off if this share of its duration, and `SHORTER_SECONDS`, are missing at the end."""
SHORTER_SECONDS = 0.25


def read_frames(path: Path | str) -> Iterator[tuple[float, np.ndarray]]:
    """Decode all frames of the first video stream.

    Yields:
        time in seconds, and the upright picture, uint8 RGB (H, W, 3).

    Raises:
        ClipError: `unreadable` (no such file, not a video, damaged, cut off) or `empty` (no picture in it).
    """
    for frame in video_frames(path):
        yield frame_time(frame), to_rgb(frame)


def video_frames(path: Path | str) -> Iterator[av.VideoFrame]:
    """Like `read_frames`, with pictures as the decoder made them; `to_rgb` converts those that are wanted."""
    count = 0
    for frame in _decode(Path(path), "video"):
        count += 1
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


def read_sound(path: Path | str, rate: int | Literal["native"] = "native") -> tuple[np.ndarray, int]:
    """Decode the first sound stream, resampled by libswresample unless `rate` is `native`.

    Returns:
        waveform float32 (channels, samples) in [-1, 1], and its rate in Hz.

    Raises:
        ClipError: `no sound` (no sound stream, or nothing in it) or `unreadable`.
    """
    chunks, found = list[np.ndarray](), 0
    resampler = av.AudioResampler(format="fltp", rate=None if rate == "native" else rate)
    with _readable(Path(path)):
        for frame in _decode(Path(path), "audio"):
            chunks += [part.to_ndarray() for part in resampler.resample(frame)]
            found = found or frame.sample_rate
        if found:
            chunks += [part.to_ndarray() for part in resampler.resample(None)]
    if not chunks:
        raise ClipError(f"{path} has no sound: give a video with a sound track", "no sound")
    return np.concatenate(chunks, axis=1), found if rate == "native" else rate


def _decode(path: Path, kind: Literal["video", "audio"]) -> Iterator[Any]:
    """The frames of the first stream of a kind; all packets are read, so that a missing end is seen."""
    with _readable(path), av.open(str(path)) as container:
        stream = next((stream for stream in container.streams if stream.type == kind), None)
        if stream is not None:
            stream.codec_context.thread_count = 1  # preparation runs one process per core
        end, expected = 0.0, _duration(path, container)
        for packet in container.demux():
            end = max(end, _end(packet))
            if packet.is_corrupt:
                raise ClipError(f"{path} is damaged or cut off at {end:.1f} s: copy it again")
            if packet.stream is stream:
                yield from packet.decode()
        if expected - end > max(SHORTER_SECONDS, SHORTER * expected):
            raise ClipError(f"{path} is cut off: it ends after {end:.1f} of {expected:.1f} s; copy it again")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.is_file() or path.stat().st_size == 0:
        what = "has zero bytes" if path.is_file() else "is not a file" if path.exists() else "does not exist"
        raise ClipError(f"{path} {what}: give a video file")
    try:
        yield
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise ClipError(f"{path} cannot be decoded ({reason}): it is not a video, or damaged or cut off") from error


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
