"""What a checkpoint says of itself: how far the run is, what it belongs to, and which files make it whole."""

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mmadfer.config import identity
from mmadfer.config.schema import parse
from mmadfer.errors import ConfigError, FileError, MmadferError, RunError, WeightsError
from mmadfer.tasks.spec import TaskSpec
from mmadfer.tasks.tables import VALIDATION, of_events, spec_of
from mmadfer.utils.files import read_object, sha256, write_json

_FORMAT = 2
STATE = "state.json"
OLD = "old"
"""In a checkpoint: the one that it replaces, until that is deleted; no part of it."""


_TEXT = re.compile(r".*, sentences (?P<sentences>[^,]+), tokenizer (?P<tokenizer>.+)")


def data_origin(fingerprint: str, text: Mapping[str, str]) -> str:
    """What a checkpoint says of the data that it was trained on: of the store, and what `text_of_origin` says."""
    told = f", sentences {text['sentences']}, tokenizer {text['tokenizer']}" if text else ""
    return fingerprint + told


def text_of_origin(data: str) -> dict[str, str]:
    """`sentences` and `tokenizer`, the hashes in what `data_origin` made; empty where no sentences were read."""
    found = _TEXT.fullmatch(data)
    return found.groupdict() if found else {}


_Count = Annotated[int, Field(ge=0, lt=2**53)]
_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


@dataclass
class Progress:
    """How far a run is, and what it must remember to go on as if it had not stopped."""

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

    epoch: _Count = 0
    """Finished epochs."""
    step: _Count = 0
    """Optimizer steps done in the current epoch."""
    total: _Count = 0
    """Optimizer steps done in all, skipped ones included."""
    loss: float = 0.0
    """Sum of the losses of this epoch's steps that were not skipped."""
    losses: _Count = 0
    """How many these are."""
    parts: dict[str, float | None] = field(default_factory=dict)
    """Sums of the other numbers of the task over the same steps, by name; None where one was not finite."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time spent training and testing."""
    joules: Annotated[float, Field(ge=0)] | None = None
    """Energy that the GPUs used in this time; None, and not written, where one does not tell."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The task's scores of the last finished epoch on the test fold, by name; with `data.validation` also those of
    validation, and those of the test fold after the last epoch only."""
    best: dict[str, int | float] = field(default_factory=dict)
    """`epoch` and scores of the epoch with the best primary score: picked on test data, or with `data.validation` on
    those clips."""

    def problem(self, epochs: int, spec: TaskSpec) -> str | None:
        """What no training of so many epochs on this task comes to; None where it could."""
        best = self.best.get("epoch", 0)
        if self.epoch > epochs or not (1 <= best <= self.epoch if self.epoch else best == 0):
            return f"epoch {self.epoch} of {epochs} does not go with {best:g} as the best one"
        if best % 1 or {*self.best} != ({"epoch", *spec.names} if self.epoch else set()):
            return "its best epoch is none"
        scores = {key: score for key, _, score in of_events(spec)}
        told = {**self.metrics, **{name: self.best[name] for name in spec.names if self.epoch}}
        if not all(name in scores and scores[name].fits(value) for name, value in told.items()):
            return "it has scores that its task never gives"
        if self.epoch and not self.metrics:
            return "it has no scores"
        return self._sums_problem()

    def _sums_problem(self) -> str | None:
        whole, rest = divmod(self.total - self.step, self.epoch or 1)
        if rest or whole < 0 or (whole > 0) != (self.epoch > 0) or self.losses > self.step:
            return f"{self.total} steps are not {self.epoch} epochs and {self.step} steps"
        if self.parts and not self.losses:
            return "it has sums of no step"
        return None

    def count(self, loss: float, parts: dict[str, float]) -> list[str]:
        """Add up a step that was not skipped; the parts that have no sum in this epoch from this step on."""
        self.loss, self.losses = self.loss + loss, self.losses + 1
        before, self.parts = self.parts, {name: _sum(self.parts.get(name, 0.0), one) for name, one in parts.items()}
        return [name for name, found in self.parts.items() if found is None and before.get(name, 0.0) is not None]

    def end_epoch(self, scores: dict[str, float], spec: TaskSpec) -> None:
        """Count an epoch after which the tests gave these `metrics`; `best` goes by validation where there is any."""
        self.epoch, self.step, self.loss, self.losses, self.metrics = self.epoch + 1, 0, 0.0, 0, scores
        self.parts = {}
        kind, primary = VALIDATION if VALIDATION + spec.primary.name in scores else "", spec.primary
        if not self.best or primary.better(scores[kind + primary.name], self.best[primary.name]):
            self.best = {"epoch": self.epoch, **{name: scores[kind + name] for name in spec.names}}


def _sum(total: float | None, value: float) -> float | None:
    return None if total is None or not math.isfinite(total + value) else total + value


@dataclass(frozen=True)
class Belonging:
    """What a checkpoint belongs to; a run that differs cannot go on from it."""

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

    config: dict[str, Any]
    """The whole configuration as plain values."""
    fold: int
    data: str
    """As `data_origin` makes it."""
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
        changed = {key: values for key, values in identity.differences(old, new).items() if not identity.is_free(key)}
        if changed:
            lines = "\n".join(f"  {key}: {was!r} in the checkpoint, {now!r} now" for key, (was, now) in changed.items())
            raise RunError(f"{path} was trained with other settings; set them back or choose another run:\n{lines}")


@dataclass(frozen=True)
class State:
    """The content of state.json."""

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

    progress: Progress
    belonging: Belonging
    weights_hash: str
    """SHA-256 over the trainable tensors."""
    files: dict[str, Any]
    """Size and SHA-256 of every other file of the checkpoint, by its path in it."""


_STATE = TypeAdapter(State)


def write_state(path: Path, progress: Progress, belonging: Belonging, weights_hash: str) -> None:
    """Make the checkpoint in `path` whole: state.json is its last file."""
    state = State(progress, belonging, weights_hash, {name: _mark(path / name) for name in _files(path)})
    tree = {"format": _FORMAT, **asdict(state)}
    if not progress.parts:
        del tree["progress"]["parts"]
    if progress.joules is None:
        del tree["progress"]["joules"]
    write_json(path / STATE, {**tree, "sha256": _digest(tree)})


def read(path: Path) -> State:
    """The state.json of the checkpoint in `path`.

    Raises:
        FileError: it is not one, or has changed since it was written.
        OSError: it cannot be read.
    """
    tree = read_object(path / STATE)
    digest = tree.pop("sha256", None)
    if tree.get("format") != _FORMAT:
        raise FileError(f"{path / STATE} is of format {tree.get('format')!r:.20}, not {_FORMAT}")
    if digest != _digest(tree):
        raise FileError(f"{path / STATE} has changed since it was written")
    del tree["format"]
    try:
        state = _STATE.validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise FileError(f"{path / STATE} holds what no checkpoint holds: {key:.80}: {first['msg']:.80}") from error
    return state


def damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None if all are there and have their hashes."""
    try:
        state = read(path)
        marks = state.files
        odd = set(marks) ^ set(_files(path))
        if odd:
            return f"missing or unknown: {', '.join(sorted(odd))}"
        changed = (f"{name} has changed" for name, mark in marks.items() if _mark(path / name) != mark)
        return next(changed, None) or _untrue(path, state)
    except (OSError, MmadferError) as error:
        return str(error)


def _untrue(path: Path, state: State) -> str | None:
    """What cannot be in a state of this checkpoint, though all of it can be read."""
    if path.name != f"step-{state.progress.total:08d}":
        return f"it is of step {state.progress.total}"
    train, task = (state.belonging.config.get(name) for name in ("train", "task"))
    epochs = train.get("epochs") if isinstance(train, dict) else None
    name = task.get("name") if isinstance(task, dict) else None
    if not isinstance(epochs, int) or not isinstance(name, str):
        return f"{STATE} has no train.epochs, or no task.name"
    try:
        return state.progress.problem(epochs, spec_of(name))
    except ValueError as error:
        return str(error)


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != STATE and not name.startswith(f"{OLD}/"))


def _mark(path: Path) -> dict[str, Any]:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise FileError(f"{path} is a link or no regular file")
    return {"size": path.stat().st_size, "sha256": sha256(path)}
