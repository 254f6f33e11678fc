"""What joins the encoders after each of their layers: the fusion bottleneck, and the paper's other ways (section 4.5).

Shapes: B clips, T frames, N vision tokens a frame, M audio tokens, D width of an encoder, d latent width. CLS and
prompts are tokens like all others here: they enter the means and receive the update.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmadfer.config.model import BottleneckConfig, CrossConfig, ModelConfig
from mmadfer.model.adapter import Adapter
from mmadfer.model.attention import attend
from mmadfer.model.initializers import Gated

_HEADS = 2
"""Of the attention in `Cross` and `Together` (section 4.5)."""


class BottleneckSide(Gated, nn.Module):
    """One modality's way into the bottleneck and back; the paper prints one gate, the published program has two."""

    def __init__(self, width: int, latent: int):
        super().__init__()
        self.down = nn.Linear(width, latent)
        self.norm = nn.LayerNorm(latent)
        self.up = nn.Linear(latent, width)
        self.gate = nn.Parameter(torch.zeros(1))

    def compress(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., d), equation 2."""
        return self.norm(self.down(tokens))

    def expand(self, latent: Tensor) -> Tensor:
        """(..., d) -> the gated update (..., D), equations 4 and 5."""
        return torch.tanh(self.gate) * gelu(self.up(latent))


class Bottleneck(nn.Module):
    """Each modality's tokens receive the other's mean through a narrow, gated bottleneck (section 3.3)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        own = cast(BottleneckConfig, config.fusion)
        self.vision = BottleneckSide(config.vision.width, own.latent)
        self.audio = BottleneckSide(config.audio.width, own.latent)
        self.adapter = Adapter(config.vision.width, own) if own.adapters else None

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes; both updates use the values from before the update."""
        v, a = self.vision.compress(vision), self.audio.compress(audio)
        if self.adapter is not None:
            v = self.adapter.inside(v)
        to_vision = self.vision.expand(v + a.mean(dim=1)[:, None, None])
        to_audio = self.audio.expand(a + v.mean(dim=(1, 2))[:, None])
        vision, audio = vision + to_vision, audio + to_audio
        return vision if self.adapter is None else self.adapter.outside(vision, v), audio


class Apart(nn.Module):
    """No fusion: the encoders meet only in the joint, or there is one alone."""

    def __init__(self, config: ModelConfig):
        super().__init__()

    def forward(self, vision: Tensor | None, audio: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """(B, T, N, D) and (B, M, D) -> the same."""
        return vision, audio


class Addition(Gated, nn.Module):
    """The bottleneck without compression and expansion: equations 3 to 5 in the original space, with their gates."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.vision_gate = nn.Parameter(torch.zeros(1))
        self.audio_gate = nn.Parameter(torch.zeros(1))

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes."""
        to_vision = vision + audio.mean(dim=1)[:, None, None]
        to_audio = audio + vision.mean(dim=(1, 2))[:, None]
        return vision + torch.tanh(self.vision_gate) * to_vision, audio + torch.tanh(self.audio_gate) * to_audio


class CrossAttention(nn.Module):
    """From tokens (B, L, D) to those of a source (B, K, D'): 2 heads, d wide in all, LayerNorms before (Tsai et al.
    2019, "Multimodal Transformer"); the paper names no MLP and no gate here, so there is none."""

    def __init__(self, width: int, source: int, latent: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.source_norm = nn.LayerNorm(source) if source else None
        self.q = nn.Linear(width, latent)
        self.kv = nn.Linear(source or width, 2 * latent)
        self.out = nn.Linear(latent, width)

    def forward(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """(B, L, D) and (B, K, D') -> (B, L, D); without a source, to the tokens themselves."""
        tokens = self.norm(tokens)
        heard = tokens if source is None or self.source_norm is None else self.source_norm(source)
        return self.out(attend(self.q(tokens), *self.kv(heard).chunk(2, dim=-1), heads=_HEADS))


class Cross(nn.Module):
    """MULT: two cross-attention blocks, audio to vision and vision to audio, added to their branches."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        latent = cast(CrossConfig, config.fusion).latent
        self.vision = CrossAttention(config.vision.width, config.audio.width, latent)
        self.audio = CrossAttention(config.audio.width, config.vision.width, latent)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes; frames are one sequence of T * N tokens here."""
        frames = vision.flatten(1, 2)
        return vision + self.vision(frames, audio).unflatten(1, vision.shape[1:3]), audio + self.audio(audio, frames)


class Together(nn.Module):
    """MULT-concat: one attention over the tokens of both, whose mean is added to every token of each branch."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = CrossAttention(config.vision.width, 0, cast(CrossConfig, config.fusion).latent)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes."""
        pooled = self.attention(torch.cat([vision.flatten(1, 2), audio], dim=1)).mean(dim=1)
        return vision + pooled[:, None, None], audio + pooled[:, None]
