"""What works on the sequence before the head: the multimodal temporal transformer (section 3.4), or nothing.

The transformer is pre-norm, without dropout and final norm.

Shapes: B clips, T steps (frames), W width.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmadfer.config.model import ModelConfig, TransformerConfig
from mmadfer.model.attention import attend
from mmadfer.model.initializers import Stream


class Attention(nn.Module):
    """Multi-head self-attention; separate q and kv projections without bias, keys before values."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, inner, bias=False)
        self.kv = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        x = self.norm(x)
        return self.out(attend(self.q(x), *self.kv(x).chunk(2, dim=-1), heads=self.heads))


class MLP(nn.Module):
    """Two linear layers with the tanh approximation of GELU between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        return self.fc2(gelu(self.fc1(self.norm(x)), approximate="tanh"))


class Layer(nn.Module):
    """Attention and MLP, each with its residual."""

    def __init__(self, width: int, config: TransformerConfig):
        super().__init__()
        self.attention = Attention(width, config.heads, config.head_width)
        self.mlp = MLP(width, config.mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        x = x + self.attention(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """[cls] + T steps + learned positions -> layers -> cls, and the steps beside it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        own, width = cast(TransformerConfig, config.temporal), config.width
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, config.steps + 1, width))
        self.layers = nn.ModuleList(Layer(width, own) for _ in range(own.depth))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, W) -> (B, W) and (B, T, W)."""
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return x[:, 0], x[:, 1:]

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """CLS and positions standard normal."""
        return stream.normal() if name in ("cls", "positions") else None


class Unchanged(nn.Module):
    """The sequence as it is, without a CLS token: the paper's ablations without the transformer (section 4.6)."""

    def __init__(self, config: ModelConfig):
        super().__init__()

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        """(B, T, W) -> nothing, and the same."""
        return None, x
