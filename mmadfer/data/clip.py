"""One media file to face crops and filter bank: the same for preparation, runtime and parity."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmadfer.config import PrepareConfig
from mmadfer.data import faces, media
from mmadfer.data.fbank import fbank
from mmadfer.errors import ClipError


@dataclass(frozen=True)
class ClipData:
    """What the model sees of a media file, before frames are chosen."""

    frames: list[np.ndarray]
    """Face crops of all frames, uint8 RGB (face_size, face_size, 3)."""
    fbank: np.ndarray
    """float32 (frames, mels), padded and normalised."""
    times: np.ndarray
    """When each frame is shown, float64 seconds."""
    waveform: np.ndarray
    """The whole sound, float32 (channels, samples) in [-1, 1]."""
    rate: int
    """Of the waveform, in Hz."""

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the pictures in seconds; the last is shown as long as others are."""
        shown = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        return round(float(self.times[0]), 3), round(float(self.times[-1]) + shown, 3)


def read_clip(path: Path | str, settings: PrepareConfig) -> ClipData:
    """Decode a media file, follow its face, cut it out of every frame, and compute the filter bank of its sound.

    The file is decoded twice, first small to find the face, so that large frames are never held in memory.

    Raises:
        ClipError: with `reason` `unreadable`, `empty`, `no sound` or `no face`.
    """
    waveform, rate = media.read_sound(path, settings.sound.rate)
    with _one_thread():
        try:
            bands = fbank(waveform, rate, settings.sound)
        except ClipError as error:
            raise ClipError(f"{path}: {error}", error.reason) from error
        boxes = _find_face(path, settings.detect_every)
    frames, times = list[np.ndarray](), list[float]()
    for (time, image), box in zip(media.read_frames(path), boxes, strict=True):
        frames.append(faces.crop(image, box, settings.face_size, settings.face_margin))
        times.append(time)
    return ClipData(frames, bands, np.array(times), waveform, rate)


_moment = threading.Lock()
"""Held while torch's number for threads yet to start is another one."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch's order of sums, which changes with its threads: a box's last digit can move a crop by a pixel.

    Other threads of this process, such as a server's, keep their number, and may be in here at the same time.
    """
    with _moment:
        before = torch.get_num_threads()  # this also makes the number this thread's own; see below
        _set_here_only(1, before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _set_here_only(count: int, elsewhere: int) -> None:
    # torch sets two numbers: the calling thread's own, and the one that threads start with that ask for the first time
    torch.set_num_threads(count)
    other = threading.Thread(target=torch.set_num_threads, args=(elsewhere,))
    other.start()
    other.join()


def _find_face(path: Path | str, every: int) -> np.ndarray:
    """Boxes of all frames, (frames, 4) as in `faces`."""
    indexes = list[int]()
    boxes = faces.track(faces.detect(_looked_at(path, every, indexes)))
    count = indexes[-1] + 1
    found = faces.interpolate(indexes, boxes, count)
    if found is None:
        raise ClipError(f"{path} shows no face in any of the {len(indexes)} frames looked at (of {count})", "no face")
    return found


def _looked_at(path: Path | str, every: int, indexes: list[int]) -> Iterator[np.ndarray]:
    """Every n-th frame and the last one, small; their indexes are added to `indexes`."""
    index, frame = -1, None
    for index, frame in enumerate(media.video_frames(path)):
        if index % every == 0:
            indexes.append(index)
            yield media.to_rgb(frame, faces.LONGEST)
    if frame is not None and indexes[-1] != index:
        indexes.append(index)
        yield media.to_rgb(frame, faces.LONGEST)
