"""Who is in a video: the faces of all its pictures, joined into one track for each person, with a number.

Within a shot, each face goes on with the track that it fits best, of all that were seen less than `LOST_SECONDS` ago:
near to where the track would be by now at the speed that it had, and about as large. The fit of all of them together
is the best one (the assignment problem; scipy's `linear_sum_assignment`). So a face keeps its number where it is missed
for a while, and where two pass each other.

Across a cut a face is the same only if it is in the last picture searched before the cut and in the first one behind it
and the two boxes cover each other by `SAME_PLACE` (intersection over union): a cut within one view. Else the person has
a new number, also where somebody comes back: faces are told apart by place and size alone, nobody is recognised.

Boxes are float64 (x0, y0, x1, y1) in shares of the picture's width and height.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmadfer.data.faces import track
from mmadfer.utils.optional import need

Faces = Literal["all", "largest"] | int
"""Whose faces: all people's; the one that `track.follow` follows; or those of the N largest people."""
LOST_SECONDS = 3.0
"""A person who is not seen for longer has a new number when they are back."""
REACH = 0.8
"""Widths that a face may be away from where it is expected."""
REACH_PER_SECOND = 0.5
"""And so many more for each second without it, and as many as it has moved in a second: who moves may also turn."""
GROWTH = 1.8
"""How many times as wide or high a face may be as the track's last one."""
FORESEEN_SECONDS = 1.0
"""Seconds for which a track is taken to keep its speed; then it waits where it would be by then."""
SPEED_LOOKS = 4
"""Pictures over which that speed is taken."""
SAME_PLACE = 0.7
"""Least intersection over union of a face before a cut and the same one behind it."""
SURE = 0.95
"""Probability that a person's face has in one picture at least."""
LEAST_LOOKS = 2
"""Pictures that show a person at least, where more were searched: what is in one alone may be no face."""
_NEVER = 1e6
"""Costs of a pair that cannot be."""


@dataclass
class Person:
    """One person's face in the pictures searched."""

    faces: dict[int, np.ndarray] = field(default_factory=dict)
    """Number of the picture searched, rising -> (5,): box and probability."""
    number: int = 0
    """From 1, in the order in which people are first seen, from the left to the right."""

    @property
    def first(self) -> int:
        """The first picture that shows them."""
        return next(iter(self.faces))

    @property
    def last(self) -> int:
        """The last one."""
        return next(reversed(self.faces))

    def is_in(self, looks: range) -> bool:
        """Whether one of these pictures shows them."""
        return self.first < looks.stop and self.last >= looks.start and any(look in self.faces for look in looks)

    @property
    def weight(self) -> float:
        """Sum of probability times area, by which `track.follow` chooses too."""
        return float(track.weights(np.stack([*self.faces.values()])).sum())

    def speed(self, seconds: Sequence[float]) -> np.ndarray:
        """Of the face's middle, (2,) in shares of the picture per second."""
        first, *_, last = [*self.faces][-SPEED_LOOKS:] if len(self.faces) > 1 else [self.last] * 2
        passed = seconds[last] - seconds[first]
        way = _middle(self.faces[last]) - _middle(self.faces[first])
        return np.asarray(way / passed) if passed > 0 else np.zeros(2)


def check_faces(faces: str | int) -> Faces:
    """What somebody asks for, in words or digits.

    Raises:
        ValueError: none of `all`, `largest` and a number of people from 1.
    """
    if faces in ("all", "largest"):
        return "all" if faces == "all" else "largest"
    if not (number := int(str(faces))) > 0:  # as words, 2.7 and True are no number of people
        raise ValueError(faces)
    return number


def find_people(found: Sequence[np.ndarray], seconds: Sequence[float], cuts: Collection[int] = ()) -> list[Person]:
    """The people of a video, by number.

    Args:
        found: for each picture searched (faces, 5), as `detection.detect` gives; their order makes no difference.
        seconds: when each of these pictures is shown.
        cuts: those of them before which there is a cut.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    everyone, open_ = list[Person](), list[Person]()
    for look, unordered in enumerate(found):
        faces = unordered[np.lexsort(unordered.T[::-1])]  # from the left
        if look in cuts:
            open_ = [person for person in open_ if person.last == look - 1]
            costs = _costs_across_cut(open_, faces)
        else:
            open_ = [person for person in open_ if seconds[look] - seconds[person.last] <= LOST_SECONDS]
            costs = _costs(open_, faces, seconds, seconds[look])
        owners = [Person() if row is None else open_[row] for row in _assigned(costs, len(faces))]
        new = [owner for owner in owners if not owner.faces]
        everyone.extend(new)
        open_ = owners if look in cuts else [*open_, *new]
        for owner, face in zip(owners, faces, strict=True):
            owner.faces[look] = face
    return _numbered(everyone, len(found))


def largest(people: Sequence[Person], faces: Faces) -> list[Person]:
    """Those of the people who are asked for: all, or the N whose faces are largest and surest over the whole video."""
    if not isinstance(faces, int):
        return [*people]
    chosen = sorted(people, key=lambda person: -person.weight)[:faces]
    return sorted(chosen, key=lambda person: person.number)


def _numbered(everyone: Sequence[Person], looks: int) -> list[Person]:
    """Without what may be no face."""
    least = min(LEAST_LOOKS, looks)
    people = [
        person
        for person in everyone
        if len(person.faces) >= least and max(face[4] for face in person.faces.values()) >= SURE
    ]
    for number, person in enumerate(people, 1):
        person.number = number
    return people


def _assigned(costs: np.ndarray, count: int) -> list[int | None]:
    """For each of `count` faces the row of `costs` (tracks, faces) that it goes on with; None: none."""
    owners: list[int | None] = [None] * count
    if costs.size:
        rows, columns = need("scipy.optimize", extra="faces").linear_sum_assignment(costs)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if costs[row, column] < _NEVER:
                owners[column] = row
    return owners


def _costs(open_: Sequence[Person], faces: np.ndarray, seconds: Sequence[float], now: float) -> np.ndarray:
    """Widths between face and expected place, and how much the size differs: (tracks, faces)."""
    if not open_ or not len(faces):
        return np.empty((0, 0))
    missed = np.array([now - seconds[person.last] for person in open_])[:, None]
    lasts = np.stack([person.faces[person.last][:4] for person in open_])
    speeds = np.stack([person.speed(seconds) for person in open_])
    sides = _sides(lasts)[:, None]
    expected = _middle(lasts) + speeds * np.minimum(missed, FORESEEN_SECONDS)
    away = np.linalg.norm((_middle(faces) - expected[:, None]) / sides, axis=2)
    grown = np.abs(np.log(_sides(faces) / sides)).max(axis=2)
    reach = REACH + missed * (REACH_PER_SECOND + np.linalg.norm(speeds[:, None] / sides, axis=2))
    possible = (away <= reach) & (grown <= np.log(GROWTH))
    return np.where(possible, away + grown, _NEVER)


def _costs_across_cut(open_: Sequence[Person], faces: np.ndarray) -> np.ndarray:
    if not open_ or not len(faces):
        return np.empty((0, 0))
    overlap = track.overlap(faces, np.stack([person.faces[person.last] for person in open_]))
    return np.where(overlap >= SAME_PLACE, 1 - overlap, _NEVER)


def _middle(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[..., :2] + boxes[..., 2:4]) / 2)


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Width and height, never 0."""
    return np.maximum(boxes[..., 2:4] - boxes[..., :2], 1e-6)
