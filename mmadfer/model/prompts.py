"""Learnable prompts of one encoder and their progressive updates (section 3.2, equation 1).

Shapes: n sequences, L tokens, D encoder width, P prompts, S updates.
"""

import torch
from torch import Tensor, nn

from mmadfer.model.initializers import Stream


class Prompts(nn.Module):
    """P tokens at the end of every sequence; S times on the way, the next few of them get a learned addition.

    Args:
        count: P.
        updates: S.
        share: prompts that each update moves; after the last prompt comes the first again.
        width: D.
        layers: after which updates may come.
    """

    def __init__(self, count: int, updates: int, share: int, width: int, layers: int):
        super().__init__()
        self.count, self.share = count, share
        updates = updates if share else 0
        self.period = layers // updates if updates else 0
        self.initial = nn.Parameter(torch.zeros(count, width))
        self.progressive = nn.ParameterList(torch.zeros(share, width) for _ in range(updates))

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """Standard normal * D**-0.5."""
        return stream.normal(stream.shape[-1] ** -0.5)

    def append(self, tokens: Tensor) -> Tensor:
        """(n, L, D) -> (n, L + P, D)."""
        return torch.cat([tokens, self.initial.expand(tokens.shape[0], -1, -1)], dim=1)

    def progress(self, tokens: Tensor, layer: int) -> Tensor:
        """What follows layer `layer` (0-based): (..., L, D) with that layer's share of prompts updated, if it has one.

        Those are layers 0, layers/S, 2*layers/S, ...: "after 1st and 7th layers" (section 4.2).
        """
        if not self.share or layer % self.period:
            return tokens
        step = layer // self.period
        first = step * self.share % self.count
        before = tokens.shape[-2] - self.count + first
        start, share, end = tokens.split([before, self.share, self.count - first - self.share], dim=-2)
        return torch.cat([start, share + self.progressive[step], end], dim=-2)
