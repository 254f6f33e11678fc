"""MMA-DFER (Chumachenko, Iosifidis, Gabbouj 2024): two frozen encoders, fused block by block, then over time.

Shapes: B clips, T frames, S image side, D encoder width, W temporal width, F x M filter-bank frames and mel bands
(512 x 128 as published). Use `mmadfer.model.build.build` for a model with initial weights.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmadfer.config import ModelConfig
from mmadfer.contract import Contract
from mmadfer.model.encoder import audio_encoder, vision_encoder
from mmadfer.model.fusion import Fusion
from mmadfer.model.layer import kept, layer
from mmadfer.model.temporal import Temporal


class MMADFER(nn.Module):
    """Frames and sound of a clip -> logits over emotions (figure 1)."""

    contract: Contract | None = None
    """What the weights promise; set by `mmadfer.load`."""

    def __init__(self, config: ModelConfig, classes: int):
        super().__init__()
        self.config = config
        self.vision = vision_encoder(config)
        self.audio = audio_encoder(config)
        self.fusion = nn.ModuleList(Fusion(config.vision.width, config.latent) for _ in range(config.vision.depth))
        self.joint = nn.Linear(config.vision.width, config.temporal.width)
        self.temporal = Temporal(config.temporal, config.frames)
        self.classifier = nn.Linear(config.temporal.width, classes)
        self.layer: Callable[..., tuple[Tensor, Tensor]] = layer
        """What runs each layer; `mmadfer.model.arithmetic` puts a compiled one here."""

    def forward(self, frames: Tensor, fbank: Tensor, drop_path: Tensor | None = None) -> Tensor:
        """Logits (B, classes) of clips.

        frames (B, T, 3, S, S) uint8, or float in [0, 1]; fbank (B, 1, F, M) float, normalised.
        drop_path (B, T + 1, depth, 2): uniform draws in [0, 1) for stochastic depth; rows 0..T-1 are the frames, row T
        the sound; last axis attention, MLP. A branch is kept where its draw reaches the block's rate. None runs every
        block. The model itself draws nothing, and `train()` and `eval()` compute the same.

        Raises:
            ValueError: a shape that the model was not built for.
        """
        return self.classifier(self.temporal(self.encode(frames, fbank, drop_path)))

    def encode(self, frames: Tensor, fbank: Tensor, drop_path: Tensor | None = None) -> Tensor:
        """The fused sequence (B, T, W) that enters the temporal transformer; arguments as in `forward`."""
        self._check(frames, fbank)
        steps = frames.shape[1]
        vision = self.vision.embed(self._unit(frames).flatten(0, 1)).unflatten(0, (-1, steps))
        audio = self.audio.embed(fbank)
        keep_vision, keep_audio = self._kept(drop_path)
        for index, parts in enumerate(zip(self.vision.blocks, self.audio.blocks, self.fusion, strict=True)):
            vision, audio = self.layer(*parts, vision, audio, keep_vision[index], keep_audio[index])
            vision = self.vision.prompts.progress(vision, index)
            audio = self.audio.prompts.progress(audio, index)
        return self.joint(self.vision.summary(vision) + self.audio.summary(audio)[:, None])

    def _kept(self, drop_path: Tensor | None) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None]]:
        """What `layer` takes, layer by layer, for vision and for audio."""
        if drop_path is None:
            return [None] * len(self.fusion), [None] * len(self.fusion)
        factors = kept(drop_path, self.vision.rates)
        return factors[:, :-1].flatten(0, 1).unbind(1), factors[:, -1].unbind(1)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by their state-dict name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def frozen(self) -> dict[str, nn.Parameter]:
        """The encoders' parameters that never change, by their state-dict name."""
        return {name: p for name, p in self.named_parameters() if not p.requires_grad}

    def _unit(self, frames: Tensor) -> Tensor:
        """Frames as floats in [0, 1]; uint8 is divided by 255, without mean or deviation (as MAE-Face was trained)."""
        if frames.dtype == torch.uint8:
            return frames.to(self.vision.patch.weight.dtype) / 255
        return frames

    def _check(self, frames: Tensor, fbank: Tensor) -> None:
        side = self.config.image_size
        for name, tensor, wanted in (
            ("frames", frames, (self.config.frames, 3, side, side)),
            ("fbank", fbank, (1, *self.config.fbank)),
        ):
            if tuple(tensor.shape[1:]) != wanted:
                raise ValueError(f"{name} must be (B, {', '.join(map(str, wanted))}), not {tuple(tensor.shape)}")


def empty(config: ModelConfig, classes: int) -> MMADFER:
    """Make a model without memory for its weights, on torch's meta device: names and shapes."""
    with torch.device("meta"):
        return MMADFER(config, classes)
