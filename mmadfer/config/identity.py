"""Which keys of a configuration say what is trained, and in which of them two configurations differ."""

from pathlib import Path
from typing import Any

from mmadfer.config import schema as configs
from mmadfer.config.schema import Config

FREE = (
    *("name", "prepare", "data.store", "data.threads", "data.read_ahead", "data.test_clips"),
    *("model.vision.weights", "model.audio.weights", "train.keep", "train.save_every", "train.log_every"),
    "train.trackers",
    *("data.text", "model.text.folder"),
    *("train.compile", "train.checkpoint_activations", "data.test_flips"),
    *("data.window.hop", "data.window.pool", "data.window.gamma"),
)
"""Keys that may change from one start to the next: none changes what is trained. (A compiled layer may add in another
order, so `train.compile` moves last digits.) Encoder files and sentences are known by their hash, the store by its
fingerprint."""


PATHS = (
    *(("data", "store"), ("data", "text"), ("model", "text", "folder")),
    *(("model", "vision", "weights"), ("model", "audio", "weights")),
    *(("stages", "init"), ("stages", "teacher")),
)


def absolute(config: Config) -> Config:
    """The configuration with absolute paths, and no other values named than before."""
    tree = config.model_dump(exclude_unset=True)
    for *parents, key in PATHS:
        section = tree
        for name in parents:
            section = section.get(name) or {}
        if section.get(key) is not None:
            section[key] = Path(section[key]).absolute()
    return configs.parse(tree, where="the configuration")


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    left, right = (flat(config.model_dump(mode="json")) for config in (one, other))
    keys = [*left, *(key for key in right if key not in left)]
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def is_free(key: str) -> bool:
    """Whether a key may change from one start to the next."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested sections by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found
