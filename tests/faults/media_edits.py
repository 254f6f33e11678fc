"""Makers of media that one command does not write: other time stamps, joined, patched, cut, written to a pipe."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media_reference as reference
from media_kinds import Maker, words

Change = Callable[[str, float, Any], float | None]
"""change(video or audio, decoding time in seconds, packet) -> seconds by which it is later, or None: it is left out."""


def base(sources: Path, path: Path, command: str, name: str = "base") -> Path:
    """What ffmpeg makes of a command, beside the file that is to be."""
    made = path.with_name(f"{path.stem}.{name}{path.suffix}")
    reference.run(*words(command), str(made), folder=sources)
    return made


def edited(command: str, change: Change, **options: str) -> Maker:
    """A file whose packets have other times, or are not there."""

    def make(sources: Path, path: Path) -> None:
        with (
            av.open(str(base(sources, path, command))) as source,
            av.open(str(path), "w", options=options, container_options=options) as target,
        ):
            streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is None or packet.pts is None:
                    continue
                time_base = Fraction(packet.time_base)
                later = change(packet.stream.type, float(packet.dts * time_base), packet)
                if later is not None:
                    packet.pts += round(later / time_base)
                    packet.dts += round(later / time_base)
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)

    return make


def spoken(codec: str, rate: int) -> Maker:
    """A codec of telephones, which PyAV's FFmpeg writes and not every ffmpeg."""

    def make(sources: Path, path: Path) -> None:
        wave = base(sources, path.with_suffix(".wav"), f"-i mono.wav -ar {rate} -c:a pcm_s16le")
        with av.open(str(wave)) as source, av.open(str(path), "w") as target:
            stream = target.add_stream(codec, rate=rate, layout="mono")
            for frame in source.decode(audio=0):
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))

    return make


def copied(command: str, before: str) -> Maker:
    """A file whose packets ffmpeg copies, with what it is told in front of the input."""

    def make(sources: Path, path: Path) -> None:
        reference.run(*before.split(), "-i", str(base(sources, path, command)), "-c", "copy", str(path))

    return make


def without(kind: str, start: float, end: float) -> Change:
    """Leave out the packets of some seconds, of one kind of stream."""
    return lambda of, time, _: None if of == kind and start <= time < end else 0.0


def pause(at: float, seconds: float) -> Change:
    """Everything behind a time is later."""
    return lambda _, time, __: seconds if time >= at else 0.0


def drift(kind: str, share: float) -> Change:
    """One stream's clock is slower or faster."""
    return lambda of, time, _: share * time if of == kind else 0.0


def joined(*commands: str) -> Maker:
    """The bytes of several files, one behind the other."""

    def make(sources: Path, path: Path) -> None:
        parts = [base(sources, path, command, str(k)) for k, command in enumerate(commands)]
        path.write_bytes(b"".join(part.read_bytes() for part in parts))

    return make


def halves(command: str, second: str = "") -> Maker:
    """The source in two files of 0.8 s, one behind the other."""
    return joined(f"-i source.mkv -t 0.8 {command}", f"-ss 0.8 -i source.mkv {second or command}")


def streamed(command: str, muxer: str) -> Maker:
    """Written to a pipe, in which no length can be filled in later."""

    def make(sources: Path, path: Path) -> None:
        path.write_bytes(reference.run(*words(command), "-f", muxer, "-", folder=sources).stdout)

    return make


def patched(command: str, change: Callable[[bytearray], object]) -> Maker:
    """With other bytes; the change may return those it wants in their place."""

    def make(sources: Path, path: Path) -> None:
        data = bytearray(base(sources, path, command).read_bytes())
        changed = change(data)
        path.write_bytes(changed if isinstance(changed, (bytes, bytearray)) else data)

    return make


def cut(command: str, share: float) -> Maker:
    """Without its end."""
    return patched(command, lambda data: data[: round(share * len(data))])


def put(after: bytes, offset: int, content: bytes) -> Callable[[bytearray], None]:
    """Other bytes at an offset behind a mark."""

    def change(data: bytearray) -> None:
        at = data.index(after) + len(after) + offset
        data[at : at + len(content)] = content

    return change


def lengths(riff: bytes, samples: bytes) -> Callable[[bytearray], None]:
    """The two lengths in the header of a WAV file."""

    def change(data: bytearray) -> None:
        put(b"RIFF", 0, riff)(data)
        put(b"data", 0, samples)(data)

    return change


def matrix(a: int, b: int, c: int, d: int) -> Callable[[bytearray], None]:
    """The display matrix of the first track of an MP4 or MOV file."""

    def change(data: bytearray) -> None:
        start = data.index(b"tkhd") + 4 + 40
        width, height = struct.unpack_from(">II", data, start + 36)
        x, y = (height, width) if b else (width, height)
        to = (x if a + c < 0 else 0, y if b + d < 0 else 0)
        struct.pack_into(">9i", data, start, a << 16, b << 16, 0, c << 16, d << 16, 0, *to, 1 << 30)

    return change


def tags_first(data: bytearray) -> bytes:
    """An MP4 file whose index is at its end, with the tags (and their cover picture) in front of the tracks."""
    start, size = next((at, size) for kind, at, size in _boxes(data, 0, len(data)) if kind == b"moov")
    inner = [(kind, bytes(data[at : at + many])) for kind, at, many in _boxes(data, start + 8, start + size)]
    order = sorted(inner, key=lambda box: {b"mvhd": 0, b"udta": 1}.get(box[0], 2))
    return bytes(data[: start + 8]) + b"".join(box for _, box in order) + bytes(data[start + size :])


def _boxes(data: bytearray, at: int, end: int) -> list[tuple[bytes, int, int]]:
    found = []
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, at, size))
        at += size
    return found
