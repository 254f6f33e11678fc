"""The comparison with reference values of PKDOT: other seeds and sizes, changed values, and files of another form."""

from functools import cache
from pathlib import Path

import check
import numpy as np
import pytest
from pkdot_by_pot import golden


def saved(path: Path, values: dict[str, np.ndarray]) -> Path:
    np.savez(path, **values)  # type: ignore[arg-type]
    return path


@cache
def of_pot(seed: int) -> dict[str, np.ndarray]:
    return golden(seed, [(9, 12, 6), (14, 20, 13)], [(7, 5, 2)])


@pytest.mark.parametrize("seed", [3, 40_003])
def test_other_seeds_and_sizes(seed: int, tmp_path: Path) -> None:
    values = of_pot(seed)
    path = saved(tmp_path / "other.npz", values)
    assert check.main(["d-pkdot", str(path), "--seed", str(seed)]) == 0
    assert check.main(["d-pkdot", str(path), "--seed", str(seed + 1)]) == 1
    if seed < 100:
        assert check.main(["d-pkdot", str(path)]) == 0
        clouds = {key: value for key, value in values.items() if key.startswith("clouds")}
        assert check.main(["d-pkdot", str(saved(path, clouds))]) == 0


@pytest.mark.parametrize(
    "key",
    [
        *("9x12k6.sums", "9x12k6.similarity_teacher", "9x12k6.lowest.indices", "14x20k13.highest.indices"),
        *("9x12k6.lowest.anchors_student", "14x20k13.lowest.blur0.4.divergence", "9x12k6.highest.blur0.8.parts"),
        *("14x20k13.highest.blur0.4.gradient_student", "9x12k6.lowest.blur0.8.pot", "clouds.7x5x2.blur0.5.gradient_y"),
    ],
)
def test_a_changed_value_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = dict(of_pot(4))
    changed = np.ravel(values[key].copy())
    changed[-1] += 1 if changed.dtype.kind == "i" else 2e-4
    values[key] = changed.reshape(values[key].shape)
    assert check.main(["d-pkdot", str(saved(tmp_path / "golden.npz", values)), "--seed", "4"]) == 1
    over = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")]
    assert over == [key]


def test_files_of_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden(4, [(6, 9, 2)], [])
    changes: dict[str, dict[str, np.ndarray]] = {
        "the key more is not known": {"more": np.zeros(1)},
        "keys are not there, 6x9k6.": {"6x9k6.sums": np.zeros(3)},
        "k must be less than B": {"6x9k6.sums": np.zeros(3), "6x9k6.labels": np.zeros(6, int)},
        "must be 6 of four classes": {"6x9k2.labels": np.full(6, 4)},
        "a blur is larger than 0": {"6x9k2.lowest.blur0.pot": np.zeros(())},
        "keys are not there, 6x9k2.released.sinkhorn_geomloss": {"6x9k2.released.indices": np.zeros((6, 2), int)},
        "keys are not there, 6x9k2.lowest.blur0.7.divergence": {"6x9k2.lowest.blur0.7.pot": np.zeros(())},
    }
    for told, change in changes.items():
        assert check.main(["d-pkdot", str(saved(tmp_path / "golden.npz", values | change)), "--seed", "4"]) == 2
        assert told in capsys.readouterr().err
    assert check.main(["d-pkdot", str(saved(tmp_path / "golden.npz", {"sums": np.zeros(3)}))]) == 2
    assert "neither a case" in capsys.readouterr().err
