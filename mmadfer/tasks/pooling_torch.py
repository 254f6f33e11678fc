"""`pooling` with gradients, and for graphs."""

import math

import torch
from torch import Tensor

from mmadfer.tasks.pooling import Pooling, check_gamma


def pooled(logits: Tensor, gamma: float) -> Tensor:
    """z (..., C) of logits (..., K, C) of K windows, in their dtype.

    With gamma infinite, the gradient goes to the largest in equal parts.

    Raises:
        ConfigError: gamma is negative or no number.
    """
    check_gamma(gamma)
    if math.isinf(gamma):
        return logits.amax(-2)
    behind = logits - logits.amax(-2, keepdim=True).detach()  # softmax is the same, and no product is too large
    return ((min(gamma, torch.finfo(logits.dtype).max) * behind).softmax(-2) * logits).sum(-2)


def mean_probabilities(logits: Tensor) -> Tensor:
    """The logarithm of the mean probabilities (..., C), of logits (..., K, C)."""
    shares = logits.log_softmax(-1)
    best = shares.amax(-2, keepdim=True)  # as a factor, since shares may be too small for a number
    return best.squeeze(-2) + (shares - best).exp().mean(-2).log()


def clip_logits(logits: Tensor, window: Pooling) -> Tensor:
    """Logits of clips (..., C) of those of their windows (..., K, C); of a single one they are its own."""
    if logits.shape[-2] == 1:
        return logits.squeeze(-2)
    return pooled(logits, window.gamma) if window.pool == "softmax" else mean_probabilities(logits)
