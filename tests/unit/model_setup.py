"""A tiny MMA-DFER for tests of the model and its files."""

import torch
from torch import Tensor

from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig, PrepareConfig
from mmadfer.contract import Contract
from mmadfer.model.mma_dfer import MMADFER

ENCODER = EncoderConfig(width=64, depth=4, heads=1)
TINY = ModelConfig(
    image_size=32,
    frames=4,
    vision=ENCODER,
    audio=ENCODER,
    fusion=BottleneckConfig(latent=16),
    joint=SumConfig(width=64),
    temporal=TransformerConfig(heads=1, head_width=64, mlp_width=96),
)
LABELS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")


def clips(count: int = 2) -> tuple[Tensor, Tensor]:
    """Random frames uint8 (count, 4, 3, 32, 32) and fbank (count, 1, 512, 128)."""
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (count, 4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return frames, torch.randn(count, 1, 512, 128, generator=generator)


def open_gates(model: MMADFER) -> MMADFER:
    """The model with fusion switched on (its gates start at 0)."""
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(0.5 if ".vision." in name else -0.7)
    return model


def contract(config: ModelConfig = TINY, labels: tuple[str, ...] = LABELS) -> Contract:
    """A contract of `config`."""
    return Contract(labels=labels, model=config, prepare=PrepareConfig(), data_set="test")
