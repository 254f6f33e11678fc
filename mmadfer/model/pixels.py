"""How pixels in [0, 1] enter the vision encoder: less a mean and by a deviation of each colour (`model.pixels`)."""

import torch
from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from torch import Tensor

from mmadfer.config.model import PixelScaling

NUMBERS: dict[PixelScaling, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "half": (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
    "clip": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
}
"""Mean and deviation of red, green and blue, from timm.data.constants; `unit` has none, pixels stay as they are."""


def scaled(images: Tensor, pixels: PixelScaling) -> Tensor:
    """(..., 3, H, W) in [0, 1], RGB -> the same shape and type; `unit` gives the very tensor.

    Plain numbers, one colour after the other: a tensor of them would have to be moved to the device at every step, and
    a model that is made without memory (`mmadfer.model.mma_dfer.empty_model`) would lose it.
    """
    if pixels == "unit":
        return images
    colours = zip(images.unbind(-3), *NUMBERS[pixels], strict=True)
    return torch.stack([(colour - mean) / deviation for colour, mean, deviation in colours], dim=-3)
