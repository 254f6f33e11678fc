"""How pixels in [0, 1] enter the vision encoder: less a mean and by a deviation of each colour (`model.pixels`)."""

import torch
from torch import Tensor

from mmadfer.config.model import PixelScaling

NUMBERS: dict[PixelScaling, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and deviation of red, green and blue, as in timm.data.constants; `unit` has none, pixels stay as they are."""


def scaled(images: Tensor, pixels: PixelScaling) -> Tensor:
    """(..., 3, H, W) in [0, 1], RGB -> the same shape and type; `unit` gives the very tensor.

    Plain numbers, one colour after the other: a tensor of them would have to be moved to the device at every step, and
    a model that is made without memory (`mmadfer.model.mma_dfer.empty_model`) would lose it.
    """
    if pixels == "unit":
        return images
    colours = zip(images.unbind(-3), *NUMBERS[pixels], strict=True)
    return torch.stack([(colour - mean) / deviation for colour, mean, deviation in colours], dim=-3)
