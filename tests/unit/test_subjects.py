"""Subjects as units: the table of runs side by side on common clips, the test over subjects, where both are told."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config import schema as configs
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.store.store import Clip, ClipRecord, Header, write_store
from mmadfer.evaluation.bootstrap import estimate_over_units
from mmadfer.evaluation.compared_runs import read_side, without_adapted
from mmadfer.evaluation.subjects import subject_table
from mmadfer.launch import plan
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.tasks import metrics
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.utils import cores

LABELS = ("glad", "sad", "calm")
PEOPLE = tuple(f"person {k:02}" for k in range(12))
EACH = 9
"""Clips of a person, a fold of their own."""


def clips() -> list[Clip]:
    return [
        Clip(f"{k:02}-{n}", LABELS[n % 3], 1 + k % 3, f"{k}-{n}.mp4", 1, subject=PEOPLE[k])
        for k in range(12)
        for n in range(EACH)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 people with 9 clips each, without anything to see or hear."""
    path = tmp_path_factory.mktemp("people") / "people.store"
    nothing = ClipRecord([b"no picture"], np.zeros((512, 128), np.float32))
    write_store(path, Header("people", LABELS, PrepareConfig(face_size=32)), ((clip, nothing) for clip in clips()))
    return path


def make_run(folder: Path, store: Path, accuracy: float, seed: int, least: int = 0, *keys: str) -> Path:
    """A finished run with a fold for each person, which tests their clips from number `least` on."""
    split = ["data.split=leave_one_subject_out", "data.folds=12", f"data.store={store}", "train.epochs=2"]
    run = runs.create(folder, configs.load("dfew_160", [*split, *keys]))
    for k in range(12):
        truth = np.arange(least, EACH) % 3
        rng = np.random.default_rng([seed, k])
        said = np.where(rng.random(len(truth)) < accuracy, truth, (truth + rng.integers(1, 3, len(truth))) % 3)
        write_fold(run.fold(k + 1), k, truth, said, least)
    return run.path


def write_fold(folder: Path, person: int, truth: np.ndarray, said: np.ndarray, least: int) -> None:
    folder.mkdir()
    table = metrics.confusion(truth, said, 3)
    found = {"fold": person + 1, "epoch": 2, "epochs": 2, "uar": metrics.uar(table), "war": metrics.war(table)}
    found |= {"best": {}, "confusion": table.tolist(), "labels": LABELS, "finished": True, "seconds": 1.0}
    (folder / "result.json").write_text(json.dumps(found))
    epochs = [{"event": "epoch", "epoch": e, "loss": 1 / e, "uar": 0.5, "war": 0.5} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in epochs))
    lines = [f"{person:02}-{least + n},{LABELS[truth[n]]},{LABELS[said[n]]},0.5,0.3,0.2\n" for n in range(len(truth))]
    (folder / "predictions.csv").write_text("id,label,predicted,p_glad,p_sad,p_calm\n" + "".join(lines))


def told(run: Path, beside: dict[str, Path] | None = None) -> tuple[dict[str, Any], str, str]:
    """The JSON report, the page and what the terminal showed."""
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    report(run, beside or {}, console)
    page = (run / "report" / "report.html").read_text()
    return json.loads((run / "report" / "report.json").read_text()), page, console.export_text()


def test_signs_are_all_patterns_where_they_are_few_and_drawn_ones_where_they_are_many() -> None:
    rng = np.random.default_rng(3)
    few, many = rng.normal(0.3, 1, 9), rng.normal(0.25, 1, 18)
    found = [abs(np.dot(few, signs)) >= abs(few.sum()) - 1e-9 for signs in product((1, -1), repeat=9)]
    assert estimate_over_units(few, 512, 0).p == pytest.approx(np.mean(found))
    exact = estimate_over_units(many, 2**18, 0).p
    drawn = [estimate_over_units(many, 20_000, seed).p for seed in (1, 2)]
    assert drawn[0] != drawn[1]
    assert drawn == pytest.approx([exact, exact], abs=0.015)
    same = estimate_over_units(np.zeros(5), 1000, 0)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    gains = estimate_over_units(np.array([0.2, 0.1, 0.3, 0.0, 0.25, -0.05]), 2000, 0)
    assert (gains.higher, gains.equal, gains.lower) == (4, 1, 1)
    assert gains.low < gains.value == pytest.approx(0.8 / 6)


def test_p_over_subjects_is_about_uniform_for_equal_runs() -> None:
    p = [estimate_over_units(np.random.default_rng(seed).normal(0, 1, 10), 1024, seed).p for seed in range(600)]
    shares = [float(np.mean(np.array(p) <= level)) for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.05)


def test_a_table_is_of_the_clips_that_all_runs_tested() -> None:
    subjects = {"a": "ann", "b": "ann", "c": "bob", "d": "bob", "e": "cleo"}
    whole = {1: {"a": ("glad", "glad"), "b": ("sad", "glad")}, 2: {"c": ("sad", "sad"), "d": ("glad", "sad")}}
    part = {5: {"a": ("glad", "sad"), "d": ("glad", "glad"), "e": ("sad", "sad"), "unknown": ("sad", "sad")}}
    found = subject_table(subjects, {"whole": [whole], "part": [part, part]}, ("glad", "sad"), CLASSIFICATION)
    assert found is not None
    assert (found.names, found.clips, found.folds) == (("ann", "bob"), (1, 1), ((1,), (2,)))
    assert found.left_out == {"whole": 2, "part": 1}
    assert found.of("whole", "war").tolist() == [1, 0]
    assert found.of("part", "war").tolist() == [0, 1]
    assert subject_table(subjects, {"one": [{1: {}}]}, ("glad", "sad"), CLASSIFICATION) is None


def test_three_runs_stand_side_by_side_in_the_report(store: Path, tmp_path: Path) -> None:
    source = make_run(tmp_path / "source", store, 0.5, 1)
    adapted = make_run(tmp_path / "adapted", store, 0.85, 2, 4, f"stages.init={source}")
    upper = make_run(tmp_path / "upper", store, 0.95, 3, 4)
    found, page, text = told(adapted, {"upper $bound$": upper})
    table = found["subjects"]
    assert table["columns"] == ["this run", "begun from", "upper $bound$"]
    assert table["left_out"] == {"begun from": 48}
    assert [row["subject"] for row in table["each"]] == [*PEOPLE]
    assert {row["clips"] for row in table["each"]} == {5}
    for k, row in enumerate(table["each"]):
        result = json.loads((adapted / f"fold-{k + 1}" / "result.json").read_text())
        assert row["this run"] == pytest.approx({"uar": result["uar"], "war": result["war"]})
        assert row["folds"] == [k + 1]
        lines = (source / f"fold-{k + 1}" / "predictions.csv").read_text().splitlines()[5:]
        right = [line.split(",")[1] == line.split(",")[2] for line in lines]
        assert row["begun from"]["war"] == pytest.approx(np.mean(right)), "on the clips of this run alone"
    own = [row["this run"]["war"] for row in table["each"]]
    first = [row["begun from"]["war"] for row in table["each"]]
    assert table["over_subjects"]["this run"]["war"] == pytest.approx(
        {"mean": np.mean(own), "std": np.std(own, ddof=1)}
    )
    gain = table["gain_over"]["begun from"]["war"]
    assert gain["value"] == pytest.approx(np.mean(own) - np.mean(first))
    assert gain["p"] < 0.05
    assert gain["higher"] + gain["equal"] + gain["lower"] == 12
    for shown in (page, text):
        assert "60 clips of 12 subjects that all these runs tested; left out: 48 of 108 of begun from." in " ".join(
            shown.split()
        )
        assert f"{100 * gain['value']:+.2f}" in shown
    assert page.count('aria-label="UAR of each subject"') == 1
    assert "upper $bound$" in page
    assert "person 11" in page


def test_two_runs_are_compared_over_subjects(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a", store, 0.5, 1), make_run(tmp_path / "b", store, 0.8, 2)
    out = tmp_path / "found.json"
    assert command(app, ["compare", str(a), str(b), "--resamples", "5000", "--out", str(out)]) == 0
    found, text = json.loads(out.read_text())["subjects"], capsys.readouterr().out
    rows = found["each"]
    gains = [row["B"]["uar"] - row["A"]["uar"] for row in rows]
    assert found["difference"]["uar"] == pytest.approx(vars(estimate_over_units(np.array(gains), 5000, 0)))
    assert "Means over 12 subjects, in percent" in text
    assert f"{100 * np.mean(gains):+.2f}" in text
    assert "person 07" in text


def test_beside_an_adapted_run_clips_that_it_was_adapted_to_do_not_count(store: Path, tmp_path: Path) -> None:
    whole, part = (read_side(make_run(tmp_path / str(k), store, 0.5, k, k)) for k in (0, 5))
    same, none = without_adapted([whole, part])
    assert (same, none) == ([whole, part], 0)
    adapted = replace(part, members=[replace(part.members[0], adapted=True)])
    found, left_out = without_adapted([whole, adapted])
    assert left_out == 60
    for k in range(12):
        told = found[0].members[0].predictions[k + 1]
        assert {*told} == {f"{k:02}-{n}" for n in range(5, EACH)} == {*found[1].members[0].predictions[k + 1]}
        right = [truth == said for truth, said in told.values()]
        assert found[0].members[0].results[k + 1].scores["war"] == pytest.approx(np.mean(right))
    assert found[1] == adapted


@pytest.mark.parametrize(
    ("people", "count", "note"),
    [(False, 108, None), (True, 20, "is another store than that of the run: clip"), (True, 0, "no store at")],
)
def test_without_subjects_nothing_is_said_and_of_another_store_why(
    people: bool, count: int, note: str | None, tmp_path: Path
) -> None:
    store, nothing = tmp_path / "some.store", ClipRecord([b"no picture"], np.zeros((512, 128), np.float32))
    some = [clip if people else replace(clip, subject=None) for clip in clips()[:count]]
    if some:
        head = Header("people", LABELS, PrepareConfig(face_size=32))
        write_store(store, head, ((clip, nothing) for clip in some))
    found, page, text = told(make_run(tmp_path / "run", store, 0.5, 1))
    assert "subjects" not in found
    for shown in (page, " ".join(text.split())):
        assert ("No table of subjects" in shown) == (note is not None)
        assert note is None or note in shown


def test_many_folds_have_a_drawing_of_their_curves_without_their_names(store: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", store, 0.5, 1)
    many = configs.load(run / "config.yaml", ["data.folds=20"])
    run.joinpath("config.yaml").write_text(many.to_yaml())
    for k in range(12, 20):
        write_fold(run / f"fold-{k + 1}", k, np.arange(9) % 3, np.arange(9) % 3, 0)
    _, page, _ = told(run)
    assert "fold 12<" not in page
    assert ">mean<" in page


def test_this_machine_does_not_train_sixty_folds_at_a_time() -> None:
    sixty = [*range(1, 61)]
    here = plan.resources(sixty, LaunchOptions(cluster="local", gpus=0))
    assert here.parallel == max(5, cores.granted())
    assert plan.resources(sixty, LaunchOptions(cluster="local", gpus=0, parallel=60)).parallel == 60
    assert plan.resources(sixty[:5], LaunchOptions(cluster="local", gpus=0)).parallel == 5
