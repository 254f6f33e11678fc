"""Splits: named views of a store, each with one or more folds that are tested in turn.

    folds                    the store's own: a clip's fold is the one that tests it
    leave_one_subject_out    a fold for each subject, in the order of their names
    leave_one_subject_out(NAME, NAME)    a fold for each of these subjects, in this order; all folds train on all others
    by_subject               as many folds as `data.folds` says, no subject in two of them
    NAME                     of the index: one fold of the parts `train`, `validation` and `test`, or numbered folds

A clip without a part in a split is not used there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from mmadfer.data.splits import assign
from mmadfer.data.store.record import Clip
from mmadfer.errors import DataError

FOLDS, LEAVE_ONE_SUBJECT_OUT, BY_SUBJECT = "folds", "leave_one_subject_out", "by_subject"
OF_SUBJECTS = (LEAVE_ONE_SUBJECT_OUT, BY_SUBJECT)
"""Splits of any store whose clips all have subjects."""
_PARTS = ("train", "validation", "test")
NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_CHOSEN = re.compile(rf"{LEAVE_ONE_SUBJECT_OUT}\((.+)\)")
_UNTESTED = "0"
"""The part of clips that no fold tests, and all train on."""


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
        return tuple(sorted({int(part) for part in self.parts.values() if part != _UNTESTED}))

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


def split(name: str, clips: Mapping[str, Clip], folds: int) -> Split:
    """The split of a store by its name; `folds` is the number of folds of `by_subject`.

    Raises:
        DataError: there is no such split (says which there are), or clips without a subject, or too few subjects.
    """
    if name == FOLDS:
        return Split(name, {one: str(clip.fold) for one, clip in clips.items()})
    chosen = _CHOSEN.fullmatch(name)
    if name == LEAVE_ONE_SUBJECT_OUT or chosen:
        subjects = _subjects(clips)
        targets = _chosen(chosen[1], subjects) if chosen else sorted({*subjects.values()})
        number = {subject: str(k) for k, subject in enumerate(targets, 1)}
        return Split(name, {one: number.get(subject, _UNTESTED) for one, subject in subjects.items()})
    if name == BY_SUBJECT:
        dealt = assign({one: clip.label for one, clip in clips.items()}, folds, subjects=_subjects(clips))
        return Split(name, {one: str(fold) for one, fold in dealt.items()})
    parts = {one: clip.splits[name] for one, clip in clips.items() if name in clip.splits}
    if not parts:
        raise DataError(f"there is no split {name!r}: the store has {', '.join(names(clips))}")
    return Split(name, parts)


def names(clips: Mapping[str, Clip]) -> list[str]:
    """The splits that a store has."""
    own = sorted({name for clip in clips.values() for name in clip.splits})
    subjects = {clip.subject for clip in clips.values()}
    return [FOLDS, *(OF_SUBJECTS if all(subjects) and len(subjects) > 1 else ()), *own]


def check_parts(parts: Mapping[str, set[str]], whole: bool = False) -> None:
    """Refuse splits whose parts cannot be, by the parts that each has.

    Args:
        parts: of each split, what clips are in.
        whole: whether these are all clips of a data set; a store may lack some.

    Raises:
        ValueError: names the split.
    """
    for name, found in parts.items():
        if name in (FOLDS, *OF_SUBJECTS):
            raise ValueError(f"split {name!r} is a name of our own")
        numbered = all(map(NUMBER.fullmatch, found))
        if not (found <= {*_PARTS} or numbered) or (whole and not numbered and not {"train", "test"} <= found):
            raise ValueError(
                f"split {name!r:.60} has the parts {', '.join(sorted(found)):.60}: it must have train, test and, if "
                "there is one, validation; or numbers of folds, from 1"
            )
        if whole and numbered and {*map(int, found)} != {*range(1, len(found) + 1)}:
            raise ValueError(f"split {name!r:.60} has folds {', '.join(sorted(found, key=int)):.60}: one is missing")


def _chosen(names: str, subjects: Mapping[str, str]) -> list[str]:
    """The subjects that are named, in their order; `subjects` as `_subjects` gives them."""
    there, named = sorted({*subjects.values()}), [name.strip() for name in names.split(",")]
    for name in named:
        if name not in there:
            near = get_close_matches(name, there, n=3, cutoff=0) or there[:3]
            raise DataError(
                f"data.split names the subject {name!r:.80}, whom no clip shows; the nearest of its {len(there)} are "
                f"{', '.join(near)}"
            )
    if len({*named}) < len(named):
        raise DataError(f"data.split names a subject twice: {', '.join(named)}")
    return named


def _subjects(clips: Mapping[str, Clip]) -> dict[str, str]:
    """Clip id -> subject, of all clips."""
    without = next((one for one, clip in clips.items() if not clip.subject), None)
    if without is not None:
        raise DataError(f"clip {without!r} has no subject, so no split can be by subject: give all clips a subject")
    return {one: clip.subject for one, clip in clips.items() if clip.subject}
