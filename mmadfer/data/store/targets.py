"""What clips are labelled with: any number of named targets, each of one kind.

    label   one of `names`; in a clip: its name
    labels  any of `names`; in a clip: a list of names
    values  a number for each of `names`; in a clip: a list of numbers
    steps   numbers for each step of time; in a clip: nothing, as they are its named tensor, float32 (steps, names),
            to which preparation gives a row for each frame (`mmadfer.data.sets.trace_files`)

A clip may lack a target. The target `label` is the store's own (`Header.labels`, `Clip.label`), where it has one.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmadfer.data.store.record import LATER, NAME
from mmadfer.utils.terminal import one_line

_KINDS = ("label", "labels", "values", "steps")
LABEL = "label"


@dataclass(frozen=True)
class Target:
    """A named target of a store."""

    kind: str
    """One of `_KINDS`."""
    names: tuple[str, ...]
    """Of classes or values, in the order in which clips have them."""

    def places(self, wanted: Iterable[str]) -> list[int]:
        """Where in `names` each of these is; raises ValueError where one is not."""
        return [self.names.index(name) for name in wanted]


def target(name: str, tree: Mapping[str, Any]) -> Target:
    """A target as an index has it.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    kind, names = tree["kind"], tree["names"]
    if not (type(kind) is str and type(names) is list and len(tree) == 2 and {*map(type, names)} == {str}):
        raise ValueError(f"target {name!r:.60} is not described as one")
    return checked(name, Target(kind, tuple(names)))


def checked(name: str, found: Target) -> Target:
    """The target itself.

    Raises:
        ValueError: its name, kind or names cannot be.
    """
    if not NAME.fullmatch(name) or name in (LABEL, LATER) or found.kind not in _KINDS:
        raise ValueError(f"target {name!r:.60} of kind {found.kind!r:.60} cannot be")
    if not found.names or len({*found.names}) < len(found.names) or not all(map(one_line, found.names)):
        raise ValueError(f"target {name!r:.60} has names that are missing, there twice or no line of text")
    return found


def check_value(name: str, found: Target, value: Any) -> None:
    """Refuse what no clip can have as the value of this target.

    Raises:
        ValueError: says what it is.
    """
    if found.kind == "label":
        right = type(value) is str and value in found.names
    elif found.kind == "labels":
        right = type(value) is list and all(type(one) is str and one in found.names for one in value)
        right = right and len({*value}) == len(value)
    elif found.kind == "values":
        right = type(value) is list and len(value) == len(found.names)
        right = right and all(type(one) is float and math.isfinite(one) for one in value)
    else:
        right = False
    if not right:
        raise ValueError(f"target {name!r:.60} of kind {found.kind} cannot be {value!r:.60}")


def encoded(found: Target, value: Any) -> np.ndarray:
    """A clip's value for a batch: int64 () the place of a label, -1 where there is none; float32 (names,) 0 or 1 for
    several labels, or values; NaN where there are none."""
    if found.kind == "label":
        return np.array(-1 if value is None else found.names.index(value), np.int64)
    if value is None:
        return np.full(len(found.names), np.nan, np.float32)
    if found.kind == "labels":
        return np.array([name in value for name in found.names], np.float32)
    return np.array(value, np.float32)


def at_frames(steps: np.ndarray | str | None, names: int, indexes: np.ndarray, count: int) -> np.ndarray:
    """Values of the steps at which frames are shown; float32 (T, names), NaN where the clip has none.

    Args:
        steps: float32 (steps, names): frame k has row k where there are as many rows as frames, as preparation makes
            them; other numbers of rows are spread evenly over the clip, row (k * rows) // frames for frame k.
        names: how many values a step has.
        indexes: int64 (T,): frames of the clip.
        count: frames of the clip.
    """
    if not isinstance(steps, np.ndarray) or not len(steps):
        return np.full((len(indexes), names), np.nan, np.float32)
    return steps[step_rows(indexes, count, len(steps))].astype(np.float32)


def step_rows(indexes: np.ndarray, count: int, steps: int) -> np.ndarray:
    """Which of a clip's `steps` are those of the frames `indexes`, int64 (T,), of `count`; as in `at_frames`."""
    return indexes * steps // count
