"""What the published program of the joint multimodal transformer computes where it is at fault.

Ours computes none of this; it is here to know what published numbers were made of. Sources: its `models/`, `losses/`
and `EvaluationMetrics/cccmetric.py`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmadfer.model.joint_transformer import JointTransformer
from mmadfer.tasks.concordance import concordance

IGNORED = -5
FLOOR = 1e-8
"""Added to divisors."""


def released_pair(joint: JointTransformer, visual: Tensor, audio: Tensor) -> Tensor:
    """`pair` with encoders over the first axis, which is that of clips: (B, T, W) -> (B, T, W)."""
    over_clips = {
        "vision": normalize(visual, dim=-1).transpose(0, 1),
        "audio": normalize(audio, dim=-1).transpose(0, 1),
    }
    encoded = {name: joint.encoders[name](one).transpose(0, 1) for name, one in over_clips.items()}
    return joint.combine(joint.attended(encoded))


def floored_loss(prediction: Tensor, label: Tensor) -> Tensor:
    """1 - CCC of (N,), with variances divided by n - 1, and `FLOOR` added to the product of the norms."""
    ccc, _ = concordance(prediction[:, None], label[:, None], unbiased=True)
    norms = (prediction - prediction.mean()).norm() * (label - label.mean()).norm()
    return 1 - ccc.squeeze() * norms / (norms + FLOOR)


def training_loss(prediction: np.ndarray, label: np.ndarray) -> float:
    """Labels to be ignored are not."""
    return float(floored_loss(torch.from_numpy(prediction), torch.from_numpy(label)))


def other_loss(prediction: np.ndarray, label: np.ndarray) -> float:
    """They are, but the products are divided by the number of all; with unbiased variances, and `FLOOR` added."""
    kept = label != IGNORED
    if kept.sum() <= 1:
        return 0.0
    x, y = prediction[kept], label[kept]
    covariance = np.sum((x - x.mean()) * (y - y.mean())) / len(label)
    return float(1 - 2 * covariance / (x.var(ddof=1) + y.var(ddof=1) + (x.mean() - y.mean()) ** 2 + FLOOR))


def metric_all(prediction: np.ndarray, label: np.ndarray) -> float:
    """Labels to be ignored are not."""
    return _metric(prediction, label)


def metric_kept(prediction: np.ndarray, label: np.ndarray) -> float:
    """Of the others alone."""
    kept = label != IGNORED
    return _metric(prediction[kept], label[kept])


RELEASED: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "training_loss": training_loss,
    "other_loss": other_loss,
    "metric_all": metric_all,
    "metric_kept": metric_kept,
}


def _metric(x: np.ndarray, y: np.ndarray) -> float:
    """NaN where one side never changes."""
    dx, dy = x - x.mean(), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.sum(dx * dy) / np.sqrt(np.sum(dx**2) * np.sum(dy**2))
    return float(2 * correlation * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
