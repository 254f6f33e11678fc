"""That no run was trained on clips which a fold of its child is tested on.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import adapting_clips, test_clips, training_clips
from mmadfer.data.sets import DATA_SETS
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError, DataError, MmadferError, RunError
from mmadfer.run import checkpoint_state
from mmadfer.run import directory as runs
from mmadfer.run.parents import ParentRun, parents

_ANY_CLIPS = {"csv", "folder", "toy"}
"""Sets whose ids are the names of somebody's own files; in all others, an id says which clip it is."""
_MAX_NAMED = 5
"""Clips that a message names; of the others it gives the number."""


def check_stages(
    config: Config, store: Store, folds: Iterable[int], planned: Mapping[Path, Config] | None = None
) -> None:
    """Refuse parents that have been trained on clips that these folds are tested on, and so have their own parents.

    Raises:
        DataError: clips are tested here that a parent was trained on (names and counts are told), or its store cannot
            be read.
        RunError: a parent is no run, or has no such fold.
        ConfigError: a run is its own parent.
    """
    chosen = list(folds)
    with ExitStack() as opened:
        for parent in _lineage(config, planned or {}):
            theirs = _store(parent, store, opened)
            for fold in chosen:
                _check_fold(parent, theirs, config, store, fold)


def _lineage(config: Config, planned: Mapping[Path, Config], younger: tuple[Path, ...] = ()) -> Iterator[ParentRun]:
    """Parents, their parents, and so on."""
    try:
        found = parents(config, planned)
    except RunError as error:
        raise RunError(f"{error} ({younger[-1]} names it)" if younger else str(error)) from error
    for parent in found:
        if parent.run in younger:
            raise ConfigError(f"{parent.key}: {parent.run} would begin from itself, through {younger[-1]}")
        yield parent
        yield from _lineage(parent.config, planned, (*younger, parent.run))


def _store(parent: ParentRun, own: Store, opened: ExitStack) -> Store:
    """What the parent is trained on: the store that it names, or this run's own where that is the same by fingerprint.

    Raises:
        DataError: it is not there, or is another one than the parent's checkpoints know.
    """
    path, known = parent.config.data.store, _fingerprint(parent)
    if known and known == own.header.fingerprint:
        return own
    if path is None:
        raise DataError(f"{parent.key}: {parent.run / 'config.yaml'} names no store, so nobody knows its clips")
    try:
        found = opened.enter_context(Store(path))
    except DataError as error:
        raise DataError(f"{parent.key}: the clips that {parent.run} was trained on are not known: {error}") from error
    if known is not None and known != found.header.fingerprint:
        raise DataError(
            f"{parent.key}: {path} is another store than {parent.run} was trained on (fingerprint "
            f"{found.header.fingerprint[:12]}, trained on {known[:12]}): put that one back there"
        )
    return found


def _fingerprint(parent: ParentRun) -> str | None:
    """Of the store that the parent's checkpoints say they were trained on; None where there is none yet."""
    for fold in runs.folds(parent.run):
        if checkpoint := runs.latest_checkpoint(parent.fold(fold)):
            try:
                return checkpoint_state.read(checkpoint).belonging.data
            except (OSError, MmadferError):
                continue
    return None


def _check_fold(parent: ParentRun, theirs: Store, config: Config, store: Store, fold: int) -> None:
    there = theirs.split(parent.config.data.split, parent.config.data.folds).folds
    if fold not in there:
        raise RunError(f"{parent.key}: {parent.run} has folds {', '.join(map(str, there))}, and no fold {fold}")
    own_ids = theirs.data_set == store.data_set and store.data_set in {*DATA_SETS.names()} - _ANY_CLIPS
    seen, learnt = _trained(parent.config, theirs, fold)
    kept = [store.clips[name] for name in adapting_clips(config, store, fold)]  # whose labels nobody may have learnt
    tested = [store.clips[name] for name in test_clips(config, store, fold)]
    leaked = _leaked(seen, tested, (theirs, store), own_ids) + _leaked(learnt, kept, (theirs, store), own_ids)
    tested += kept
    if leaked:
        raise DataError(_told(parent, fold, f"{len(leaked)} of the {len(tested)} clips", leaked))
    if _same_set(theirs, store, own_ids) and (people := _people(learnt, tested, training_clips(config, store, fold))):
        raise DataError(_told(parent, fold, f"clips of {len(people)} subject(s)", people))


def _trained(config: Config, store: Store, fold: int) -> tuple[list[Clip], list[Clip]]:
    """What a fold sees in training, with or without labels, and what it sees with labels."""
    learnt = training_clips(config, store, fold)
    adapting = [store.clips[name] for name in adapting_clips(config, store, fold)]
    given = config.adapt is not None and config.adapt.labels == "given"
    return [*learnt, *adapting], [*learnt, *adapting] if given else learnt


def _told(parent: ParentRun, fold: int, what: str, names: list[str]) -> str:
    more = f", and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return (
        f"{parent.key}: fold {fold} of {parent.run} was trained on {what} that fold {fold} is tested on here "
        f"({', '.join(names[:_MAX_NAMED])}{more}), so its test would not be one. Begin from a run with the same folds, "
        "or train the parent again on this store"
    )


def _leaked(trained: list[Clip], tested: list[Clip], stores: tuple[Store, Store], own_ids: bool) -> list[str]:
    """Clips for the test that were trained on: by what their media hold, and by id where the set's owners gave it."""
    ids = {clip.id for clip in trained} if own_ids else set[str]()
    marks = {_mark(clip, stores[0]) for clip in trained}
    return [clip.id for clip in tested if clip.id in ids or _mark(clip, stores[1]) in marks]


def _mark(clip: Clip, store: Store) -> Hashable:
    """What a clip is known by anywhere: what its media hold; without that, its id in sets of this name."""
    return clip.media_digest or (store.data_set, clip.id)


def _same_set(one: Store, other: Store, own_ids: bool) -> bool:
    """Whether a subject of one is that of the other: two lists of one file name may be about different people."""
    if own_ids or one.data_set != other.data_set:
        return own_ids
    marks = [{_mark(clip, store) for clip in store.clips.values()} for store in (one, other)]
    return not marks[0].isdisjoint(marks[1])


def _people(trained: list[Clip], tested: list[Clip], own: list[Clip]) -> list[str]:
    """Subjects of the test that the parent knows, and that this run itself keeps from its training."""
    known, kept = ({clip.subject for clip in clips} for clips in (trained, own))
    return sorted({clip.subject for clip in tested if clip.subject is not None and clip.subject in known - kept})
