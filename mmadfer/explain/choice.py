"""Which clips of a run are explained: those that the model found hardest, and those that it was surest of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.config.schema import Config
from mmadfer.errors import DataError, RunError
from mmadfer.evaluation import fold_result
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.saved_predictions import read_shares, read_traces
from mmadfer.run import directory as runs


@dataclass(frozen=True)
class Chosen:
    """A clip of a run's test fold."""

    id: str
    why: str
    """`hardest`, `surest` or `named`."""
    truth: Any
    """Its label, or its true values by name (means over time); None where it is not known."""


def choose(run: Path, config: Config, fold: int, count: int, named: Sequence[str] = ()) -> list[Chosen]:
    """Test clips of a fold, the hardest first.

    Args:
        run: the run directory.
        config: its configuration.
        fold: that is finished.
        count: how many of the hardest, and as many of the surest: of classes, by the probability of the true class; of
            values, by the mean squared error.
        named: ids of clips to take in their place.

    Raises:
        RunError: the fold is not finished, or its predictions are damaged.
        DataError: the fold has not tested a clip that is named.
    """
    result = fold_result.read(run, fold, config)
    if not result.usable:
        raise RunError(f"fold {fold} of {run} is {result.state} ({result.note}): only tested clips can be chosen")
    truths, sureness = _told(runs.fold_dir(run, fold) / "predictions.csv", result)
    if unknown := [clip for clip in named if clip not in truths]:
        raise DataError(f"fold {fold} of {run} has not tested {', '.join(unknown)}: its clips are in predictions.csv")
    if named:
        return [Chosen(clip, "named", truths[clip]) for clip in dict.fromkeys(named)]
    ranked = sorted(sureness, key=lambda clip: (sureness[clip], clip))
    hardest = ranked[:count]
    surest = [clip for clip in ranked[::-1][:count] if clip not in hardest]
    return [
        Chosen(clip, why, truths[clip]) for why, some in (("hardest", hardest), ("surest", surest)) for clip in some
    ]


def _told(path: Path, result: FoldResult) -> tuple[dict[str, Any], dict[str, float]]:
    """The truth of each clip, and how sure the model was of it; higher is surer."""
    if result.spec.output == "classes":
        shares = read_shares(path, result)
        return {clip: truth for clip, (truth, _) in shares.items()}, {
            clip: share[truth] for clip, (truth, share) in shares.items()
        }
    truths, sureness = dict[str, Any](), dict[str, float]()
    for clip, trace in read_traces(path, result).items():
        there = np.isfinite(trace.truth).any(axis=0)
        means = np.nanmean(trace.truth[:, there], axis=0).tolist()
        truths[clip] = dict(zip(np.array(result.values)[there].tolist(), means, strict=True)) or None
        if there.any():
            sureness[clip] = -float(np.nanmean(np.square(trace.output - trace.truth)))
    return truths, sureness
