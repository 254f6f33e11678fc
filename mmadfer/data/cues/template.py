"""The sentence of a clip: cues in, one line of plain English out, always the same for the same cues.

    Words: I did not expect that; Movements of the face: inner brows raised, jaw dropped; Expressions of the face:
    surprise, fear, neutral; Head: turned to the side; Tone of voice: high joy, low anger; Voice: high valence, high
    arousal, low dominance; Sound of the voice: high pitch, varied pitch, loud, fast, few pauses;

What changes a word, a threshold or an order is another version of the template, for a model has learnt its sentences.
Thresholds of what mmadfer measures are fixed numbers: a sentence depends on its own clip alone, so that no fold looks
at another, and a single video gets the sentence that it would get among others. What is high for one person is not for
another; the numbers are in the row.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mmadfer.config.base import Section
from mmadfer.data.cues.cues import PARTS, CalmFace, Cues, FaceCues, Part, VoiceCues
from mmadfer.data.cues.decisions import is_high, level_number, named_units, prosody_levels, top_emotions

VERSION: Literal[1] = 1
UNITS = {
    1: "inner brows raised",
    2: "outer brows raised",
    4: "brows lowered",
    5: "eyes wide open",
    6: "cheeks raised",
    7: "eyelids tightened",
    9: "nose wrinkled",
    10: "upper lip raised",
    11: "folds beside the nose deepened",
    12: "lip corners pulled up",
    14: "dimples",
    15: "lip corners pulled down",
    16: "lower lip lowered",
    17: "chin raised",
    20: "lips stretched",
    23: "lips tightened",
    24: "lips pressed together",
    25: "lips parted",
    26: "jaw dropped",
    27: "mouth stretched open",
    28: "lips sucked in",
    43: "eyes closed",
}
"""Number of an action unit in FACS -> its words; others are named by their number."""
NO_FACE = "no face found"
TURNED_DEGREES, NODDED_DEGREES, TILTED_DEGREES = 20, 15, 12
"""From here on a head is turned to the side, raised or lowered, tilted."""
LEVELS: dict[str, tuple[tuple[float, float], tuple[str, str, str]]] = {
    "pitch_hz": ((140, 220), ("low pitch", "medium pitch", "high pitch")),
    "pitch_range_semitones": ((3, 8), ("flat pitch", "moving pitch", "varied pitch")),
    "level_dbfs": ((-35, -15), ("quiet", "medium loudness", "loud")),
    "words_per_second": ((2, 3.5), ("slow", "medium speed", "fast")),
    "voiced_per_second": ((1.5, 3), ("slow", "medium speed", "fast")),
    "pause_share": ((0.02, 0.2), ("no pauses", "few pauses", "many pauses")),
}
"""Measure of the voice -> from where on the second and the third word hold, and the words."""
_NUMBERS, _WORDS = ("arousal", "valence", "dominance"), ("valence", "arousal", "dominance")
"""Orders of the published program."""


class Template(Section):
    """How a sentence is made."""

    version: Literal[1] = VERSION
    calm_face: CalmFace = "own"
    levels: Literal["words", "numbers"] = "words"
    """How arousal, valence and dominance are told."""
    use: Annotated[tuple[Part, ...], Field(min_length=1)] = PARTS
    """Parts of the sentence; their order is always the same."""


def sentence(cues: Cues, template: Template | None = None) -> str:
    """The sentence of a clip; empty where nothing is known of what is used."""
    template = template or Template()
    told = {"text": _text(cues), "face": _face(cues, template.calm_face), "voice": _voice(cues, template.levels)}
    return " ".join(f"{label}: {words};" for part in PARTS if part in template.use for label, words in told[part])


_Told = Iterator[tuple[str, str]]
"""Labels, and the words behind each."""


def _text(cues: Cues) -> _Told:
    if cues.transcript is not None:
        yield "Words", cues.transcript or "none"


def _face(cues: Cues, calm_face: CalmFace) -> _Told:
    measured = cues.face
    if cues.units is None and measured is not None and not measured.found:
        yield "Face", NO_FACE
        return
    units = cues.units if cues.units is not None else (measured.units or None) if measured else None  # {}: turned away
    active = named_units(units) if units is not None else []
    faceless = calm_face == "program" and units is not None and not active
    if units is not None:
        yield "Movements of the face", _listed(_unit(unit) for unit in active) or (NO_FACE if faceless else "none")
    if cues.emotions is not None:
        yield "Expressions of the face", NO_FACE if faceless else _listed(top_emotions(cues.emotions)) or "none"
    if measured is not None and measured.found and not faceless:
        yield "Head", _listed(_head(measured)) or "upright"


def _unit(unit: int) -> str:
    return UNITS.get(unit, f"action unit {unit}")


def _head(face: FaceCues) -> Iterator[str]:
    """Without left and right, as the mirror image of a face says the same."""
    if abs(face.yaw or 0) >= TURNED_DEGREES:
        yield "turned to the side"
    if abs(face.pitch or 0) >= NODDED_DEGREES:
        yield "lowered" if (face.pitch or 0) > 0 else "raised"
    if abs(face.roll or 0) >= TILTED_DEGREES:
        yield "tilted"


def _voice(cues: Cues, levels: Literal["words", "numbers"]) -> _Told:
    if cues.prosody is not None:
        highs = prosody_levels(cues.prosody).items()
        yield "Tone of voice", _listed(f"{_level(high)} {name}" for name, high in highs) or "no speech found"
    if told := _listed(_dimensions(cues, levels)):
        yield "Voice", told
    if cues.voice is not None:
        yield "Sound of the voice", _listed(_sound(cues.voice)) if cues.voice.speech else "no speech found"


def _dimensions(cues: Cues, levels: Literal["words", "numbers"]) -> Iterator[str]:
    for name in _NUMBERS if levels == "numbers" else _WORDS:
        if (value := getattr(cues, name)) is not None:
            yield f"{name} {level_number(value)}" if levels == "numbers" else f"{_level(is_high(value))} {name}"


def _level(high: bool) -> str:
    return "high" if high else "low"


def _sound(voice: VoiceCues) -> Iterator[str]:
    for measure, (bounds, words) in LEVELS.items():
        value = getattr(voice, measure)
        if value is not None and not (measure == "voiced_per_second" and voice.words_per_second is not None):
            yield words[bisect_right(bounds, value)]


def _listed(words: Iterator[str] | list[str]) -> str:
    return ", ".join(words)
