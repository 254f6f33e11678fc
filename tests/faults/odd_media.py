"""Good media files, and odd ones that are right: of every rate, size, number of channels, or a folder of frames."""

import shutil
import struct
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from damage import Draw, cut, emptied, flip, flip_head, flip_wav, gone, head_only, insert, patched, swap, zeros
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))  # this also runs as a program
from make_media import FPS, moving_face, portrait, rotate, tone, write_video

FRAMES = 12
FORMATS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mjpeg", "pcm_s16le"),
    "flv": ("flv", "mp3"),
}


@dataclass(frozen=True)
class Clip:
    """A clip as a table names it."""

    media: Path
    sound: Path | None = None


def make_bases(folder: Path) -> None:
    """Write the good files that are mutated."""
    for ending, codecs in FORMATS.items():
        _video(folder / f"base.{ending}", codecs=codecs)
    _video(folder / "front.mp4", movflags="faststart")
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
    **options: str,
) -> Path:
    sound = tone(max(count / FPS, 0.1), rate, channels=channels)
    return write_video(
        path, moving_face(count), sound, rate=rate, codecs=codecs, pixels=_pixels(codecs[0]), options=options
    )


def _pixels(codec: str) -> str:
    return "yuvj420p" if codec == "mjpeg" else "yuv420p"


def write(to: Path, ending: str, data: bytes | str) -> Clip:
    media = to.with_name(f"{to.name}.{ending}")
    media.write_bytes(data.encode("latin-1") if isinstance(data, str) else data)
    return Clip(media)


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
        return patched(data, b"IHDR", 0, struct.pack(">II", side, side))
    return patched(data, b"\xff\xc0\x00\x11\x08", 0, struct.pack(">HH", side, side))


def sound_bytes(draw: Draw, bases: Path, to: Path) -> Clip:
    clip = frames_good(draw, bases, to)
    assert clip.sound
    change = draw.choice((cut, flip, flip_wav, flip_wav, zeros, insert, swap, head_only, emptied, gone))
    _rewrite(draw, clip.sound, change)
    return clip


def _rewrite(draw: Draw, path: Path, change: Callable[[Draw, bytearray, bytes], None]) -> None:
    data = bytearray(path.read_bytes())
    try:
        change(draw, data, b"")
        path.write_bytes(data)
    except FileNotFoundError:
        path.unlink()
