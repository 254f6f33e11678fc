"""What the small files of a run hold; each is checked when it is read, for a run may come from a stranger.

run.json            Origin: by which code the run was made
fold-K/result.json  Ended: how a training ended; written last
fold-K/failed.json  FailedJson: why its job ended before its time
fold-K/metrics.jsonl   an Event a line
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from mmadfer.config.base import Line, Section, validated
from mmadfer.errors import FileError
from mmadfer.tasks.spec import Score
from mmadfer.utils.files import parse_json, read_bytes, read_object

_Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]
_LARGEST = 1e12
"""No score or part of a loss is further from 0."""
LOG = 1 << 30
"""Bytes of a log that is read as a whole."""


class _Known(Section):
    """Keys that are used here; others are passed over, for another version may have written them."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Commit(_Known):
    """Of the checkout that the code came from."""

    commit: str
    dirty: bool = False


class ParentFold(_Known):
    """The fold of another run that a fold began from, or learns from."""

    run: Line
    fold: _Count
    step: _Count
    """Of the checkpoint that was read."""
    weights_hash: Line
    """SHA-256 over its trained tensors."""
    config_hash: Line
    """SHA-256 of that run's config.yaml."""


class TextRead(_Known):
    """What all folds of a run read, whose model reads sentences; each is a SHA-256, or what stands in its place."""

    sentences: Line
    """Of their file."""
    tokenizer: Line
    encoder: Line
    """Over the text encoder's tensors before training, without updates."""


class Origin(_Known):
    """run.json."""

    name: str
    created: str | None = None
    version: str | None = None
    git: Commit | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    resumed: list[dict[str, Any]] = Field(default_factory=list)
    changed: list[dict[str, Any]] = Field(default_factory=list)
    parents: dict[str, dict[str, ParentFold]] = Field(default_factory=dict)
    """By fold, and by key of `stages`."""
    text: TextRead | None = None


class Best(_Known):
    """The best epoch, with its scores by name."""

    epoch: _Count


class Validation(_Known):
    """On the clips that are kept for validation, with scores by name."""

    clips: _Count


class Temperature(_Known):
    """Fitted on the clips that are kept for validation; None where they do not tell it."""

    value: Annotated[float, Field(gt=0, le=1000)] | None = None
    clips: _Count


class Ended(_Known):
    """result.json, with scores by name (`numbers` takes them out); the numbers of a measurement are others."""

    finished: bool = False
    fold: _Count | None = None
    epoch: _Count | None = None
    epochs: _Count | None = None
    best: Best | dict[str, None] | None = None
    validation: Validation | None = None
    temperature: Temperature | None = None
    labels: list[str] = Field(default_factory=list)
    confusion: list[list[Annotated[int, Field(gt=-(10**9), lt=10**9)]]] = Field(default_factory=list)
    values: list[str] = Field(default_factory=list)
    by_value: dict[str, float] = Field(default_factory=dict)
    seconds: Seconds | None = None
    joules: Annotated[float, Field(gt=0, lt=1e15)] | None = None


class FailedJson(_Known):
    """failed.json."""

    reason: str
    plain: bool = False
    log: str | None = None


class Event(_Known):
    """A line of metrics.jsonl; scores and parts of the loss are further numbers, by name."""

    event: str
    device: Line | None = None
    epoch: Annotated[int, Field(ge=0, le=10**6)] | None = None
    step: _Count | None = None
    loss: float | None = None
    lr: float | None = None
    norm: float | None = None
    seconds: Seconds | None = None
    clips_per_second: float | None = None


def read(kind: type[Section], path: Path) -> dict[str, Any]:
    """What the file holds, other keys too, once it has been found to be of this kind.

    Raises:
        FileError, ConfigError: it is damaged: no object, or a value that breaks a rule; the file is named.
        OSError: it is not there, or cannot be read.
    """
    found = read_object(path)
    validated(kind, found, str(path))
    return found


def events(data: bytes) -> Iterator[dict[str, Any]]:
    """The events of whole lines, keys known here and other numbers; a line that is torn or damaged is passed over."""
    for line in data.splitlines():
        try:
            found = parse_json(line, "a line")
            known = Event.model_validate(found).model_dump(exclude_unset=True)
            yield {**{name: value for name, value in found.items() if name in known or _is_number(value)}, **known}
        except (FileError, ValidationError):
            continue


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def numbers(found: Any, scores: Iterable[Score]) -> dict[str, float]:
    """The scores that a file tells.

    Raises:
        FileError: one is missing, or cannot be one.
    """
    told = {score.name: found.get(score.name) if isinstance(found, dict) else None for score in scores}
    for score in scores:
        if not score.fits(told[score.name]):
            rule = "a number from 0 to 1" if score.percent else "a number"
            raise FileError(f"{score.name} is {told[score.name]!r:.40}, and must be {rule}")
    return {name: float(value or 0) for name, value in told.items()}


def read_events(path: Path) -> list[dict[str, Any]]:
    """Those of a metrics file; none where there is no such file."""
    return list(events(read_bytes(path, LOG))) if path.is_file() else []
