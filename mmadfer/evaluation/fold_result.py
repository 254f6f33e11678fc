"""One fold of a run, read from its directory and checked; nothing is believed that does not add up."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.errors import MmadferError
from mmadfer.run import directory as runs
from mmadfer.run import records
from mmadfer.tasks import metrics

USABLE = "finished"
TOLERANCE = 1e-6
"""How far a stated UAR or WAR may be from the one that its confusion matrix gives."""


@dataclass(frozen=True)
class FoldResult:
    """One fold: `state` is finished, unfinished, failed, damaged or missing; only a finished one has numbers."""

    fold: int
    state: str
    note: str = ""
    labels: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    """(C, C) int64, rows are the truth."""
    uar: float | None = None
    """Of the last epoch, as a fraction."""
    war: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    """`epoch`, `uar`, `war` of the best epoch, picked on test data; where there is `validation`, on those clips."""
    validation: dict[str, float] = field(default_factory=dict)
    """`uar` and `war` of the last epoch on the clips that `data.validation` keeps from training, and their `clips`."""
    epoch: int = 0
    """Finished epochs."""
    epochs: int = 0
    seconds: float | None = None
    curves: tuple[dict[str, Any], ...] = ()
    """The epoch events, in order."""

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
            "uar": self.uar,
            "war": self.war,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "clips": None if self.confusion is None else int(self.confusion.sum()),
            **({"validation": self.validation} if self.validation else {}),
            f"best_on_{'validation' if self.validation else 'test'}": self.best or None,
            "recall": None if self.confusion is None else _recalls(self.confusion),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "curves": list(self.curves),
        }


def read(run: Path, fold: int, epochs: int) -> FoldResult:
    """Read fold `fold` of `run`, whose configuration asks for `epochs` epochs."""
    folder = runs.fold_dir(run, fold)
    if not folder.is_dir() or not any(path for path in folder.iterdir() if path.name[0] != "."):
        return FoldResult(fold, "missing", "it was never begun", epochs=epochs)
    curves = epoch_events(folder / "metrics.jsonl")
    seen = int(curves[-1]["epoch"]) if curves else 0
    if not (folder / "result.json").is_file():
        return _unfinished(folder, fold, seen, epochs, curves)
    try:
        return _finished(records.read(records.Ended, folder / "result.json"), fold, epochs, curves)
    except MmadferError as error:
        return FoldResult(fold, "damaged", str(error), epoch=seen, epochs=epochs, curves=curves)
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"result.json lacks {error}" if isinstance(error, KeyError) else f"result.json: {error}"
        return FoldResult(fold, "damaged", what, epoch=seen, epochs=epochs, curves=curves)


def epoch_events(path: Path) -> tuple[dict[str, Any], ...]:
    """The epoch events of a metrics file; a resumed run may have written one twice, and the later one counts."""
    found = {event["epoch"]: event for event in records.read_events(path) if _is_epoch(event)}
    return tuple(found[epoch] for epoch in sorted(found))


def _is_epoch(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "epoch" and event.get("epoch"))


def _unfinished(folder: Path, fold: int, seen: int, epochs: int, curves: tuple[dict[str, Any], ...]) -> FoldResult:
    failed = runs.failure(folder)
    where = f"{seen} of {epochs} epochs are done"
    if failed:
        note = f"{failed.get('reason')} ({where}; log: {failed.get('log')})"
        return FoldResult(fold, "failed", note, epoch=seen, epochs=epochs, curves=curves)
    return FoldResult(fold, "unfinished", where, epoch=seen, epochs=epochs, curves=curves)


def _finished(found: dict[str, Any], fold: int, epochs: int, curves: tuple[dict[str, Any], ...]) -> FoldResult:
    """Raises ValueError, TypeError or KeyError where the result does not hold together."""
    epoch, wanted = int(found["epoch"]), int(found["epochs"])
    if found.get("finished") is not True or epoch < wanted:
        note = f"{epoch} of {wanted} epochs are done"
        return FoldResult(fold, "unfinished", note, epoch=epoch, epochs=wanted, curves=curves)
    labels = tuple(found["labels"])
    confusion = _matrix(found["confusion"], len(labels))
    uar, war = float(found["uar"]), float(found["war"])
    for name, stated, counted in (("uar", uar, metrics.uar(confusion)), ("war", war, metrics.war(confusion))):
        if not abs(stated - counted) <= TOLERANCE:
            raise ValueError(f"{name} is {stated}, but the confusion matrix gives {counted}")
    if int(found["fold"]) != fold:
        raise ValueError(f"it is of fold {found['fold']}, not {fold}")
    if wanted != epochs:
        raise ValueError(f"it is of {wanted} epochs, and the configuration asks for {epochs}")
    best = {key: found["best"][key] for key in ("epoch", "uar", "war")} if found.get("best") else {}
    kept = {key: found["validation"][key] for key in ("clips", "uar", "war")} if found.get("validation") else {}
    seconds = _seconds(found.get("seconds"))
    return FoldResult(fold, USABLE, "", labels, confusion, uar, war, best, kept, epoch, wanted, seconds, curves)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _matrix(rows: Any, classes: int) -> np.ndarray:
    matrix = np.asarray(rows)
    if matrix.shape != (classes, classes) or matrix.dtype.kind not in "iu" or (matrix < 0).any() or not matrix.any():
        raise ValueError(f"confusion is not a {classes} x {classes} matrix of counts")
    return matrix.astype(np.int64)


def _recalls(confusion: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in np.asarray(metrics.recalls(confusion))]
