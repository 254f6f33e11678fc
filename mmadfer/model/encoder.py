"""A frozen ViT encoder with learnable prompts and positions (sections 3.1, 3.2 and 4.2).

Shapes: n images (frames, or one filter bank a clip), C channels, N patches, P prompts, D width; L = 1 + N + P tokens.
The blocks are timm's, in the layout of MAE-Face and AudioMAE.
"""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmadfer.config import EncoderConfig, ModelConfig
from mmadfer.model.prompts import Prompts


class Encoder(nn.Module):
    """ViT, pre-norm, LayerNorm eps 1e-6; sequence [CLS, patches, prompts], positions added to all of it."""

    def __init__(self, config: EncoderConfig, channels: int, grid: tuple[int, int], model: ModelConfig):
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.grid = grid
        self.rates = tuple(model.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth))
        self.patch = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.prompts = Prompts(model.prompts, model.progressive, config.width, config.depth)
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1] + model.prompts, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=norm)
            for _ in range(config.depth)
        )
        self.norm = norm(config.width)
        self._freeze()

    def _freeze(self) -> None:
        """Positions and prompts learn, everything else is frozen, LayerNorms included (section 4.2)."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name == "positions" or name.startswith("prompts."))

    def embed(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> tokens (n, L, D), positions added."""
        patches = self.patch(images.to(self.patch.weight.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.prompts.append(tokens) + self.positions

    def summary(self, tokens: Tensor) -> Tensor:
        """(..., L, D) -> the normalised CLS (..., D)."""
        return self.norm(tokens[..., 0, :])


def vision_encoder(model: ModelConfig) -> Encoder:
    """MAE-Face: each frame alone, (n, 3, S, S) in [0, 1]."""
    side = model.image_size // model.vision.patch
    return Encoder(model.vision, channels=3, grid=(side, side), model=model)


def audio_encoder(model: ModelConfig) -> Encoder:
    """AudioMAE: the log-mel filter bank (n, 1, 512, 128), time first."""
    rows, columns = (size // model.audio.patch for size in model.fbank)
    return Encoder(model.audio, channels=1, grid=(rows, columns), model=model)
