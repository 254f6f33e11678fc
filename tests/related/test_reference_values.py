"""The values of other programs that ours has to meet, and that the comparison sees where they differ."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aus
import check
import numpy as np
import pytest
from aus import GIVEN as GIVEN_TO_AUS
from aus import WORDS
from aus_by_opencv import golden as golden_of_aus
from golden import read
from jmt import LAYOUT, _scaled
from jmt_by_torch import golden
from msda import GIVEN as GIVEN_TO_MSDA
from text import GIVEN as GIVEN_TO_TEXT
from text import WORDS as WORDS_OF_TEXT
from tss import GIVEN
from tss_by_numpy import golden as golden_of_tss

from mmadfer.data.sets.drawn_face import placed, unit_points

HERE = Path(__file__).parent
GOLDENS = {
    "a-text": [HERE / "golden_text_seed1.npz"],
    "b-jmt": [HERE / "golden_jmt_seed1.npz"],
    "c-aus": [HERE / "golden_aus_seed1.npz"],
    "d-pkdot": [HERE / "golden_pkdot_seed1.npz"],
    "e-msda": [HERE / "golden_msda_seed1.npz"],
    "f-tss": [HERE / "golden_tss_seed1.npz"],
}
ALL_GIVEN = "|".join((*(given.pattern for given in (GIVEN, GIVEN_TO_AUS, GIVEN_TO_MSDA)), *GIVEN_TO_TEXT))
INPUTS = re.compile(f"({ALL_GIVEN})|size|column_step|.*(prediction|labels?)")


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in GOLDENS.items() for path in paths])
def test_every_value_of_a_golden_is_met(name: str, path: Path) -> None:
    command = [sys.executable, HERE / "check.py", name, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for key in read(path, (*WORDS, *WORDS_OF_TEXT)):
        assert f"\n{key} " in done.stdout or INPUTS.fullmatch(key), key


def saved(path: Path, values: dict[str, Any]) -> Path:
    np.savez(path, **values)
    return path


def of_torch(seed: int, size: tuple[int, int, int, int], step: int) -> dict[str, np.ndarray]:
    return golden({name: _scaled(name, one, size[2]) for name, one in LAYOUT["tensors"].items()}, size, step, seed)


CHANGED = ["sums", "cross", "tokens.fused", "pair.grad_audio", "concat.gradient_norms", "ccc.some.loss_population"]


@pytest.mark.parametrize("key", CHANGED)
def test_a_changed_value_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = of_torch(2, (2, 3, 16, 1), 2)
    values[key] = values[key] * np.where(np.arange(values[key].size).reshape(values[key].shape) == 1, 1 + 1e-5, 1)
    values[key] += 1e-9 * (values[key].ndim == 0)
    assert check.main(["b-jmt", str(saved(tmp_path / "golden.npz", values))]) == 1
    over = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")]
    assert over == [key]


@pytest.mark.parametrize(("seed", "size", "step"), [(7, (2, 5, 64, 4), 3), (23, (4, 3, 32, 1), 1)])
def test_other_seeds_and_sizes(seed: int, size: tuple[int, int, int, int], step: int, tmp_path: Path) -> None:
    values = of_torch(seed, size, step)
    path = saved(tmp_path / "other.npz", values)
    assert check.main(["b-jmt", str(path)]) == 0
    assert check.main(["b-jmt", str(path), "--seed", str(seed + 1)]) == 1
    values["size"] = np.array([*size[:3], 2])
    assert check.main(["b-jmt", str(saved(path, values))]) == 1


def test_files_of_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = of_torch(3, (2, 2, 16, 1), 1)
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    files = {
        "is no .npz of arrays": text,
        "keys are not there, pair.loss": saved(
            tmp_path / "less.npz", {k: v for k, v in values.items() if k != "pair.loss"}
        ),
        "the key more is not known": saved(tmp_path / "more.npz", values | {"more": np.zeros(1)}),
        "size is": saved(tmp_path / "size.npz", values | {"size": np.array([2, 2, 16])}),
        "keys are not there, size": saved(tmp_path / "bare.npz", {"sums": np.zeros(3)}),
        "not numbers": saved(tmp_path / "words.npz", values | {"sums": np.array(["a"])}),
        "none of the seeds": saved(tmp_path / "sums.npz", values | {"sums": values["sums"][:-1]}),
    }
    for told, path in files.items():
        assert check.main(["b-jmt", str(path)]) == 2
        assert told in capsys.readouterr().err


VIDEOS = [(9, 4, 3), (31, 8, 4), (4, 4, 5), (2, 4, 2)]


@pytest.mark.parametrize(("seed", "size"), [(5, (2, 3, 20, 4)), (17, (4, 6, 9, 1)), (40_001, (1, 2, 3, 8))])
def test_other_seeds_and_sizes_of_tss(seed: int, size: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "other.npz", golden_of_tss(seed, size, VIDEOS))
    assert check.main(["f-tss", str(path), "--seed", str(seed)]) == 0
    assert check.main(["f-tss", str(path), "--seed", str(seed + 1)]) == 1
    if seed < 100:
        assert check.main(["f-tss", str(path)]) == 0


@pytest.mark.parametrize(
    "key",
    [
        *("pool.sums", "pool.clip_scores", "pool.inf.logits", "pool.3.log_probabilities", "pool.0.5.loss"),
        *("pool.1.clip_gradient", "pool.3.gradient", "schedule.1_2", "video31.weights", "video31.exploration_starts"),
        *("video9.probabilities.3", "video9.probabilities.inf", "video31.released_probabilities.1"),
    ],
)
def test_a_changed_value_of_tss_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden_of_tss(6, (2, 3, 12, 4), VIDEOS)
    changed = np.ravel(values[key].copy())
    changed[-1] += 1 if changed.dtype.kind == "i" else 1e-5 if ".released_" in key else 1e-8
    values[key] = changed.reshape(values[key].shape)
    assert check.main(["f-tss", str(saved(tmp_path / "golden.npz", values)), "--seed", "6"]) == 1
    over = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")]
    assert over == [key]


def test_files_of_another_form_than_tss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden_of_tss(6, (2, 3, 12, 4), VIDEOS)
    changes: dict[str, dict[str, np.ndarray]] = {
        "the key more is not known": {"more": np.zeros(1)},
        "whole numbers are meant": {"pool.size": np.array([2, 3, 12])},
        "pool.labels are of other classes": {"pool.labels": np.array([0, 7])},
        "no number from 0 on": {"pool.-1.logits": np.zeros(1)},
        "positions that are none of its 24 windows": {"video31.positions": values["video31.positions"] + 24},
        "keys are not there, video5.positions": {"video5.frames": np.array([5, 4, 3, 3, 0])},
    }
    for told, change in changes.items():
        assert check.main(["f-tss", str(saved(tmp_path / "golden.npz", values | change)), "--seed", "6"]) == 2
        assert told in capsys.readouterr().err
    del values["pool.1.loss"]
    assert check.main(["f-tss", str(saved(tmp_path / "golden.npz", values)), "--seed", "6"]) == 2
    assert "keys are not there, pool.1.loss" in capsys.readouterr().err


def faces(seed: int, shapes: list[tuple[int, int]]) -> dict[str, tuple[np.ndarray, tuple[int, int]]]:
    """Of any place, size and tilt; some reach out of the picture."""
    rng = np.random.default_rng(seed)
    made = {}
    for k, shape in enumerate(shapes):
        x, y = rng.uniform(0.2, 0.9, 2) * (shape[1], shape[0])
        points = unit_points(rng.uniform(0, 0.2), rng.uniform(0, 0.1))
        made[f"face{k}"] = placed(points, x, y, rng.uniform(0.25, 0.4) * max(shape), rng.uniform(-35, 35)), shape
    return made


@pytest.mark.parametrize(("seed", "size"), [(5, (4, 3, 14)), (11, (3, 8, 10))])
def test_other_seeds_and_faces_of_aus(seed: int, size: tuple[int, int, int], tmp_path: Path) -> None:
    values = golden_of_aus(seed, faces(seed, [(224, 224), (256, 232), (160, 200), (300, 180)]), size)
    path = saved(tmp_path / "other.npz", values)
    assert check.main(["c-aus", str(path)]) == 0
    assert check.main(["c-aus", str(path), "--seed", str(seed + 1)]) == 1


def test_aus_without_opencv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aus, "cv2", None)
    assert check.main(["c-aus", str(GOLDENS["c-aus"][0])]) == 0
    assert "face1.Anger.map14 own" in capsys.readouterr().out


CHANGED_OF_AUS = {
    "face0.units": 1e-3,
    "face1.drawn": 1,
    "face1.valid": 1,
    "face0.Fear.map14": 1e-5,
    "face1.Anger.map28_direct": 1e-5,
    "align.sums": 1e-4,
    "align.attention": 1e-9,
    "align.heatmaps": 1e-5,
    "align.heatmaps28": 1e-5,
    "align.cosine": 1e-7,
    "align.cosine.lambda9.gradient": 1e-7,
    "align.l2.lambda1.loss": 1e-7,
    "align.std_cosine.lambda1.loss": 1e-7,
    "align.two_layers.loss": 1e-7,
    "align.none_valid.loss": 1e-7,
}


@pytest.mark.parametrize("key", CHANGED_OF_AUS)
def test_a_changed_value_of_aus_is_found(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden_of_aus(6, faces(6, [(224, 224), (240, 200)]), (3, 4, 14))
    changed = np.ravel(values[key].copy())
    changed[-1] = not changed[-1] if changed.dtype.kind == "b" else changed[-1] + CHANGED_OF_AUS[key]
    values[key] = changed.reshape(values[key].shape)
    assert check.main(["c-aus", str(saved(tmp_path / "golden.npz", values)), "--seed", "6"]) == 1
    over = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OVER")}
    follow = {"align.heatmaps", "align.cosine"} | {one for one in values if re.search(r"lambda|two_layers", one)}
    assert key in over
    assert over - {key} <= (follow if key == "align.heatmaps28" else set())


def test_files_of_another_form_than_aus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = golden_of_aus(6, faces(6, [(224, 224)]), (3, 4, 14))
    changes: dict[str, dict[str, Any]] = {
        "the key more is not known": {"more": np.zeros(1)},
        "the key align.more is not known": {"align.more": np.zeros(1)},
        "classes are": {"classes": np.array(["Anger"])},
        "not text": {"classes": np.zeros(6)},
        "not numbers": {"face0.units": np.array(["a"])},
        "face0.Rage.map14 is of no expression": {"face0.Rage.map14": np.zeros((14, 14))},
        "68 points, h and w are meant": {"face0.landmarks": np.zeros((5, 2))},
        "keys are not there, face7.landmarks": {"face7.size": np.array([224, 224])},
        "align.size is": {"align.size": np.array([3, 4])},
        "are not of 3 samples": {"align.faces": np.array([0, 0])},
    }
    for told, change in changes.items():
        assert check.main(["c-aus", str(saved(tmp_path / "golden.npz", values | change)), "--seed", "6"]) == 2
        assert told in capsys.readouterr().err
    del values["align.draw"]
    assert check.main(["c-aus", str(saved(tmp_path / "golden.npz", values)), "--seed", "6"]) == 2
    assert "keys are not there, align.draw" in capsys.readouterr().err
