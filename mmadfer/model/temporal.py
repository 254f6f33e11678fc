"""From a sequence of frames to one token: the multimodal temporal transformer (section 3.4), or the mean.

The transformer is pre-norm, without dropout and final norm.

Shapes: B clips, T frames, W width, H heads of h.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from mmadfer.config.model import TemporalConfig
from mmadfer.model.draws import Stream


class Attention(nn.Module):
    """Multi-head self-attention; separate q and kv projections without bias, keys before values."""

    def __init__(self, config: TemporalConfig):
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width)
        self.q = nn.Linear(config.width, inner, bias=False)
        self.kv = nn.Linear(config.width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        x = self.norm(x)
        q, k, v = (self._split(part) for part in (self.q(x), *self.kv(x).chunk(2, dim=-1)))
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, H*h) -> (B, H, L, h)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with the tanh approximation of GELU between."""

    def __init__(self, config: TemporalConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        return self.fc2(gelu(self.fc1(self.norm(x)), approximate="tanh"))


class Layer(nn.Module):
    """Attention and MLP, each with its residual."""

    def __init__(self, config: TemporalConfig):
        super().__init__()
        self.attention = Attention(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        x = x + self.attention(x)
        return x + self.mlp(x)


class Temporal(nn.Module):
    """[cls] + T frames + learned positions -> layers -> cls."""

    def __init__(self, config: TemporalConfig, frames: int):
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, frames + 1, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, W)."""
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """CLS and positions standard normal."""
        return stream.normal() if name in ("cls", "positions") else None


class Mean(nn.Module):
    """The average over frames, as in the paper's ablations without the transformer (section 4.6)."""

    def __init__(self, config: TemporalConfig, frames: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, W)."""
        return x.mean(dim=1)


TEMPORALS: dict[str, Callable[[TemporalConfig, int], nn.Module]] = {"transformer": Temporal, "mean": Mean}
"""`model.temporal.kind` -> what makes it; others join here."""
