"""What a checkpoint says of itself: how far the run is, what it belongs to, and which files make it whole."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mmadfer import run as runs
from mmadfer.config import parse
from mmadfer.errors import ConfigError, RunError, WeightsError
from mmadfer.files import sha256, write_json

FORMAT = 1
STATE = "state.json"
VALIDATION = "validation_"
"""Before the name of a score: it is of the clips that `data.validation` keeps from training."""
OLD = "old"
"""In a checkpoint: the one that it replaces, until that is deleted; no part of it."""


@dataclass
class Progress:
    """How far a run is, and what it must remember to go on as if it had not stopped."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps done in the current epoch."""
    total: int = 0
    """Optimizer steps done in all, skipped ones included."""
    loss: float = 0.0
    """Sum of the losses of this epoch's steps that were not skipped."""
    losses: int = 0
    """How many these are."""
    seconds: float = 0.0
    """Time spent training and testing."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`uar` and `war` of the last finished epoch on the test fold; with `data.validation` also `validation_uar` and
    `validation_war`, and those of the test fold after the last epoch only."""
    best: dict[str, float] = field(default_factory=dict)
    """`epoch`, `uar` and `war` of the epoch with the highest UAR: picked on test data, or with `data.validation` on
    those clips."""

    def end_epoch(self, scores: dict[str, float]) -> None:
        """Count an epoch after which the tests gave these `metrics`; `best` goes by validation where there is any."""
        self.epoch, self.step, self.loss, self.losses, self.metrics = self.epoch + 1, 0, 0.0, 0, scores
        kind = VALIDATION if f"{VALIDATION}uar" in scores else ""
        if not self.best or scores[f"{kind}uar"] > self.best["uar"]:
            self.best = {"epoch": self.epoch, **{name: scores[kind + name] for name in ("uar", "war")}}


@dataclass(frozen=True)
class Belonging:
    """What a checkpoint belongs to; a run that differs cannot go on from it."""

    config: dict[str, Any]
    """The whole configuration as plain values."""
    fold: int
    data: str
    """Fingerprint of the store."""
    labels: list[str]
    encoder_hash: str
    world: int
    """Number of ranks."""

    def check(self, saved: "Belonging", path: Path) -> None:
        """Refuse to go on from what was `saved` in `path`.

        Raises:
            WeightsError: it was trained on other encoders.
            RunError: on other data, with other settings, or with ZeRO state of another number of ranks.
        """
        if saved.encoder_hash != self.encoder_hash:
            raise WeightsError(
                f"{path} was trained on other encoders (hash {saved.encoder_hash[:12]}, now {self.encoder_hash[:12]}): "
                "give the same files in model.vision.weights and model.audio.weights"
            )
        self._check_settings(saved, path)
        for name, was, now in (
            ("fold", saved.fold, self.fold),
            ("labels", saved.labels, self.labels),
            ("the store's fingerprint", saved.data, self.data),
        ):
            if was != now:
                raise RunError(
                    f"{path} belongs to another run: {name} was {was}, now {now}. Give the same store and fold, or "
                    "choose another run directory"
                )
        if saved.world != self.world and self.config["train"]["zero_stage"]:
            raise RunError(
                f"{path} holds ZeRO state of {saved.world} ranks, but there are {self.world}: start {saved.world} "
                "(only with train.zero_stage=0 may their number change)"
            )

    def _check_settings(self, saved: "Belonging", path: Path) -> None:
        try:
            old, new = (parse(tree, where=str(path / STATE)) for tree in (saved.config, self.config))
        except ConfigError as error:
            raise RunError(f"{path} was written by another version of mmadfer: {error}") from error
        changed = {key: values for key, values in runs.differences(old, new).items() if not runs.is_free(key)}
        if changed:
            lines = "\n".join(f"  {key}: {was!r} in the checkpoint, {now!r} now" for key, (was, now) in changed.items())
            raise RunError(f"{path} was trained with other settings; set them back or choose another run:\n{lines}")


@dataclass(frozen=True)
class State:
    """The content of state.json."""

    progress: Progress
    belonging: Belonging
    weights_hash: str
    """SHA-256 over the trainable tensors."""
    files: dict[str, Any]
    """Size and SHA-256 of every other file of the checkpoint, by its path in it."""


def write(path: Path, progress: Progress, belonging: Belonging, weights_hash: str) -> None:
    """Make the checkpoint in `path` whole: state.json is its last file."""
    state = State(progress, belonging, weights_hash, {name: _mark(path / name) for name in _files(path)})
    write_json(path / STATE, {"format": FORMAT, **asdict(state)})


def read(path: Path) -> State:
    """The state.json of the checkpoint in `path`.

    Raises:
        ValueError, TypeError, KeyError: it is not one.
        OSError: it cannot be read.
    """
    tree = json.loads((path / STATE).read_text(encoding="utf-8"))
    if tree["format"] != FORMAT:
        raise ValueError(f"{STATE} is of format {tree['format']}, not {FORMAT}")
    values = {item.name: tree[item.name] for item in fields(State)}
    return State(
        **{**values, "progress": Progress(**values["progress"]), "belonging": Belonging(**values["belonging"])}
    )


def damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None if all are there and have their hashes."""
    try:
        marks = read(path).files
        odd = set(marks) ^ set(_files(path))
        if odd:
            return f"missing or unknown: {', '.join(sorted(odd))}"
        return next((f"{name} has changed" for name, mark in marks.items() if _mark(path / name) != mark), None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{STATE} cannot be read: {error}"


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != STATE and not name.startswith(f"{OLD}/"))


def _mark(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256(path)}
