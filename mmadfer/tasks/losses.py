"""Losses: an output and its target -> a mean over clips. Each is made from the section `task` of a configuration."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmadfer.tasks.concordance import concordance


class Settings(Protocol):
    """What losses look at in the section."""

    @property
    def label_smoothing(self) -> float:
        """In [0, 1)."""


class CrossEntropy(nn.Module):
    """Of classes; smoothing makes t of the shares (1 - s) t + s / classes (Szegedy et al. 2016, section 7)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._label_smoothing = settings.label_smoothing

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Logits (B, classes); labels int64 (B,), or shares of labels (B, classes)."""
        return functional.cross_entropy(output, target, label_smoothing=self._label_smoothing)


class MeanSquaredError(nn.Module):
    """Of named values, over clips, steps and names; what has no true value (NaN) does not count."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Values float32 (B, C) or (B, T, C); targets as these, NaN where there is none; 0 where all are NaN."""
        kept = ~target.isnan()
        error = functional.mse_loss(output, target.where(kept, output.detach()), reduction="sum")
        return error / kept.sum().clamp(min=1)


class Concordance(nn.Module):
    """1 - CCC of each named value (`mmadfer.tasks.concordance`), the mean over names; of all clips of a batch at once.

    Variances are the population's. Values without a label (NaN) are left out; a name with one label or none counts 0.
    """

    unbiased = False

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Values float32 (B, C), or (B, T, C) of steps; targets of the same shape, NaN where there is none."""
        ccc, defined = concordance(output.flatten(0, -2), target.flatten(0, -2), self.unbiased)
        return torch.where(defined, 1 - ccc, 0).mean()


class UnbiasedConcordance(Concordance):
    """The same with variances divided by n - 1, as the published joint multimodal transformer was trained."""

    unbiased = True
