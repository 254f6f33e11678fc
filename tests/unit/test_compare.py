"""`mmadfer compare`: its statistics by simulation, its numbers against mmadfer.tasks.metrics, and what it refuses."""

import json
import shutil
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config import schema as configs
from mmadfer.config import sweep as sweep_file
from mmadfer.errors import RunError
from mmadfer.evaluation import bootstrap
from mmadfer.evaluation.bootstrap import Paired, estimate_difference, mcnemar
from mmadfer.evaluation.compare import RunComparison, compare
from mmadfer.launch.sweep import report
from mmadfer.report.versus import show_comparison
from mmadfer.run import directory as runs
from mmadfer.tasks import metrics
from mmadfer.tasks.classification import CLASSIFICATION

LABELS = ("glad", "sad", "calm")


def differences(folds: Sequence[Paired], classes: int, resamples: int, seed: int, **chunk: int) -> np.ndarray:
    return bootstrap.score_differences(folds, classes, resamples, seed, CLASSIFICATION, **chunk)


def guess(rng: np.random.Generator, truth: np.ndarray, accuracy: float) -> np.ndarray:
    """Predictions that are right with this chance."""
    wrong = (truth + rng.integers(1, 3, len(truth))) % 3
    return np.where(rng.random(len(truth)) < accuracy, truth, wrong)


def pair(seed: int, a: float, b: float, clips: int = 250) -> Paired:
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, clips, p=[0.5, 0.3, 0.2])
    return Paired(1, truth, guess(rng, truth, a)[None], guess(rng, truth, b)[None])


def make_run(folder: Path, folds: int = 2, accuracy: float = 0.7, seed: int = 1, clips: int = 40, *keys: str) -> Path:
    """A finished run; the clips are the same for every run, and lie in another order in each."""
    run = runs.create(
        folder, configs.load("dfew_160", [f"data.folds={folds}", f"train.seed={seed}", "train.epochs=2", *keys])
    )
    for fold in range(1, folds + 1):
        rng = np.random.default_rng([fold, seed, int(100 * accuracy)])
        truth = np.arange(clips) % 3
        write_fold(run.fold(fold), fold, truth, guess(rng, truth, accuracy), rng.permutation(clips))
    return run.path


def write_fold(
    folder: Path,
    fold: int,
    truth: np.ndarray,
    said: np.ndarray,
    order: np.ndarray,
    labels: Sequence[str] = LABELS,
) -> None:
    folder.mkdir(exist_ok=True)
    table = metrics.confusion(truth, said, 3)
    found = {"fold": fold, "epoch": 2, "epochs": 2, "uar": metrics.uar(table), "war": metrics.war(table), "best": {}}
    found |= {"confusion": table.tolist(), "labels": list(labels), "finished": True, "seconds": 1.0}
    (folder / "result.json").write_text(json.dumps(found))
    lines = [f"f{fold}-{k},{labels[truth[k]]},{labels[said[k]]},0.5,0.3,0.2\n" for k in order]
    (folder / "predictions.csv").write_text(
        f"id,label,predicted,{','.join('p_' + x for x in labels)}\n" + "".join(lines)
    )


def shown(found: RunComparison) -> str:
    console = Console(record=True, width=140, file=open("/dev/null", "w"))  # noqa: SIM115
    show_comparison(found, console)
    return console.export_text()


def test_p_is_about_uniform_for_equal_models_and_small_for_unequal_ones() -> None:
    """400 pairs of models that are right as often; then a pair of which one is much better."""
    p, covered = [], 0
    for seed in range(400):
        drawn = differences([one := pair(seed, 0.6, 0.6)], 3, 400, seed)[:, 0, 1]
        found = estimate_difference(float((one.b[0] == one.truth).mean() - (one.a[0] == one.truth).mean()), drawn)
        p.append(found.p)
        covered += found.low <= 0 <= found.high
    shares = [float(np.mean(np.array(p) <= level)) for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.08)
    assert covered / 400 == pytest.approx(0.95, abs=0.03)
    drawn = differences([one := pair(1, 0.5, 0.75)], 3, 2000, 0)[:, 0]
    assert [estimate_difference(0.2, drawn[:, k]).p < 0.005 for k in (0, 1)] == [True, True]
    assert estimate_difference(0.2, drawn[:, 1]).low > 0.05


def test_the_draws_are_those_of_clips_and_the_same_for_all_runs() -> None:
    one = pair(3, 0.6, 0.8, clips=50)
    twice = Paired(1, one.truth, np.repeat(one.a, 3, 0), one.b)
    usual = differences([one], 3, 300, 5)
    assert np.allclose(differences([twice], 3, 300, 5), usual, atol=1e-12), "more seeds draw the same clips"
    assert (differences([one], 3, 300, 5, chunk=170) == usual).all(), "in pieces of three rows"
    both = differences([Paired(7, *(one.truth, one.a, one.b)), one], 3, 300, 5)
    assert (both[:, 1] == usual[:, 0]).all()
    assert (both[:, 0] != usual[:, 0]).any(), "another fold draws by itself"
    assert (differences([Paired(1, one.truth, one.a, one.a)], 3, 300, 5) == 0).all()


def test_a_class_without_clips_in_a_draw_does_not_count_there() -> None:
    truth = np.array([0, 0, 0, 0, 0, 1])  # the last one is missed by a third of the draws
    one = Paired(1, truth, np.zeros((1, 6), np.int64), truth[None])
    uar, war = differences([one], 3, 4000, 0)[:, 0].T
    assert set(np.unique(uar)) == {0.0, 0.5}, "1 and 1/2 with class 1, 1 and 1 without it"
    assert np.mean(uar == 0) == pytest.approx((5 / 6) ** 6, abs=0.02)
    assert war.mean() == pytest.approx(1 / 6, abs=0.01)
    assert war.std() == pytest.approx((1 / 6 * 5 / 6 / 6) ** 0.5, abs=0.01)


def test_folds_that_cancel_out_are_a_draw_without_difference() -> None:
    """Counted in whole clips: means of fractions such as 19/40 cancel out but for their rounding."""
    one, two = (pair(k, 0.5, 0.5, 40) for k in (3, 5))
    folds = [Paired(1, one.truth, one.a, one.b), Paired(2, two.truth, two.a, two.b)]
    drawn = differences(folds, 3, 2000, 0)[:, :, 1]
    clips = np.rint(40 * drawn).astype(int).sum(1)
    assert (clips == 0).mean() > 0.03, "it occurs"
    assert (drawn.mean(1)[clips == 0] != 0).any(), "and is not 0 as it stands"
    exact = 2 * (min((clips <= 0).sum(), (clips >= 0).sum()) + 1) / 2001
    assert estimate_difference(0.0, drawn.mean(1)).p == pytest.approx(min(1, exact))
    nothing = estimate_difference(-1e-18, np.full(9, -1e-18))
    assert [f"{value:+.2f}" for value in (nothing.value, nothing.low, nothing.high)] == ["+0.00"] * 3


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(4, 4) == 1
    assert mcnemar(9, 1) == mcnemar(1, 9) == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 1024)
    assert mcnemar(3000, 4000) < 1e-30


def test_point_differences_are_those_of_metrics(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", accuracy=0.5), make_run(tmp_path / "b", accuracy=0.9)
    found = compare(a, b, 500, out=tmp_path / "out.json")
    made = json.loads((tmp_path / "out.json").read_text())
    results = {run: [json.loads((run / f"fold-{k}" / "result.json").read_text()) for k in (1, 2)] for run in (a, b)}
    for score in ("uar", "war"):
        each = [theirs[score] - ours[score] for ours, theirs in zip(results[a], results[b], strict=True)]
        assert made["difference"][score]["value"] == pytest.approx(np.mean(each))
        assert [fold[score]["value"] for fold in made["each_fold"]] == pytest.approx(each)
        assert made["a"][score] == pytest.approx(np.mean([one[score] for one in results[a]]))
        assert made["difference"][score]["low"] > 0
        assert made["difference"][score]["p"] < 0.05
    right = made["right"]
    assert sum(right.values()) == 80
    assert right["only_b"] - right["only_a"] == round(80 * made["difference"]["war"]["value"])
    text = shown(found)
    assert f"{100 * made['difference']['uar']['value']:+.2f}" in text
    assert "They do not cover training" in text
    assert f"only A: {right['only_a']}" in text
    assert compare(b, a, 500).overall["uar"].value == -found.overall["uar"].value


def make_sweep(folder: Path) -> Path:
    """Rows `base` and `best` of two seeds each, as a launch leaves them."""
    folder.mkdir()
    (folder / "in.yaml").write_text("name: t\nbase: dfew_160\nrows: {base: {}, best: {train.lr: 0.1}}\nseeds: [1, 4]\n")
    table, settings = sweep_file.read(folder / "in.yaml")
    sweep = folder / "sweep"
    for row, config in settings.items():
        accuracy = 0.6 if row.startswith("base") else 0.8
        make_run(sweep / row, 2, accuracy, config.train.seed, 40, f"train.lr={config.train.lr}")
    (sweep / sweep_file.FILE).write_text(json.dumps(table.with_seeds()))
    return sweep


def test_encoders_and_preparation_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", 1)
    keys = ("model.vision.weights=/data/mae_face.pth", "prepare.sound.rate=16000", "data.test_clips=2")
    idle = ("name=b", "data.store=/data/other.store", "data.threads=7", "train.keep=9", "train.compile=false")
    found = compare(a, make_run(tmp_path / "b", 1, 0.8, 1, 40, *keys, *idle), 100)
    assert found.differs == {
        "prepare.sound.rate": ("native", 16000),
        "model.vision.weights": (None, "/data/mae_face.pth"),
        "data.test_clips": (1, 2),
    }
    assert "prepare.sound.rate ('native', 16000)" in shown(found)


def test_rows_with_seeds_are_compared_over_all_seeds(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "x")
    assert compare(sweep / "base-seed1", sweep / "base-seed4", 100).differs == {"train.seed": (1, 4)}
    found = compare(sweep / "base", sweep / "best", 500)
    assert found.differs == {"train.lr": (1e-4, 0.1)}
    single = [compare(sweep / f"base-seed{k}", sweep / f"best-seed{k}", 500).overall["uar"].value for k in (1, 4)]
    assert found.overall["uar"].value == pytest.approx(np.mean(single))
    made = found.to_dict()
    assert [run["seed"] for run in made["a"]["runs"]] == [1, 4]
    assert made["a"]["std_of_seeds"]["uar"] == pytest.approx(np.std([x["uar"] for x in made["a"]["runs"]], ddof=1))
    assert made["right"] is None
    assert "mean over these very seeds" in made["covers"]
    assert "mean over these very seeds" in shown(found)
    with pytest.raises(RunError, match=r"give one of its rows, .*/ROW \(base, best\)"):
        compare(sweep, sweep / "best")


def test_a_sweep_reports_seeds_and_folds_together(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "x")
    for row in sweep_file.table_of(sweep).rows:  # a report wants every fold that the configuration has
        assert sweep.joinpath(row, "fold-2").is_dir()
    text = report.write_sweep_report(sweep)
    made = json.loads((sweep / "report" / "sweep.json").read_text())
    base = made["seeds"]["base"]
    folds = [
        json.loads((sweep / f"base-seed{seed}" / f"fold-{k}" / "result.json").read_text())["uar"]
        for seed in (1, 4)
        for k in (1, 2)
    ]
    assert base["mean"]["uar"] == pytest.approx(np.mean(folds))
    assert base["std"]["uar"] == pytest.approx(np.std(folds, ddof=1))
    assert base["std_of_seeds"]["uar"] == pytest.approx(np.std([np.mean(folds[:2]), np.mean(folds[2:])], ddof=1))
    mean, std, of_seeds = (100 * base[key]["uar"] for key in ("mean", "std", "std_of_seeds"))
    assert f"| base | 1, 4 | 4 of 4 | {mean:.2f} ± {std:.2f} ({of_seeds:.2f}) |" in text
    assert "| base-seed4 | 2 of 2 |" in text


def test_seeds_are_told_apart_on_folds_that_all_of_them_have(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "x")
    shutil.rmtree(sweep / "base-seed4" / "fold-2")
    text = report.write_sweep_report(sweep)
    base = json.loads((sweep / "report" / "sweep.json").read_text())["seeds"]["base"]
    first = [json.loads((sweep / f"base-seed{seed}" / "fold-1" / "result.json").read_text())["uar"] for seed in (1, 4)]
    assert (base["folds"], base["runs"], base["runs_expected"]) == ([1], 2, 4)
    assert base["mean"]["uar"] == pytest.approx(np.mean(first))
    assert base["std_of_seeds"]["uar"] == base["std"]["uar"] == pytest.approx(np.std(first, ddof=1))
    assert "| base | 1, 4 | 2 of 4 | " in text
    shutil.rmtree(sweep / "base-seed4" / "fold-1")  # a seed that has none yet
    assert "| base | 1, 4 | 2 of 4 | " in report.write_sweep_report(sweep)
    shutil.copytree(sweep / "best-seed4" / "fold-2", sweep / "base-seed4" / "fold-2")
    shutil.rmtree(sweep / "base-seed1" / "fold-2")
    assert "| base | 1, 4 | 0 of 4 | - (-) | - (-) |" in report.write_sweep_report(sweep), "no fold in common"


def test_a_sweep_shows_what_rows_can_be_chosen_by(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "x")
    assert "validation" not in report.write_sweep_report(sweep)
    for k, file in enumerate(sorted(sweep.glob("base-seed*/fold-*/result.json"))):
        kept = {"epoch": 2, "clips": 4, "uar": k / 10, "war": 0.5}
        file.write_text(json.dumps({**json.loads(file.read_text()), "validation": kept}))
    text = report.write_sweep_report(sweep)
    assert "kept for validation, after the last epoch: to choose a row by, not a result" in text
    assert "| base-seed1 | 5.00 / 50.00 |\n| base-seed4 | 25.00 / 50.00 |\n| base | 15.00 / 50.00 |" in text
    assert json.loads((sweep / "report" / "sweep.json").read_text())["rows"]["base-seed4"]["validation"]["uar"] == 0.25
    shutil.rmtree(sweep / "base-seed4" / "fold-2")
    text = report.write_sweep_report(sweep)
    assert "| base-seed4 | 20.00 / 50.00 |\n" in text
    assert "| base | 1" not in text.split("to choose a row by")[1], "the seeds have other folds"


def test_a_table_with_seeds_is_one_of_runs(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("name: t\nbase: dfew_160\nrows: {x: {}, y: {train.lr: 0.1}}\nseeds: [3, 1]\n")
    table, settings = sweep_file.read(file)
    assert {row: (one.train.seed, one.train.lr, one.name) for row, one in settings.items()} == {
        "x-seed3": (3, 1e-4, "t-x-seed3"),
        "x-seed1": (1, 1e-4, "t-x-seed1"),
        "y-seed3": (3, 0.1, "t-y-seed3"),
        "y-seed1": (1, 0.1, "t-y-seed1"),
    }
    assert table.groups == {"x": {"x-seed3": 3, "x-seed1": 1}, "y": {"y-seed3": 3, "y-seed1": 1}}
    (tmp_path / "again.yaml").write_text(json.dumps(table.with_seeds()))
    assert list(sweep_file.read(tmp_path / "again.yaml")[1]) == list(settings), "a sweep's own table stays as it is"


@pytest.mark.parametrize(
    ("seeds", "rows", "overrides", "told"),
    [
        ("[1, 1]", "{x: {}}", [], "seeds has one twice"),
        ("[1]", "{x: {train.seed: 2}}", [], "x: train.seed is set, and seeds are given"),
        ("[1]", "{x: {}}", ["train.seed=2"], "leave --set train.seed out"),
        ("[1]", "{x: {}, x-seed1: {}}", ["name=q"], "none"),
        ("[-1]", "{x: {}}", [], "greater than or equal to 0"),
    ],
)
def test_seeds_that_cannot_be_are_refused(
    tmp_path: Path, seeds: str, rows: str, overrides: list[str], told: str
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(f"name: t\nbase: dfew_160\nrows: {rows}\nseeds: {seeds}\n")
    if told == "none":
        assert list(sweep_file.read(file, overrides)[1]) == ["x-seed1", "x-seed1-seed1"]
        return
    with pytest.raises(Exception, match=told) as error:
        sweep_file.read(file, overrides)
    assert getattr(error.value, "exit_code", None) == 2


def other_clip(run: Path) -> None:
    file = run / "fold-2" / "predictions.csv"
    file.write_text(file.read_text().replace("f2-7,", "new-7,"))


def other_label(run: Path) -> None:
    """Two clips swap their labels and predictions, so that the confusion matrix stays."""
    file = run / "fold-2" / "predictions.csv"
    file.write_text(file.read_text().replace("f2-0,", "swap,").replace("f2-1,", "f2-0,").replace("swap,", "f2-1,"))


def other_classes(run: Path) -> None:
    truth = np.arange(40) % 3
    for fold in (1, 2):
        write_fold(run / f"fold-{fold}", fold, truth, truth, np.arange(40), labels=("glad", "sad", "cross"))


def unfinished(run: Path) -> None:
    (run / "fold-2" / "result.json").unlink()


def text(content: bytes) -> Any:
    def spoil(run: Path) -> None:
        (run / "fold-1" / "predictions.csv").write_bytes(content)

    return spoil


SPOILT = [
    (other_clip, "fold 2: .* were tested on other clips, or labels, 2 of them"),
    (other_label, r"2 of them \(f2-0, f2-1\): compare runs on one store"),
    (other_classes, "has the classes glad, sad, cross, and .* has glad, sad, calm"),
    (unfinished, "fold 2 is unfinished"),
    (text(b""), "is not a table of id, label, predicted"),
    (text(b"id,label,predicted\nx,glad\n"), "is not a table"),
    (text(b"id,label,predicted\nx,glad,grim\n"), "labels that its result does not know: grim"),
    (text(b"id,label,predicted\nx,glad,glad\n"), "does not give the confusion matrix"),
    (text(b"id,label,predicted,p_glad\nx,glad,glad,nan\n"), "probabilities that are no numbers from 0 to 1, of x"),
    (text(b"id,label,predicted\n\xff\xfe"), "cannot be read"),
    (text(b'id,label,predicted\n"x,glad,glad'), "cannot be read"),
    (lambda run: (run / "fold-1" / "predictions.csv").unlink(), "cannot be read"),
    (lambda run: (run / "config.yaml").unlink(), "is not a run directory"),
]


@pytest.mark.parametrize(("spoil", "told"), SPOILT, ids=[told for _, told in SPOILT])
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, spoil: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a", accuracy=0.5), make_run(tmp_path / "b")
    spoil(b)
    with pytest.raises(RunError, match=told):
        compare(a, b, 100)
    assert command(app, ["compare", str(a), str(b)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(RunError, match="cannot be compared with itself"):
        compare(run, tmp_path / "link")


def test_only_folds_that_both_have_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a", folds=3), make_run(tmp_path / "b", folds=2, accuracy=0.8)
    out = tmp_path / "found.json"
    assert command(app, ["compare", str(a), str(b), "--resamples", "200", "--seed", "7", "--out", str(out)]) == 0
    made = json.loads(out.read_text())
    assert (made["folds"], made["folds_left_out"]) == ([1, 2], [3])
    assert (made["resamples"], made["seed"]) == (200, 7)
    assert made["differs"] == {"data.folds": [3, 2]}
    printed = capsys.readouterr().out
    assert "Left out, as not all runs have them: fold 3" in printed
    assert f"{made['difference']['war']['p']:.4f}" in printed
    shutil.rmtree(a / "fold-1")
    shutil.rmtree(b / "fold-2")
    with pytest.raises(RunError, match="no fold in common"):
        compare(a, b)
