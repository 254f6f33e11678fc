"""What Praat measures of the sound of a clip: pitch, loudness, speed and pauses.

Praat (Boersma and Weenink) comes with parselmouth, which is GPL-3.0 (docs/cues.md): it is imported only where
sound is measured. Pitch is found by autocorrelation (Boersma 1993) between 75 and 500 Hz, stretches of sound by
intensity, both with Praat's own settings.
"""

import warnings
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.cues.cues import VoiceCues
from mmadfer.data.media.audio import beginning, channel, source_of
from mmadfer.data.media.decode import SoundTrack
from mmadfer.data.media.frames import FrameSource
from mmadfer.errors import ClipError
from mmadfer.utils.optional import need

EXTRA = "cues"
RATE_HZ = 16_000
"""At which sound is measured, whatever rate a model hears: enough for voices, and minutes of it fit into memory."""
FLOOR_HZ, CEILING_HZ = 75.0, 500.0
STEP_SECONDS = 0.01
SILENCE_DB = -25.0
"""Below the loudest part; Praat's usual value."""
PAUSE_SECONDS, SOUND_SECONDS = 0.25, 0.1
"""Shortest pause, and shortest sound between two."""
_SHORTEST_SECONDS = 0.1
"""Praat needs three periods of the lowest pitch, and four windows of intensity."""
_FULL_SCALE_DB = 20 * np.log10(1 / 2e-5)
"""What Praat calls the level of a constant 1, as its decibels are of 20 micropascals."""
NOTHING = VoiceCues(speech=False)
_PRAAT = Lock()
"""Warnings are of the whole process, so one thread at a time may silence them."""


class Sound(NamedTuple):
    """The sound of a clip."""

    samples: np.ndarray
    """float32 (n,), of the channel that the model hears."""
    rate: int
    """In Hz."""


def read_sound(path: FrameSource, sound: Path | None, settings: PrepareConfig) -> Sound | None:
    """The sound of a clip up to `settings.max_seconds`, None where there is none.

    Raises:
        ClipError: it cannot be read.
        OSError: the file is not there.
    """
    try:
        track = SoundTrack(source_of(path, sound), RATE_HZ, settings.max_seconds)
        waveform, rate, _, _ = beginning(track, lambda rate: int(rate * settings.max_seconds))
    except ClipError as error:
        if error.reason != "no sound":
            raise
        return None
    return Sound(waveform[channel(waveform, settings)[0]], rate)


def voice_cues(sound: Sound | None, transcript: str | None = None) -> VoiceCues:
    """The cues of a sound; without speech where no part of it has a pitch.

    Args:
        sound: of the clip.
        transcript: of its words, which says how fast they are spoken.

    Raises:
        MissingDependencyError: parselmouth is not installed.
    """
    praat = need("parselmouth", extra=EXTRA)
    if sound is None or len(sound.samples) < _SHORTEST_SECONDS * sound.rate or not np.any(sound.samples):
        return NOTHING
    samples = np.nan_to_num(sound.samples.astype(np.float64)).clip(-1, 1)
    heard = praat.Sound(samples, sampling_frequency=float(sound.rate))
    pitch = heard.to_pitch_ac(time_step=STEP_SECONDS, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ)
    hertz = pitch.selected_array["frequency"]
    if not np.any(hertz > 0):
        return NOTHING
    level = _level(heard, pitch.xs()[hertz > 0])
    with _PRAAT, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sound that is equally loud throughout, which is one stretch
        spoken, pauses, pause_seconds = _stretches(praat, heard)
    semitones = 12 * np.log2(hertz[hertz > 0])
    words = len(transcript.split()) if transcript is not None else None
    return VoiceCues(
        speech=True,
        pitch_hz=round(float(np.median(hertz[hertz > 0])), 1),
        pitch_range_semitones=_spread(semitones),
        level_dbfs=round(float(np.median(level)), 1),
        level_range_db=_spread(level),
        voiced_per_second=round(_runs(hertz > 0) / spoken, 2),
        words_per_second=None if words is None else round(words / spoken, 2),
        pauses=pauses,
        pause_share=round(pause_seconds / (spoken + pause_seconds), 3),
    )


def _level(heard: Any, times: np.ndarray) -> np.ndarray:
    """In decibels below the loudest that there can be, at these times."""
    intensity = heard.to_intensity(minimum_pitch=FLOOR_HZ, time_step=STEP_SECONDS)
    return np.asarray(np.interp(times, intensity.xs(), intensity.values[0]) - _FULL_SCALE_DB)


def _stretches(praat: Any, heard: Any) -> tuple[float, int, float]:
    """Seconds of sound, and how many pauses there are between its first and its last part, with their seconds."""
    how = (FLOOR_HZ, 0.0, SILENCE_DB, PAUSE_SECONDS, SOUND_SECONDS, "silent", "sounding")
    grid = praat.praat.call(heard, "To TextGrid (silences)", *how)
    rows = [line.split("\t") for line in praat.praat.call(grid, "List", False, 6, False, False).splitlines()[1:]]
    parts = [(label, float(end) - float(start)) for start, label, end in rows]
    while parts and parts[0][0] == "silent":
        parts.pop(0)
    while parts and parts[-1][0] == "silent":
        parts.pop()
    pauses = [seconds for label, seconds in parts if label == "silent"]
    spoken = sum(seconds for label, seconds in parts if label != "silent")
    return spoken or float(heard.get_total_duration()), len(pauses), sum(pauses)


def _runs(voiced: np.ndarray) -> int:
    """Stretches of true values."""
    return int(np.count_nonzero(np.diff(voiced.astype(np.int8), prepend=0) == 1))


def _spread(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.1, 0.9])
    return round(float(high - low), 2)
