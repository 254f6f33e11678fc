"""Weights of others: published MMA-DFER folds; read strictly, and never executed."""

import re
from collections.abc import Iterable
from pathlib import Path

from mmadfer.config import label_orders
from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig, PrepareConfig, SoundConfig
from mmadfer.contract import LICENCES, Contract, encoder_licences
from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import planned
from mmadfer.model.weights.check_shapes import explain
from mmadfer.model.weights.encoders import ENCODER, check_finite, hint, named_tensors
from mmadfer.model.weights.torch_pickle import Lazy, PickledFile

_PUBLISHED_LABELS = {7: ("dfew", label_orders.DFEW), 11: ("mafw", label_orders.MAFW)}
"""Data set and class order of the published folds, by their number of classes."""
PREPARED: dict[int, dict[str, str]] = {
    11: {"face_box": "union", "mafw_frame_order": "published", "no_sound": "silence"}
}
"""How their clips were prepared, by the number of classes, as far as it is no default."""

_LAYER = "temporal_net.temporal_transformer.layers.{}"
_PUBLISHED_NAMES = {
    **{f"image_encoder.{theirs}": f"vision.{ours}" for theirs, ours in ENCODER.items()},
    **{f"audio_model.{theirs}": f"audio.{ours}" for theirs, ours in ENCODER.items()},
    "image_encoder.learnable_prompts_init": "vision.prompts.initial",
    "image_encoder.learnable_prompts_progr": "vision.prompts.progressive",
    "audio_model.learnable_prompts_init": "audio.prompts.initial",
    "audio_model.learnable_prompts_progr": "audio.prompts.progressive",
    "image_encoder.temporal_pre.{}": "fusion.{}.vision.down",
    "image_encoder.temporal_pre_norm.{}": "fusion.{}.vision.norm",
    "image_encoder.temporal_att_post.{}.0": "fusion.{}.vision.up",
    "image_encoder.all_gate.{}": "fusion.{}.vision.gate",
    "image_encoder.audio_proj_pre.{}.0": "fusion.{}.audio.down",
    "image_encoder.audio_proj_pre.{}.1": "fusion.{}.audio.norm",
    "audio_model.temporal_att_post.{}.0": "fusion.{}.audio.up",
    "audio_model.all_gate.{}": "fusion.{}.audio.gate",
    "vision_proj": "joint",
    "temporal_net.cls_token": "temporal.cls",
    "temporal_net.pos_embedding": "temporal.positions",
    f"{_LAYER}.0.fn.norm": "temporal.layers.{}.attention.norm",
    f"{_LAYER}.0.fn.fn.to_q": "temporal.layers.{}.attention.q",
    f"{_LAYER}.0.fn.fn.to_kv": "temporal.layers.{}.attention.kv",
    f"{_LAYER}.0.fn.fn.to_out.0": "temporal.layers.{}.attention.out",
    f"{_LAYER}.1.fn.norm": "temporal.layers.{}.mlp.norm",
    f"{_LAYER}.1.fn.fn.net.0": "temporal.layers.{}.mlp.fc1",
    f"{_LAYER}.1.fn.fn.net.3": "temporal.layers.{}.mlp.fc2",
    "our_classifier": "classifier",
}
"""Published name -> ours, for a tensor or for all below it; {} is a number."""

DEAD = (f"{_LAYER}.0.fn.norm2", f"{_LAYER}.1.fn.norm2", "image_encoder.head", "audio_model.head")
"""Tensors of published folds that their program never uses."""


def _below(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)") + r"(\..*)?")


_TO_OURS = [(_below(theirs), ours) for theirs, ours in _PUBLISHED_NAMES.items()]
_TO_THEIRS = [(_below(ours), theirs) for theirs, ours in _PUBLISHED_NAMES.items()]
_DEAD = [_below(pattern) for pattern in DEAD]


def our_name(published: str) -> str | None:
    """Our name of a published tensor; None if it is dead or unknown."""
    return _translate(published, _TO_OURS)


def published_name(ours: str) -> str | None:
    """The published name of one of our tensors; None if there is none."""
    return _translate(ours, _TO_THEIRS)


def _translate(name: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in table:
        match = pattern.fullmatch(name)
        if match:
            *numbers, rest = match.groups()
            return target.format(*numbers) + (rest or "")
    return None


def load_fold(path: Path | str) -> MMADFER:
    """Read a published fold checkpoint; sizes and classes come from its shapes.

    What shapes do not tell is taken as published: heads of 64, 5.12 s of sound (512 x 128) at the file's own rate.

    Raises:
        WeightsError: not such a checkpoint, or tensors that are missing, misshapen or unknown.
    """
    file = PickledFile(path)
    tensors = _fold_tensors(file)
    shapes = {our_name(theirs) or theirs: lazy.shape for theirs, lazy in tensors.items()}
    try:
        config, classes = _infer(shapes, str(path))
    except (ArithmeticError, ValueError) as error:  # sizes of 0, and those that break a rule
        raise WeightsError(f"{path} has the shapes of no MMA-DFER model: {error}") from error
    model = planned(path, config, classes)
    wanted = {published_name(name) or name: tuple(p.shape) for name, p in model.named_parameters()}
    explain(str(path), wanted, {theirs: lazy.shape for theirs, lazy in tensors.items()})
    values = file.read(tensors)
    for theirs, value in values.items():
        check_finite(path, theirs, value)
    model.load_state_dict({our_name(theirs) or theirs: value for theirs, value in values.items()}, assign=True)
    model.contract = _contract(model, classes)
    return model


def _fold_tensors(file: PickledFile) -> dict[str, Lazy]:
    """Tensors by published name, without `module.` and without the dead ones."""
    tree = file.tree
    state = tree.get("state_dict") if isinstance(tree, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{file.path} has no `state_dict`: expected a published fold checkpoint; {hint(tree)}")
    tensors = {name.removeprefix("module."): lazy for name, lazy in named_tensors(file, state).items()}
    return {name: lazy for name, lazy in tensors.items() if not any(dead.fullmatch(name) for dead in _DEAD)}


def _infer(shapes: dict[str, tuple[int, ...]], where: str) -> tuple[ModelConfig, int]:
    """Sizes of the model in a fold checkpoint, and its number of classes."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if len(shapes.get(name, ())) != axes:
            found = list(shapes[name]) if name in shapes else "missing"
            raise WeightsError(f"{where}: {published_name(name)} is {found}: a published fold has {axes} axes there")
        return shapes[name]

    def count(pattern: str) -> int:
        return len({match[1] for match in map(re.compile(pattern).match, shapes) if match})

    width, _, patch, _ = shape("vision.patch.weight", 4)
    depth, prompts = count(r"vision\.blocks\.(\d+)\."), shape("vision.prompts.initial", 2)[0]
    side = round(max(shape("vision.positions", 3)[1] - 1 - prompts, 1) ** 0.5)
    mlp = shape("vision.blocks.0.mlp.fc1.weight", 2)[0]
    inner, temporal = shape("temporal.layers.0.attention.q.weight", 2)
    encoder = EncoderConfig(width=width, depth=depth, heads=max(width // 64, 1), mlp_ratio=mlp / width, patch=patch)
    config = ModelConfig(
        image_size=side * patch,
        frames=shape("temporal.positions", 3)[1] - 1,
        vision=encoder,
        audio=encoder,
        fusion=BottleneckConfig(latent=shape("fusion.0.vision.down.weight", 2)[0]),
        joint=SumConfig(width=temporal),
        prompts=prompts,
        progressive=count(r"vision\.prompts\.progressive\.(\d+)"),
        temporal=TransformerConfig(
            depth=count(r"temporal\.layers\.(\d+)\."),
            heads=max(inner // 64, 1),
            head_width=min(inner, 64),
            mlp_width=shape("temporal.layers.0.mlp.fc1.weight", 2)[0],
        ),
    )
    return config, shape("classifier.weight", 2)[0]


def _contract(model: MMADFER, classes: int) -> Contract:
    settings = {"media": "published", "sound": SoundConfig(rate="native"), **PREPARED.get(classes, {})}
    data_set, labels = _PUBLISHED_LABELS.get(classes, ("unknown", tuple(f"class_{i}" for i in range(classes))))
    return Contract(
        labels=labels,
        model=model.config,
        prepare=PrepareConfig.model_validate(settings),
        data_set=data_set,
        cropped=data_set == "dfew",  # whose owners give cropped frames; those of MAFW were cropped as `union` does
        licences={**LICENCES, **encoder_licences(), "weights": f"as the data set's ({data_set})"},
    )
