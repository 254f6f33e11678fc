"""Looking for faces in every n-th frame: in small pictures, and again in larger ones where these show none.

A face in a sixteenth of the picture's longer side or less, as in 4K video, recordings of screens and groups, cannot be
found in the small ones. The frames are gone through once more for it, only if there are larger pictures, and if hardly
any frame of the clip (or window) shows a face.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import detection, track
from mmadfer.data.faces.one_thread import one_thread
from mmadfer.data.faces.people import Person, find_people
from mmadfer.data.media import frames, notes
from mmadfer.data.media.cuts import Cuts
from mmadfer.data.media.frames import FrameSource, Seen
from mmadfer.data.media.notes import Note

SELDOM = 0.25
"""Larger pictures are searched where less than this share of the small ones shows a face."""
SURE = 0.95
"""Least probability of a face in a larger picture, in which far more places are tried."""
_LOST_FRAMES = 3
"""Pictures in a row without a face after which other sizes are tried again."""
MOST_SKIPPED = 25
"""Pictures that are passed over, at most, between two that are tried in all sizes."""
NONE = np.empty((0, 5))


@dataclass
class FaceSearch:
    """What was found in the frames that were searched."""

    indexes: list[int] = field(default_factory=list)
    """Their numbers, rising."""
    faces: list[np.ndarray] = field(default_factory=list)
    """The faces in each, as `detection.detect` gives them."""
    reduced: list[bool] = field(default_factory=list)
    """Whether the frame may have more pixels than were searched."""
    enlarged: set[int] = field(default_factory=set)
    """Which of the frames, counted from 0, showed their faces in larger pictures only."""
    cuts: list[int] = field(default_factory=list)
    """The numbers of all frames that begin a shot, rising; only if they were asked for."""

    def follow(self, first: int = 0, end: int | None = None) -> "Face":
        """The face that is followed through a part of the frames searched, by default all."""
        part = range(len(self.indexes))[first:end]
        followed = track.follow(self.faces[part.start : part.stop])
        small = any(box is not None and k in self.enlarged for k, box in zip(part, followed.boxes, strict=True))
        told = (*notes.second_face(followed.others, len(part)), *(notes.SMALL_FACE,) * small)
        return Face(self.indexes[part.start : part.stop], followed.boxes, told, notes.followed(followed.boxes))

    def people(self, times: np.ndarray) -> list[Person]:
        """Everyone in all the frames searched; `times` are those of all frames, float64 in seconds."""
        behind = {int(k) for k in np.searchsorted(self.indexes, self.cuts)}
        return find_people(self.faces, times[self.indexes].tolist(), behind)

    def face_of(self, person: Person, first: int, end: int) -> "Face":
        """The face of one person in a part of the frames searched."""
        part = range(len(self.indexes))[first:end]
        boxes = [person.faces[k][:4] if k in person.faces else None for k in part]
        small = any(k in person.faces and k in self.enlarged for k in part)
        return Face(self.indexes[first:end], boxes, (notes.SMALL_FACE,) * small, notes.followed(boxes))

    def stretch(self, person: Person, first: int, end: int) -> tuple[int, int]:
        """The frames from `first` to before `end` in which a person is there, as numbers of frames: first and end.

        These are the first one searched that shows the person and the last one, and those between. Who is in the next
        one searched before `first` too, or from `end` on, is there from `first` on, or until `end`. Who is there in the
        first picture searched of a shot, or the last one, is taken to be there from the cut on, or until the cut.

        Returns:
            as many frames as none, where the person is in none of them.
        """
        looks = [look for look in range(*self.looks(first, end)) if look in person.faces]
        if not looks:
            return first, first
        return max(first, self._since(person, looks[0])), min(end, self._until(person, looks[-1]))

    def _since(self, person: Person, look: int) -> int:
        """The first of a picture searched, and those before it, in which the person is there."""
        begin, before = self.indexes[look], self.indexes[look - 1] + 1 if look else 0
        if look - 1 in person.faces:
            return before
        return max((cut for cut in (0, *self.cuts) if before <= cut <= begin), default=begin)

    def _until(self, person: Person, look: int) -> int:
        """The end of a picture searched, and those behind it, in which the person is there."""
        done = self.indexes[look] + 1
        after = self.indexes[look + 1] if look + 1 < len(self.indexes) else done
        if look + 1 in person.faces:
            return after
        return min((cut for cut in self.cuts if done <= cut <= after), default=done)

    def looks(self, first: int, end: int) -> tuple[int, int]:
        """Which of the pictures searched are among these frames: the first, and the one behind the last.

        Where none is, for the frames are so few, those next to them.
        """
        begin, done = np.searchsorted(self.indexes, (first, end)).tolist()
        return (begin, done) if begin < done else (max(0, begin - 1), min(len(self.indexes), done + 1))


class Face(NamedTuple):
    """The face that is followed."""

    indexes: list[int]
    """The frames searched."""
    boxes: list[np.ndarray | None]
    """Where it was found in them."""
    notes: tuple[Note, ...]
    faceless: tuple[Note, ...]
    """As in `ClipData`."""


NO_FACE = Face([], [], (), ())


def search_faces(
    path: FrameSource, settings: PrepareConfig, device: str, cuts: bool = False
) -> tuple[Seen, FaceSearch]:
    """Look for faces in every n-th frame, and the last one; all in small pictures. With `cuts`, also for those.

    Returns:
        what is known of all frames, and what was seen.
    """
    seen, detections, shots = Seen(), FaceSearch(), Cuts()
    pictures: Iterator[frames.Picture] = seen.passing(frames.pictures(path, settings))
    with one_thread():
        pictures = shots.passing(pictures) if cuts else pictures
        detections.faces.extend(detection.detect(_searched(pictures, settings.detect_every, detections), device))
    detections.cuts = shots.frames.tolist()
    return seen, detections


def search_larger(
    path: FrameSource, settings: PrepareConfig, device: str, detections: FaceSearch, parts: Iterable[tuple[int, int]]
) -> None:
    """Search larger pictures, in those parts of the frames searched (first, end) that need it; adds what is found."""
    todo = {detections.indexes[k]: k for part in parts for k in without_faces(detections, *part)}
    if not todo:
        return
    larger, last = LargerPictures(device), max(todo)
    with one_thread():
        for index, picture in enumerate(frames.pictures(path, settings)):
            if index in todo and len(found := larger.detect(picture)):
                detections.faces[todo[index]] = found
                detections.enlarged.add(todo[index])
            if index == last:
                break


def _searched(pictures: Iterable[frames.Picture], every: int, detections: FaceSearch) -> Iterator[np.ndarray]:
    """Every n-th picture and the last one, small; which these are is noted."""

    def small(index: int, picture: frames.Picture) -> np.ndarray:
        image = picture.rgb(detection.DETECTION_SIDE_PX)
        detections.indexes.append(index)
        detections.reduced.append(max(image.shape) >= detection.DETECTION_SIDE_PX)
        return image

    index, picture = 0, None
    for index, picture in enumerate(pictures):
        if index % every == 0:
            yield small(index, picture)
    if picture is not None and detections.indexes[-1] != index:
        yield small(index, picture)


def without_faces(detections: FaceSearch, first: int, end: int) -> Sequence[int]:
    """The frames of this part that are to be searched in larger pictures."""
    without = [k for k in range(first, end) if not len(detections.faces[k])]
    some = end - first - len(without)
    return [k for k in without if detections.reduced[k]] if some < SELDOM * (end - first) else []


class LargerPictures:
    """Finds the size at which faces are seen, and stays with it.

    All sizes are tried in the first picture, then in ever fewer of those that follow, as long as none shows a face: a
    recording without anyone would else take all day.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._size, self._vain, self._skip = 0, 0, 0

    def detect(self, picture: frames.Picture) -> np.ndarray:
        """The faces (K, 5) of the next picture, as `detection.detect` gives them."""
        if self._skip:
            self._skip -= 1
            return NONE
        for size, image in [(self._size, picture.rgb(self._size))] if self._size else _larger(picture):
            if len(found := self._sure(image)):
                self._size, self._vain = size, 0
                return found
        self._miss()
        return NONE

    def _miss(self) -> None:
        self._vain += 1
        if not self._size:
            self._skip = min(self._vain, MOST_SKIPPED)
        elif self._vain == _LOST_FRAMES:
            self._size, self._vain = 0, 0

    def _sure(self, image: np.ndarray) -> np.ndarray:
        (found,) = detection.detect([image], self._device)
        return np.asarray(found[found[:, 4] >= SURE])


def _larger(picture: frames.Picture) -> Iterator[tuple[int, np.ndarray]]:
    """The picture in sizes that grow twofold, up to its own."""
    size, seen = detection.DETECTION_SIDE_PX, detection.DETECTION_SIDE_PX
    while seen == size:
        size *= 2
        image = picture.rgb(size)
        if max(image.shape) > seen:
            yield size, image
        seen = max(image.shape)
