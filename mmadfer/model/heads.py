"""From the sequence to the output: logits of classes, or values in a range, for each clip or each step.

A head is a module made of the model's configuration and the number of its outputs, `Head(config, outputs)`.

Shapes: B clips, T steps, W width of the sequence, C outputs.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from mmadfer.config.model import ModelConfig, PerceptronsConfig, ValuesConfig
from mmadfer.config.parts import HeadPart


class Classes(nn.Linear):
    """Logits of classes, of what the sequence is pooled to, or of every step."""

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__(config.width, outputs)
        self.head = config.head

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:  # type: ignore[override]
        """(B, W), where there is a CLS token, and (B, T, W) -> (B, C) per clip, (B, T, C) per step."""
        return super().forward(pooled(self.head, cls, sequence))


class Values(Classes):
    """Values between two bounds: low + (high - low) * sigmoid of a linear layer."""

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__(config, outputs)
        self.low, self.high = cast(ValuesConfig, config.head).range

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:  # type: ignore[override]
        """As `Classes`; in float32, in which a value near a bound is not rounded to it as in half precision."""
        return self.low + (self.high - self.low) * torch.sigmoid(super().forward(cls, sequence).float())


class Perceptron(nn.Module):
    """One number, of a layer with ReLU and a linear one."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., 1)."""
        return self.fc2(relu(self.fc1(x)))


class Perceptrons(nn.Module):
    """Values between two bounds, as `Values`, of a `Perceptron` each."""

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__()
        self.head = own = cast(PerceptronsConfig, config.head)
        self.low, self.high = own.range
        self.values = nn.ModuleList(Perceptron(config.width, own.hidden) for _ in range(outputs))

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:
        """As `Values`."""
        of = pooled(self.head, cls, sequence)
        found = torch.cat([value(of) for value in self.values], dim=-1).float()
        return self.low + (self.high - self.low) * torch.sigmoid(found)


def pooled(head: HeadPart, cls: Tensor | None, sequence: Tensor) -> Tensor:
    """What the head of a clip or a step is applied to: (B, W) and (B, T, W) -> (B, W) per clip, (B, T, W) per step."""
    if head.per == "step":
        return sequence
    return sequence.mean(dim=1) if cls is None or head.pool == "mean" else cls
