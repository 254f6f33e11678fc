"""The joint multimodal transformer with key-based cross-attention (Waligora et al. 2024, arXiv 2403.10488).

Two sequences of one length, and a joint one that is made of both, each go through an encoder over time. Then each
attends to the others, and what comes of it is combined step by step. There are no positions and no dropout. Keys and
values are always of one source, and the weights of an attention belong to the sequence that asks (the query).

Shapes: B clips, T steps, W width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from mmadfer.config.model import JmtCombine
from mmadfer.model.attention import attend

PAIRS = (
    ("vision", "audio"),
    ("audio", "vision"),
    ("joint", "vision"),
    ("vision", "joint"),
    ("joint", "audio"),
    ("audio", "joint"),
)
"""Query and source of each cross-attention, in the order in which they are combined."""


class HeadedAttention(nn.Module):
    """softmax(Q K^T / sqrt(W / H)) V of H heads, all four projections with a bias."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Queries (B, L, W), keys and values of (B, K, W) -> (B, L, W)."""
        return self.out(attend(self.q(x), self.k(source), self.v(source), heads=self.heads))


class PostNormLayer(nn.Module):
    """Self-attention, then two linear layers with ReLU between, each with its residual and a LayerNorm behind."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = HeadedAttention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        x = self.norm1(x + self.attention(x, x))
        return self.norm2(x + self.fc2(relu(self.fc1(x))))


class TokenMixer(nn.Module):
    """The results of a step are a sequence of tokens: an encoder, then an attention of which the last token is kept."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.encoder = PostNormLayer(width, heads)
        self.attention = HeadedAttention(width, heads)

    def forward(self, results: Sequence[Tensor]) -> Tensor:
        """Six of (B, T, W) -> (B, T, W); steps do not see each other here."""
        tokens = torch.stack(list(results), dim=2)
        mixed = self.encoder(tokens.flatten(0, 1))
        return self.attention(mixed[:, -1:], mixed).unflatten(0, tokens.shape[:2]).squeeze(2)


class StepLinear(nn.Linear):
    """A linear layer of the results of a step side by side."""

    def forward(self, results: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """n of (B, T, W) -> (B, T, out)."""
        return super().forward(torch.cat(list(results), dim=-1))


class JointTransformer(nn.Module):
    """Encoders of the two sequences and the joint one, cross-attention of each to the others, and their combination.

    `combine` is one of

    - `tokens`, as the published model: `TokenMixer` over the six results, (B, T, W);
    - `concat`: a linear layer of the six side by side, (B, T, 2 W);
    - `pair`: no joint sequence; a linear layer of the first two side by side, (B, T, W).

    The published program has faults in the last two, which are not here: `concat` there returns steps before clips, and
    in `pair` the clips of a batch attend to each other.
    """

    def __init__(self, width: int, heads: int, combine: JmtCombine):
        super().__init__()
        self.pairs = PAIRS[:2] if combine == "pair" else PAIRS
        sequences = dict.fromkeys(query for query, _ in self.pairs)
        self.joint = nn.Linear(2 * width, width) if "joint" in sequences else None
        self.encoders = nn.ModuleDict({name: PostNormLayer(width, heads) for name in sequences})
        self.cross = nn.ModuleDict({name: HeadedAttention(width, heads) for name in sequences})
        self.combine = _combination(width, heads, combine)

    def forward(self, vision: Tensor, audio: Tensor) -> Tensor:
        """Two of (B, T, W) -> (B, T, W), or (B, T, 2 W) of `concat`."""
        combined: Tensor = self.combine(self.attended(self.encoded(vision, audio)))
        return combined

    def encoded(self, vision: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Two of (B, T, W) -> each sequence after its encoder, (B, T, W) by name."""
        sequences = {"vision": normalize(vision, dim=-1), "audio": normalize(audio, dim=-1)}
        if self.joint is not None:
            sequences["joint"] = self.joint(torch.cat(list(sequences.values()), dim=-1))
        return {name: self.encoders[name](one) for name, one in sequences.items()}

    def attended(self, sequences: Mapping[str, Tensor]) -> list[Tensor]:
        """What `encoded` gives -> (B, T, W) for each of `pairs`; there is no residual around these attentions."""
        return [self.cross[query](sequences[query], sequences[source]) for query, source in self.pairs]


def _combination(width: int, heads: int, combine: JmtCombine) -> nn.Module:
    if combine == "tokens":
        return TokenMixer(width, heads)
    return StepLinear(6 * width, 2 * width) if combine == "concat" else StepLinear(2 * width, width)
