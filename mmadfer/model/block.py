"""The block of a ViT, pre-norm, in timm's layout: its numbers, and its names of parts and weights.

timm's own `Block` computes the same, bit for bit. It is not used here, for to import timm takes longer than to import
torch: timm imports all of its models, torchvision and torch's compiler. Only `model.vision.timm` and `model.audio.timm`
need it (`mmadfer.model.vit`).

Shapes: n sequences, L tokens, D width, H heads.
"""

from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6
"""Of the LayerNorms."""


class Attention(nn.Module):
    """Self-attention of several heads, (n, L, D) -> (n, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.fused_attn = True
        """Compute it as one operation of PyTorch's; else it is written out."""
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        """Norms of queries and keys, where a block of timm's has them."""
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Every token looks at all."""
        n, length, width = tokens.shape
        parts = self.qkv(tokens).reshape(n, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.fused_attn:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        found: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, width))
        return found


class Mlp(nn.Module):
    """Two layers with a GELU between them, (..., D) -> (..., D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Each token by itself."""
        found: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return found


class Block(nn.Module):
    """Attention, then the MLP, each added to what went in.

    `mmadfer.model.layer.through` runs its parts, with stochastic depth.

    Args:
        width: D, a multiple of `heads`.
        heads: H.
        mlp_ratio: the hidden width of the MLP, in D.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.ls1: nn.Module = nn.Identity()
        """LayerScale, where a block of timm's has it."""
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2: nn.Module = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, L, D) -> (n, L, D), without stochastic depth."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        found: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return found
