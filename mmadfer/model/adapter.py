"""Intermediate temporal adapters: self-attention over the CLS tokens of all frames, at each bottleneck (section 4.4).

The paper leaves their shape open and prints their parameters (table 2): 1.3, 0.8 and 4.3 M for widths 64, 128 and 256
in 12 layers. 128 is the bottleneck's own width, and 4 * 128**2 in each layer, an attention and nothing else, is 0.8 M.
No one shape meets the other two counts. Here a width below the bottleneck's is projected from and to the encoder's
tokens, and one above it from the bottleneck's and to the encoder's, both with attention half as wide: 1.29 and 4.35 M.

Shapes: B clips, T frames, N vision tokens a frame, D encoder width, d latent width.
"""

import torch
from torch import Tensor, nn

from mmadfer.config.model import BottleneckConfig
from mmadfer.model.initializers import Gated
from mmadfer.model.temporal import Attention

_HEADS = 2
"""As the paper gives its attention fusion."""


class Adapter(Gated, nn.Module):
    """`inside` works on the bottleneck's tokens, `outside` on the encoder's; of each adapter, one does nothing."""

    def __init__(self, vision: int, config: BottleneckConfig):
        super().__init__()
        width, latent = config.adapters, config.latent
        self.same, self.above = width == latent, width > latent
        inner = width if self.same else width // 2
        source = latent if self.above else vision
        self.down = nn.Identity() if self.same else nn.Linear(source, width)
        self.attention = Attention(width, _HEADS, inner // _HEADS)
        self.up = nn.Identity() if self.same else nn.Linear(width, vision)
        self.gate = nn.Parameter(torch.zeros(1))

    def inside(self, latent: Tensor) -> Tensor:
        """(B, T, N, d) -> the same shape, CLS updated where the adapter is as wide as the bottleneck."""
        return self._updated(latent, latent) if self.same else latent

    def outside(self, vision: Tensor, latent: Tensor) -> Tensor:
        """(B, T, N, D) and (B, T, N, d) -> (B, T, N, D), CLS updated where it is not."""
        return vision if self.same else self._updated(vision, latent if self.above else vision)

    def _updated(self, tokens: Tensor, source: Tensor) -> Tensor:
        update = torch.tanh(self.gate) * self.up(self.attention(self.down(source[:, :, 0])))
        return torch.cat([tokens[:, :, :1] + update[:, :, None], tokens[:, :, 1:]], dim=2)
