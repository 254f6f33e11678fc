"""Losses: an output and its target -> a mean over clips."""

from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Of classes; smoothing makes t of the shares (1 - s) t + s / classes (Szegedy et al. 2016, section 7)."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._label_smoothing = label_smoothing

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Logits (B, classes); labels int64 (B,), or shares of labels (B, classes)."""
        return functional.cross_entropy(output, target, label_smoothing=self._label_smoothing)
