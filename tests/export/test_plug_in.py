"""Parts of an outside package, which pip installs: they train, are saved, loaded, exported and served."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
import torch
from export_setup import MODEL
from safetensors.torch import load_file

from mmadfer.config import plug_ins
from mmadfer.config.distillation import DISTILLATIONS
from mmadfer.config.model import TABLES
from mmadfer.config.schema import Config, parse
from mmadfer.errors import ConfigError, MissingDependencyError
from mmadfer.export.parity.parity import export_onnx
from mmadfer.model.weights.build import build_model
from mmadfer.model.weights.load import load
from mmadfer.run import directory
from mmadfer.runtime import Recogniser
from mmadfer.train.loop import train
from mmadfer.utils.files import read_object

PACKAGE = Path(__file__).parents[1] / "plug_in"
PARTS = {
    "model.fusion: gated": "gates 1.5",
    "model.joint: concatenated": "gates 1.5",
    "model.head: scaled": "gates 1.5",
}


def forget() -> None:
    """What the tables have seen of the installed packages."""
    for table in (*TABLES.values(), DISTILLATIONS):
        table.__dict__.pop("plug_ins", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gates"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package."""
    needs.installed("pip", "setuptools")
    work = tmp_path_factory.mktemp("plug-in")
    shutil.copytree(PACKAGE, work / "source")
    how = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", str(work / "site"))
    subprocess.run([sys.executable, "-m", "pip", "install", *how, str(work / "source")], check=True, cwd=work)
    return work / "site"


@pytest.fixture(scope="module")
def installed(place: Path) -> Iterator[Path]:
    """The package can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        forget()
        yield place
    forget()


def config(store: Path, **model: Any) -> Config:
    """A configuration with all parts of its model; an epoch of three steps."""
    parts = {"fusion": {"name": "gated", "start": 0.25}, "joint": "concatenated", "head": {"name": "scaled"}}
    data = {"store": str(store), "folds": 4, "threads": 1}
    tree = {"name": "outside", "prepare": {"face_size": 64, "detect_every": 20}, "data": data}
    tree |= {"model": {**MODEL.model_dump(mode="json"), **parts, **model}}
    return parse({**tree, "train": {"epochs": 1, "batch_size": 1, "lr": 0.01}}, "the test")


@pytest.fixture(scope="module")
def fold(installed: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = config(calibration_store)
    run = tmp_path_factory.mktemp("outside") / "run"
    directory.create(run, given)
    assert train(given, 1, run / "fold-1").finished
    return run / "fold-1"


def test_a_section_of_its_own(installed: Path, calibration_store: Path) -> None:
    given = config(calibration_store).model
    assert given.fusion.model_dump() == {"name": "gated", "start": 0.25, "momentum": 0.1}
    assert (given.width, given.steps) == (32, 5)
    with pytest.raises(ConfigError, match=r"model\.fusion: momentun: unknown key: did you mean momentum\?"):
        config(calibration_store, fusion={"name": "gated", "momentun": 0.2})
    with pytest.raises(ConfigError, match=r"model\.fusion: start: .*less than or equal to 1"):
        config(calibration_store, fusion={"name": "gated", "start": 2})
    with pytest.raises(ConfigError, match=r"no fusion 'gatd': did you mean gated\?"):
        config(calibration_store, fusion="gatd")


def test_it_trains_and_buffers_are_saved(fold: Path, calibration_store: Path) -> None:
    model = load(fold)
    start = build_model(config(calibration_store).model, 4)
    (checkpoint,) = (fold / "checkpoints").iterdir()
    saved = load_file(checkpoint / "weights.safetensors")
    assert set(saved) == set(model.learned())
    assert "fusion.0.scale" not in saved
    for name in ("fusion.0.gate", "fusion.1.seen", "joint.audio.weight", "classifier.temperature"):
        assert torch.equal(saved[name], model.learned()[name])
        assert not torch.equal(saved[name], start.learned()[name]), f"{name} has not moved"
    assert start.fusion[0].gate.tolist() == [0.25] * 32
    assert torch.equal(model.fusion[0].scale, torch.linspace(0.5, 1, 32)), "computed anew"
    assert saved["fusion.0.steps"].item() == 3, "steps of training, and none of tests"
    assert saved["fusion.0.steps"].dtype == torch.int64
    assert (model.contract and model.contract.plug_ins) == PARTS
    assert read_object(fold.parent / "run.json", 1 << 20)["plug_ins"] == PARTS


def test_a_stopped_fold_goes_on_to_the_same_buffers(fold: Path, calibration_store: Path, tmp_path: Path) -> None:
    asked = iter((False, True))
    given = config(calibration_store)
    assert not train(given, 1, tmp_path / "fold-1", stop=lambda: next(asked, True)).finished
    assert train(given, 1, tmp_path / "fold-1", resume=True).finished
    one, other = load(fold).learned(), load(tmp_path / "fold-1").learned()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def proven(fold: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph, after parity from file to label."""
    return export_onnx(fold, tmp_path_factory.mktemp("proven") / "model.onnx", calibration_store)


def test_it_is_exported_and_served(fold: Path, proven: Path, video: Path) -> None:
    one, other = (list(Recogniser(path)(video).probabilities.values()) for path in (fold, proven))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert Recogniser(proven).contract.plug_ins == PARTS


def test_without_its_package_weights_are_refused_and_graphs_are_served(
    fold: Path, place: Path, proven: Path, video: Path
) -> None:
    probabilities = Recogniser(proven)(video).probabilities
    told = r"made with model\.fusion: gated of the package gates 1\.5, which is not installed.*pip install gates==1\.5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [one for one in sys.path if one != str(place)])
        forget()
        try:
            with pytest.raises(MissingDependencyError, match=told):
                load(fold)
            served = Recogniser(proven)
            assert served(video).probabilities == probabilities, "the graph has all that the package would compute"
            assert served.contract.model.fusion.model_dump() == {"name": "gated", "start": 0.25, "momentum": 0.1}
        finally:
            patch.undo()
            forget()


def test_another_version_is_told(installed: Path) -> None:
    with pytest.warns(UserWarning, match=r"made with model\.fusion: gated of gates 1\.4, and here is gates 1\.5"):
        plug_ins.check({"model.fusion: gated": "gates 1.4"}, "it")


def student(store: Path, teacher: Path, **distill: Any) -> Config:
    """A model of frames and of our own parts, which learns from one of both by the package's loss."""
    model = {"branches": "vision", "fusion": "none", "joint": {"name": "sum", "width": 24}, "head": "classes"}
    tree = config(store, **model).model_dump(mode="json")
    changes = {"stages": {"teacher": str(teacher)}, "task": {"distill": {"name": "turned", **distill}}}
    return parse({**tree, **changes}, "the test")


def test_a_student_learns_from_its_teacher_by_the_packages_loss(
    fold: Path, calibration_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"task\.distill: margn: unknown key: did you mean margin\?"):
        student(calibration_store, fold.parent, margn=0.1)
    given = student(calibration_store, fold.parent, margin=0.125, weight=3.0)
    assert plug_ins.of_config(given) == {"task.distill: turned": "gates 1.5"}
    assert given.task.distill is not None
    assert given.task.distill.model_dump() == {"name": "turned", "margin": 0.125, "weight": 3.0, "shuffle": False}
    folder = directory.open_fold(tmp_path / "run", given, 1)
    assert train(given, 1, folder).finished
    steps = [line for line in map(json.loads, (folder / "metrics.jsonl").open()) if line["event"] == "step"]
    for step in steps:
        assert step["loss"] == pytest.approx(step["task_loss"] + 3 * step["distill"], rel=1e-4)
        assert 0 < step["distill"] <= 2 - 0.125
    (checkpoint,) = (folder / "checkpoints").iterdir()
    saved = load_file(checkpoint / "weights.safetensors")
    assert saved["task.terms.distill.turn.weight"].shape == (32, 24)
    assert read_object(tmp_path / "run" / "run.json")["plug_ins"] == {"task.distill: turned": "gates 1.5"}
    model = load(folder)
    assert model.contract is not None
    assert not model.contract.plug_ins, "the model itself needs no package"
