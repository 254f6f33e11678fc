"""Which cues are named, by the rules of the published program (Richet et al. 2024, arXiv 2407.12927, its text side)."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

UNIT_ABOVE = 0.5
"""Intensity; an action unit is named above it."""
EMOTIONS_NAMED = 3
PROSODY_NAMED = 10
PROSODY_HIGH_ABOVE = 0.3
LEVEL_HIGH_FROM = 0.5
"""Of the rounded value, so that 0.4999 is high."""
LEVEL_DECIMALS = 2
GROUP = 10
"""Frames of a window in training; in evaluation a window has as many on either side of its frame."""
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""Of the face, in the order in which those of one probability are named."""


def named_units(units: Mapping[int, float]) -> list[int]:
    """Those that are active, by their numbers in FACS."""
    return sorted(unit for unit, intensity in units.items() if intensity > UNIT_ABOVE)


def top_emotions(emotions: Mapping[str, float]) -> list[str]:
    """The three with the highest probability, in falling order; none where all are 0."""
    known = {name: place for place, name in enumerate(EMOTIONS)}
    if not any(emotions.values()):
        return []
    return _highest(dict(sorted(emotions.items(), key=lambda one: known.get(one[0], len(known)))), EMOTIONS_NAMED)


def prosody_levels(prosody: Mapping[str, float]) -> dict[str, bool]:
    """The ten names with the highest score, in falling order, and whether each is high."""
    return {name: prosody[name] > PROSODY_HIGH_ABOVE for name in _highest(prosody, PROSODY_NAMED)}


def _highest(scores: Mapping[str, float], count: int) -> list[str]:
    """Names in falling order; those of one score stay in their order."""
    return sorted(scores, key=scores.__getitem__, reverse=True)[:count]


def level_number(value: float) -> str:
    """Arousal, valence or dominance as a number."""
    return str(_rounded(value))


def is_high(value: float) -> bool:
    """Whether arousal, valence or dominance is high."""
    return _rounded(value) >= LEVEL_HIGH_FROM


def _rounded(value: float) -> float:
    """Half to even of the hundredfold, as NumPy has it and Python has not: 0.505 becomes 0.5."""
    return float(np.round(value, LEVEL_DECIMALS))


def window_maxima(frames: np.ndarray, windows: Literal["training", "evaluation"]) -> np.ndarray:
    """The largest of each cue in each window, (n, cues) -> (windows, cues).

    In training, windows are groups of frames that follow each other; in evaluation there is one around each frame.
    """
    if windows == "training":
        spans = [(start, start + GROUP) for start in range(0, len(frames), GROUP)]
    else:
        spans = [(max(0, k - GROUP), k + GROUP + 1) for k in range(len(frames))]
    return np.stack([frames[start:end].max(axis=0) for start, end in spans])
