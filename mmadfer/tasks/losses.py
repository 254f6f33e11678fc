"""Losses: an output and its target -> a mean over clips. Each is made from the section `task` of a configuration."""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional


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
    """Of named values, over clips and names."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Values float32 (B, C); targets (B, C)."""
        return functional.mse_loss(output, target)
