"""Which face a clip is about, and where it is in every frame.

Faces of one picture after the other are joined into tracks: each face goes on with the track whose last box it covers
best or is nearest to. The track with the largest sum of probability times area is followed. A bystander or a painting
that is seen first is thus no more than another track.

Boxes are float64 (x0, y0, x1, y1) in shares of the picture's width and height.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

REACH = 1.5
"""Widths that a face may move between two pictures; one more for each picture without it."""
COMPARABLE = 0.5
"""Another face is told of if its area times its probability is at least this share of the followed one's."""


class Followed(NamedTuple):
    """One face through a clip."""

    boxes: list[np.ndarray | None]
    """For each picture searched a box, or None where the face was not found."""
    others: int = 0
    """Pictures with another face that is about as large, or larger."""


@dataclass
class _Track:
    """The same face in several pictures."""

    faces: dict[int, np.ndarray] = field(default_factory=dict)
    """Number of the picture -> (5,): box and probability."""

    @property
    def last(self) -> int:
        """The number of the last picture that it was seen in."""
        return next(reversed(self.faces))

    @property
    def rank(self) -> tuple[bool, float]:
        """What is in one picture alone may be no face, however large it is; else the largest and surest counts."""
        return len(self.faces) > 1, float(weights(np.stack([*self.faces.values()])).sum())


def follow(found: Sequence[np.ndarray]) -> Followed:
    """Follow the face that is largest and surest over all pictures.

    Where it is not found, another track goes on with it, if the two are never in one picture and it is near enough:
    1.5 widths away, and one more for each picture without a face. That is the same face after a cut, or one that turned
    away for a while.

    Args:
        found: for each picture searched (faces, 5), as `faces.detect` gives.
    """
    tracks = _tracks(found)
    if not tracks:
        return Followed([None] * len(found))
    main = max(tracks, key=lambda track: track.rank)
    faces = [main.faces.get(number) for number in range(len(found))]
    apart = [track for track in tracks if not track.faces.keys() & main.faces.keys()]
    spare = [_stacked(track.faces[number] for track in apart if number in track.faces) for number in range(len(found))]
    first = min(main.faces)
    for order in (range(first, len(found)), range(first, -1, -1)):
        _fill(faces, spare, order)
    return Followed([None if face is None else face[:4] for face in faces], _others(found, faces))


def interpolate(indexes: Sequence[int], boxes: Sequence[np.ndarray | None], count: int) -> np.ndarray | None:
    """Boxes of all frames from those found in some: linear between two, the nearest one at the ends.

    Args:
        indexes: the frames searched, rising.
        boxes: what was found there.
        count: number of all frames.

    Returns:
        float64 (count, 4), or None if no box was found.
    """
    found = [(index, box) for index, box in zip(indexes, boxes, strict=True) if box is not None]
    if not found:
        return None
    at, values = [index for index, _ in found], np.stack([box for _, box in found])
    return np.stack([np.interp(np.arange(count), at, values[:, side]) for side in range(4)], axis=1)


def _tracks(found: Sequence[np.ndarray]) -> list[_Track]:
    """All faces, each in one track."""
    tracks = list[_Track]()
    for number, faces in enumerate(found):
        owners = _owners(tracks, faces, number)
        for owner, face in zip(owners, faces, strict=True):
            if owner is None:
                tracks.append(owner := _Track())
            owner.faces[number] = face
    return tracks


def _owners(tracks: Sequence[_Track], faces: np.ndarray, number: int) -> list[_Track | None]:
    """The track that each face goes on with, the best fit first; None: one that begins."""
    owners: list[_Track | None] = [None] * len(faces)
    if tracks and len(faces):
        seen = np.array([track.last for track in tracks])
        lasts = np.stack([track.faces[track.last] for track in tracks])
        scores = _scores(faces, lasts, number - seen - 1)
        while scores.max() > -np.inf:
            row, column = divmod(int(scores.argmax()), len(faces))
            owners[column] = tracks[row]
            scores[row], scores[:, column] = -np.inf, -np.inf
    return owners


def _fill(faces: list[np.ndarray | None], spare: Sequence[np.ndarray], order: Iterable[int]) -> None:
    """Go on, in this order, with spare faces where there is none; the first one must be there."""
    last, missed = np.empty(0), 0
    for number in order:
        if faces[number] is None and len(spare[number]):
            scores = _scores(spare[number], last[None], np.array([missed]))[0]
            best = np.argmax(scores)
            faces[number] = spare[number][best] if np.isfinite(scores[best]) else None
        face = faces[number]
        last, missed = (last, missed + 1) if face is None else (face, 0)


def _scores(faces: np.ndarray, lasts: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """How well each face goes on from each last box: (lasts, faces); -inf: not at all."""
    sides = lasts[:, None, 2:4] - lasts[:, None, :2]
    distance = np.linalg.norm((_centre(faces)[None] - _centre(lasts)[:, None]) / sides, axis=2)
    near = distance <= REACH + missed[:, None]
    return np.where(near, overlap(faces, lasts) - distance / 1000, -np.inf)  # distance decides where nothing overlaps


def overlap(faces: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Intersection over union of every face with each last box: (lasts, faces)."""
    ends, starts = np.minimum(faces[:, 2:4], lasts[:, None, 2:4]), np.maximum(faces[:, :2], lasts[:, None, :2])
    common = (ends - starts).clip(0).prod(axis=2)
    return np.asarray(common / (_area(faces) + _area(lasts)[:, None] - common))


def _others(found: Sequence[np.ndarray], followed: Sequence[np.ndarray | None]) -> int:
    """Pictures with a face beside the followed one, or in its absence, that is about as large and sure."""
    least = COMPARABLE * np.mean(weights(_stacked(face for face in followed if face is not None)))
    return sum(_has_other(faces[weights(faces) >= least], own) for faces, own in zip(found, followed, strict=True))


def _has_other(large: np.ndarray, own: np.ndarray | None) -> bool:
    """Whether one of them is not the followed one, nor a second box on it."""
    if own is None:
        return len(large) > 0
    centres = _centre(large)
    return not ((centres >= own[:2]) & (centres <= own[2:4])).all()


def _stacked(faces: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(some) if (some := [*faces]) else np.empty((0, 5))


def weights(faces: np.ndarray) -> np.ndarray:
    """Probability times area of each face (K, 5): (K,)."""
    return np.asarray(faces[:, 4] * _area(faces))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:4] - boxes[:, :2]).clip(0).prod(axis=1))


def _centre(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, :2] + boxes[:, 2:4]) / 2)
