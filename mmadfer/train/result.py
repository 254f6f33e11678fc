"""What a fold leaves when it is finished: result.json, and predictions.csv of its test clips."""

import json
from dataclasses import dataclass
from pathlib import Path

from mmadfer.distributed.ranks import Ranks
from mmadfer.evaluation.evaluate import Predictions
from mmadfer.run import directory as runs
from mmadfer.run.checkpoint_state import VALIDATION, Progress
from mmadfer.run.lease import Held


@dataclass(frozen=True)
class Result:
    """How a fold ended; without numbers where it was stopped before its time."""

    fold: int
    folder: Path
    finished: bool
    epoch: int
    epochs: int
    uar: float | None = None
    war: float | None = None


def finished(fold: int, folder: Path, ranks: Ranks) -> Result | None:
    """The result that is there; all ranks learn it from rank 0, for file systems may show it to them later."""
    found = runs.scored(folder) if ranks.main else None
    numbers = [float(found[key]) for key in ("epoch", "epochs", "uar", "war")] if found else [-1.0] * 4
    epoch, epochs, uar, war = ranks.gather(numbers)[0]
    return Result(fold, folder, True, int(epoch), int(epochs), uar, war) if epoch >= 0 else None


def publish(
    held: Held, folder: Path, fold: int, epochs: int, at: Progress, predictions: Predictions, validation: int = 0
) -> None:
    """Write both files; atomic, the result last. `predictions` are of the test fold.

    With so many clips for `validation`, the result has their scores of the last epoch under that name, and `best` is
    the best epoch on them.

    Raises:
        LostError: another start has taken the fold over.
        OSError: the disk is full.
    """
    result = {
        "fold": fold,
        "epoch": at.epoch,
        "epochs": epochs,
        **predictions.scores(),
        **({"validation": _validation(at, validation)} if validation else {}),
        "best": at.best,
        "confusion": predictions.confusion.tolist(),
        "labels": list(predictions.names),
        "finished": True,
        "seconds": round(at.seconds, 1),
    }
    held.write_text(folder / "predictions.csv", predictions.csv())
    held.write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")


def _validation(at: Progress, clips: int) -> dict[str, float]:
    return {"epoch": at.epoch, "clips": clips, **{name: at.metrics[VALIDATION + name] for name in ("uar", "war")}}
