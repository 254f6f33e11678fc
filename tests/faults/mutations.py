"""Real media files, damaged or odd in every way that users' files have been: each a pure function of its draw.

A mutation takes a random generator, the good files and a path without ending; it writes a clip there and returns it.
"""

import random
import re
import shutil
import struct
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))  # this also runs as a program
from make_media import FPS, moving_face, portrait, rotate, tone, write_video

ALL = frozenset({"kept", "unreadable", "empty", "no face", "no sound", "too long"})
FRAMES = 12
FORMATS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mjpeg", "pcm_s16le"),
    "flv": ("flv", "mp3"),
}
TRACKS = b"\x16\x54\xae\x6b"
INDEX = {"mp4": b"moov", "mov": b"moov", "mkv": TRACKS, "webm": TRACKS, "avi": b"hdrl", "flv": b"onMetaData"}
LIES = ("a text\n" * 99, "<!doctype html><title>404</title>" * 30, "%PDF-1.7\n1 0 obj\n" * 40, "PK\x03\x04" + "a" * 999)
LISTS = ("#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n", "#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/{}\n")
NAMES = (
    "file:12:30 {}",
    "-i {}",
    "%04d {}",
    "concat:a|{}",
    "näive 😀 {}",
    "a\nb {}",
    "[red]{}[/]",
    "$(x) 'y' {}",
    "{} \udcff",
)

Draw = random.Random


@dataclass(frozen=True)
class Clip:
    """A clip as a table names it."""

    media: Path
    sound: Path | None = None


Mutation = Callable[[Draw, Path, Path], Clip]


def make_bases(folder: Path) -> None:
    """Write the good files that are mutated."""
    for ending, codecs in FORMATS.items():
        _video(folder / f"base.{ending}", codecs=codecs)
    _video(folder / "front.mp4", options={"movflags": "faststart"})
    frames = folder / "frames"
    frames.mkdir()
    for k, image in enumerate(moving_face(FRAMES)):
        Image.fromarray(image).save(frames / f"{k:03d}.{'png' if k % 4 == 3 else 'jpg'}")
    with wave.open(str(folder / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((tone(0.5, 16000)[0] * 2**15).astype("<i2").tobytes())


def _video(
    path: Path,
    count: int = FRAMES,
    *,
    codecs: tuple[str, str] = FORMATS["mp4"],
    rate: int = 48000,
    channels: int = 1,
    **options: dict[str, str],
) -> Path:
    sound = tone(max(count / FPS, 0.1), rate, channels=channels)
    return write_video(path, moving_face(count), sound, rate=rate, codecs=codecs, pixels=_pixels(codecs[0]), **options)


def _pixels(codec: str) -> str:
    return "yuvj420p" if codec == "mjpeg" else "yuv420p"


# bytes of a good file, changed


def _flip(draw: Draw, data: bytearray, start: int, stop: int) -> None:
    for _ in range(draw.randint(1, 64)):
        data[draw.randrange(start, min(stop, len(data)))] ^= 1 << draw.randrange(8)


def cut(draw: Draw, data: bytearray, _: bytes) -> None:
    del data[draw.randrange(len(data)) :]


def flip(draw: Draw, data: bytearray, _: bytes) -> None:
    _flip(draw, data, 0, len(data))


def flip_head(draw: Draw, data: bytearray, _: bytes) -> None:
    _flip(draw, data, 0, 4096)


def flip_index(draw: Draw, data: bytearray, index: bytes) -> None:
    start = max(data.find(index), 0)
    _flip(draw, data, start, start + 1500)


def zeros(draw: Draw, data: bytearray, _: bytes) -> None:
    start = draw.randrange(len(data))
    stop = min(len(data), start + draw.choice((16, 256, 4096)))
    data[start:stop] = bytes(stop - start)


def insert(draw: Draw, data: bytearray, _: bytes) -> None:
    start = draw.randrange(len(data))
    data[start:start] = draw.randbytes(draw.randint(1, 5000))


def double(draw: Draw, data: bytearray, _: bytes) -> None:
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.randint(1, 5000)]


def swap(draw: Draw, data: bytearray, _: bytes) -> None:
    size = draw.randint(1, len(data) // 3)
    one, two = draw.randrange(len(data) - 2 * size), draw.randrange(len(data) - size)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]


def head_only(draw: Draw, data: bytearray, _: bytes) -> None:
    """Anything behind a video's first bytes."""
    start = draw.randint(8, 200)
    data[start:] = draw.randbytes(len(data) - start)


def _of_bytes(change: Callable[[Draw, bytearray, bytes], None], draw: Draw, bases: Path, to: Path) -> Clip:
    base = bases / draw.choice(["front.mp4", *(f"base.{ending}" for ending in FORMATS)])
    data = bytearray(base.read_bytes())
    change(draw, data, INDEX[base.suffix[1:]])
    media = to.with_name(to.name + base.suffix)
    media.write_bytes(data)
    return Clip(media)


# headers that lie


def _patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Put `value` at `offset` behind every `box`."""
    out = bytearray(data)
    for found in re.finditer(re.escape(box), data):
        start = found.end() + offset
        out[start : start + len(value)] = value
    return bytes(out)


def long_header(draw: Draw, bases: Path, to: Path) -> Clip:
    """A duration of days."""
    ending = draw.choice(["mp4", "mov", "flv", "mkv"])
    data, days = (bases / f"base.{ending}").read_bytes(), draw.randint(1, 300) * 86400
    if ending == "flv":
        data = _patched(data, b"duration\0", 0, struct.pack(">d", days))
    elif ending == "mkv":
        data = _patched(data, b"\x44\x89\x88", 0, struct.pack(">d", 1000 * days))
    else:
        data = _patched(data, b"mvhd", 16, struct.pack(">I", 1000 * days % 2**32))
        data = _patched(data, b"mdhd", 16, struct.pack(">I", 12800 * days % 2**32))
    return _write(to, ending, data)


def large_header(draw: Draw, bases: Path, to: Path) -> Clip:
    """Pictures of 65,000 by 65,000 pixels."""
    ending = draw.choice(["mp4", "mov", "avi", "webm"])
    data, side = (bases / f"base.{ending}").read_bytes(), struct.pack(">HH", *[draw.choice((65000, 40000, 16384))] * 2)
    if ending == "avi":
        data = _patched(data, b"\xff\xc0\x00\x11\x08", 0, side)
    elif ending == "webm":
        data = _patched(data, b"\x49\x83\x42", 1, side)  # the size in a VP9 key frame, behind its sync code
    else:
        data = _patched(data, b"avc1", 24, side)
    return _write(to, ending, data)


def stamps(draw: Draw, bases: Path, to: Path) -> Clip:
    """Negative, huge or equal time stamps."""
    ending = draw.choice(["mp4", "mov"])
    data = (bases / f"base.{ending}").read_bytes()
    value = struct.pack(">I", draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
    box, offset = draw.choice([(b"stts", 12), (b"ctts", 12), (b"elst", 12), (b"mdhd", 12)])
    return _write(to, ending, _patched(data, box, offset, value))


def _write(to: Path, ending: str, data: bytes | str) -> Clip:
    media = to.with_name(f"{to.name}.{ending}")
    media.write_bytes(data.encode("latin-1") if isinstance(data, str) else data)
    return Clip(media)


# what is no video


def wrong_ending(draw: Draw, bases: Path, to: Path) -> Clip:
    one, other = draw.sample(list(FORMATS), 2)
    return _write(to, other, (bases / f"base.{one}").read_bytes())


def no_video(draw: Draw, bases: Path, to: Path) -> Clip:
    return _write(to, draw.choice(list(FORMATS)), draw.choice(LIES))


def playlist(draw: Draw, bases: Path, to: Path) -> Clip:
    """A text that leads to another file, or out of the house."""
    return _write(to, draw.choice(["mp4", "avi"]), draw.choice(LISTS).format(bases / "base.mp4"))


def noise(draw: Draw, bases: Path, to: Path) -> Clip:
    return _write(to, draw.choice(list(FORMATS)), draw.randbytes(draw.randint(1, 9000)))


def nothing(draw: Draw, bases: Path, to: Path) -> Clip:
    return _write(to, draw.choice(list(FORMATS)), b"")


def special(draw: Draw, bases: Path, to: Path) -> Clip:
    """Under a video's name a folder, a link that leads nowhere, or a pipe that nobody writes to."""
    import os

    media = to.with_name(to.name + ".mp4")
    makers: list[Callable[[], object]] = [
        media.mkdir,
        lambda: media.symlink_to(media),
        lambda: media.symlink_to("gone.mp4"),
        lambda: os.mkfifo(media),
        lambda: media.symlink_to("/dev/zero"),
    ]
    draw.choice(makers)()
    return Clip(media)


def locked(draw: Draw, bases: Path, to: Path) -> Clip:
    """A file, or a folder of frames, that may not be read."""
    clip = draw.choice((name, frames_good))(draw, bases, to)
    clip.media.chmod(0)
    return clip


def name(draw: Draw, bases: Path, to: Path) -> Clip:
    return _write(to.with_name(draw.choice(NAMES).format(to.name)), "mp4", (bases / "base.mp4").read_bytes())


# odd, but right


def tiny(draw: Draw, bases: Path, to: Path) -> Clip:
    height, width = draw.choice(((1, 1), (17, 33), (33, 17), (2, 400), (400, 2)))
    image = portrait()[:1, :1] if height == 1 else np.asarray(Image.fromarray(portrait()).resize((width, height)))
    sound = tone(0.5, 48000)
    ending = draw.choice(("avi", "mkv"))
    codecs = ("mjpeg" if ending == "avi" else "ffv1", "pcm_s16le")
    return Clip(
        write_video(
            to.with_suffix(f".{ending}"),
            [image] * 6,
            sound,
            rate=48000,
            codecs=codecs,
            pixels="yuvj444p" if ending == "avi" else "yuv444p",
        )
    )


def one_frame(draw: Draw, bases: Path, to: Path) -> Clip:
    ending = draw.choice(list(FORMATS))
    return Clip(_video(to.with_suffix(f".{ending}"), 1, codecs=FORMATS[ending]))


def channels(draw: Draw, bases: Path, to: Path) -> Clip:
    ending, codec = draw.choice((("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "flac"), ("avi", "pcm_s16le")))
    count = draw.choice((2, 6, 8))
    return Clip(_video(to.with_suffix(f".{ending}"), channels=count, codecs=("libx264", codec)))


def rates(draw: Draw, bases: Path, to: Path) -> Clip:
    ending, codec = draw.choice((("mov", "pcm_s16le"), ("mkv", "flac"), ("avi", "pcm_s16le"), ("mp4", "aac")))
    return Clip(_video(to.with_suffix(f".{ending}"), rate=draw.choice((8000, 96000)), codecs=("libx264", codec)))


def uneven(draw: Draw, bases: Path, to: Path) -> Clip:
    """A variable frame rate."""
    ticks = np.cumsum([draw.choice((1, 1, 1, 2, 3)) for _ in range(FRAMES)]).tolist()
    sound = tone(ticks[-1] / FPS, 48000)
    ending = draw.choice(("mp4", "mkv", "mov"))
    path = to.with_suffix(f".{ending}")
    return Clip(write_video(path, moving_face(FRAMES), sound, rate=48000, codecs=FORMATS[ending], ticks=ticks))


def rotated(draw: Draw, bases: Path, to: Path) -> Clip:
    quarters = draw.choice((1, 2, 3))
    frames = [np.rot90(image, quarters) for image in moving_face(FRAMES)]
    path = write_video(to.with_suffix(".mp4"), frames, tone(0.5, 48000), rate=48000)
    return Clip(rotate(path, quarters))


def hour(draw: Draw, bases: Path, to: Path) -> Clip:
    """Pictures or sound of an hour."""
    ending = draw.choice(("mp4", "mkv", "avi"))
    image, path = portrait()[::4, ::4], to.with_suffix(f".{ending}")
    options = {"live": "1"} if ending == "mkv" else {}  # says no duration
    if ending == "avi":
        sound = np.zeros((1, 3600 * 8000), np.float32)
        return Clip(write_video(path, [image] * 3, sound, rate=8000, codecs=("mjpeg", "pcm_u8"), pixels="yuvj420p"))
    ticks = [60 * FPS * k for k in range(61)]
    return Clip(write_video(path, [image] * 61, tone(0.5, 48000), rate=48000, options=options, ticks=ticks))


# folders of frames, and sound files of their own


def frames_good(draw: Draw, bases: Path, to: Path) -> Clip:
    shutil.copytree(bases / "frames", to)
    return Clip(to, Path(shutil.copy(bases / "sound.wav", to.with_name(to.name + ".wav"))))


def frames_bytes(draw: Draw, bases: Path, to: Path) -> Clip:
    clip = frames_good(draw, bases, to)
    change = draw.choice((cut, flip, flip_head, zeros, insert, swap, head_only, emptied))
    for path in draw.sample(sorted(to.iterdir()), draw.choice((1, 1, FRAMES))):
        _rewrite(draw, path, change)
    return clip


def frames_odd(draw: Draw, bases: Path, to: Path) -> Clip:
    """Frames that are missing, of another size, huge by their headers, or no pictures."""
    clip = frames_good(draw, bases, to)
    path = draw.choice(sorted(to.iterdir()))
    odd: list[Callable[[], object]] = [
        path.unlink,
        lambda: path.write_bytes(_huge(path)),
        lambda: Image.fromarray(portrait()[: draw.choice((1, 33)), :77]).save(path),
        lambda: Image.fromarray(portrait()).convert(draw.choice(("L", "P", "1"))).save(path.with_suffix(".png")),
        lambda: (to / "notes.txt").write_text("by hand"),
        lambda: (to / "Thumbs.db").write_bytes(b"\0" * 99),
        lambda: (path.unlink(), path.symlink_to(path)),
        lambda: [file.unlink() for file in to.iterdir()],
    ]
    draw.choice(odd)()
    return clip


def _huge(path: Path) -> bytes:
    data, side = path.read_bytes(), 60000
    if path.suffix == ".png":
        return _patched(data, b"IHDR", 0, struct.pack(">II", side, side))
    return _patched(data, b"\xff\xc0\x00\x11\x08", 0, struct.pack(">HH", side, side))


def sound_bytes(draw: Draw, bases: Path, to: Path) -> Clip:
    clip = frames_good(draw, bases, to)
    assert clip.sound
    change = draw.choice((cut, flip, flip_wav, flip_wav, zeros, insert, swap, head_only, emptied, gone))
    _rewrite(draw, clip.sound, change)
    return clip


def flip_wav(draw: Draw, data: bytearray, _: bytes) -> None:
    _flip(draw, data, 0, 44)


def emptied(draw: Draw, data: bytearray, _: bytes) -> None:
    data.clear()


def gone(draw: Draw, data: bytearray, _: bytes) -> None:
    raise FileNotFoundError


def _rewrite(draw: Draw, path: Path, change: Callable[[Draw, bytearray, bytes], None]) -> None:
    data = bytearray(path.read_bytes())
    try:
        change(draw, data, b"")
        path.write_bytes(data)
    except FileNotFoundError:
        path.unlink()


BYTES = (cut, flip, flip_head, flip_index, zeros, insert, double, swap, head_only)
KEPT, UNREADABLE, LONG = frozenset({"kept"}), frozenset({"unreadable"}), frozenset({"too long"})
KINDS: dict[str, tuple[Mutation, frozenset[str]]] = {
    **{change.__name__: (partial(_of_bytes, change), ALL) for change in BYTES},
    "long header": (long_header, UNREADABLE | LONG),
    "large header": (large_header, ALL),
    "stamps": (stamps, ALL),
    "wrong ending": (wrong_ending, KEPT),
    "no video": (no_video, UNREADABLE),
    "playlist": (playlist, UNREADABLE),
    "noise": (noise, UNREADABLE),
    "nothing": (nothing, UNREADABLE),
    "special": (special, UNREADABLE | {"empty"}),
    "locked": (locked, UNREADABLE),
    "name": (name, KEPT | UNREADABLE),
    "tiny": (tiny, frozenset({"no face"})),
    "one frame": (one_frame, KEPT),
    "channels": (channels, KEPT),
    "rates": (rates, KEPT),
    "uneven": (uneven, KEPT),
    "rotated": (rotated, KEPT),
    "hour": (hour, LONG),
    "frames good": (frames_good, KEPT),
    "frames bytes": (frames_bytes, ALL),
    "frames odd": (frames_odd, ALL),
    "sound bytes": (sound_bytes, ALL),
}
"""Name -> what makes it, and the outcomes that are right."""


def make(seed: int, number: int, bases: Path, folder: Path) -> tuple[str, Clip]:
    """Make one mutation; its kind and content depend on nothing but `seed` and `number`."""
    kind = list(KINDS)[number % len(KINDS)]
    to = folder / f"{number:04d}"
    return kind, KINDS[kind][0](Draw(f"{seed}/{number}"), bases, to)
