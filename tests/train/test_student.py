"""A student of one modality: of any size, fed for its teacher's sake, and known by whose student it is."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from setting import LABELS, checkpoints, make_config, make_store, promises
from test_stages import changed, child, trained

from mmadfer.config.schema import Config, parse
from mmadfer.contract import loads
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
from mmadfer.export.to_weights import to_weights
from mmadfer.model.weights.load import load
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.tasks.tables import TASKS
from mmadfer.train.loop import train
from mmadfer.utils.console import Console

SMALL = {"width": 16, "depth": 4, "heads": 2}
TIMM = {"timm": "vit_tiny_patch16_224", "width": 192, "depth": 12, "heads": 3}
STUDENTS: dict[str, dict[str, Any]] = {
    "frames": {
        "branches": "vision",
        "vision": {**SMALL, "patch": 8},
        "pixels": "imagenet",
        "joint": {"width": 24},
        "temporal": {"heads": 3, "head_width": 8, "mlp_width": 16},
        "prompts": 2,
        "lora": {"rank": 2},
    },
    "frames of timm": {"branches": "vision", "vision": TIMM, "joint": {"width": 24}},
    "sound": {"branches": "audio", "audio": SMALL, "joint": {"width": 24}},
}


@pytest.fixture(autouse=True)
def _distilling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS.own, "distilling", "test_stages:DISTILLING")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of 8 people in two folds; clips of a person are in one fold."""
    folder = tmp_path_factory.mktemp("student")
    plain = make_store(folder / "plain.store")
    return changed(
        plain,
        folder / "tiny.store",
        media_sha256=lambda clip: f"digest of {clip.id}",
        subject=lambda clip: f"p{int(clip.id[1:]) // 3}",
    )


@pytest.fixture(scope="module")
def teacher(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(make_config(store, epochs=1), tmp_path_factory.mktemp("runs") / "teacher", 1, 2)


def student(store: Path, teacher: Path | None, kind: str = "frames", **data: object) -> Config:
    """One epoch; without a teacher, of labels alone."""
    model = {"fusion": {"name": "none"}, **STUDENTS[kind]}
    tree = child(make_config(store, epochs=1), model=model, teacher=teacher).model_dump(mode="json")
    task = {"name": "distilling"} if teacher else {}
    return parse({**tree, "name": kind.replace(" ", "_"), "task": task, "data": tree["data"] | data}, "the test")


@pytest.mark.parametrize("kind", STUDENTS)
def test_it_is_of_any_size(store: Path, teacher: Path, tmp_path: Path, kind: str) -> None:
    run = trained(student(store, teacher, kind), tmp_path / "student", 1)
    contract = promises(checkpoints(runs.fold_dir(run, 1))[-1])
    assert contract.modalities == contract.model.branches != "both"
    model = load(run, fold=1)
    frames, fbank = torch.zeros(2, 4, 3, 32, 32), torch.zeros(2, 1, 512, 128)
    assert (model(frames) if contract.modalities == "vision" else model(fbank=fbank)).shape == (2, 3)


def test_a_student_of_sound_is_tested_without_frames(store: Path, teacher: Path) -> None:
    config = student(store, teacher, "sound")
    with Store(store) as opened, closing(Loader(opened, config, LABELS)) as loader:
        batch = next(loader.train(0, batches(config, opened, 1, 0)))
        assert batch.frames.shape == (4, 4, 3, 32, 32), "the teacher sees them"
        assert batch.frames.any()
        assert next(loader.test(["c00", "c01"], 2)).frames.shape[:2] == (2, 0)
        deaf = student(store, teacher, "frames")
    with Store(store) as opened, closing(Loader(opened, deaf, LABELS)) as loader:
        assert len(next(loader.train(0, batches(deaf, opened, 1, 0))).fbank.unique()) > 1, "the teacher hears it"


def test_the_frames_of_a_blind_teacher_are_black(store: Path, tmp_path: Path) -> None:
    tree = make_config(store, epochs=1).model_dump(mode="json")
    tree["data"]["modalities"] = "audio"
    blind = trained(parse(tree, "the test"), tmp_path / "blind", 1)
    config = student(store, blind, "sound", modalities="audio")
    assert trained(config, tmp_path / "student", 1)
    with Store(store) as opened, closing(Loader(opened, config, LABELS)) as loader:
        batch = next(loader.train(0, batches(config, opened, 1, 0)))
        assert batch.frames.shape[:2] == (4, 4)
        assert not batch.frames.any()


def test_its_contract_says_whose_student_it_is(store: Path, teacher: Path, tmp_path: Path) -> None:
    run = trained(student(store, teacher), tmp_path / "student", 2)
    contract = promises(checkpoints(runs.fold_dir(run, 2))[-1])
    theirs = promises(checkpoints(runs.fold_dir(teacher, 2))[-1])
    assert contract.teacher is not None
    assert contract.teacher.model_dump() == {
        "name": "tiny",
        "fold": 2,
        "data_set": "tiny",
        "modalities": "both",
        "labels": LABELS,
        "encoder_hash": theirs.encoder_hash,
        "weights_hash": theirs.weights_hash,
    }
    assert str(tmp_path) not in contract.dumps()
    assert str(teacher) not in contract.dumps()
    whole = to_weights(run, tmp_path / "student.safetensors", fold=2)
    carried = load(whole).contract
    assert carried is not None
    assert carried.teacher == contract.teacher
    second = trained(child(student(store, None), init=run), tmp_path / "second", 2)
    begun = promises(checkpoints(runs.fold_dir(second, 2))[-1])
    assert begun.teacher == contract.teacher, "what begins with a student's weights has learnt of its teacher, too"


def test_a_contract_without_a_teacher_says_nothing_of_one(teacher: Path) -> None:
    contract = promises(checkpoints(runs.fold_dir(teacher, 1))[-1])
    assert contract.teacher is None
    assert "teacher" not in contract.dumps()
    assert loads(contract.dumps()) == contract


def test_the_report_shows_the_teacher_beside_its_student(store: Path, teacher: Path, tmp_path: Path) -> None:
    run = trained(student(store, teacher), tmp_path / "student", 1, 2)
    plain = trained(student(store, None), tmp_path / "plain", 1, 2)
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    made = report(run, {"alone": plain}, console).to_dict()
    theirs = [json.loads((teacher / f"fold-{k}" / "result.json").read_text()) for k in (1, 2)]
    assert [fold["uar"] for fold in made["teacher"]["folds"]] == pytest.approx([one["uar"] for one in theirs])
    assert made["teacher"]["mean"]["uar"] == pytest.approx(sum(one["uar"] for one in theirs) / 2)
    assert [row["name"] for row in made["beside"]] == ["this run", "alone"]
    for shown in (console.export_text(), (run / "report" / "report.html").read_text()):
        assert "eacher: UAR / WAR" in shown
    assert "teacher" not in report(plain, {}, Console(quiet=True)).to_dict()


def test_a_teacher_that_knows_the_people_of_the_test_is_refused(store: Path, teacher: Path, tmp_path: Path) -> None:
    """The teacher was trained clip by clip, and the student is tested by person: half of them were taught to it."""
    by_person = student(store, teacher, split="by_subject")
    with pytest.raises(DataError, match=r"stages\.teacher: fold 1 of .*teacher was trained on \d of the 12 clips that"):
        train(by_person, 1, runs.open_fold(tmp_path / "student", by_person, 1))
    other_takes = changed(
        store,
        tmp_path / "takes.store",
        id=lambda clip: f"take 2 of {clip.id}",
        media_sha256=lambda clip: clip.media_sha256 if clip.id == "c03" else f"take 2 of {clip.id}",
        fold=lambda clip: 3 - clip.fold,
    )
    elsewhere = trained(make_config(other_takes, epochs=1), tmp_path / "elsewhere", 1)
    own = student(store, elsewhere)
    with pytest.raises(DataError, match=r"was trained on clips of 4 subject\(s\) that fold 1 .*\(p0, p2, p4, p6\)"):
        train(own, 1, runs.open_fold(tmp_path / "other", own, 1))
    assert not checkpoints(tmp_path / "other" / "fold-1")
