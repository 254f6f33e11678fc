"""What a person should know of a clip: words, or words about so many of so many."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Share(NamedTuple):
    """So many of so many, in words."""

    text: str
    """With {} where the numbers are to stand."""
    some: int
    of: int

    def __str__(self) -> str:
        return self.text.format(f"{self.some} of {self.of}")


Note = str | Share
BLACK = "no face, black pictures in its place"
"""Of a clip or window for a model that has learnt to do without."""


def kind(note: Note) -> str:
    """What notes have in common that differ in their numbers alone."""
    return note.text.format("some of the") if isinstance(note, Share) else note


def damaged(pictures: np.ndarray) -> tuple[Note, ...]:
    """Of pictures, bool: whether the decoder had to make up a part."""
    return (Share("{} pictures damaged", int(pictures.sum()), len(pictures)),) if pictures.any() else ()


def followed(track: Sequence[Any]) -> tuple[Note, ...]:
    """Of frames looked at, in which the one face was found (`faces.track`); where it is in others is a guess."""
    found = sum(box is not None for box in track)
    return (Share("the face was found in {} frames looked at", found, len(track)),) if found < len(track) else ()


def faceless(count: int, of: int) -> tuple[Note, ...]:
    """Of frames that were cut each by its own faces, those without any."""
    return (Share("no face in {} frames, the picture's middle in its place", count, of),) if count else ()
