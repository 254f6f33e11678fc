"""`make demo`: the whole way on a toy set, as the commands that a user would type.

Every step that succeeded leaves a mark with the fingerprint of the code; what is marked is not done again.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

import mmadfer
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.utils.console import Console
from mmadfer.utils.files import write_text
from mmadfer.utils.terminal import say

_DEMO_FOLDER = Path("build/demo")
CONTROLS = {"vision only": "vision", "sound only": "audio"}


@dataclass(frozen=True)
class Step:
    """One command of the demo; `resumable` ones are told to go on where a run was broken off."""

    title: str
    arguments: tuple[str, ...]
    resumable: Path | None = None

    def command(self) -> list[str]:
        """The words after `mmadfer`."""
        resume = ["--resume"] if self.resumable and self.resumable.exists() else []
        return [*self.arguments, *resume]


def steps() -> list[Step]:
    """The demo, in order."""
    store, model = f"{_DEMO_FOLDER}/toy.store", f"{_DEMO_FOLDER}/model.onnx"
    common = ("launch", "demo", "--cluster", "local", "--set", f"data.store={store}")
    controls = [
        Step(
            f"Control: the same model, {name}",
            (*common, "--run", f"{_DEMO_FOLDER}/{key}", "--set", f"data.modalities={key}"),
            _DEMO_FOLDER / key,
        )
        for name, key in CONTROLS.items()
    ]
    beside = [word for name, key in CONTROLS.items() for word in ("--beside", f"{name}={_DEMO_FOLDER}/{key}")]
    export = ("export", "onnx", f"{_DEMO_FOLDER}/both", "--fold", "1", "--data", store, "--out", model)
    return [
        Step(
            "Toy videos, made and prepared",
            ("prepare", "toy", "--root", f"{_DEMO_FOLDER}/media", "--out", store, "--config", "demo"),
        ),
        Step("Five folds in parallel", (*common, "--run", f"{_DEMO_FOLDER}/both"), _DEMO_FOLDER / "both"),
        *controls,
        Step("Report", ("report", f"{_DEMO_FOLDER}/both", *beside)),
        Step("ONNX model of fold 1, with parity", export),
        Step(
            "A prediction by the exported model", ("predict", str(_video), "--model", model, "--out", str(_prediction))
        ),
    ]


_prediction = _DEMO_FOLDER / "prediction.json"
_video = _DEMO_FOLDER / "video.mp4"


def main() -> None:
    """Run what is missing, then show the folds and where everything lies."""
    start, console, print_ = time.monotonic(), Console(), fingerprint()
    _forget_other_code(print_)
    todo = steps()
    for number, step in enumerate(todo, 1):
        mark = _DEMO_FOLDER / f".done-{number}"
        if mark.exists():
            console.print(f"[dim]{number}/{len(todo)} {step.title}: done before")
            continue
        console.rule(f"{number}/{len(todo)} {step.title}", align="left")
        _run(step, console)
        write_text(mark, print_)
    _show(console, time.monotonic() - start)


def fingerprint() -> str:
    """SHA-256 over the package's code and configurations."""
    files = sorted(p for p in Path(mmadfer.__file__).parent.rglob("*") if p.suffix in {".py", ".yaml"})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _forget_other_code(print_: str) -> None:
    marks = [mark.read_text() for mark in _DEMO_FOLDER.glob(".done-*")]
    if any(mark != print_ for mark in marks):
        say(f"The code has changed since {_DEMO_FOLDER} was made: starting anew.")
        shutil.rmtree(_DEMO_FOLDER)


def _run(step: Step, console: Console) -> None:
    command = step.command()
    if command[0] == "predict":
        _choose_video()
    console.print(f"[bold]$ mmadfer {shlex.join(command)}", soft_wrap=True)
    code = subprocess.run([sys.executable, "-m", "mmadfer", *command], check=False).returncode
    if code:
        console.print(f"[red]This step failed (exit code {code}). `make demo` goes on from here once it is mended.")
        sys.exit(code)


def _choose_video() -> None:
    """A test clip of fold 1, under a name that does not give its label away."""
    from mmadfer.data.store.store import Store

    store = Store(_DEMO_FOLDER / "toy.store")
    clip = store.clips[store.fold(1)[0]]
    shutil.copyfile(store.root / clip.media, _video)
    write_text(_DEMO_FOLDER / "video.label", clip.label)


def _show(console: Console, seconds: float) -> None:
    report = json.loads((_DEMO_FOLDER / "both/report/report.json").read_text())
    prediction = json.loads(_prediction.read_text())[0]
    truth = (_DEMO_FOLDER / "video.label").read_text()
    console.print(_table(report))
    for name, text in {
        "report": f"{_DEMO_FOLDER}/both/report/report.html",
        "model": f"{_DEMO_FOLDER}/model.onnx",
        "prediction": f"{_prediction} ({_video}: {prediction['label']}; truth: {truth})",
        "time": f"{seconds:.0f} s",
    }.items():
        console.print(f"{name:<12}{text}", soft_wrap=True, highlight=False)


def _table(report: dict[str, Any]) -> Table:
    scores = CLASSIFICATION.scores
    table = Table("", *CLASSIFICATION.titles, title="Toy set: last epoch, on the test folds", title_justify="left")
    for fold in report["folds"]:
        table.add_row(f"fold {fold['fold']}", *(score.shown(fold[score.name]) for score in scores))
    table.add_section()
    mean, std = report["mean"], report["std"]
    table.add_row(
        "mean ± std", *(one.shown(mean[one.name]) + one.spread(std[one.name]) for one in scores), style="bold"
    )
    for run in report["beside"][1:]:
        table.add_row(run["name"], *(score.shown(run[score.name]) for score in scores))
    return table


if __name__ == "__main__":
    main()
