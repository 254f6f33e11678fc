"""Other values of adaptation to a subject than the published ones, and that the comparison sees where they differ."""

from pathlib import Path
from typing import Any

import check
import numpy as np
import pytest
from msda_by_numpy import golden

SIZES = [(5, 9, 3), (7, 2, 70)]


def saved(path: Path, values: dict[str, Any]) -> Path:
    np.savez(path, **values)
    return path


@pytest.mark.parametrize("seed", [3, 40_003])
def test_other_seeds_and_sizes(seed: int, tmp_path: Path) -> None:
    values = golden(seed, SIZES)
    path = saved(tmp_path / "other.npz", values)
    assert check.main(["e-msda", str(path), "--seed", str(seed)]) == 0
    assert check.main(["e-msda", str(path), "--seed", str(seed + 1)]) == 1
    if seed < 100:
        assert check.main(["e-msda", str(path)]) == 0
        labels = {key: value for key, value in values.items() if not key.startswith("mmd")}
        assert check.main(["e-msda", str(saved(path, labels))]) == 0


@pytest.mark.parametrize(
    "key",
    [
        *("mmd.5x9x3.sums", "mmd.5x9x3.value", "mmd.7x2x70.bandwidths", "mmd.5x9x3.linear", "mmd.7x2x70.linear"),
        *("mmd.7x2x70.gradient_source", "mmd.5x9x3.gradient_target", "mmd.5x9x3.gradient_released_is_zero"),
        *("pseudo.0.95.chosen", "pseudo.0.7.labels", "pseudo.0.95.confidence"),
        *("schedule.thresholds", "schedule.kept_as_released", "schedule.kept_from_all"),
    ],
)
def test_a_changed_value_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden(4, SIZES)
    changed = np.ravel(values[key].copy())
    changed[-1] = (
        not changed[-1] if changed.dtype.kind == "b" else changed[-1] + (1 if changed.dtype.kind == "i" else 1e-5)
    )
    values[key] = changed.reshape(values[key].shape)
    assert check.main(["e-msda", str(saved(tmp_path / "golden.npz", values)), "--seed", "4"]) == 1
    over = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")]
    assert over == [key]


def test_files_of_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden(4, SIZES[:1])
    changes: dict[str, dict[str, np.ndarray]] = {
        "the key more is not known": {"more": np.zeros(1)},
        "N and M are 2 or more": {"mmd.1x9x3.sums": np.zeros(2), "mmd.1x9x3.shift": np.zeros(())},
        "keys are not there, mmd.4x4x4.shift": {"mmd.4x4x4.value": np.zeros(())},
        "keys are not there, pseudo.0.5.labels": {"pseudo.0.5.chosen": np.zeros(1, int)},
        "must be multiples of 10": {"schedule.epochs": np.array([0, 10, 25, 30])},
        "0, the epochs between": {"schedule.epochs": np.array([5, 10])},
        "of N samples and C classes": {"pseudo.logits": np.zeros((50, 5))},
    }
    for told, change in changes.items():
        assert check.main(["e-msda", str(saved(tmp_path / "golden.npz", values | change)), "--seed", "4"]) == 2
        assert told in capsys.readouterr().err
    assert check.main(["e-msda", str(saved(tmp_path / "golden.npz", {"sums": np.zeros(3)}))]) == 2
    assert "neither a case" in capsys.readouterr().err
