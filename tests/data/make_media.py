"""Small real media files for tests: the astronaut's face (or none) with a tone (or none)."""

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

FPS, RATE = 25, 44100


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
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        video: Any = container.add_stream(codecs[0], rate=FPS)
        video.height, video.width = frames[0].shape[:2] if frames else (192, 256)
        video.pix_fmt = "yuv420p"
        layout = "stereo" if sound is not None and len(sound) == 2 else "mono"
        audio: Any = None if sound is None else container.add_stream(codecs[1], rate=rate, layout=layout)
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            container.mux([packet for frame in _sound_frames(sound, rate, layout) for packet in audio.encode(frame)])
            container.mux(audio.encode(None))
    return path


def _sound_frames(sound: np.ndarray, rate: int, layout: str) -> list[av.AudioFrame]:
    frames = []
    for start in range(0, sound.shape[1], 1024):
        block = np.ascontiguousarray(sound[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        frames.append(frame)
    return frames


def video(path: Path, seconds: float = 1.0, step: int = 1, pitch: float = 220) -> Path:
    """A good clip: a moving face and a tone."""
    return write_video(path, moving_face(round(seconds * FPS), step), tone(seconds, pitch=pitch))
