"""What a fold leaves when it is finished: result.json, and predictions.csv of its test clips."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmadfer.config.schema import DataConfig
from mmadfer.contract.facts import Looks
from mmadfer.distributed.ranks import Ranks
from mmadfer.evaluation.predictions import Predictions, Scored
from mmadfer.run import directory as runs
from mmadfer.run.checkpoint_state import Progress
from mmadfer.run.lease import Held
from mmadfer.tasks.calibration import fit_temperature
from mmadfer.tasks.spec import TaskSpec
from mmadfer.tasks.tables import VALIDATION


@dataclass(frozen=True)
class Result:
    """How a fold ended; without numbers where it was stopped before its time."""

    fold: int
    folder: Path
    finished: bool
    epoch: int
    epochs: int
    scores: dict[str, float] = field(default_factory=dict)
    """By name."""


def read_finished(fold: int, folder: Path, spec: TaskSpec, ranks: Ranks) -> Result | None:
    """The result that is there; all ranks learn it from rank 0, for file systems may show it to them later."""
    found, names = runs.scored(folder, spec) if ranks.main else None, ["epoch", "epochs", *spec.names]
    numbers = [float(found[key]) for key in names] if found else [-1.0] * len(names)
    epoch, epochs, *scores = ranks.gather(numbers)[0]
    if epoch < 0:
        return None
    return Result(fold, folder, True, int(epoch), int(epochs), dict(zip(spec.names, scores, strict=True)))


def publish(
    held: Held,
    folder: Path,
    fold: int,
    epochs: int,
    at: Progress,
    said: Mapping[str, Scored],
    unadapted: dict[str, Any] | None = None,
) -> None:
    """Write both files; atomic, the result last. `said` is of the test fold (""), and of clips for `VALIDATION`.

    With clips for validation, the result has their scores of the last epoch and the temperature that they tell, and
    `best` is the best epoch on them. Of an adaptation, `unadapted` are the scores and details of the model before it.

    Raises:
        LostError: another start has taken the fold over.
        OSError: the disk is full.
    """
    predictions, kept = said[""], said.get(VALIDATION)
    result = {
        "fold": fold,
        "epoch": at.epoch,
        "epochs": epochs,
        **predictions.scores(),
        **({"validation": _validation(at, kept)} if kept else {}),
        **({"temperature": _temperature(kept)} if isinstance(kept, Predictions) else {}),
        "best": at.best,
        **({"unadapted": unadapted} if unadapted else {}),
        **predictions.details(),
        "finished": True,
        "seconds": round(at.seconds, 1),
        **({"joules": round(at.joules, 1)} if at.joules else {}),
    }
    held.write_text(folder / "predictions.csv", predictions.csv())
    held.write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")


def fitted(kept: Scored | None) -> float | None:
    """The temperature that clips for validation tell; None where there are none, or of values."""
    return fit_temperature(kept.logits, kept.labels) if isinstance(kept, Predictions) else None


def calibration(kept: Scored | None, data: DataConfig) -> dict[str, Any]:
    """What a contract says of it: the temperature, and the looks at the clips that it is of, if others than usual."""
    found, looks = fitted(kept), Looks(clips=data.test_clips, flips=data.test_flips)
    return {"temperature": found, "temperature_looks": looks} if found and looks != Looks() else {"temperature": found}


def _validation(at: Progress, kept: Scored) -> dict[str, float]:
    names = kept.spec.names
    return {"epoch": at.epoch, "clips": len(kept.ids), **{name: at.metrics[VALIDATION + name] for name in names}}


def _temperature(kept: Predictions) -> dict[str, Any]:
    """With the cross-entropy of the clips that it was fitted on, before and after."""
    found = fitted(kept)
    after = kept.calibrated(found).cross_entropy() if found else None
    return {"value": found, "clips": len(kept.ids), "cross_entropy": kept.cross_entropy(), "calibrated": after}
