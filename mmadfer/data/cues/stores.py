"""Cues of the clips of a store: of its landmarks, or of its frames where it has none, and of its media files' sound."""

from collections.abc import Container
from functools import partial

import numpy as np

from mmadfer.data.clip import readable_clip, shown_span_seconds
from mmadfer.data.cues.cues import Part
from mmadfer.data.cues.videos import Measured, spread
from mmadfer.data.cues.voice import Sound, read_sound
from mmadfer.data.faces.landmarks import clip_landmarks
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.store.landmark_tensors import checked, landmark_rows
from mmadfer.data.store.source_files import Digest, difference
from mmadfer.data.store.store import Store
from mmadfer.errors import ClipError, DataError


def measure_clip(store: Store, clip: str, use: Container[Part], was: Digest) -> Measured:
    """What a clip is measured by.

    Args:
        store: with the clip.
        clip: its id.
        use: parts of the sentence.
        was: what its files held when it was prepared.

    Raises:
        DataError: its record is damaged, its landmarks are none, or its media file is gone, changed, or cannot be read.
    """
    landmarks, times = _landmarks(store, clip, "face" in use)
    sound = _sound(store, clip, was) if "voice" in use else None
    return Measured(shown_span_seconds(times), landmarks, sound, "voice" in use)


def _landmarks(store: Store, clip: str, sees: bool) -> tuple[np.ndarray | None, np.ndarray]:
    """Of the frames that are looked at, with the times of all."""
    about, frames = store.clips[clip], spread(store.clips[clip].frames)
    if not sees:
        record = store.read(clip, [])
        assert record.times is not None
        return None, record.times
    if TENSOR in about.tensors:
        record = store.read(clip, [], rows={TENSOR: partial(landmark_rows, clip, np.array(frames))})
        found = checked(record.tensors[TENSOR], clip, len(frames))
    else:
        record = store.read(clip, frames)
        found = clip_landmarks(record.jpegs)
    assert record.times is not None
    return found, record.times


def _sound(store: Store, clip: str, was: Digest) -> Sound | None:
    files, about = store.files(clip), store.clips[clip]
    cure = "put it back, prepare the store again, or leave the voice out (--use face)"
    if changed := difference(files, was):
        raise DataError(f"clip {clip!r}: {files.media} {changed}, and its sound is measured there: {cure}")
    try:
        with readable_clip(files.media):
            return read_sound(files.media, files.sound, store.prepare) if about.rate else None
    except ClipError as error:
        raise DataError(f"clip {clip!r}: {error}: {cure}") from error
