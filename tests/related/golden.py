"""Reference values in a file, and how what we compute differs from them."""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

SEEDS = 100_000
"""From 0 on, tried where a file does not name its own."""


class FormError(Exception):
    """A file that is not of the form."""


class Row(NamedTuple):
    """One key of a file."""

    key: str
    difference: float
    tolerance: float
    kind: str
    """What the difference is of."""

    @property
    def over(self) -> bool:
        """Whether it is too large; NaN is."""
        return not self.difference <= self.tolerance


def read(path: Path, words: Container[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of a file, none of them pickled; the keys `words` are text.

    Raises:
        FormError: it cannot be read, or is no .npz of numbers and truth values.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
    except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
        raise FormError(f"{path} is no .npz of arrays ({error})") from error
    if odd := [key for key, value in found.items() if value.dtype.kind not in ("U" if key in words else "fiub")]:
        raise FormError(f"{path}: {odd[0]} is {found[odd[0]].dtype}, not {'text' if odd[0] in words else 'numbers'}")
    return found


def seed_of(path: Path, fits: Callable[[int], bool]) -> int:
    """The seed in a file's name, or the first that fits it.

    Raises:
        FormError: none does.
    """
    named = re.search(r"seed(\d+)", path.name)
    tried = [int(named[1])] if named else []
    for seed in (*tried, *range(SEEDS)):
        if fits(seed):
            return seed
    raise FormError(f"{path} is of none of the seeds 0 to {SEEDS - 1}: name its own with --seed")


def compared(key: str, found: np.ndarray, wanted: np.ndarray, tolerance: float, kind: str = "") -> Row:
    """The largest difference; infinite where shapes or places of NaN differ.

    `kind` is "" (of the largest number, where that is over 1), "relative" (of the largest number, whatever it is),
    "each" (of each number) or "absolute".
    """
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape or not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return Row(key, np.inf, tolerance, kind)
    known = np.isfinite(wanted)
    off, size = np.abs(found[known] - wanted[known]), np.abs(wanted[known])
    if not off.size:
        return Row(key, 0.0, tolerance, kind)
    largest = float(size.max())
    scale = {"": max(1.0, largest), "relative": largest, "each": size, "absolute": 1.0}[kind]
    return Row(key, float(np.max(off / np.maximum(scale, np.finfo(float).tiny))), tolerance, kind)


def lacking(golden: Mapping[str, np.ndarray], keys: Iterator[str]) -> None:
    """Raises FormError where a key is not there."""
    if missing := [key for key in keys if key not in golden]:
        raise FormError(f"{len(missing)} keys are not there, {missing[0]} among them")
