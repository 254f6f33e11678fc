"""Lin's concordance correlation coefficient (Lin 1989) of predictions and labels, with a gradient.

N values, which may be the steps of several clips; C names.
"""

import torch
from torch import Tensor


def concordance(prediction: Tensor, label: Tensor, unbiased: bool = False) -> tuple[Tensor, Tensor]:
    """CCC of each name: 2 cov / (var + var + squared difference of the means); 0 where a side never changes.

    Args:
        prediction: floats (N, C).
        label: floats (N, C), NaN where there is none; the prediction there has no effect.
        unbiased: covariance and variances are divided by n - 1, not by n as in Lin's paper.

    Returns:
        floats (C,), and bool (C,) of the names that have two labels or more. Others have no CCC: theirs is 0.
    """
    known = ~label.isnan()
    x, x_mean = _centred(prediction, known)
    y, y_mean = _centred(label, known)
    count = known.sum(dim=0)
    degrees = (count - 1 if unbiased else count).clamp(min=1)
    spread = (x.square() + y.square()).sum(dim=0) / degrees + (x_mean - y_mean).square()
    covariance = (x * y).sum(dim=0) / degrees
    ccc = 2 * covariance / torch.where(spread > 0, spread, 1)  # both sides constant and equal: 0 / 1
    return torch.where(count > 1, ccc, 0), count > 1


def _centred(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N, C) less their mean, 0 where they are not known; and the means (C,)."""
    values = torch.where(known, values, 0)
    mean = values.sum(dim=0) / known.sum(dim=0).clamp(min=1)
    return torch.where(known, values - mean, 0), mean
