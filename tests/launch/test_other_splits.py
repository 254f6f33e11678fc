"""Splits other than the store's own folds, all the way: launch, result, predictions, report, status and compare."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from launch_setup import said, start

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import PrepareConfig, load
from mmadfer.data import fold_clips
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.data.training_files import from_store
from mmadfer.errors import DataError
from mmadfer.model.weights.load import load as load_model
from mmadfer.run import directory as runs

SUBJECTS = ("ann", "bob", "cleo")
CHOSEN = "leave_one_subject_out(cleo, ann)"
FOLDS = {"official": 1, CHOSEN: 2, "by_subject": 2}
TESTED = {"official": 8, CHOSEN: 16, "by_subject": 24}


@pytest.fixture(scope="module")
def people(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of `store`, eight of each of three subjects, with an official split."""
    path = tmp_path_factory.mktemp("people") / "people.store"

    def records(opened: Store) -> Iterator[tuple[Clip, ClipRecord]]:
        for k, (name, clip) in enumerate(opened.clips.items()):
            part = "test" if k % 3 == 0 else "validation" if k % 6 == 1 else "train"
            yield replace(clip, subject=SUBJECTS[k // 8], splits={"official": part}), opened.read(name)

    with Store(store) as opened:
        write_store(path, Header("people", opened.labels, PrepareConfig(face_size=32)), records(opened))
    return path


@pytest.fixture
def configured(config: Path, people: Path, store: Path) -> Path:
    text = config.read_text().replace(str(store), str(people)).replace("folds: 2, ", "")
    config.write_text(text.replace("epochs: 2", "epochs: 1"))
    return config


@pytest.mark.slow
@pytest.mark.parametrize("split", FOLDS)
def test_a_split_is_launched_reported_compared_and_evaluated(
    split: str, configured: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folds = tmp_path / "run", range(1, FOLDS[split] + 1)
    more = ["--set", "data.folds=2"] if split == "by_subject" else []
    begun = start(configured, run, "--set", f"data.split={split}", *more)
    text, _ = begun.communicate(timeout=240)
    assert begun.returncode == 0, text

    report = json.loads((run / "report" / "report.json").read_text())
    assert report["complete"]
    assert ("validation" in report) == (split == "official")
    assert report["folds_used"] == [*folds]
    assert report["config"]["data"]["folds"] == FOLDS[split]
    told_subjects = {row["subject"]: row["folds"] for row in report["subjects"]["each"]}
    if split == "leave_one_subject_out":
        assert told_subjects == {name: [k] for k, name in enumerate(SUBJECTS, 1)}
    tested = set[str]()
    with Store(people) as opened:
        for fold in folds:
            due = fold_clips.test_clips(runs.read(run).config, opened, fold)
            with (run / f"fold-{fold}" / "predictions.csv").open() as file:
                told = [row["id"] for row in csv.DictReader(file)]
            assert told == due
            assert not {*told} & tested, "a clip is tested once"
            tested |= {*told}
        assert len(tested) == TESTED[split]
    status = said("status", run)
    assert status.exit_code == 0
    assert status.output.count("finished") == len(folds)

    contract = load_model(run, fold=1).contract
    assert contract is not None
    assert (contract.split, contract.folds) == (split, FOLDS[split])
    other = shutil.copytree(run, tmp_path / "other")
    capsys.readouterr()
    for words in (
        ["evaluate", str(run), "--fold", str(FOLDS[split]), "--data", str(people)],
        ["report", str(run)],
        ["compare", str(run), str(other), "--resamples", "100"],
    ):
        assert command(app, words) == 0, capsys.readouterr()
    last = json.loads((run / f"fold-{FOLDS[split]}" / "result.json").read_text())
    assert f"{100 * last['uar']:.2f}" in capsys.readouterr().out, "evaluation finds the fold's own clips"


def test_folds_by_subject_are_as_many_as_asked_for(configured: Path, people: Path) -> None:
    asked = ["data.split=by_subject", "data.folds=3"]
    whole = from_store(load(configured, asked))
    assert whole.data.folds == 3
    with Store(people) as opened:
        for fold in (1, 2, 3):
            known = {opened.clips[name].subject for name in fold_clips.test_clips(whole, opened, fold)}
            trained = {clip.subject for clip in fold_clips.training_clips(whole, opened, fold)}
            assert known | trained == {*SUBJECTS}
            assert not known & trained
    with pytest.raises(DataError, match="3 subjects cannot make 5 folds"):
        from_store(load(configured, ["data.split=by_subject"]))


def test_doctor_tells_of_splits_by_subject(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(app, ["doctor", str(people)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "leave_one_subject_out (3 folds), by_subject (data.folds folds of 3 subjects), official (1 fold)" in told
