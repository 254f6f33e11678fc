"""MMA-DFER (Chumachenko, Iosifidis, Gabbouj 2024): two frozen encoders, fused block by block, then over time.

Shapes: B clips, T frames, S image side, D encoder width, W temporal width, F x M filter-bank frames and mel bands
(512 x 128 as published). Use `mmadfer.model.weights.build.build` for a model with initial weights.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmadfer.config.model import ModelConfig
from mmadfer.contract import Contract
from mmadfer.model.draws import learned
from mmadfer.model.encoder import Encoder, audio_encoder, vision_encoder
from mmadfer.model.fusion import FUSIONS
from mmadfer.model.layer import layer
from mmadfer.model.pixels import scaled
from mmadfer.model.temporal import TEMPORALS


class MMADFER(nn.Module):
    """Frames and sound of a clip -> logits over emotions (figure 1), or those of one branch alone (table 5)."""

    contract: Contract | None = None
    """What the weights promise; set by `mmadfer.load`."""

    def __init__(self, config: ModelConfig, classes: int):
        super().__init__()
        self.config = config
        both = config.branches == "both"
        width = (config.audio if config.branches == "audio" else config.vision).width
        if "vision" in config.modalities:
            self.vision = vision_encoder(config)
        if "audio" in config.modalities:
            self.audio = audio_encoder(config)
        self.fusion = nn.ModuleList(FUSIONS[config.fusion](config) for _ in range(config.layers if both else 0))
        self.match = nn.Identity() if not both or config.audio.width == width else nn.Linear(config.audio.width, width)
        """From the audio encoder's width to the vision encoder's, where they differ."""
        self.joint = nn.Linear(width, config.temporal.width) if both else nn.Identity()
        self.temporal = TEMPORALS[config.temporal.kind](config.temporal, config.frames)
        self.classifier = nn.Linear(config.temporal.width if both else width, classes)
        self.layer: Callable[..., tuple[Tensor, Tensor]] = layer
        """What runs each layer; `mmadfer.model.precision` puts a compiled one here."""

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders that are there, by the name of their modality."""
        return {name: getattr(self, name) for name in self.config.modalities}

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
        """The fused sequence (B, T, W) that enters the temporal transformer; arguments as in `forward`.

        Of one branch, its summaries: (B, T, D), and (B, 1, D) of sound.
        """
        self._check(frames, fbank)
        steps = frames.shape[1]
        if self.config.branches == "audio":
            return self.audio.alone(fbank)[:, None]
        images = self._unit(frames).flatten(0, 1)
        if self.config.branches == "vision":
            return self.vision.alone(images).unflatten(0, (-1, steps))
        vision, audio = self.vision.embed(images).unflatten(0, (-1, steps)), self.audio.embed(fbank)
        for index, (fusion, *keep) in enumerate(zip(self.fusion, *self._kept(drop_path), strict=True)):
            blocks = self.vision.layer(index), self.audio.layer(index)
            vision, audio = self.layer(*blocks, fusion, vision, audio, *keep)
            vision = self.vision.prompts.progress(vision, index)
            audio = self.audio.prompts.progress(audio, index)
        return self.joint(self.vision.summary(vision) + self.match(self.audio.summary(audio))[:, None])

    def _kept(self, drop_path: Tensor | None) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None]]:
        """What `layer` takes, layer by layer, for vision and for audio."""
        if drop_path is None:
            return self.vision.kept(None), self.audio.kept(None)
        return self.vision.kept(drop_path[:, :-1].flatten(0, 1)), self.audio.kept(drop_path[:, -1])

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by their state-dict name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def learned(self) -> dict[str, Tensor]:
        """What training changes and checkpoints hold: `trainable`, and buffers that are saved."""
        return learned(self)

    def frozen(self) -> dict[str, nn.Parameter]:
        """The encoders' parameters that never change, by their state-dict name."""
        return {name: p for name, p in self.named_parameters() if not p.requires_grad}

    def _unit(self, frames: Tensor) -> Tensor:
        """Frames as floats in [0, 1], uint8 divided by 255; then scaled as `model.pixels` says, in float32."""
        kind = self.config.pixels
        bytewise = frames.dtype == torch.uint8
        if bytewise or kind != "unit":
            frames = frames.to(self.vision.patch.weight.dtype if kind == "unit" else torch.float32)
        return scaled(frames / 255 if bytewise else frames, kind)

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
