"""All pictures or all sound of a media file at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mmadfer.data.media.decode import SoundTrack, video_frames


def read_frames(path: Path | str) -> Iterator[tuple[float, np.ndarray]]:
    """Time in seconds, and the picture as it is to be seen, uint8 RGB (H, W, 3)."""
    for frame in video_frames(path):
        yield frame.time, frame.rgb()


def read_sound(
    path: Path | str, rate: int | Literal["native"] = "native", limit: float | None = None
) -> tuple[np.ndarray, int]:
    """The first sound stream at its own time: float32 (channels, samples) in [-1, 1], and its rate in Hz."""
    chunks = list(SoundTrack(path, rate, limit))
    return np.ascontiguousarray(np.concatenate([chunk.waveform for chunk in chunks], axis=1)), chunks[-1].rate
