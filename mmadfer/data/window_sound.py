"""Contiguous windows of stored clips: a part of the frames, and the sound of the same seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from mmadfer.data.frame_windows import Window
from mmadfer.data.media.fbank import FBANK_MEAN, FBANK_SCALE, SHIFT
from mmadfer.data.store.record import LATER, Clip, ClipRecord
from mmadfer.data.store.store import Rows, Store
from mmadfer.errors import DataError


def read_window(
    store: Store, clip: str, window: Window, frames: Sequence[int], rows: Mapping[str, Rows] = MappingProxyType({})
) -> ClipRecord:
    """Frames and rows of named tensors of a clip as `Store.read`, with the sound that is heard while a window is shown.

    Of a long clip, no more is read than the window needs: its frames, its blocks of the sound, and the record's head.

    Args:
        store: with the clip.
        clip: its id.
        window: frames of the clip, which lie in time.
        frames: those that are seen, of the whole clip.
        rows: as of `Store.read`.

    Returns:
        a record whose `fbank` is what `window_sound` gives of the whole record.

    Raises:
        DataError: the clip's frames do not come in the order of time, or what was read is damaged.
    """
    about, first = store.clips[clip], store.prepare.sound.frames

    def later(times: np.ndarray, _: int) -> range:
        due = _sound_rows(times, about, window)
        heard = _there(range(due.start, min(due.stop, max(0, due.start) + first)))
        return range(max(0, heard.start - first), max(0, heard.stop - first))

    record = store.read(clip, frames, rows={**rows, LATER: later})
    assert record.times is not None
    due = _sound_rows(record.times, about, window)
    parts = [record.fbank[: about.sound_frames][_there(due)], record.tensors.get(LATER)]
    sound = np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    return replace(record, fbank=_padded(sound, record.fbank, -due.start))


def window_sound(record: ClipRecord, clip: Clip, window: Window) -> np.ndarray:
    """The filter bank of the sound while a window's frames are shown; float32 as `record.fbank`, padded like it.

    Args:
        record: with the whole tensor `LATER`, where the clip has it.
        clip: what the index says of it.
        window: frames of the clip, which lie in time.

    Raises:
        DataError: the clip's frames do not come in the order of time.
    """
    assert record.times is not None
    rows = _sound_rows(record.times, clip, window)
    return _padded(_all(record, clip)[_there(rows)], record.fbank, -rows.start)


def window_span_seconds(times: np.ndarray, window: Window) -> tuple[float, float]:
    """When a window starts and ends, of the times of all frames of its clip in seconds."""
    first, count = window
    return float(times[first]), _end(times, first + count)


def _sound_rows(times: np.ndarray, clip: Clip, window: Window) -> range:
    """Filter-bank frames of the whole sound that are heard while a window's frames are shown.

    Where the window begins before the sound does, they count from below 0.
    """
    if np.any(np.diff(times) < 0):
        raise DataError(
            f"clip {clip.id!r} is not in the order of time, so no window has sound of its own: prepare the data again, "
            "with prepare.mafw_frame_order=time"
        )
    start, end = (round((time - clip.sound_start) * 1000 / SHIFT) for time in window_span_seconds(times, window))
    return range(start, max(start, end))


def _there(rows: range) -> slice:
    """Those that are not before the sound."""
    return slice(max(0, rows.start), max(0, rows.stop))


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


def _padded(sound: np.ndarray, like: np.ndarray, before: int) -> np.ndarray:
    """The beginning of the sound in an array like this one, with the filter bank's padding around it.

    Args:
        sound: float32 (n, mels).
        like: float32 (frames, mels).
        before: frames until the sound begins; below 0, none.
    """
    padded = np.full_like(like, (np.float32(0) - np.float32(FBANK_MEAN)) / np.float32(FBANK_SCALE))
    room = padded[max(0, before) :]
    room[: len(sound)] = sound[: len(room)]
    return padded
