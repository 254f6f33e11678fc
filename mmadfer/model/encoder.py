"""A frozen ViT encoder with learnable prompts and positions (sections 3.1, 3.2 and 4.2).

Shapes: n images (frames, or one filter bank a clip), C channels, N patches, P prompts, D width; L = 1 + N + P tokens.
The blocks are timm's, in the layout of MAE-Face and AudioMAE.
"""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmadfer.model import lora
from mmadfer.model.layer import kept, through
from mmadfer.model.prompts import Prompts
from mmadfer.model.settings import EncoderConfig, ModelConfig


class Encoder(nn.Module):
    """ViT, pre-norm, LayerNorm eps 1e-6; sequence [CLS, patches, prompts], positions added to all of it."""

    def __init__(self, config: EncoderConfig, channels: int, grid: tuple[int, int], model: ModelConfig):
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.grid = grid
        self.rates = tuple(model.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth))
        self.patch = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.prompts = Prompts(model.prompts, model.progressive, model.share, config.width, model.layers)
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1] + model.prompts, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=norm)
            for _ in range(config.depth)
        )
        self.norm = norm(config.width)
        self.each = config.depth // model.layers
        """Blocks in one layer of the model."""
        self._freeze(learns=model.branches == "both")
        lora.attach(self.blocks, model.lora)

    def _freeze(self, learns: bool) -> None:
        """Positions and prompts learn, everything else is frozen, LayerNorms included (section 4.2)."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(learns and (name == "positions" or name.startswith("prompts.")))

    def layer(self, index: int) -> list[Block]:
        """The blocks of one layer of the model."""
        return [cast(Block, block) for block in self.blocks[index * self.each : (index + 1) * self.each]]

    def kept(self, drop_path: Tensor | None) -> Sequence[Tensor | None]:
        """Stochastic depth's factors for each layer of the model, (n, blocks, 2), of draws (n, depth, 2)."""
        if drop_path is None:
            return [None] * (len(self.blocks) // self.each)
        return kept(drop_path[:, : len(self.blocks)], self.rates).split(self.each, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> tokens (n, L, D), positions added."""
        patches = self.patch(images.to(self.patch.weight.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.prompts.append(tokens) + self.positions

    def alone(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> the normalised CLS (n, D), through all blocks without anything between them."""
        return self.summary(through([cast(Block, block) for block in self.blocks], self.embed(images), None))

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
