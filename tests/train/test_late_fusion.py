"""Two runs together: the weight comes from validation clips, and the mean is of log-probabilities."""

from pathlib import Path

import numpy as np
import pytest
from setting import LABELS, make_config, make_store
from test_adaptation import adapting, on_people, subject
from test_stages import changed, trained
from typer.testing import CliRunner

from mmadfer.cli.main import app
from mmadfer.config.schema import Config, parse
from mmadfer.errors import ConfigError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.evaluation.late_fusion import chosen_weight, fused, late_fusion
from mmadfer.evaluation.predictions import Predictions
from mmadfer.run import directory as runs
from mmadfer.tasks.metrics import confusion, weighted_f1
from mmadfer.train.loop import train


def said(labels: list[int], told: list[int], sure: float) -> Predictions:
    logits = np.zeros((len(labels), len(LABELS)), np.float32)
    logits[np.arange(len(labels)), told] = sure
    return Predictions([f"c{k}" for k in range(len(labels))], np.array(labels), logits, LABELS)


def test_the_mean_is_of_log_probabilities() -> None:
    one, other = said([0, 1], [0, 1], 2.0), said([0, 1], [1, 1], 3.0)
    found = fused(one, other, 0.25).probabilities
    powers = one.probabilities**0.25 * other.probabilities**0.75
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(fused(one, other, 1).probabilities, one.probabilities, rtol=1e-6)
    with pytest.raises(ValueError, match="other clips or labels"):
        fused(one, said([0], [0], 1.0), 0.5)


def test_the_better_one_gets_the_weight() -> None:
    truth, wrong = [0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]
    right, misled = said(truth, truth, 1.0), said(truth, wrong, 3.0)
    assert chosen_weight(right, misled) > 0.75
    assert chosen_weight(misled, right) < 0.25
    assert chosen_weight(right, right) == 0.5, "of equals, equal shares"


def test_weighted_f1_by_hand() -> None:
    table = confusion([0, 0, 0, 1, 2], [0, 0, 1, 1, 1], 3)
    assert weighted_f1(table) == pytest.approx((3 * (4 / 5) + 1 * (2 / 4) + 1 * 0) / 5)
    assert np.isnan(weighted_f1(np.zeros((3, 3), np.int64)))


def run_of(folder: Path, config: Config) -> Path:
    train(config, 1, runs.open_fold(folder, config, 1))
    return folder


def validated(store: Path, share: float, seed: int) -> Config:
    config = make_config(store, epochs=1, seed=seed)
    return config.model_copy(update={"data": config.data.model_copy(update={"validation": share})})


def test_two_runs_of_one_store(store: Path, tmp_path: Path) -> None:
    one, other = (run_of(tmp_path / f"{k}", validated(store, 0.34, k)) for k in (1, 2))
    found = late_fusion(one, other, store, out=tmp_path / "both.csv")
    assert found.validated == 3
    alone = [evaluate_path(run, store) for run in (one, other)]
    assert isinstance(alone[0], Predictions)
    assert isinstance(alone[1], Predictions)
    np.testing.assert_array_equal(found.predictions.logits, fused(alone[0], alone[1], found.weight).logits)
    assert (tmp_path / "both.csv").is_file()
    asked = CliRunner().invoke(app, ["evaluate", str(one), "--beside", str(other), "--data", str(store)])
    assert asked.exit_code == 0, asked.output
    assert f"weight {found.weight:g} of the first run, chosen on 3 clips for validation" in asked.output
    third = run_of(tmp_path / "3", make_config(store, epochs=1))
    with pytest.raises(ConfigError, match=r"0 clips for validation and .* has 3: the weight is chosen"):
        late_fusion(third, one, store)


def test_beside_an_adapted_run_what_it_adapted_on_is_left_out(tmp_path: Path) -> None:
    store = changed(make_store(tmp_path / "plain.store"), tmp_path / "people.store", subject=subject)
    plain = on_people(store, epochs=1).model_dump(mode="json")
    plain["data"]["validation"] = 0.34
    one = trained(parse(plain, "the test"), tmp_path / "one", 1)
    later = adapting(store, one, {"epochs": 1}, share=0.3).model_dump(mode="json")
    later["data"]["validation"] = 0.34
    other = trained(parse(later, "the test"), tmp_path / "other", 1)
    for pair in ((one, other), (other, one)):
        asked = CliRunner().invoke(app, ["evaluate", str(pair[0]), "--beside", str(pair[1]), "--data", str(store)])
        assert asked.exit_code == 0, asked.output
        assert "4 clips  UAR" in asked.output
        assert "2 clips are left out: one of the runs was adapted on them" in asked.output
    found = late_fusion(one, other, store)
    assert found.predictions.ids == evaluate_path(other, store).ids
    assert found.adapted == 2
