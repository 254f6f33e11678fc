"""Learnable prompts of one encoder and their progressive updates (section 3.2, equation 1).

Shapes: n sequences, L tokens, D encoder width, P prompts, S updates.
"""

import torch
from torch import Tensor, nn


class Prompts(nn.Module):
    """P tokens at the end of every sequence; S times on the way, P/S of them get a learned addition."""

    def __init__(self, count: int, updates: int, width: int, depth: int):
        super().__init__()
        self.count = count
        self.share = count // updates if updates else 0
        self.period = depth // updates if updates else 0
        self.initial = nn.Parameter(torch.zeros(count, width))
        self.progressive = nn.ParameterList(torch.zeros(self.share, width) for _ in range(updates))

    def append(self, tokens: Tensor) -> Tensor:
        """(n, L, D) -> (n, L + P, D)."""
        return torch.cat([tokens, self.initial.expand(tokens.shape[0], -1, -1)], dim=1)

    def progress(self, tokens: Tensor, block: int) -> Tensor:
        """What follows block `block` (0-based): (..., L, D) with that block's share of prompts updated, if it has one.

        Those are blocks 0, depth/S, 2*depth/S, ...: "after 1st and 7th layers" (section 4.2).
        """
        if not self.share or block % self.period:
            return tokens
        step = block // self.period
        before = tokens.shape[-2] - self.count + step * self.share
        start, share, end = tokens.split([before, self.share, self.count - (step + 1) * self.share], dim=-2)
        return torch.cat([start, share + self.progressive[step], end], dim=-2)
