"""The modality fusion bottleneck after every pair of encoder blocks (section 3.3, equations 2-5).

Shapes: B clips, T frames, N vision tokens a frame, M audio tokens, D encoder width, d latent width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu


class Side(nn.Module):
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


class Fusion(nn.Module):
    """Each modality's tokens receive the other's mean through a narrow, gated bottleneck."""

    def __init__(self, width: int, latent: int):
        super().__init__()
        self.vision = Side(width, latent)
        self.audio = Side(width, latent)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes; both updates use the values from before the update.

        CLS and prompts are tokens like all others here: they enter the means (equation 3) and receive the update.
        """
        v, a = self.vision.compress(vision), self.audio.compress(audio)
        to_vision = self.vision.expand(v + a.mean(dim=1)[:, None, None])
        to_audio = self.audio.expand(a + v.mean(dim=(1, 2))[:, None])
        return vision + to_vision, audio + to_audio
