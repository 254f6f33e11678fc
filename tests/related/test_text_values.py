"""The comparison with decisions about cues: changed ones are found, and files of another form refused."""

from pathlib import Path

import check
import numpy as np
import pytest
from text import WORDS

GOLDEN = Path(__file__).with_name("golden_text_seed1.npz")


def values() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def saved(path: Path, changed: dict[str, np.ndarray]) -> str:
    np.savez(path, **changed)  # type: ignore[arg-type]
    return str(path)


@pytest.mark.parametrize(
    "key",
    [
        *("unit_named", "face_named", "emotions_named", "prosody_high", "arousal_valence_dominance_numbers"),
        *("valence_arousal_dominance_high", "windows.hop_size", "windows.train", "windows.test"),
        *("label_names", "label_pairs", "basic_names"),
    ],
)
def test_a_changed_decision_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = values()
    place = (-1,) * golden[key].ndim
    old = golden[key][place]
    golden[key][place] = "other" if key in WORDS else not old if golden[key].dtype == bool else old + 1
    assert check.main(["a-text", saved(tmp_path / "golden.npz", golden)]) == 1
    over = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")]
    assert over == [key]


def test_files_of_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = values()
    names = golden["unit_names"][::-1]
    less = {key: value for key, value in golden.items() if key != "unit_named"}
    for told, changed in {
        "keys are not there, unit_named": less,
        "the key more is not known": golden | {"more": np.zeros(1)},
        "none of the vocabulary's": golden | {"unit_names": names},
        "keys are not there": {"frames": golden["frames"]},
    }.items():
        assert check.main(["a-text", saved(tmp_path / "golden.npz", changed)]) == 2
        assert told in capsys.readouterr().err
