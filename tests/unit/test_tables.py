"""The paper's tables with ours beside, on runs whose results are written here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from mmadfer.cli.main import app
from mmadfer.config import schema as configs
from mmadfer.config import sweep as sweep_file
from mmadfer.contract import KEY, Contract
from mmadfer.errors import RunError
from mmadfer.evaluation.paper_tables import TABLES
from mmadfer.report.tables import paper_table
from mmadfer.run import directory as runs
from mmadfer.run import launch_record

LABELS = [f"class {number}" for number in range(7)]
SHORT = ["train.epochs=2"]


def make_sweep(folder: Path, name: str, scores: dict[str, list[float]], *overrides: str) -> Path:
    """A shipped sweep whose rows have these UARs on folds 1, 2, ...; rows without any were not begun."""
    asked, settings = sweep_file.read(sweep_file.find_table(name), [*SHORT, *overrides])
    for row, config in settings.items():
        run = runs.create(folder / row, config)
        for fold, uar in enumerate(scores.get(row, []), 1):
            write_fold(run.fold(fold), fold, uar)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(asked.model_dump()))
    return folder


def write_fold(folder: Path, fold: int, uar: float) -> None:
    right = round(uar * 100)
    confusion = [[0] * 7 for _ in LABELS]
    for row, counts in enumerate(confusion):
        counts[row], counts[row - 1] = right, 100 - right
    found = {"fold": fold, "epoch": 2, "epochs": 2, "uar": uar, "war": uar, "confusion": confusion, "labels": LABELS}
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({**found, "finished": True, "seconds": 1.0}))


def said(*words: object) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_every_row_that_the_paper_prints_is_trained_by_a_shipped_sweep() -> None:
    for paper in TABLES:
        for place, name in enumerate(paper.sweeps):
            shipped = sweep_file.read_table(sweep_file.find_table(name))
            named = [row.name for row in paper.rows if row.name]
            assert [row for row in shipped.rows if row in named] == named
            assert all(len(row.cells) == len(paper.columns) and len(row.scores) > place for row in paper.rows)
            assert shipped.base == {"dfew": "dfew_160", "mafw": "mafw_224"}[paper.data_sets[place]]


def test_without_a_sweep_the_papers_numbers_and_how_to_have_ours() -> None:
    text = said("--table", 4).stdout
    assert "| Pr | Pr.Pr. | MTT | FB | UAR | WAR |\n" in text
    assert "| + | + | - | + | 61.96 | 74.58 |\n" in text
    assert "ours" not in text.split("Not run")[0]
    assert "`mmadfer launch sweep table4 --set data.store=STORE" in text
    assert "--folds 1 " in text
    assert "| 64 | 64.57 | 77.44 | 5.9 | 5.19 |\n" in said("--table", 6).stdout
    text = said("--table", 1).stdout
    assert "| MMA_224* | 224 | 66.85 | 77.43 | 44.25 | 58.45 |\n" in text
    assert "launch sweep table1_dfew " in text
    assert "launch sweep table1_mafw " in text
    assert "--clips 2" in text


def test_ours_beside_the_papers_and_the_order_counted_by_hand(tmp_path: Path) -> None:
    scores = {"audio": [0.25, 0.45], "vision": [0.35, 0.40], "both": [0.80, 0.90]}
    text = paper_table(5, [make_sweep(tmp_path / "sweep", "table5", scores, "data.folds=2")])
    assert "| Audio only | 26.43 | 33.53 | 35.00 ± 14.14 | 35.00 ± 14.14 |\n" in text
    assert "at 160 px, folds 1, 2, 2 epochs" in text
    # vision before audio: 0.10 and -0.05 (mean 0.025, deviation 0.106); the other two are clear
    assert "3 of 3 pairs of rows are as in the paper; by fold 3, 2; half would be by chance" in text
    assert "2 pairs differ by more than" in text
    assert "2 of these are as in the paper" in text
    assert (tmp_path / "sweep" / "report" / "table5.md").read_text() == text
    reverse = {"audio": [0.9, 0.9], "vision": [0.5, 0.5], "both": [0.5, 0.3]}
    text = paper_table(5, [make_sweep(tmp_path / "reverse", "table5", reverse, "data.folds=2")])
    assert "0 of 3 pairs of rows are as in the paper; by fold 0 (1 equal), 0;" in text
    alone = {row: values[:1] for row, values in reverse.items()}
    text = paper_table(5, [make_sweep(tmp_path / "alone", "table5", alone, "data.folds=1")])
    assert "0 of 3 pairs of rows are as in the paper, 1 is equal (fold 1 alone;" in text


def test_what_is_missing_or_another_row_is_named(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", "table5", {"audio": [0.5], "both": [0.6, 0.7]}, "data.folds=2")
    asked = yaml.safe_load((sweep / "sweep.yaml").read_text())
    asked["rows"]["both"]["model.latent"] = 64
    (sweep / "sweep.yaml").write_text(yaml.safe_dump(asked))
    text = paper_table(5, [sweep])
    assert "- audio: fold 2 is missing: it was never begun\n" in text
    assert "- vision: fold 1 is missing" in text
    assert "- both: it differs from the base in " in text
    assert "| MMA-DFER | 66.52 | 77.92 | - | - |\n" in text
    assert "Order by UAR: no two of these rows have a fold in common." in text


def test_a_key_of_the_papers_rows_that_was_set_for_all_is_seen(tmp_path: Path) -> None:
    scores = {row: [0.5] for row in ("none", "mult", "mult_concat", "add", "bottleneck")}
    text = paper_table(3, [make_sweep(tmp_path / "sweep", "table3", scores, "data.folds=1", "model.fusion=none")])
    assert '- bottleneck: it differs from the base in model.fusion="none", and the paper\'s in nothing\n' in text
    assert text.count("50.00 | 50.00") == 1, "of the row that is without fusion"


def test_rows_of_a_sweep_of_some_rows_are_the_papers(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", "table5", {"audio": [0.5], "vision": [0.6]}, "data.folds=1")
    asked = yaml.safe_load((sweep / "sweep.yaml").read_text())
    del asked["rows"]["both"]
    (sweep / "sweep.yaml").write_text(yaml.safe_dump(asked))
    text = paper_table(5, [sweep])
    assert "| 50.00 | 50.00 |\n" in text
    assert "| 60.00 | 60.00 |\n" in text
    assert text.endswith("Not in these numbers:\n\n- both: the sweep has no such row\n")


def test_seeds_are_taken_together(tmp_path: Path) -> None:
    file = tmp_path / "seeds.yaml"
    file.write_text(sweep_file.find_table("table5").read_text() + "seeds: [1, 2]\n")
    scores = {"both-seed1": [0.8, 0.9], "both-seed2": [0.7, 0.6], "audio-seed1": [0.4, 0.4], "audio-seed2": [0.5]}
    text = paper_table(5, [make_sweep(tmp_path / "sweep", str(file), scores, "data.folds=2")])
    assert "| MMA-DFER | 66.52 | 77.92 | 75.00 ± 0.00 | 75.00 ± 0.00 |\n" in text
    assert "| Audio only | 26.43 | 33.53 | 45.00 | 45.00 |\n" in text, "the fold that both seeds have"
    assert "Each fold is the mean over seeds 1, 2. Sample standard deviation over folds" in text
    assert "1 of 1 pairs of rows are as in the paper (fold 1 alone" in text
    assert "- audio-seed2: fold 2 is missing: it was never begun\n" in text
    assert "- vision-seed1: fold 1 is missing" in text


def write_data_set(run: Path, name: str) -> None:
    """What a fold's checkpoint says of the data that it was trained on."""
    config = runs.read(run).config
    said = Contract(labels=tuple(LABELS), model=config.model, prepare=config.prepare, data_set=name)
    folder = run / "fold-1" / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, folder / "weights.safetensors", metadata={KEY: said.dumps()})


def test_another_recipe_is_not_called_the_papers(tmp_path: Path) -> None:
    weights = ["model.vision.weights=face.pth", "model.audio.weights=sound.pth"]
    told = {}
    for name, more in (("plain", []), ("other", ["data.sampler=balanced", "train.ema=0.9"])):
        sweep = make_sweep(tmp_path / name, "table5", {"both": [0.6]}, *weights, *more, "data.store=x.store")
        write_data_set(sweep / "both", "dfew")
        told[name] = next(line for line in paper_table(5, [sweep]).splitlines() if line.startswith("Ours: "))
    assert "Unlike the paper's: the recipe (train.epochs)." in told["plain"]
    assert "Unlike the paper's: the recipe (data.sampler, train.epochs, train.ema)." in told["other"]
    assert '2 epochs; base dfew_160 with data.sampler="balanced", train.ema=0.9, train.epochs=2;' in told["other"]
    assert "±" not in told["plain"], "of one fold there is none"


def test_folds_that_nobody_asked_for_are_not_missing(tmp_path: Path) -> None:
    scores = {row: [0.5] for row in ("audio", "vision", "both")}
    sweep = make_sweep(tmp_path / "sweep", "table5", scores)
    assert "- audio: fold 2 is missing" in paper_table(5, [sweep])
    launch_record.LaunchRecord([1], launch_record.LaunchOptions(folds="1")).write(sweep)
    assert "is missing" not in paper_table(5, [sweep])


def test_both_columns_of_table_1(tmp_path: Path) -> None:
    rows = {"px112": [0.5], "px160": [0.6], "px224": [0.7]}
    sweeps = [make_sweep(tmp_path / name, f"table1_{name}", rows, "data.folds=1") for name in ("mafw", "dfew")]
    text = paper_table(1, sweeps)
    assert "| DFEW UAR, ours | DFEW WAR, ours | MAFW UAR, ours | MAFW WAR, ours |\n" in text
    assert "| 44.19 | 57.90 | 60.00 | 60.00 | 60.00 | 60.00 |\n" in text
    assert text.count("pairs of rows are as in the paper") == 2
    assert "2 of 3 pairs" in text  # of MAFW the paper has 160 px ahead of 224
    text = paper_table(1, sweeps[:1])
    assert "DFEW UAR, ours" not in text
    assert "Not run (DFEW): `mmadfer launch sweep table1_dfew" in text


def test_parameters_are_those_of_the_sweeps_own_base(tmp_path: Path) -> None:
    small = ("model.vision.width=64", "model.audio.width=64", "model.vision.heads=4", "model.audio.heads=4")
    sweep = make_sweep(tmp_path / "sweep", "table2", {"mtm": [0.5], "mean": [0.4]}, "data.folds=1", *small)
    text = paper_table(2, [sweep])
    assert "| MTM | 66.52 | 77.92 | 50.00 | 50.00 | 2.2 | 2.11 |\n" in text
    assert "| mean (not in the paper's) | - | - | 40.00 | 40.00 | - | 0.00 |\n" in text
    assert "| ITA, d=64 | 63.27 | 76.59 | - | - | 1.3 | 0.20 |\n" in text  # 12 x 16,705


def test_wrong_words_are_explained(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", "table5", {}, "data.folds=1")
    run = runs.create(tmp_path / "run", configs.load("demo")).path
    for words, what in (
        ((sweep, "--table", 4), "is a sweep of table5, and table 4 is made by table4"),
        ((run, "--table", 4), "is not a sweep"),
        ((sweep, sweep, "--table", 5), "both sweeps of table5"),
        ((), "no run directory: give one"),
        ((run, run), "is given twice: give each run once"),
        ((sweep, "--table", 5, "--beside", "a=b"), "--beside compares runs"),
    ):
        with pytest.raises(RunError, match=what):
            raise said(*words).exception
