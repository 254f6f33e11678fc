"""One row of cues, one sentence: a changed word is a changed test, and another version of the template."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmadfer.data.cues.cues import MOST_LINE_BYTES, Cues, Row, read_rows
from mmadfer.data.cues.template import LEVELS, UNITS, VERSION, Template, sentence
from mmadfer.errors import FileError

MEASURED = {
    "transcript": "I did not\n expect that.",
    "face": {"frames": 64, "found": 60, "units": {1: 0.8, 26: 0.51, 4: 0.5}, "yaw": -31.0, "pitch": 16.0, "roll": 2.0},
    "voice": {"speech": True, "pitch_hz": 231.0, "pitch_range_semitones": 9.0, "level_dbfs": -12.0,
              "voiced_per_second": 1.0, "words_per_second": 3.6, "pauses": 2, "pause_share": 0.1},
}  # fmt: skip
BROUGHT = {
    "units": {6: 0.6, 12: 0.9, 25: 0.5001, 43: 0.2},
    "emotions": {"happiness": 0.7, "surprise": 0.1, "neutral": 0.1, "anger": 0.1},
    "prosody": {"Joy": 0.301, "Interest": 0.3, "Surprise (positive)": 0.62},
    "arousal": 0.4999,
    "dominance": 0.126,
    "valence": 0.83,
}
GOLDEN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        MEASURED,
        {},
        "Words: I did not expect that.; Movements of the face: inner brows raised, jaw dropped; Head: turned to the "
        "side, lowered; Sound of the voice: high pitch, varied pitch, loud, fast, few pauses;",
    ),
    (
        BROUGHT,
        {},
        "Movements of the face: cheeks raised, lip corners pulled up, lips parted; Expressions of the face: happiness, "
        "anger, surprise; Tone of voice: high Surprise (positive), high Joy, low Interest; Voice: high valence, high "
        "arousal, low dominance;",
    ),
    (BROUGHT, {"levels": "numbers", "use": ["voice"]},
     "Tone of voice: high Surprise (positive), high Joy, low Interest; Voice: arousal 0.5, valence 0.83, "
     "dominance 0.13;"),
    (MEASURED | BROUGHT, {"use": ["face", "text"]},
     "Words: I did not expect that.; Movements of the face: cheeks raised, lip corners pulled up, lips parted; "
     "Expressions of the face: happiness, anger, surprise; Head: turned to the side, lowered;"),
    ({"units": {1: 0.5}, "emotions": {"fear": 1.0}}, {}, "Movements of the face: none; Expressions of the face: fear;"),
    ({"units": {1: 0.5}, "emotions": {"fear": 1.0}}, {"calm_face": "program"},
     "Movements of the face: no face found; Expressions of the face: no face found;"),
    ({"face": {"frames": 3, "found": 3, "units": {1: 0.2}}}, {}, "Movements of the face: none; Head: upright;"),
    ({"face": {"frames": 3, "found": 3, "yaw": 60.0}}, {}, "Head: turned to the side;"),  # its units are not known
    ({"face": {"frames": 3, "found": 0}, "emotions": {"fear": 1.0}}, {}, "Face: no face found;"),
    ({"transcript": " ", "prosody": {}, "voice": {"speech": False}}, {},
     "Words: none; Tone of voice: no speech found; Sound of the voice: no speech found;"),
    ({}, {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("cues", "template", "text"), GOLDEN)
def test_golden_sentences(cues: dict[str, Any], template: dict[str, Any], text: str) -> None:
    assert sentence(Cues.model_validate(cues), Template.model_validate(template)) == text


def test_every_level_has_its_word() -> None:
    for measure, (bounds, words) in LEVELS.items():
        for value, word in zip((bounds[0] - 0.001, bounds[0], bounds[1]), words, strict=True):
            cues = Cues.model_validate({"voice": {"speech": True, measure: value}})
            assert sentence(cues) == f"Sound of the voice: {word};"


def test_every_unit_has_its_word() -> None:
    assert len({*UNITS.values()}) == len(UNITS)
    assert sentence(Cues(units={99: 1.0})) == "Movements of the face: action unit 99;"


def row(name: str, cues: dict[str, Any]) -> Row:
    found = Cues.model_validate(cues)
    return Row(id=name, template=VERSION, cues=found, sentence=sentence(found))


def test_rows_come_back_from_a_file(tmp_path: Path) -> None:
    rows = [row("happy/a", MEASURED), row("é\\udce9", BROUGHT), row("none", {})]
    file = tmp_path / "cues.jsonl"
    file.write_text("".join(one.to_line() for one in rows), encoding="utf-8")
    assert list(read_rows(file)) == rows


GOOD = json.loads(row("a", MEASURED).to_line())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 holds no valid JSON"),
        ("[1]", "line 2 is no row of cues"),
        (json.dumps(GOOD), "clip 'a' has a row before"),
        (json.dumps(GOOD | {"id": "b", "sentences": ""}), "did you mean sentence"),
        (json.dumps(GOOD | {"id": "b", "cues": {"arousal": 1.5}}), "cues.arousal"),
        (json.dumps(GOOD | {"id": "b", "cues": {"units": {"1": float("nan")}}}), "no valid JSON"),
        (json.dumps(GOOD | {"id": "b", "sentence": "a\x1b[2Jb"}), "sentence: no control characters"),
        (json.dumps(GOOD | {"id": "b", "cues": {"transcript": "a" * 20_001}}), "cues.transcript"),
        (json.dumps(GOOD | {"id": "b", "notes": ["x" * MOST_LINE_BYTES]}), "a line of more than"),
    ],
)
def test_odd_files_are_refused(line: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "cues.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(FileError, match=told):
        list(read_rows(file))
