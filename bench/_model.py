"""The models that benchmarks make for themselves."""

import torch

from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model

AWAKE = 0.02
"""How far a new model's trainable weights are moved at random: as drawn, its gates are shut and fuse nothing."""
ENCODER = EncoderConfig(width=32, depth=1, heads=2)
SMALL = ModelConfig(
    image_size=32,
    frames=4,
    vision=ENCODER,
    audio=ENCODER,
    fusion=BottleneckConfig(latent=8),
    joint=SumConfig(width=16),
    prompts=2,
    progressive=1,
    temporal=TransformerConfig(heads=2, head_width=8, mlp_width=32),
)


def awake(config: ModelConfig, classes: int) -> MMADFER:
    """A new model with random weights, all of which have an effect."""
    model, generator = build_model(config, classes), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(AWAKE * torch.randn(weight.shape, generator=generator))
    return model
