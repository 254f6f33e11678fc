"""Files for a model that only hears: their sound alone is read, of a video as of a file without pictures."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import ClipData, readable_clip
from mmadfer.data.media import audio, container
from mmadfer.data.media.audio import Heard, Sounds
from mmadfer.data.video_windows import OF_ONE, VideoWindow, Windows
from mmadfer.errors import ClipError

_STEP = 0.01
"""Seconds between the times that say how long a clip without pictures is."""


def read_clip(
    path: Path, settings: PrepareConfig, *, sound: Path | None = None, heard: Callable[[int], None] | None = None
) -> ClipData:
    """The sound of a file as a clip without pictures; arguments and errors as of `data.clip.read_clip`."""
    with readable_clip(path), container.remarked() as remarks:
        found = audio.read(path, sound, settings, mute=False)
        if heard is not None:
            heard(found.rate)
    return _clip(found, 0.0, found.seconds, tuple(remarks))


def read_windows(
    path: Path,
    settings: PrepareConfig,
    windows: Windows,
    *,
    sound: Path | None = None,
    heard: Callable[[int], None] | None = None,
    limit: float = math.inf,
) -> Iterator[VideoWindow]:
    """The sound of a file of any length, window by window, from its first second to its last.

    It may have `limit` seconds. It is gone through twice: for its length, and for its sound; held in memory is that of
    one window.
    """
    settings = settings.model_copy(update={"max_seconds": math.inf})
    with readable_clip(path):
        seconds = Sounds(path, sound, settings, mute=False, placed=True).seconds(limit + 1)
        container.check_length(path, limit, seconds)
        sounds = Sounds(path, sound, settings, mute=False, placed=True)
        if heard is not None:
            heard(sounds.rate)
        for start, end in windows.spans(_times(0.0, seconds)):
            yield _window(sounds, start, end)


def _window(sounds: Sounds, start: float, end: float) -> VideoWindow:
    try:
        return VideoWindow(start, end, _clip(sounds.within(start, end), start, end))
    except ClipError as error:
        if error.reason not in OF_ONE:
            raise
        return VideoWindow(start, end, None, error)


def _clip(found: Heard, start: float, end: float, remarks: tuple[str, ...] = ()) -> ClipData:
    told = (*found.notes, *remarks)
    return ClipData([], found.fbank, _times(start, end), found.rate, found.silent, told, found.waveform)


def _times(start: float, end: float) -> np.ndarray:
    """Times from start to end, float64 seconds, at least one."""
    return start + _STEP * np.arange(max(1, round((end - start) / _STEP)))
