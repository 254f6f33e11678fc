"""What a model says of each of several people in a video."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.faces.people import Faces, check_faces
from mmadfer.data.media.notes import Whole, kind
from mmadfer.errors import ConfigError
from mmadfer.runtime.inputs import Video, VideoPart
from mmadfer.runtime.prediction import Answer, Prediction, listed_notes
from mmadfer.utils.optional import need

_Person = int | None
"""A number; None: nobody."""


class PeopleAnswer(Answer):
    """Collects the parts of one video in which people are told apart."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._told_of = defaultdict[_Person, Counter[str]](Counter)
        """Of each person, kind of note -> how many of their segments have it; as `Answer` has it of all."""

    def add(self, part: VideoPart) -> Callable[[np.ndarray], None]:
        """As `Answer.add`; the segment says whose it is, and where the face is."""
        tell, person = super().add(part), part.person or None
        box = None if part.boxes is None or not len(part.boxes) else np.median(part.boxes, axis=0).tolist()
        self._segments[-1] |= {"person": person, "box": box}
        self._told_of[person].update({kind(note): 1 for note in part.notes})
        return tell

    def prediction(self) -> Prediction:
        """What the model says about each person.

        Raises:
            DataError: the video cannot be read, or no window of anybody predicted.
        """
        numbers = sorted({one["person"] for one in self._predicted()})
        people = [self._of(number) for number in numbers]
        video, notes = str(self.video.path), self._of_looks + self._all_notes()
        return Prediction(video, None, {}, self._segments, self._model, notes, people=people)

    def _of(self, number: int) -> dict[str, Any]:
        own = [(one, rows) for one, rows in zip(self._segments, self._rows, strict=True) if one["person"] == number]
        whole = self._put_together([one for one, rows in own if rows], [rows for _, rows in own])
        best = max(whole, key=whole.__getitem__)
        said = {"values": whole} if self._gives_values else {"label": best, "probabilities": whole}
        span = {"start": min(one["start"] for one, _ in own), "end": max(one["end"] for one, _ in own)}
        return {"person": number, **span, **said, "notes": self._notes_of(number)}

    def _notes_of(self, number: _Person) -> list[str]:
        return listed_notes([one for one in self._segments if one["person"] == number], self._told_of[number])

    def _all_notes(self) -> list[str]:
        """Those of everybody and of the whole video once, and then each person's own."""
        by_person = {number: self._notes_of(number) for number in self._told_of}
        counts = Counter(note for notes in by_person.values() for note in notes)
        common = [note for note, times in counts.items() if times == len(by_person) or note in self._of_whole]
        others = ((number, note) for number, notes in by_person.items() for note in notes if note not in common)
        return [*common, *(f"person {number}: {note}" if number else note for number, note in others)]

    @property
    def _of_whole(self) -> set[str]:
        return {note for note in self._told if isinstance(note, Whole)}


def check_people(faces: str | int, contract: Contract, path: Path) -> Faces:
    """Whose faces are asked for, of a model that can tell people apart.

    Raises:
        ConfigError: it is none of `all`, `largest` and a number; or the model takes no face that is followed, or is
            shown a video as a whole or in parts of its own.
        MissingDependencyError: people are to be told apart, and scipy is not installed.
    """
    try:
        asked = check_faces(faces)
    except ValueError as error:
        raise ConfigError(f"--faces {faces}: give largest, all, or a number of people, 1 or more") from error
    if asked != "largest":
        reason = _refused(contract)
        if reason:
            raise ConfigError(f"{path} {reason}: leave --faces out")
        need("scipy", extra="faces")  # asked now, and not after the faces of a long video are found
    return asked


def check_video(video: Video) -> None:
    """Raise ConfigError where nobody can be told apart in what is given."""
    if video.cropped or video.pictures is not None:
        raise ConfigError(f"{video.path} shows nothing but one face (--cropped): leave --faces out")


def _refused(contract: Contract) -> str:
    if "vision" not in contract.model.modalities or contract.modalities == "audio":
        return "looks at no faces"
    if contract.model.text is not None:
        return "reads sentences, of which there is one about the whole video"
    if contract.per_step:
        return "gives values of each frame, of one face alone"
    if contract.prepare.face_box == "union":
        return "was trained on all faces of a frame together (prepare.face_box: union)"
    if contract.pooled_windows:
        return f"takes {contract.pooled_windows} windows of a clip together, of one face alone"
    return ""
