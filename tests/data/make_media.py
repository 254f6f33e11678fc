"""Small real media files for tests: the astronaut's face (or none) with a tone (or none)."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

FPS, RATE = 25, 44100
EXACT = {"fflags": "+bitexact"}
"""The same file each time; Matroska's would get a name by chance."""
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@cache
def portrait() -> np.ndarray:
    """uint8 RGB (192, 256, 3) with one face, about 60 pixels wide at (118, 92)."""
    from skimage.data import astronaut

    image = Image.fromarray(astronaut()).crop((70, 0, 390, 240))
    return np.asarray(image.resize((256, 192), Image.Resampling.BILINEAR))


def moving_face(count: int, step: int = 1) -> list[np.ndarray]:
    """The portrait, moving to the right by `step` pixels in each frame."""
    return [np.roll(portrait(), step * k, axis=1) for k in range(count)]


def grey(count: int) -> list[np.ndarray]:
    return [np.full((192, 256, 3), 90 + k % 5, np.uint8) for k in range(count)]


def tone(seconds: float, rate: int = RATE, pitch: float = 220, channels: int = 1) -> np.ndarray:
    """float32 (channels, samples)."""
    samples = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    return np.repeat(samples[None].astype(np.float32), channels, axis=0)


def write_video(
    path: Path,
    frames: list[np.ndarray],
    sound: np.ndarray | None,
    *,
    rate: int = RATE,
    codecs: tuple[str, str] = ("libx264", "aac"),
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    ticks: list[int] | None = None,
) -> Path:
    """Write a video; `ticks` are the times of its frames in units of 1/FPS s, by default one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={**EXACT, **(options or {})}) as container:
        video: Any = container.add_stream(codecs[0], rate=FPS)
        video.height, video.width = frames[0].shape[:2] if frames else (192, 256)
        video.pix_fmt = pixels
        layout = LAYOUTS[1 if sound is None else len(sound)]
        audio: Any = None if sound is None else container.add_stream(codecs[1], rate=rate, layout=layout)
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = ticks[k] if ticks else k, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            container.mux([packet for frame in sound_frames(sound, rate, layout) for packet in audio.encode(frame)])
            container.mux(audio.encode(None))
    return path


def sound_frames(sound: np.ndarray, rate: int, layout: str) -> list[av.AudioFrame]:
    frames = []
    for start in range(0, sound.shape[1], 1024):
        block = sound[:, start : start + 1024].T.reshape(1, -1)  # packed: PyAV miscounts the planes of 8 channels
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        frames.append(frame)
    return frames


def write_images(folder: Path, images: list[np.ndarray], suffix: str = "png", **options: Any) -> Path:
    """A folder with 0.png, 1.png, …; options are those of Pillow's writer."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.{suffix}", **options)
    return folder


def rotate(path: Path, quarters: int) -> Path:
    """Say in an MP4's header that its pictures are to be turned clockwise by this many quarters."""
    turns = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
    before, after = (_matrix(*turns[k]) for k in (0, quarters))
    data = path.read_bytes()
    start = data.index(before, data.index(b"tkhd"))
    path.write_bytes(data[:start] + after + data[start + len(after) :])
    return path


def _matrix(a: int, b: int, c: int, d: int) -> bytes:
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def video(path: Path, seconds: float = 1.0, step: int = 1, pitch: float = 220) -> Path:
    """A good clip: a moving face and a tone."""
    return write_video(path, moving_face(round(seconds * FPS), step), tone(seconds, pitch=pitch))


def damage(path: Path, numbers: list[int]) -> Path:
    """Spoil the second half of these pictures' packets, so that a decoder has to make something up."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in (packets[number] for number in numbers):
        part = slice(position + size // 2, position + size)
        data[part] = bytes(byte ^ 0x5A for byte in data[part])
    path.write_bytes(data)
    return path


@contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Nobody may read the path; this process is somebody without rights meanwhile, should it be root."""
    rights, root = path.stat().st_mode, os.geteuid() == 0
    path.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(rights)
