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
SMALL_FACE = "the face is small: it was found only in larger pictures than are looked at first"
A_GOOD_PART = 0.25
"""Share of the frames looked at from which on another face in them is told of."""
_LENGTH_TOLERANCE, _LENGTH_TOLERANCE_SECONDS = 0.1, 0.5
"""Sound and pictures are told of if their lengths differ by more than this share of the longer, and these seconds."""


class Whole(str):
    """Words about the whole video, where each of its windows has notes of its own."""


def kind(note: Note) -> str:
    """What notes have in common that differ in their numbers alone."""
    return note.text.format("some of the") if isinstance(note, Share) else note


def damaged(pictures: np.ndarray) -> tuple[Note, ...]:
    """Of pictures, bool: whether the decoder had to make up a part."""
    return (Share("{} pictures damaged", int(pictures.sum()), len(pictures)),) if pictures.any() else ()


def followed(track: Sequence[Any]) -> tuple[Note, ...]:
    """Of frames looked at, in which the one face was found (`tracks.follow`); where it is in others is a guess."""
    found = sum(box is not None for box in track)
    return (Share("the face was found in {} frames looked at", found, len(track)),) if found < len(track) else ()


def faceless(count: int, of: int) -> tuple[Note, ...]:
    """Of frames that were cut each by its own faces, those without any."""
    return (Share("no face in {} frames, the picture's middle in its place", count, of),) if count else ()


def uncropped(count: int, of: int) -> tuple[Note, ...]:
    """Of frames whose crops were made by a data set's owners, those without one."""
    return (Share("{} frames have no crop, the one before in its place", count, of),) if count else ()


def second_face(others: int, of: int) -> tuple[Note, ...]:
    """Of frames looked at, those with another face that is about as large as the followed one (`tracks.follow`)."""
    return (Share("another face, about as large, is there in {} frames looked at", others, of),) * (
        others > 0 and others >= A_GOOD_PART * of
    )


def length_notes(sound: float, pictures: float, fps: float | None = None) -> tuple[Note, ...]:
    """Of sound and pictures of one clip that are not equally long, in seconds; no sound is told of elsewhere.

    Args:
        sound: 0 where there is none.
        pictures: seconds.
        fps: the rate that was taken for pictures which do not tell their own.
    """
    apart = abs(sound - pictures)
    if not sound or apart <= max(_LENGTH_TOLERANCE * max(sound, pictures), _LENGTH_TOLERANCE_SECONDS):
        return ()
    rate = "" if fps is None else f" at {fps:g} per second (another rate: --fps, or prepare.fps)"
    return (Whole(f"the sound has {sound:.1f} s, the pictures have {pictures:.1f} s{rate}"),)
