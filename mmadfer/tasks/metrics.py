"""UAR and WAR, the two numbers of the field, and F1, from a confusion matrix (paper section 4.2); fractions."""

from collections.abc import Sequence

import numpy as np

Integers = Sequence[int] | np.ndarray


def confusion(labels: Integers, predictions: Integers, classes: int) -> np.ndarray:
    """Count clips; int64 (classes, classes), a row for each true class and a column for each predicted one.

    Raises:
        ValueError: different numbers of labels and predictions, or one that is no class.
    """
    truth, predicted = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"labels {truth.shape} and predictions {predicted.shape} must be two lists of one length")
    for name, values in (("label", truth), ("prediction", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"a {name} is outside 0..{classes - 1}: {values.min()}..{values.max()}")
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def recalls(table: np.ndarray) -> np.ndarray:
    """Share of each class's clips that is predicted rightly; float64 (classes,), NaN for a class without clips."""
    clips = table.sum(axis=1)
    return np.divide(table.diagonal(), clips, out=np.full(len(table), np.nan), where=clips > 0)


def uar(table: np.ndarray) -> float:
    """Unweighted average recall: the mean over the classes that have clips; NaN without any clip."""
    found = recalls(table)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else float("nan")


def war(table: np.ndarray) -> float:
    """Weighted average recall, which is accuracy; NaN without any clip."""
    total = table.sum()
    return float(table.trace() / total) if total else float("nan")


def weighted_f1(table: np.ndarray) -> float:
    """The F1 of each class, weighted by its clips; of a class that is never told it is 0; NaN without any clip."""
    clips, told = table.sum(axis=1), table.sum(axis=0)
    each = np.divide(2 * table.diagonal(), clips + told, out=np.zeros(len(table)), where=clips + told > 0)
    return float((each * clips).sum() / clips.sum()) if clips.sum() else float("nan")
