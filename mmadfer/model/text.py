"""A BERT-like encoder of a sentence (Devlin et al. 2019): post-norm blocks, learned positions; RoBERTa's is the same.

It is frozen but for low-rank updates, or learns as a whole (`model.text.learns`). It draws nothing while it trains.

Shapes: B sentences, L tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmadfer.config.text import TextConfig
from mmadfer.model import lora
from mmadfer.model.attention import attend
from mmadfer.model.initializers import Stream


class TextBlock(nn.Module):
    """Attention and MLP, each with its residual and a LayerNorm after it."""

    def __init__(self, config: TextConfig):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(width, eps=config.eps)
        self.fc1, self.fc2 = nn.Linear(width, config.mlp_width), nn.Linear(config.mlp_width, width)
        self.norm = nn.LayerNorm(width, eps=config.eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), and a mask as of `attend` -> (B, L, D)."""
        attended = attend(self.q(x), self.k(x), self.v(x), heads=self.heads, mask=mask)
        x = self.attention_norm(x + self.out(attended))
        found: Tensor = self.norm(x + self.fc2(gelu(self.fc1(x))))
        return found


class TextEncoder(nn.Module):
    """Tokens of a sentence -> one vector."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.types = nn.Embedding(config.types, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.requires_grad_(config.learns == "all")
        lora.attach(self.blocks, config.lora)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> (B, D): the first token, or the mean over those that are no padding."""
        seen = tokens != self.config.pad
        x = self._embedded(tokens)
        for block in self.blocks:
            x = block(x, seen[:, None, None])
        if self.config.pool == "cls":
            return x[:, 0]
        share = seen.to(x.dtype) / seen.sum(dim=1, keepdim=True)
        return (x * share[..., None]).sum(dim=1)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(B, L, D); positions and kind of sentence added, and normalised."""
        first = self.config.first_position
        places = self.positions.weight[first : first + tokens.shape[1]]
        found: Tensor = self.norm(self.words(tokens) + places + self.types.weight[0])
        return found

    def draw(self, name: str, stream: Stream) -> Tensor:
        """Tables with deviation 0.02 as BERT's; matrices Xavier-uniform, so that a frozen one mixes the words."""
        if len(stream.shape) == 1:
            return stream.full(1 if name.endswith("weight") else 0)
        if name.startswith("blocks."):
            return stream.uniform((6 / sum(stream.shape)) ** 0.5)
        return stream.normal(0.02)


def said_by(encoder: str, name: str) -> bool:
    """Whether a tensor of the model is the `encoder`'s own, of its file or seed, and no update of it."""
    return name.startswith(f"{encoder}.") and ".lora_" not in name


def check_tokens(tokens: Tensor | None, config: TextConfig) -> Tensor:
    """The tokens; raises ValueError where there are none, or of another shape or type."""
    if tokens is None or tokens.dtype != torch.int64 or tuple(tokens.shape[1:]) != (config.tokens,):
        found = "not given" if tokens is None else f"not {tokens.dtype} {tuple(tokens.shape)}"
        raise ValueError(f"tokens must be int64 (B, {config.tokens}), {found}")
    return tokens
