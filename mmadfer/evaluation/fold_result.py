"""One fold of a run, read from its directory and checked; nothing is believed that does not add up."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.config.schema import Config
from mmadfer.errors import MmadferError
from mmadfer.run import directory as runs
from mmadfer.run import records
from mmadfer.tasks import metrics
from mmadfer.tasks.classification import CLASSIFICATION, of_confusion
from mmadfer.tasks.spec import TaskSpec

USABLE = "finished"
TOLERANCE = 1e-6
"""How far a stated score may be from the one that its confusion matrix gives."""


@dataclass(frozen=True)
class FoldResult:
    """One fold: `state` is finished, unfinished, failed, damaged or missing; only a finished one has numbers."""

    fold: int
    state: str
    note: str = ""
    labels: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    """(C, C) int64, rows are the truth; None of a task without classes."""
    values: tuple[str, ...] = ()
    """Names, of a task that gives values."""
    by_value: dict[str, float] = field(default_factory=dict)
    """Scores of each value by itself: `ccc_valence` and so on."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of the last epoch, by name."""
    clips: int | None = None
    """That were tested."""
    best: dict[str, float] = field(default_factory=dict)
    """`epoch` and scores of the best epoch, picked on test data; where there is `validation`, on those clips."""
    validation: dict[str, float] = field(default_factory=dict)
    """Scores of the last epoch on the clips that `data.validation` keeps from training, and how many these are."""
    temperature: float | None = None
    """Fitted on those clips (`mmadfer.tasks.calibration`)."""
    temperature_note: str = ""
    """Why there is none."""
    epoch: int = 0
    """Finished epochs."""
    epochs: int = 0
    seconds: float | None = None
    joules: float | None = None
    """Of the GPUs while it was trained; None where they do not tell."""
    curves: tuple[dict[str, Any], ...] = ()
    """The epoch events, in order."""
    spec: TaskSpec = CLASSIFICATION

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs, in order: labels of classes, or names of values."""
        return self.labels or self.values

    @property
    def usable(self) -> bool:
        """Whether the fold counts."""
        return self.state == USABLE

    def to_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            "fold": self.fold,
            "state": self.state,
            "note": self.note,
            **{name: self.scores.get(name) for name in self.spec.names},
            "epoch": self.epoch,
            "epochs": self.epochs,
            "seconds": self.seconds,
            **({"joules": self.joules} if self.joules is not None else {}),
            "clips": self.clips,
            **({"values": list(self.values), "by_value": self.by_value} if self.values else {}),
            **({"validation": self.validation} if self.validation else {}),
            f"best_on_{'validation' if self.validation else 'test'}": self.best or None,
            "recall": None if self.confusion is None else class_recalls(self.confusion),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "curves": list(self.curves),
        }


def read(run: Path, fold: int, config: Config) -> FoldResult:
    """Read fold `fold` of `run`, whose configuration is `config`."""
    folder, epochs = runs.fold_dir(run, fold), config.train.epochs
    empty = FoldResult(
        fold, "missing", "it was never begun", values=tuple(config.task.values), epochs=epochs, spec=config.task.spec
    )
    if not folder.is_dir() or not any(path for path in folder.iterdir() if path.name[0] != "."):
        return empty
    curves = epoch_events(folder / "metrics.jsonl")
    begun = replace(empty, note="", curves=curves, epoch=int(curves[-1]["epoch"]) if curves else 0)
    if not (folder / "result.json").is_file():
        return _unfinished(folder, begun)
    try:
        return _finished(records.read(records.Ended, folder / "result.json"), begun)
    except MmadferError as error:
        return replace(begun, state="damaged", note=str(error))
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"result.json lacks {error}" if isinstance(error, KeyError) else f"result.json: {error}"
        return replace(begun, state="damaged", note=what)


def epoch_events(path: Path) -> tuple[dict[str, Any], ...]:
    """The epoch events of a metrics file; a resumed run may have written one twice, and the later one counts."""
    events = records.read_events(path)
    found = {event["epoch"]: event for event in events if event["event"] == "epoch" and event.get("epoch")}
    return tuple(found[epoch] for epoch in sorted(found))


def _unfinished(folder: Path, begun: FoldResult) -> FoldResult:
    failed = runs.failure(folder)
    where = f"{begun.epoch} of {begun.epochs} epochs are done"
    if failed:
        return replace(begun, state="failed", note=f"{failed.get('reason')} ({where}; log: {failed.get('log')})")
    return replace(begun, state="unfinished", note=where)


def _finished(found: dict[str, Any], begun: FoldResult) -> FoldResult:
    """Raises ValueError, TypeError, KeyError or FileError where the result does not hold together."""
    epoch, wanted, spec = int(found["epoch"]), int(found["epochs"]), begun.spec
    if found.get("finished") is not True or epoch < wanted:
        note = f"{epoch} of {wanted} epochs are done"
        return replace(begun, state="unfinished", note=note, epoch=epoch, epochs=wanted)
    labels, confusion = _classes(found) if spec.output == "classes" else ((), None)
    if spec.output == "values" and tuple(found["values"]) != begun.values:
        raise ValueError(f"it is of {', '.join(found['values'])}, and the configuration asks for other values")
    scores = records.numbers(found, spec.scores)
    if confusion is not None:
        _check_scores(scores, of_confusion(confusion))
    if int(found["fold"]) != begun.fold:
        raise ValueError(f"it is of fold {found['fold']}, not {begun.fold}")
    if wanted != begun.epochs:
        raise ValueError(f"it is of {wanted} epochs, and the configuration asks for {begun.epochs}")
    return replace(
        begun,
        state=USABLE,
        labels=labels,
        confusion=confusion,
        by_value=_by_value(found, spec),
        scores=scores,
        clips=int(found["clips"] if confusion is None else confusion.sum()),
        best=_beside(found.get("best"), "epoch", spec),
        validation=_beside(found.get("validation"), "clips", spec),
        **_temperature(found),
        epoch=epoch,
        seconds=_seconds(found.get("seconds")),
        joules=_seconds(found.get("joules")),
    )


def _check_scores(stated: dict[str, float], counted: dict[str, float]) -> None:
    for name, value in counted.items():
        if name in stated and not abs(stated[name] - value) <= TOLERANCE:
            raise ValueError(f"{name} is {stated[name]}, but the confusion matrix gives {value}")


def _beside(found: dict[str, Any] | None, count: str, spec: TaskSpec) -> dict[str, Any]:
    """Scores of other clips or epochs, with a count; {} where there are none."""
    return {count: found[count], **records.numbers(found, spec.scores)} if found else {}


def _temperature(found: dict[str, Any]) -> dict[str, Any]:
    """The fitted temperature, or why there is none."""
    told = found.get("temperature")
    if told and told["value"] is not None:
        return {"temperature": float(told["value"])}
    if told:
        return {"temperature_note": "the validation clips do not tell a temperature"}
    later = "trained before temperatures were kept" if found.get("validation") else "no validation clips"
    return {"temperature_note": f"{later}: no temperature"}


def _classes(found: dict[str, Any]) -> tuple[tuple[str, ...], np.ndarray]:
    labels = tuple(found["labels"])
    return labels, _matrix(found["confusion"], len(labels))


def _by_value(found: dict[str, Any], spec: TaskSpec) -> dict[str, float]:
    """What is told of each value; nothing that is no number."""
    keys = [f"{score}_{name}" for name in found.get("values", ()) for score in spec.names]
    told = found.get("by_value", {})
    return {key: float(told[key]) for key in keys if isinstance(told.get(key), int | float)}


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _matrix(rows: Any, classes: int) -> np.ndarray:
    matrix = np.asarray(rows)
    if matrix.shape != (classes, classes) or matrix.dtype.kind not in "iu" or (matrix < 0).any() or not matrix.any():
        raise ValueError(f"confusion is not a {classes} x {classes} matrix of counts")
    return matrix.astype(np.int64)


def class_recalls(confusion: np.ndarray) -> list[float | None]:
    """Recall of each class in a confusion matrix (C, C), rows are the truth; None for a class without clips."""
    return [None if np.isnan(value) else float(value) for value in np.asarray(metrics.recalls(confusion))]
