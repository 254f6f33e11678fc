"""Folds: the official ones of a set's own lists, or stratified ones that are the same for the same clips anywhere."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from mmadfer.errors import ConfigError, DataError


def official(tests: Mapping[int, Collection[str]], trains: Mapping[int, Collection[str]]) -> dict[str, int]:
    """The fold in whose test list each clip is.

    Args:
        tests: fold -> the clips that it tests on.
        trains: fold -> the clips that it trains on; may have fewer folds, or none.

    Returns:
        clip id -> fold.

    Raises:
        DataError: a clip is tested in two folds, tested and trained on in one fold, or trained on and never tested.
    """
    fold_of = dict[str, int]()
    for fold, clips in tests.items():
        for clip in clips:
            if fold_of.setdefault(clip, fold) != fold:
                raise DataError(f"clip {clip!r} is in the test lists of folds {fold_of[clip]} and {fold}; {_RULE}")
    for fold, clips in trains.items():
        for clip in clips:
            if fold_of.get(clip) == fold:
                raise DataError(f"clip {clip!r} is in the training list and in the test list of fold {fold}; {_RULE}")
            if clip not in fold_of:
                raise DataError(f"clip {clip!r} is in the training list of fold {fold} and in no test list; {_RULE}")
    return fold_of


_RULE = "every clip is tested in exactly one fold, and trained on in others only. Get the set's lists again."


def training_gaps(tests: Mapping[int, Collection[str]], trains: Mapping[int, Collection[str]]) -> tuple[str, ...]:
    """What training lists lack of the other folds' test lists, one sentence per fold.

    A fold trains on what the other folds test whatever its training list says; a list that lacks clips of these is cut.
    """
    gaps = list[str]()
    for fold, train in trains.items():
        due = [clip for other, clips in tests.items() if other != fold for clip in clips]
        gone = sorted({*due} - {*train})
        if gone:
            first = ", ".join(gone[:3]) + (", …" if len(gone) > 3 else "")
            gaps.append(
                f"the training list of fold {fold} lacks {len(gone):,} of the {len(due):,} clips that other folds "
                f"test ({first}), so it may be cut; they are trained on nevertheless. Get the set's lists again."
            )
    return tuple(gaps)


def check_fold_count(folds: int, there: int, name: str) -> None:
    """Check that `data.folds` is the number of folds that a set comes with.

    Raises:
        DataError: it is another number.
    """
    if folds != there:
        raise DataError(f"{name} has {there} folds of its own, and data.folds is {folds}: set data.folds={there}")


def assign(
    labels: Mapping[str, str], folds: int, seed: int = 0, subjects: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Put every clip into the test set of one fold.

    Within each label, clips are ordered by a hash of (seed, id) and dealt out in turn. With subjects, whole subjects
    are dealt out instead, the one with the most clips first, so that nobody is in two folds.

    Args:
        labels: clip id -> label.
        folds: how many, at least 2.
        seed: another seed gives other folds.
        subjects: clip id -> person, for all clips.

    Returns:
        clip id -> fold, from 1.

    Raises:
        DataError: fewer than 2 folds, or fewer clips (or subjects) than folds.
    """
    units = subjects or {clip: clip for clip in labels}
    count, what = len({units[clip] for clip in labels}), "subjects" if subjects else "clips"
    if folds < 2 or count < folds:
        raise DataError(f"{count} {what} cannot make {folds} folds: at least 2 folds, and one of the {what} in each")
    dealt = _deal_subjects(labels, subjects, folds, seed) if subjects else _deal_clips(labels, folds, seed)
    return dict(sorted(dealt.items()))


def hold_out(labels: Mapping[str, str], share: float, subjects: Mapping[str, str | None]) -> frozenset[str]:
    """The training clips of a fold that are kept for validation: the same ones for any order of clips, and any seed.

    Without subjects, of each label the first in the order of a hash of their ids: `share` of them, rounded, but at
    least one. With subjects, whole subjects in the order of a hash, as many as `share` of all clips has room for, but
    at least one; labels are then not looked at. A clip without a subject is a subject of its own.

    Args:
        labels: clip id -> label, of the training clips.
        share: above 0 and below 1.
        subjects: clip id -> person, or None.

    Raises:
        ConfigError: a label would be left with no clip to train on, or none to validate on.
    """
    held = _by_subject(subjects, share) if any(subjects.values()) else _by_label(labels, share)
    for label, clips in sorted(Counter(labels.values()).items()):
        there = sum(labels[clip] == label for clip in held)
        if not 0 < there < clips:
            raise ConfigError(
                f"data.validation {share} keeps {there} of the {clips} training clip(s) labelled {label!r}, and both "
                "training and validation need at least one: give another share, or 0 (or leave out that label)"
            )
    return frozenset(held)


def halves(files: Mapping[str, str], share: float) -> tuple[list[str], list[str]]:
    """The clips of one person that adapt, and those that are tested, both sorted: the same for any order of clips.

    Whole files are dealt out in the order of a hash, each where it brings the sum nearer to `share` of all clips, but
    at least one to either side; labels are not looked at.

    Args:
        files: clip id -> the media file that it is from, or what copies of it have in common.
        share: above 0 and below 1.

    Raises:
        DataError: all clips are of one file.
    """
    clips = Counter(files.values())
    if len(clips) < 2:
        raise DataError(
            f"{len(files)} clip(s) of {len(clips)} file(s) make no two parts, one to adapt on and one to test"
        )
    ordered = sorted(clips, key=lambda name: _hash("adapt", name))
    taken, room = {ordered[0]}, round(share * len(files)) - clips[ordered[0]]
    for name in ordered[1:-1]:
        if abs(room - clips[name]) < abs(room):
            taken.add(name)
            room -= clips[name]
    return sorted(one for one in files if files[one] in taken), sorted(one for one in files if files[one] not in taken)


def _by_label(labels: Mapping[str, str], share: float) -> list[str]:
    by_label = defaultdict[str, list[str]](list)
    for clip in sorted(labels, key=lambda clip: _hash("validation", clip)):
        by_label[labels[clip]].append(clip)
    return [clip for clips in by_label.values() for clip in clips[: max(1, round(share * len(clips)))]]


def _by_subject(subjects: Mapping[str, str | None], share: float) -> list[str]:
    of = {clip: subject or f"clip {clip}" for clip, subject in subjects.items()}
    clips, held = Counter(of.values()), set[str]()
    room = round(share * len(of))
    for subject in sorted(clips, key=lambda name: _hash("validation", name)):
        if clips[subject] <= room or not held:
            held.add(subject)
            room -= clips[subject]
    return [clip for clip, subject in of.items() if subject in held]


def _deal_clips(labels: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    by_label = defaultdict[str, list[str]](list)
    for clip, label in labels.items():
        by_label[label].append(clip)
    ordered = [
        clip for label in sorted(by_label) for clip in sorted(by_label[label], key=lambda clip: _hash(seed, clip))
    ]
    return {clip: 1 + turn % folds for turn, clip in enumerate(ordered)}  # the turn goes on from label to label


def _deal_subjects(labels: Mapping[str, str], subjects: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    clips = Counter(subjects[clip] for clip in labels)
    held = dict.fromkeys(range(1, folds + 1), 0)
    fold_of = dict[str, int]()
    for subject in sorted(clips, key=lambda name: (-clips[name], _hash(seed, name))):
        fold = min(held, key=lambda k: held[k])
        fold_of[subject] = fold
        held[fold] += clips[subject]
    return {clip: fold_of[subjects[clip]] for clip in labels}


def _hash(seed: int | str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
