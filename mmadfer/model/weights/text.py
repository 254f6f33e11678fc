"""Weights of the text encoder, of a folder as transformers writes it: safetensors alone, and no program of it.

`config.json` says the kind and the sizes, `model.safetensors` holds the weights, of the bare model or with heads.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmadfer.config.text import TextConfig
from mmadfer.errors import ConfigError, FileError, WeightsError
from mmadfer.model.text import TextEncoder, said_by
from mmadfer.model.weights.check_shapes import explain
from mmadfer.model.weights.encoders import SafeFile, check_finite
from mmadfer.utils.files import read_object

KINDS = ("bert", "roberta", "xlm-roberta", "camembert")
"""transformers' names of models with these blocks."""
WEIGHTS = "model.safetensors"
SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "vocab_size": "vocabulary",
    "max_position_embeddings": "positions",
    "type_vocab_size": "types",
    "pad_token_id": "pad",
    "layer_norm_eps": "eps",
}
"""Key of `config.json` -> ours."""
_NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "norm",
}
"""Of a module in a file, below its block -> ours."""
_OLD = {"gamma": "weight", "beta": "bias"}
"""Names of a LayerNorm's tensors in files converted from TensorFlow."""
_BODY = re.compile(r"(?:bert\.|roberta\.)?(?:encoder\.layer\.(\d+)\.)?([A-Za-z_.]+)\.(weight|bias|gamma|beta)")


def load_text(encoder: TextEncoder, folder: Path) -> None:
    """Fill the encoder, but for updates, from a folder; heads, poolers and positions' numbers in it are not used.

    Raises:
        WeightsError: a file is missing or damaged, or its tensors are not those of the sizes.
    """
    file = SafeFile(folder / WEIGHTS, ())
    ours = {name: found for name in file.shapes if (found := _own_name(name)) is not None}
    own = {name: p for name, p in encoder.named_parameters() if said_by("text", f"text.{name}")}
    explain(
        f"{folder / WEIGHTS} (wanted: a text encoder of model.text's sizes)",
        {name: tuple(p.shape) for name, p in own.items()},
        {mine: file.shapes[name] for name, mine in ours.items()},
    )
    for name, value in file.read(ours).items():
        check_finite(file.path, name, value)
        own[ours[name]].data.copy_(value)


def _own_name(name: str) -> str | None:
    """Ours of a tensor in a file; None of what the encoder has not."""
    found = _BODY.fullmatch(name)
    if found is None or found[2] not in _NAMES:
        return None
    block = f"blocks.{int(found[1])}." if found[1] else ""
    if bool(block) == found[2].startswith("embeddings."):
        return None
    return f"{block}{_NAMES[found[2]]}.{_OLD.get(found[3], found[3])}"


def check_folder(config: TextConfig, folder: Path) -> None:
    """Whether a training may begin with a folder's encoder: of a known kind, and of the sizes of `model.text`.

    Raises:
        ConfigError: it is not; says what to set.
        WeightsError: no `config.json`, or one that cannot be read.
    """
    told = _told(folder / "config.json")
    kind = told.get("model_type")
    if kind not in KINDS:
        raise ConfigError(f"model.text.folder: {folder} holds a model {kind!r}: take one of {', '.join(KINDS)}")
    plain = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    odd = [key for key, value in plain.items() if told.get(key, value) != value]
    if odd:
        raise ConfigError(
            f"model.text.folder: {folder} has {odd[0]} {told[odd[0]]!r}, and only {plain[odd[0]]!r} is known here: "
            "take another encoder"
        )
    sizes = _sizes(config, folder, kind, told)
    if any(getattr(config, name) != value for name, value in sizes.items()):
        needed = ", ".join(f"{name}: {value}" for name, value in sizes.items())
        raise ConfigError(f"model.text has other sizes than {folder}: set model.text to {{{needed}}}")


def _sizes(config: TextConfig, folder: Path, kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """What `model.text` must be for a `config.json`."""
    sizes = {**_DEFAULTS, "pad": 1}
    sizes |= {ours: told[theirs] for theirs, ours in SIZES.items() if theirs in told}
    if kind == "bert":  # nothing attends to padding, so it may be any: the tokenizer's own is asked for there
        return {**sizes, "pad": config.pad, "first_position": 0}
    if not isinstance(sizes["pad"], int):
        raise ConfigError(
            f"model.text.folder: {folder / 'config.json'} has pad_token_id {sizes['pad']!r:.40}, and positions of a "
            f"{kind} begin behind that number: give the number that it was trained with there, mostly 1"
        )
    return {**sizes, "first_position": sizes["pad"] + 1}


_DEFAULTS: dict[str, Any] = {name: TextConfig.model_fields[name].default for name in SIZES.values()}
"""BERT base's, which a `config.json` may leave out where they are its own; padding is 1 in the other kinds."""


def _told(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (FileError, OSError) as error:
        raise WeightsError(
            f"model.text.folder needs {path}, as transformers' save_pretrained writes it: {error}"
        ) from error
