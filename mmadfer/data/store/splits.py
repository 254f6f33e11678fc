"""Splits: named views of a store, each with one or more folds that are tested in turn.

    folds                    the store's own: a clip's fold is the one that tests it
    leave_one_subject_out    a fold for each subject, in the order of their names
    NAME                     of the index: one fold of the parts `train`, `validation` and `test`, or numbered folds

A clip without a part in a split is not used there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mmadfer.data.store.record import Clip
from mmadfer.errors import DataError

FOLDS, LEAVE_ONE_SUBJECT_OUT, BY_SUBJECT = "folds", "leave_one_subject_out", "by_subject"
_PARTS = ("train", "validation", "test")
NUMBER = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class Split:
    """A view of a store."""

    name: str
    parts: Mapping[str, str]
    """Clip id -> its part: the number of the fold that tests it, or one of `_PARTS`."""

    @cached_property
    def official(self) -> bool:
        """Whether it has parts for training, validation and test, and so one fold."""
        return any(part in _PARTS for part in self.parts.values())

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """The folds that test clips, in order."""
        if self.official:
            return (1,) if "test" in self.parts.values() else ()
        return tuple(sorted({int(part) for part in self.parts.values()}))

    def test(self, fold: int) -> list[str]:
        """Ids of the clips that a fold tests, sorted; none where there is no such fold."""
        return self._in("test" if self.official else str(fold))

    def rest(self, fold: int) -> list[str]:
        """Ids of the clips that may be trained on where this fold is tested, sorted."""
        if self.official:
            return self._in("train")
        return sorted(name for name, part in self.parts.items() if part != str(fold))

    def validation(self) -> list[str]:
        """Ids of the clips that the split itself keeps for validation, sorted."""
        return self._in("validation")

    def _in(self, part: str) -> list[str]:
        return sorted(name for name, found in self.parts.items() if found == part)


def split(name: str, clips: Mapping[str, Clip]) -> Split:
    """The split of a store by its name.

    Raises:
        DataError: there is no such split; says which there are.
    """
    if name == FOLDS:
        return Split(name, {one: str(clip.fold) for one, clip in clips.items()})
    if name == LEAVE_ONE_SUBJECT_OUT:
        number = {subject: str(k) for k, subject in enumerate(_subjects(clips), 1)}
        return Split(name, {one: number[clip.subject or ""] for one, clip in clips.items()})
    parts = {one: clip.splits[name] for one, clip in clips.items() if name in clip.splits}
    if not parts:
        raise DataError(f"there is no split {name!r}: the store has {', '.join(names(clips))}")
    return Split(name, parts)


def names(clips: Mapping[str, Clip]) -> list[str]:
    """The splits that a store has."""
    own = sorted({name for clip in clips.values() for name in clip.splits})
    return [FOLDS, *([LEAVE_ONE_SUBJECT_OUT] if clips and all(clip.subject for clip in clips.values()) else []), *own]


def check_parts(parts: Mapping[str, set[str]], whole: bool = False) -> None:
    """Refuse splits whose parts cannot be, by the parts that each has.

    Args:
        parts: of each split, what clips are in.
        whole: whether these are all clips of a data set; a store may lack some.

    Raises:
        ValueError: names the split.
    """
    for name, found in parts.items():
        if name in (FOLDS, LEAVE_ONE_SUBJECT_OUT):
            raise ValueError(f"split {name!r} is a name of our own")
        numbered = all(map(NUMBER.fullmatch, found))
        if not (found <= {*_PARTS} or numbered) or (whole and not numbered and not {"train", "test"} <= found):
            raise ValueError(
                f"split {name!r:.60} has the parts {', '.join(sorted(found)):.60}: it must have train, test and, if "
                "there is one, validation; or numbers of folds, from 1"
            )
        if whole and numbered and {*map(int, found)} != {*range(1, len(found) + 1)}:
            raise ValueError(f"split {name!r:.60} has folds {', '.join(sorted(found, key=int)):.60}: one is missing")


def _subjects(clips: Mapping[str, Clip]) -> list[str]:
    without = next((one for one, clip in clips.items() if not clip.subject), None)
    if without is not None:
        raise DataError(f"clip {without!r} has no subject, so no split can leave one out: give all clips a subject")
    return sorted({clip.subject for clip in clips.values() if clip.subject})
