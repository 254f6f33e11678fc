"""Cues of video files: the face is found and followed as for a prediction, its landmarks in frames spread over it."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip, readable_clip, shown_span_seconds
from mmadfer.data.cues.cues import Cues, Part
from mmadfer.data.cues.face import face_cues
from mmadfer.data.cues.transcripts import Span
from mmadfer.data.cues.voice import Sound, read_sound, voice_cues
from mmadfer.data.draws import evenly
from mmadfer.data.faces.landmarks import NOWHERE, clip_landmarks
from mmadfer.data.media.frames import FrameSource, Seen, pictures
from mmadfer.errors import ClipError

MOST_FRAMES = 32
"""Of a clip that are looked at, spread over it evenly."""
ALWAYS: Span = (-math.inf, math.inf)


class Measured(NamedTuple):
    """What a clip is measured by."""

    span: Span
    """When its pictures are shown, in seconds; all times where nobody looks at them, or needs to know for its words."""
    landmarks: np.ndarray | None
    """float (n, 68, 2); None where faces are not used."""
    sound: Sound | None
    hears: bool
    """Whether sound is used."""
    notes: Sequence[str] = ()

    def cues(self, transcript: str | None, detected: Mapping[str, Any] = MappingProxyType({})) -> Cues:
        """The cues of the clip, whose words are these, with fields of `DetectedCues`."""
        face = None if self.landmarks is None else face_cues(self.landmarks)
        voice = voice_cues(self.sound, transcript) if self.hears else None
        return Cues(transcript=transcript, face=face, voice=voice, **detected)


def measured_with_words(
    measure: Callable[[], Measured], words: Callable[[Span], str | None], timed: bool
) -> tuple[Measured, str | None]:
    """What a clip is measured by, and its words; `timed` are those that go by the time at which it is shown.

    Others are asked for first: where they lack, nothing has to be measured. Raises as both functions.
    """
    found = None if timed else words(ALWAYS)
    measured = measure()
    return measured, words(measured.span) if timed else found


def spread(count: int) -> list[int]:
    """Which of a clip's frames are looked at."""
    return evenly(count, MOST_FRAMES)


def _span(path: FrameSource, sound: Path | None, settings: PrepareConfig) -> Span:
    """When the pictures are shown, whatever is on them; of a file of sound alone, how long it is."""
    try:
        return shown_span_seconds(Seen.of(pictures(path, settings)).times)
    except ClipError as error:
        heard = read_sound(path, sound, settings) if error.reason == "empty" else None
        if heard is None:
            raise
        return 0.0, round(len(heard.samples) / heard.rate, 3)


def measure_video(
    path: FrameSource,
    use: Container[Part],
    sound: Path | None = None,
    settings: PrepareConfig | None = None,
    cropped: bool = False,
    timed: bool = True,
) -> Measured:
    """What a video is measured by. One without a face, or without sound, is no error.

    Other arguments are as of `read_clip`; `timed`: its words, if they are used, go by the time at which it is shown.

    Raises:
        ClipError: it cannot be read, or is too long.
    """
    settings, hears, needs_span = settings or PrepareConfig(), "voice" in use, timed and "text" in use
    try:
        with readable_clip(path):
            heard = read_sound(path, sound, settings) if hears else None
            if "face" not in use:
                return Measured(_span(path, sound, settings) if needs_span else ALWAYS, None, heard, hears)
        clip = read_clip(path, settings, mute=True, cropped=cropped, keep=spread)
    except ClipError as error:
        if error.reason == "no face":
            return Measured(_span(path, sound, settings) if needs_span else ALWAYS, NOWHERE[None], heard, hears)
        if error.reason == "too long":
            what, _, _ = str(error).rpartition(": ")
            raise ClipError(f"{what}: cut it into clips, as there is one sentence for each", error.reason) from error
        raise
    return Measured(clip.span, clip_landmarks(clip.jpegs), heard, hears, [str(note) for note in clip.notes])
