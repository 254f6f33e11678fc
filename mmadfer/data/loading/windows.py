"""Contiguous windows of stored clips: a part of the frames, and the sound of the same seconds."""

import numpy as np

from mmadfer.data.media.fbank import FBANK_MEAN, FBANK_SCALE, SHIFT
from mmadfer.data.store.record import LATER, Clip, ClipRecord
from mmadfer.errors import DataError

Window = tuple[int, int]
"""The first frame, from 0, and how many."""


def window_sound(record: ClipRecord, clip: Clip, window: Window) -> np.ndarray:
    """The filter bank of the sound while a window's frames are shown; float32 as `record.fbank`, padded like it.

    Args:
        record: with the tensor `LATER`, where the clip has it.
        clip: what the index says of it.
        window: frames of the clip, which lie in time.

    Raises:
        DataError: the clip's frames do not come in the order of time.
    """
    first, count = window
    assert record.times is not None
    if np.any(np.diff(record.times) < 0):
        raise DataError(
            f"clip {clip.id!r} is not in the order of time, so no window has sound of its own: prepare the "
            "data with prepare.mafw_frame_order=time"
        )
    times = record.times[first : first + count]
    start = round((times[0] - clip.sound_start) * 1000 / SHIFT)
    end = round((_end(record.times, first + count) - clip.sound_start) * 1000 / SHIFT)
    sound = _all(record, clip)[max(0, start) : max(0, end)][: len(record.fbank)]
    padded = np.full_like(record.fbank, (np.float32(0) - np.float32(FBANK_MEAN)) / np.float32(FBANK_SCALE))
    padded[: len(sound)] = sound
    return padded


def _end(times: np.ndarray, behind: int) -> float:
    """When the frame after a window is shown, or the clip ends."""
    if behind < len(times):
        return float(times[behind])
    return float(times[-1]) + (float(np.median(np.diff(times))) if len(times) > 1 else 0.0)


def _all(record: ClipRecord, clip: Clip) -> np.ndarray:
    """The whole sound that the store holds, without padding."""
    later = record.tensors.get(LATER)
    head = record.fbank[: clip.sound_frames]
    return head if later is None else np.concatenate([head, np.asarray(later)])
