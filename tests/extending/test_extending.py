"""docs/extending.md, done as it says: its files written, its package installed outside of mmadfer, its commands run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from mmadfer.data.sets import toy

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from docs_reader import ROOT, commands, read

PAGE = read(ROOT / "docs" / "extending.md")
LINES = [words for code in PAGE.codes if not code.inline for words in commands(code)]
SCRIPTS = Path(sys.executable).parent


def interviews(folder: Path) -> None:
    """Real clips for the data set of the page: those of the toy set, of eight persons."""
    toy.make(folder, clips_per_class=4, jobs=2)
    files = sorted(folder.glob("*/*.mp4"))
    lines = [f"{file.relative_to(folder)} {file.parent.name} person{k % 8}" for k, file in enumerate(files)]
    (folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, with its package installed into a folder of its own."""
    place = tmp_path_factory.mktemp("extending")
    for code in PAGE.codes:
        if code.file:
            (place / code.file).parent.mkdir(parents=True, exist_ok=True)
            (place / code.file).write_text(code.text, encoding="utf-8")
    assert ["pip", "install", "./parts"] in LINES
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--target", "site")
    run(place, [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *offline, "./parts"])
    interviews(place / "interviews")
    return place


def run(place: Path, words: list[str], code: int = 0) -> str:
    """A command in the folder of the page, as by a user who has installed the package."""
    environ = {**os.environ, "PYTHONPATH": "site", "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def mmadfer(place: Path, *words: str, code: int = 0) -> str:
    return run(place, [sys.executable, "-m", "mmadfer", *words], code)


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """All commands of the page, one after the other."""
    for name, *words in LINES:
        if name == "mmadfer":
            mmadfer(place, *words)
    return place


def test_the_page_trains_exports_and_predicts(done: Path) -> None:
    result = json.loads((done / "mine" / "fold-1" / "result.json").read_text())
    assert result["uar"] >= 0
    predictions = json.loads((done / "predictions.json").read_text())
    assert len(predictions if isinstance(predictions, list) else predictions["predictions"]) == 4
    assert (done / "mine.onnx").is_file()
    assert (done / "second" / "fold-1" / "result.json").is_file()


def test_parts_of_the_package_leave_their_marks_in_the_run(done: Path) -> None:
    fold = done / "mine" / "fold-1"
    lines = [json.loads(line) for line in (fold / "metrics.jsonl").read_text().splitlines()]
    assert {round(line["temperature"], 1) for line in lines if "temperature" in line} == {1.0}  # of the task
    newest = sorted((fold / "checkpoints").iterdir())[-1]
    seen = json.loads((newest / "sampler.json").read_text())["sampler"]["losses"]
    assert len(seen) == 8  # the clips that are trained on
    with safe_open(newest / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert {"fusion.0.gate", "joint.linear.weight", "classifier.classes", "task.scale"} <= names


def test_without_the_package_its_names_are_refused(done: Path) -> None:
    (done / "other").mkdir()
    words = [sys.executable, "-m", "mmadfer", "train", str(done / "mine.yaml"), "--run", "again"]
    found = subprocess.run(words, cwd=done / "other", capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 2
    assert "there is no loss 'focal'" in found.stderr
    assert "mmadfer.losses" in found.stderr


def test_a_wrong_name_suggests_that_of_the_package(done: Path) -> None:
    assert "did you mean interviews?" in mmadfer(done, "prepare", "interview", "--root", "x", "--out", "y", code=2)
    wrong = mmadfer(done, "train", "mine.yaml", "--run", "again", "--set", "task.loss=focl", code=2)
    assert "did you mean focal?" in wrong


def test_the_code_of_the_page_is_in_our_style(place: Path) -> None:
    ruff, rules = str(SCRIPTS / "ruff"), ("--config", str(ROOT / "pyproject.toml"))
    assert "All checks passed" in run(place, [ruff, "check", *rules, "parts/my_parts"])
    assert "already formatted" in run(place, [ruff, "format", "--diff", *rules, "parts/my_parts"])
