"""MMA-DFER (Chumachenko, Iosifidis, Gabbouj 2024): two frozen encoders, fused block by block, then over time.

Shapes: B clips, T frames, S image side, D encoder width, W temporal width, F x M filter-bank frames and mel bands
(512 x 128 as published). Use `mmadfer.model.weights.build.build_model` for a model with initial weights.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmadfer.config.model import FUSIONS, HEADS, JOINTS, TEMPORALS, ModelConfig
from mmadfer.contract import Contract
from mmadfer.model.encoder import Encoder, audio_encoder, vision_encoder
from mmadfer.model.heads import pooled
from mmadfer.model.initializers import learned
from mmadfer.model.joint import Encoded, Words
from mmadfer.model.layer import layer
from mmadfer.model.pixels import scaled
from mmadfer.model.text import TextEncoder, check_tokens
from mmadfer.tasks.output import Features, Output


class MMADFER(nn.Module):
    """Frames and sound of a clip -> logits over emotions (figure 1), or those of one branch alone (table 5)."""

    contract: Contract | None = None
    """What the weights promise; set by `mmadfer.load`."""

    def __init__(self, config: ModelConfig, classes: int):
        super().__init__()
        self.config, self.outputs = config, classes
        if "vision" in config.modalities:
            self.vision = vision_encoder(config)
        if "audio" in config.modalities:
            self.audio = audio_encoder(config)
        if config.text is not None:
            self.text = TextEncoder(config.text)
        if config.text is not None and config.modalities:
            self.words = Words(config)
        fusion = FUSIONS.made(config.fusion)
        self.fusion = nn.ModuleList(fusion(config) for _ in range(config.layers))
        self.joint = JOINTS.made(config.joint)(config)
        self.temporal = TEMPORALS.made(config.temporal)(config)
        self.classifier = HEADS.made(config.head)(config, classes)
        self.layer: Callable[..., tuple[Tensor | None, Tensor | None]] = layer
        """What runs each layer; `mmadfer.model.precision` puts a compiled one here."""

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders of frames and sound that are there, by the name of their modality."""
        return {name: getattr(self, name) for name in self.config.modalities}

    def forward(
        self,
        frames: Tensor | None = None,
        fbank: Tensor | None = None,
        drop_path: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) of clips; what the head gives.

        frames (B, T, 3, S, S) uint8, or float in [0, 1]; fbank (B, 1, F, M) float, normalised. A branch alone does not
        look at the other's input.
        drop_path (B, T + 1, depth, 2): uniform draws in [0, 1) for stochastic depth; rows 0..T-1 are the frames, row T
        the sound; last axis attention, MLP. A branch is kept where its draw reaches the block's rate. None runs every
        block. The model itself draws nothing, and `train()` and `eval()` compute the same.
        tokens (B, L) int64: of a sentence, where `config.text` is set; else they are not looked at.

        Raises:
            ValueError: an input that is not there, or a shape that the model was not built for.
        """
        logits: Tensor = self.classifier(*self.temporal(self.encode(frames, fbank, drop_path, tokens=tokens)))
        return logits

    def detailed(
        self,
        frames: Tensor | None = None,
        fbank: Tensor | None = None,
        drop_path: Tensor | None = None,
        layers: Container[int] | None = None,
        tokens: Tensor | None = None,
    ) -> Output:
        """Logits with the sequence and the features of `layers` (from 0; None: of every layer), all kept in memory.

        The other arguments are as in `forward`.
        """
        features = dict[int, Features]()
        wanted = range(self.config.layers) if layers is None else layers
        return self.of_joint(self.encode(frames, fbank, drop_path, features, wanted, tokens), features)

    def of_joint(self, joint: Tensor, features: dict[int, Features] | None = None) -> Output:
        """What the temporal part and the head make of what `encode` gives, (B, T, W); beside `features`, if any."""
        cls, sequence = self.temporal(joint)
        of = pooled(self.config.head, cls, sequence)
        return Output(self.classifier(cls, sequence), sequence, of, features or {})

    def encode(
        self,
        frames: Tensor | None = None,
        fbank: Tensor | None = None,
        drop_path: Tensor | None = None,
        features: dict[int, Features] | None = None,
        layers: Container[int] = (),
        tokens: Tensor | None = None,
    ) -> Tensor:
        """The joint sequence (B, T, W) that enters the temporal part; arguments as in `forward`.

        What each of `layers` gives is added to `features`, if it is given.
        """
        self._check(frames, fbank)
        vision, audio = self._embedded(frames, fbank)
        for index, (fusion, *keep) in enumerate(zip(self.fusion, *self._kept(drop_path), strict=True)):
            blocks = [one.layer(index) if (one := self._encoder(name)) else [] for name in ("vision", "audio")]
            vision, audio = self.layer(*blocks, fusion, vision, audio, *keep)
            if features is not None and index in layers:
                features[index] = Features(vision, audio)
            vision = None if vision is None else self.vision.prompts.progress(vision, index)
            audio = None if audio is None else self.audio.prompts.progress(audio, index)
        heard = None if audio is None else audio[:, None]
        return self._joined(self._encoded("vision", vision), self._encoded("audio", heard), tokens)

    def _joined(self, vision: Encoded | None, audio: Encoded | None, tokens: Tensor | None) -> Tensor:
        """The sequence, to every step of which the sentence is added; of text alone it is the only step."""
        if self.config.text is None:
            joint: Tensor = self.joint(vision, audio)
            return joint
        read = self.text(check_tokens(tokens, self.config.text))[:, None]
        return self.words(self.joint(vision, audio), read) if self.config.modalities else read

    def _encoder(self, name: str) -> Encoder | None:
        return self.encoders.get(name)

    def _embedded(self, frames: Tensor | None, fbank: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """(B, T, N, D) of the frames, and (B, M, D) of the sound."""
        vision = audio = None
        if "vision" in self.encoders and frames is not None:
            vision = self.vision.embed(self._unit(frames).flatten(0, 1)).unflatten(0, (-1, frames.shape[1]))
        if "audio" in self.encoders and fbank is not None:
            audio = self.audio.embed(fbank)
        return vision, audio

    def _encoded(self, name: str, tokens: Tensor | None) -> Encoded | None:
        encoder = self._encoder(name)
        if encoder is None or tokens is None:
            return None
        patches = encoder.patches(tokens) if name == "audio" and self.config.joint.sound_patches else None
        return Encoded(tokens, encoder.summary(tokens), patches)

    def _kept(self, drop_path: Tensor | None) -> list[Sequence[Tensor | None]]:
        """What `layer` takes, layer by layer, for vision and for audio."""
        rows: dict[str, Tensor | None] = {"vision": None, "audio": None}
        if drop_path is not None:
            rows = {"vision": drop_path[:, :-1].flatten(0, 1), "audio": drop_path[:, -1]}
        none = [None] * self.config.layers
        return [one.kept(row) if (one := self._encoder(name)) else none for name, row in rows.items()]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """In the block, parts that compute otherwise while they train (such as a BatchNorm of a plug-in) do not train.

        Encoders compute the same in either mode and are left alone, so that no compiled program is made again.
        """
        parts = [self.fusion, self.joint, self.temporal, self.classifier]
        modes = [(module, module.training) for part in parts for module in part.modules()]
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by their state-dict name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def before_temporal(self, names: Iterable[str]) -> list[str]:
        """Those of these tensors, by their state-dict names, that `encode` computes with."""
        first = {name.partition(".")[0] for name, _ in self.named_children()} - {"temporal", "classifier"}
        return [name for name in names if name.partition(".")[0] in first]

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

    def _check(self, frames: Tensor | None, fbank: Tensor | None) -> None:
        side = self.config.image_size
        shapes = {"vision": (self.config.frames, 3, side, side), "audio": (1, *self.config.fbank)}
        for name, modality, tensor in (("frames", "vision", frames), ("fbank", "audio", fbank)):
            if modality in self.encoders and (tensor is None or tuple(tensor.shape[1:]) != shapes[modality]):
                found = "not given" if tensor is None else f"not {tuple(tensor.shape)}"
                raise ValueError(f"{name} must be (B, {', '.join(map(str, shapes[modality]))}), {found}")


def empty_model(config: ModelConfig, classes: int) -> MMADFER:
    """Make a model without memory for its weights, on torch's meta device: names and shapes."""
    with torch.device("meta"):
        return MMADFER(config, classes)
