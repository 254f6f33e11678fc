"""Real media files, damaged or odd in every way that users' files have been: each a pure function of its draw.

A mutation takes a random generator, the good files and a path without ending; it writes a clip there and returns it.
"""

import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from damage import Draw, cut, double, flip, flip_head, flip_index, head_only, insert, patched, swap, zeros
from odd_media import (
    FORMATS,
    Clip,
    channels,
    frames_bytes,
    frames_good,
    frames_odd,
    hour,
    one_frame,
    rates,
    rotated,
    sound_bytes,
    tiny,
    uneven,
    write,
)

ALL = frozenset({"kept", "unreadable", "empty", "no face", "no sound", "sound rate", "too long"})
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
    "[red]{}[b]",
    "$(x) 'y' {}",
    "{} \udcff",
)

Mutation = Callable[[Draw, Path, Path], Clip]


# bytes of a good file, changed


def _of_bytes(change: Callable[[Draw, bytearray, bytes], None], draw: Draw, bases: Path, to: Path) -> Clip:
    base = bases / draw.choice(["front.mp4", *(f"base.{ending}" for ending in FORMATS)])
    data = bytearray(base.read_bytes())
    change(draw, data, INDEX[base.suffix[1:]])
    media = to.with_name(to.name + base.suffix)
    media.write_bytes(data)
    return Clip(media)


# headers that lie


def long_header(draw: Draw, bases: Path, to: Path) -> Clip:
    """A duration of days; FFmpeg trusts the sample table of an MP4 more than its header."""
    ending = draw.choice(["mp4", "mov", "flv", "mkv"])
    data, days = (bases / f"base.{ending}").read_bytes(), draw.randint(1, 300) * 86400
    if ending == "flv":
        data = patched(data, b"duration\0", 0, struct.pack(">d", days))
    elif ending == "mkv":
        data = patched(data, b"\x44\x89\x88", 0, struct.pack(">d", 1000 * days))
    else:
        data = patched(data, b"mvhd", 16, struct.pack(">I", 1000 * days % 2**32))
        data = patched(data, b"mdhd", 16, struct.pack(">I", 12800 * days % 2**32))
    return write(to, ending, data)


def large_header(draw: Draw, bases: Path, to: Path) -> Clip:
    """Pictures of 65,000 by 65,000 pixels."""
    ending = draw.choice(["mp4", "mov", "avi", "webm"])
    data, side = (bases / f"base.{ending}").read_bytes(), struct.pack(">HH", *[draw.choice((65000, 40000, 16384))] * 2)
    if ending == "avi":
        data = patched(data, b"\xff\xc0\x00\x11\x08", 0, side)
    elif ending == "webm":
        data = patched(data, b"\x49\x83\x42", 1, side)  # the size in a VP9 key frame, behind its sync code
    else:
        data = patched(data, b"avc1", 24, side)
    return write(to, ending, data)


def stamps(draw: Draw, bases: Path, to: Path) -> Clip:
    """Negative, huge or equal time stamps, and tables that say that they have billions of rows."""
    ending = draw.choice(["mp4", "mov"])
    data = (bases / f"base.{ending}").read_bytes()
    value = struct.pack(">I", draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
    box, offset = draw.choice([(b"stts", 12), (b"ctts", 12), (b"elst", 12), (b"mdhd", 12), (b"stts", 4), (b"stsz", 8)])
    return write(to, ending, patched(data, box, offset, value))


# what is no video


def wrong_ending(draw: Draw, bases: Path, to: Path) -> Clip:
    one, other = draw.sample(list(FORMATS), 2)
    return write(to, other, (bases / f"base.{one}").read_bytes())


def no_video(draw: Draw, bases: Path, to: Path) -> Clip:
    return write(to, draw.choice(list(FORMATS)), draw.choice(LIES))


def playlist(draw: Draw, bases: Path, to: Path) -> Clip:
    """A text that leads to another file, or out of the house."""
    return write(to, draw.choice(["mp4", "avi"]), draw.choice(LISTS).format(bases / "base.mp4"))


def noise(draw: Draw, bases: Path, to: Path) -> Clip:
    return write(to, draw.choice(list(FORMATS)), draw.randbytes(draw.randint(1, 9000)))


def nothing(draw: Draw, bases: Path, to: Path) -> Clip:
    return write(to, draw.choice(list(FORMATS)), b"")


def special(draw: Draw, bases: Path, to: Path) -> Clip:
    """Under a video's name a folder, a link that leads nowhere, or a pipe that nobody writes to."""
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
    return write(to.with_name(draw.choice(NAMES).format(to.name)), "mp4", (bases / "base.mp4").read_bytes())


BYTES = (cut, flip, flip_head, flip_index, zeros, insert, double, swap, head_only)
KEPT, UNREADABLE, LONG = frozenset({"kept"}), frozenset({"unreadable"}), frozenset({"too long"})
KINDS: dict[str, tuple[Mutation, frozenset[str]]] = {
    **{change.__name__: (partial(_of_bytes, change), ALL) for change in BYTES},
    "long header": (long_header, KEPT | UNREADABLE | LONG),
    "large header": (large_header, ALL),
    "stamps": (stamps, ALL),
    "wrong ending": (wrong_ending, KEPT),
    "no video": (no_video, UNREADABLE),
    "playlist": (playlist, UNREADABLE),
    "noise": (noise, UNREADABLE),
    "nothing": (nothing, UNREADABLE),
    "special": (special, UNREADABLE | {"empty", "no sound"}),
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
