"""From the sequence to the output: logits of classes, or values in a range, for each clip or each step.

A head is a module made of the model's configuration and the number of its outputs, `Head(config, outputs)`.

Shapes: B clips, T steps, W width of the sequence, C outputs.
"""

from typing import cast

import torch
from torch import Tensor, nn

from mmadfer.config.model import ModelConfig, ValuesConfig


class Classes(nn.Linear):
    """Logits of classes, of what the sequence is pooled to, or of every step."""

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__(config.width, outputs)
        self.per, self.mean = config.head.per, config.head.pool == "mean"

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:  # type: ignore[override]
        """(B, W), where there is a CLS token, and (B, T, W) -> (B, C) per clip, (B, T, C) per step."""
        if self.per == "step":
            return super().forward(sequence)
        return super().forward(sequence.mean(dim=1) if cls is None or self.mean else cls)


class Values(Classes):
    """Values between two bounds: low + (high - low) * sigmoid of a linear layer."""

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__(config, outputs)
        self.low, self.high = cast(ValuesConfig, config.head).range

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:  # type: ignore[override]
        """As `Classes`; in float32, in which a value near a bound is not rounded to it as in half precision."""
        return self.low + (self.high - self.low) * torch.sigmoid(super().forward(cls, sequence).float())
