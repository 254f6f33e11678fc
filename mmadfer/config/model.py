"""The sizes and variants of the model, as configurations and contracts name them; nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)  # fmt: skip

from mmadfer.config.base import Line, Section, Seed
from mmadfer.config.lora import LoraConfig
from mmadfer.config.parts import HeadPart, JointPart, Part, Parts, TemporalPart
from mmadfer.config.text import TextConfig

Modality = Literal["vision", "audio"]
PixelScaling = Literal["unit", "imagenet", "half", "clip"]
"""How pixels are scaled; `mmadfer.model.pixels` has the numbers."""


Width = Annotated[int, Field(gt=0, le=16384)]
Depth = Annotated[int, Field(gt=0, le=256)]
Heads = Annotated[int, Field(gt=0, le=256)]
Tokens = Annotated[int, Field(ge=0, le=1024)]
_Side = Annotated[int, Field(gt=0, le=4096)]
_Frames = Annotated[int, Field(gt=0, le=1024)]
Fbank = Annotated[int, Field(gt=0, le=65536)]
Mels = Annotated[int, Field(gt=0, le=1024)]
_Bound = Annotated[float, Field(gt=-1e9, lt=1e9)]
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
    patch: _Side = 16
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


class BottleneckConfig(Part):
    """The fusion bottleneck (section 3.3)."""

    name: str = "bottleneck"
    latent: Width = 128
    """Width of the bottleneck."""
    adapters: Annotated[int, Field(ge=0, le=16384, multiple_of=4)] = 0
    """Width of the intermediate temporal adapters in every bottleneck (section 4.4); 0: none."""


class NoFusionConfig(Part):
    """The encoders meet only in the joint."""

    name: str = "none"


class AdditionConfig(Part):
    """Addition in the encoders' own space (section 4.5)."""

    name: str = "add"

    def check(self, model: "ModelConfig") -> None:
        """Both widths are one."""
        _one_width(self.name, model)


class CrossConfig(Part):
    """Cross-attention from each encoder to the other (MULT, section 4.5)."""

    name: str = "mult"
    latent: Annotated[int, Field(gt=0, le=16384, multiple_of=2)] = 128
    """Width of the attention, of 2 heads."""


class TogetherConfig(CrossConfig):
    """One attention over the tokens of both encoders (MULT-concat, section 4.5)."""

    name: str = "mult_concat"

    def check(self, model: "ModelConfig") -> None:
        """Both widths are one."""
        _one_width(self.name, model)


def _one_width(name: str, model: "ModelConfig") -> None:
    if model.vision.width != model.audio.width:
        raise ValueError(
            f"fusion {name} needs encoders of one width, not {model.vision.width} and {model.audio.width}: take "
            "bottleneck, mult or none"
        )


FUSIONS = Parts(
    "fusion",
    "mmadfer.fusions",
    Part,
    {
        "mmadfer.model.fusion:Bottleneck": BottleneckConfig,
        "mmadfer.model.fusion:Apart": NoFusionConfig,
        "mmadfer.model.fusion:Addition": AdditionConfig,
        "mmadfer.model.fusion:Cross": CrossConfig,
        "mmadfer.model.fusion:Together": TogetherConfig,
    },
)
"""What joins the encoders after each layer."""


class SumConfig(JointPart):
    """The joint adaptation (section 3.4): a linear layer after the sum of the encoders' summaries."""

    name: str = "sum"
    width: Width = 512
    """Of the sequence."""

    def width_of(self, model: "ModelConfig") -> int:
        """As in `JointPart`."""
        return self.width


class ConcatConfig(SumConfig):
    """A linear layer of both encoders' summaries side by side, step by step: a frame's and its stretch of sound's."""

    sound_patches = True
    name: str = "concat"

    def check(self, model: "ModelConfig") -> None:
        """As in `Part`."""
        if len(model.modalities) < 2:
            raise ValueError(f"joint {self.name} joins two encoders, and branches is {model.branches}: take joint sum")
        rows = model.fbank[0] // model.audio.patch
        if rows % model.frames:
            raise ValueError(
                f"joint {self.name} gives each of {model.frames} frames an equal stretch of sound, which has {rows} "
                f"rows of patches: set frames to a number that divides {rows}, or another fbank"
            )


JmtCombine = Literal["tokens", "concat", "pair"]
"""How the cross-attentions of a joint transformer are put together (`mmadfer.model.joint_transformer`)."""


class JmtConfig(ConcatConfig):
    """The joint multimodal transformer with key-based cross-attention (arXiv 2403.10488)."""

    name: str = "jmt"
    combine: JmtCombine = "tokens"
    """`tokens`, as published: self-attention over the six results; `concat`: a linear layer of the six, whose sequence
    is twice as wide; `pair`: without the joint sequence, a linear layer of two."""
    heads: Heads = 1

    def width_of(self, model: "ModelConfig") -> int:
        """As in `JointPart`."""
        return 2 * self.width if self.combine == "concat" else self.width

    def check(self, model: "ModelConfig") -> None:
        """As in `Part`."""
        super().check(model)
        if self.width % self.heads:
            raise ValueError(f"joint.width {self.width} is not a multiple of joint.heads {self.heads}")


class NoJointConfig(JointPart):
    """The summaries of one encoder as they are."""

    name: str = "none"

    def check(self, model: "ModelConfig") -> None:
        """As in `Part`."""
        if len(model.modalities) > 1:
            raise ValueError("joint none takes the summaries of one encoder, and branches is both: take joint sum")


JOINTS = Parts(
    "joint",
    "mmadfer.joints",
    JointPart,
    {
        "mmadfer.model.joint:Sum": SumConfig,
        "mmadfer.model.joint:Single": NoJointConfig,
        "mmadfer.model.joint:Concatenation": ConcatConfig,
        "mmadfer.model.joint:Jmt": JmtConfig,
    },
)
"""What makes one sequence of the encoders' tokens and summaries."""


class TransformerConfig(TemporalPart):
    """The multimodal temporal transformer (section 3.4)."""

    summarises = True
    name: str = "transformer"
    depth: Depth = 1
    heads: Heads = 8
    head_width: Annotated[int, Field(gt=0, le=1024)] = 64
    mlp_width: Annotated[int, Field(gt=0, le=1 << 22)] = 1024


class NoTemporalConfig(TemporalPart):
    """The sequence as it is, of which the head takes the mean, as the paper's ablations without the transformer."""

    name: str = "none"


TEMPORALS = Parts(
    "temporal part",
    "mmadfer.temporals",
    TemporalPart,
    {"mmadfer.model.temporal:Transformer": TransformerConfig, "mmadfer.model.temporal:Unchanged": NoTemporalConfig},
)
"""What works on the sequence before the head."""


class ClassesConfig(HeadPart):
    """Logits of classes, of a linear layer."""

    name: str = "classes"


class ValuesConfig(HeadPart):
    """Values in a range, of a linear layer and a sigmoid; `task.values` names them."""

    name: str = "values"
    range: tuple[_Bound, _Bound] = (-1.0, 1.0)
    """Lowest and highest value, neither of which is reached."""

    def check(self, model: "ModelConfig") -> None:
        """As in `Part`."""
        super().check(model)
        if not self.range[0] < self.range[1]:
            raise ValueError(f"head.range is {list(self.range)}; it must be [low, high] with low < high")


class PerceptronsConfig(ValuesConfig):
    """The same of two layers with ReLU between, of its own for each value."""

    name: str = "values_mlp"
    hidden: Width = 128
    """Width of the first layer; 128 in the published joint multimodal transformer, which has no sigmoid."""


HEADS = Parts(
    "head",
    "mmadfer.heads",
    HeadPart,
    {
        "mmadfer.model.heads:Classes": ClassesConfig,
        "mmadfer.model.heads:Values": ValuesConfig,
        "mmadfer.model.heads:Perceptrons": PerceptronsConfig,
    },
)
"""What makes the output of the sequence."""
TABLES: dict[str, Parts] = {"fusion": FUSIONS, "joint": JOINTS, "temporal": TEMPORALS, "head": HEADS}
"""By the keys of `model` that name their parts."""


class ModelConfig(Section):
    """MMA-DFER's sizes and variants."""

    image_size: _Side = 160
    pixels: PixelScaling = "unit"
    """How pixels in [0, 1] enter the vision encoder: as they are, which the published weights need, or less a mean and
    by a deviation of each colour: ImageNet's (MAE-Face was trained with them), 1/2 and 1/2, or CLIP's."""
    frames: _Frames = 16
    fbank: tuple[Fbank, Mels] = (512, 128)
    """Filter-bank frames and mel bands that the audio encoder sees; the same as in `prepare.sound`."""
    branches: Literal["both", "vision", "audio", "text"] = "both"
    """`vision`, `audio`: that encoder alone, with prompts, low-rank updates and a temporal transformer or without. A
    model of one never asks for the other's input. `text`: the encoder of `text` alone, with joint and fusion none."""
    vision: EncoderConfig = EncoderConfig()
    audio: EncoderConfig = EncoderConfig()
    text: TextConfig | None = None
    """An encoder of a sentence about each clip: alone, or added to every step of the joint sequence."""
    lora: LoraConfig = LoraConfig()
    positions: Literal["learned", "frozen"] = "learned"
    """Whether position embeddings learn. `frozen`, without prompts: the encoders are as their files have them."""
    fusion: Annotated[SerializeAsAny[Part], BeforeValidator(FUSIONS.read), FUSIONS] = BottleneckConfig()
    """What joins the encoders after each layer (sections 3.3 and 4.5): `bottleneck`, `none`, `add`, `mult`,
    `mult_concat`; `mmadfer.model.fusion` says how each works."""
    joint: Annotated[SerializeAsAny[JointPart], BeforeValidator(JOINTS.read), JOINTS] = SumConfig()
    """What makes one sequence of both encoders: `sum`, `concat`, `jmt`; `none` for a branch alone
    (`mmadfer.model.joint`)."""
    temporal: Annotated[SerializeAsAny[TemporalPart], BeforeValidator(TEMPORALS.read), TEMPORALS] = TransformerConfig()
    """What works on the sequence: `transformer` (section 3.4) or `none` (`mmadfer.model.temporal`)."""
    head: Annotated[SerializeAsAny[HeadPart], BeforeValidator(HEADS.read), HEADS] = ClassesConfig()
    """What makes the output: `classes`, `values` or `values_mlp` (`mmadfer.model.heads`)."""
    prompts: Tokens = 6
    progressive: Tokens = 2
    """How often prompts are updated on the way (section 3.2)."""
    progressive_tokens: Annotated[int, Field(gt=0, le=1024)] | None = None
    """How many prompts each update moves, going round all of them; by default prompts / progressive."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The encoders of frames and sound that are there."""
        if self.branches == "text":
            return ()
        return ("vision", "audio") if self.branches == "both" else (self.branches,)

    @property
    def layers(self) -> int:
        """How often the encoders are fused; the deeper one runs more than one block for each."""
        return min((getattr(self, name).depth for name in self.modalities), default=0)

    @property
    def depth(self) -> int:
        """Blocks of the deeper encoder."""
        return max((getattr(self, name).depth for name in self.modalities), default=0)

    @property
    def width(self) -> int:
        """W of the sequence."""
        return self.joint.width_of(self)

    @property
    def steps(self) -> int:
        """T of the sequence."""
        return self.joint.steps_of(self)

    @property
    def layered(self) -> bool:
        """Whether anything learns inside of the encoders or between them."""
        learns = self.branches == "both" or self.positions == "learned" or self.lora.rank > 0
        return self.layers > 0 and learns

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
        if self.branches != "both" and self.fusion.name != "none":
            raise ValueError(f"branches {self.branches} has nothing to fuse: it needs fusion none")
        if self.positions == "frozen" and self.prompts:
            raise ValueError(f"positions frozen leaves those of {self.prompts} prompts undrawn: set prompts 0")
        if self.branches == "text" and (self.text is None or self.joint.name != "none"):
            raise ValueError("branches text is the encoder of text alone: it needs a section text, and joint none")
        for key in TABLES:
            getattr(self, key).check(self)
        return self

    @model_serializer(mode="wrap")
    def _without_text(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model without text is written as before there was any."""
        values: dict[str, Any] = dump(self)
        return {key: value for key, value in values.items() if key != "text" or value is not None}
