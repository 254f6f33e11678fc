"""The sizes and variants of the model, as configurations and contracts name them; nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmadfer.config.base import Line, Section, Seed

Modality = Literal["vision", "audio"]
Pixels = Literal["unit", "imagenet", "half", "clip"]
"""How pixels are scaled; `mmadfer.model.pixels` has the numbers."""


Width = Annotated[int, Field(gt=0, le=16384)]
Depth = Annotated[int, Field(gt=0, le=256)]
Heads = Annotated[int, Field(gt=0, le=256)]
Tokens = Annotated[int, Field(ge=0, le=1024)]
Side = Annotated[int, Field(gt=0, le=4096)]
Frames = Annotated[int, Field(gt=0, le=1024)]
Fbank = Annotated[int, Field(gt=0, le=65536)]
Mels = Annotated[int, Field(gt=0, le=1024)]
"""The bounds are far beyond any model: they keep a file of strangers from asking for all time or memory."""


class EncoderConfig(Section):
    """A ViT encoder; the defaults are ViT-B/16, as MAE-Face and AudioMAE are."""

    timm: Line | None = None
    """Name of a timm VisionTransformer to take in the place of MAE-Face's or AudioMAE's; the sizes below must be its
    own (an error names them)."""
    width: Width = 768
    depth: Depth = 12
    heads: Heads = 12
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] = 4.0
    patch: Side = 16
    weights: Path | None = None
    """MAE-Face or AudioMAE file, or of the timm model; without one the encoder is drawn at random from `seed`."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "EncoderConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4: positions are sines and cosines of two axes")
        return self


class LoraConfig(Section):
    """Low-rank updates of the frozen encoders' linear layers (Hu et al. 2022, "LoRA"); rank 8 and alpha 32 in
    CLAIP-Emo. Exports hold them merged into the layers."""

    rank: Annotated[int, Field(ge=0, le=4096)] = 0
    """Of the updates of q, k, v, out, fc1 and fc2 in every block of both encoders; 0: none."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 32.0
    """Updates are scaled by alpha / rank."""


class TemporalConfig(Section):
    """What becomes of the fused sequence: the multimodal temporal transformer (section 3.4), or its mean."""

    kind: Literal["transformer", "mean"] = "transformer"
    """`mean`: the average over frames, as the paper's ablations without the transformer (section 4.6)."""
    width: Width = 512
    """Of the joint adaptation too, which precedes both kinds."""
    depth: Depth = 1
    heads: Heads = 8
    head_width: Annotated[int, Field(gt=0, le=1024)] = 64
    mlp_width: Annotated[int, Field(gt=0, le=1 << 22)] = 1024


class ModelConfig(Section):
    """MMA-DFER's sizes and variants."""

    image_size: Side = 160
    pixels: Pixels = "unit"
    """How pixels in [0, 1] enter the vision encoder: as they are, which the published weights need, or less a mean and
    by a deviation of each colour: ImageNet's (MAE-Face was trained with them), 1/2 and 1/2, or CLIP's."""
    frames: Frames = 16
    fbank: tuple[Fbank, Mels] = (512, 128)
    """Filter-bank frames and mel bands that the audio encoder sees; the same as in `prepare.sound`."""
    branches: Literal["both", "vision", "audio"] = "both"
    """`vision`, `audio`: that frozen encoder alone, the mean over frames, and a classifier, which is all that learns
    (table 5)."""
    vision: EncoderConfig = EncoderConfig()
    audio: EncoderConfig = EncoderConfig()
    lora: LoraConfig = LoraConfig()
    fusion: Literal["bottleneck", "none", "add", "mult", "mult_concat"] = "bottleneck"
    """What joins the encoders after each layer (sections 3.3 and 4.5); `mmadfer.model.fusion` says how each works."""
    latent: Width = 128
    """Width of the fusion bottleneck (section 3.3), and of the attention in `mult` and `mult_concat`."""
    adapters: Annotated[int, Field(ge=0, le=16384, multiple_of=4)] = 0
    """Width of the intermediate temporal adapters in every bottleneck (section 4.4); 0: none."""
    prompts: Tokens = 6
    progressive: Tokens = 2
    """How often prompts are updated on the way (section 3.2)."""
    progressive_tokens: Annotated[int, Field(gt=0, le=1024)] | None = None
    """How many prompts each update moves, going round all of them; by default prompts / progressive."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1
    temporal: TemporalConfig = TemporalConfig()

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The encoders that are there."""
        return ("vision", "audio") if self.branches == "both" else (self.branches,)

    @property
    def layers(self) -> int:
        """How often the encoders are fused; the deeper one runs more than one block for each."""
        return min(getattr(self, name).depth for name in self.modalities)

    @property
    def depth(self) -> int:
        """Blocks of the deeper encoder."""
        return max(self.vision.depth, self.audio.depth)

    @property
    def share(self) -> int:
        """Prompts that each progressive update moves; 0 where there are no updates."""
        if not (self.prompts and self.progressive):
            return 0
        return self.progressive_tokens or self.prompts // self.progressive

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ModelConfig":
        if "vision" in self.modalities and self.image_size % self.vision.patch:
            raise ValueError(f"image_size {self.image_size} is not a multiple of vision.patch {self.vision.patch}")
        if "audio" in self.modalities and any(size % self.audio.patch for size in self.fbank):
            raise ValueError(f"fbank {list(self.fbank)} is not made of multiples of audio.patch {self.audio.patch}")
        if self.branches == "both" and max(self.vision.depth, self.audio.depth) % self.layers:
            raise ValueError(
                f"vision.depth {self.vision.depth} and audio.depth {self.audio.depth}: one must be a multiple of the "
                "other, for as many blocks of it to come between two fusions"
            )
        return self

    @model_validator(mode="after")
    def _prompts_fit(self) -> "ModelConfig":
        if not (self.prompts and self.progressive):
            if self.progressive_tokens:
                raise ValueError(f"progressive_tokens {self.progressive_tokens} needs prompts and progressive updates")
            return self
        if self.progressive_tokens is None and self.prompts % self.progressive:
            raise ValueError(
                f"progressive {self.progressive} must divide prompts {self.prompts}, or progressive_tokens say how "
                "many prompts each update moves"
            )
        if self.prompts % self.share or self.layers % self.progressive:
            raise ValueError(
                f"progressive {self.progressive} must divide the {self.layers} layers, and progressive_tokens "
                f"{self.share} prompts {self.prompts}"
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> "ModelConfig":
        if self.branches != "both" and (self.prompts or self.fusion != "none" or self.temporal.kind != "mean"):
            raise ValueError(
                f"branches {self.branches} is one frozen encoder and a classifier: it needs prompts 0, fusion "
                "none and temporal.kind mean"
            )
        if self.branches != "both" and self.lora.rank:
            raise ValueError(f"branches {self.branches} is a frozen encoder: it needs lora.rank 0")
        if self.adapters and self.fusion != "bottleneck":
            raise ValueError(f"adapters {self.adapters} follow fusion bottlenecks, but fusion is {self.fusion}")
        if self.fusion in ("add", "mult_concat") and self.vision.width != self.audio.width:
            raise ValueError(
                f"fusion {self.fusion} needs encoders of one width, not {self.vision.width} and {self.audio.width}: "
                "take bottleneck, mult or none"
            )
        if self.fusion in ("mult", "mult_concat") and self.latent % 2:
            raise ValueError(f"fusion {self.fusion} has 2 heads, so latent {self.latent} must be even")
        return self
