"""Cues put into words: every decision of a reference file, of the product's own functions, all of them exact."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from golden import FormError, Row, compared, lacking

from mmadfer.config.label_orders import C_EXPR
from mmadfer.data.cues import decisions
from mmadfer.data.cues.cues import Cues
from mmadfer.data.cues.template import NO_FACE, UNITS, Template, sentence

Arrays = Mapping[str, np.ndarray]
WORDS = (
    *("unit_names", "emotion_names", "prosody_names", "arousal_valence_dominance_numbers"),
    *("label_names", "basic_names"),
)
GIVEN = (
    *("unit_ids", "unit_names", "emotion_names", "prosody_names", "unit_intensity", "emotion_probability"),
    *("arousal_dominance_valence", "prosody_score", "prosody_name", "no_speech", "frames"),
)
"""Keys that other values are computed from."""
_VOCABULARY = json.loads(Path(__file__).with_name("vocabulary_text.json").read_text(encoding="utf-8"))
_PROGRAM = Template(calm_face="program", levels="numbers")


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    lacking(golden, iter(GIVEN))
    _check_names(golden)
    found = {**_decided(golden), **dict(_windows(golden)), **_labels(golden)}
    lacking(golden, iter(found))
    if unknown := golden.keys() - found.keys() - {*GIVEN}:
        raise FormError(f"the key {min(unknown)} is not known")
    return [_row(key, value, golden[key]) for key, value in found.items()]


def _row(key: str, found: np.ndarray, wanted: np.ndarray) -> Row:
    if key in WORDS:
        return Row(key, float(not np.array_equal(found, wanted)), 0.0, "absolute")
    return compared(key, found, wanted, 0.0, "absolute")


def _check_names(golden: Arrays) -> None:
    units = {unit["facs"]: unit["name"] for unit in _VOCABULARY["action_units"]}
    named = dict(zip(golden["unit_ids"].tolist(), golden["unit_names"].tolist(), strict=True))
    if units != named or not {*units} <= {*UNITS} or tuple(golden["emotion_names"]) != decisions.EMOTIONS:
        raise FormError("its units or emotions are none of the vocabulary's")


def _cues(golden: Arrays) -> Iterator[Cues]:
    """The cues of each row, without the words."""
    names, emotions = golden["prosody_names"], golden["emotion_names"].tolist()
    arousal, dominance, valence = golden["arousal_dominance_valence"].T.tolist()
    for k, silent in enumerate(golden["no_speech"]):
        prosody = dict(zip(names[golden["prosody_name"][k]].tolist(), golden["prosody_score"][k].tolist(), strict=True))
        yield Cues(
            units=dict(zip(golden["unit_ids"].tolist(), golden["unit_intensity"][k].tolist(), strict=True)),
            emotions=dict(zip(emotions, golden["emotion_probability"][k].tolist(), strict=True)),
            prosody={} if silent else prosody,
            arousal=arousal[k],
            dominance=dominance[k],
            valence=valence[k],
        )


def _decided(golden: Arrays) -> dict[str, np.ndarray]:
    """Decisions as they stand in the sentences, so that the template is compared with them."""
    cues = list(_cues(golden))
    said = [_said(one) for one in cues]
    ids, emotions = golden["unit_ids"].tolist(), golden["emotion_names"].tolist()
    top = [[emotions.index(name) for name in one["Expressions of the face"] if name in emotions] for one in said]
    numbers = [[words.rpartition(" ")[2] for words in one["Voice"]] for one in said]
    levels = [_said(one, levels="words")["Voice"] for one in cues]
    return {
        "unit_named": np.array([[UNITS[unit] in one["Movements of the face"] for unit in ids] for one in said]),
        "face_named": np.array([one["Movements of the face"] != [NO_FACE] for one in said]),
        "emotions_named": np.array([places + [-1] * (decisions.EMOTIONS_NAMED - len(places)) for places in top]),
        "prosody_high": np.array([_prosody(one, golden, k) for k, one in enumerate(said)]),
        "arousal_valence_dominance_numbers": np.array(numbers),
        "valence_arousal_dominance_high": np.array([[word.startswith("high") for word in one] for one in levels]),
    }


def _said(cues: Cues, **changed: str) -> dict[str, list[str]]:
    """Label -> the words behind it."""
    text = sentence(cues, _PROGRAM.model_copy(update=changed))
    parts = (part.split(": ", 1) for part in text.removesuffix(";").split("; "))
    return {label: words.split(", ") for label, words in parts}


def _prosody(said: dict[str, list[str]], golden: Arrays, k: int) -> list[bool]:
    """In the order of the input; none is high where no speech was found."""
    levels = {word.split(" ", 1)[1]: word.startswith("high ") for word in said["Tone of voice"]}
    return [levels.get(name, False) for name in golden["prosody_names"][golden["prosody_name"][k]]]


def _windows(golden: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    yield "windows.hop_size", np.array([decisions.GROUP, 2 * decisions.GROUP])
    yield "windows.train", decisions.window_maxima(golden["frames"], "training")
    yield "windows.test", decisions.window_maxima(golden["frames"], "evaluation")


def _labels(golden: Arrays) -> dict[str, np.ndarray]:
    basic, pairs = _VOCABULARY["basic_labels"], _VOCABULARY["compound_pairs"]
    return {
        "label_names": np.array([*C_EXPR, "Other"]),
        "label_pairs": np.array([[basic.index(name) for name in pair] for pair in pairs.values()]),
        "basic_names": np.array(basic),
    }
