"""That no run was trained on clips which a fold of its child is tested on.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import test_clips, training_clips
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError, DataError, MmadferError, RunError
from mmadfer.run import checkpoint_state
from mmadfer.run import directory as runs
from mmadfer.run.parents import ParentRun, parents

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
    for parent in parents(config, planned):
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
    there = theirs.split(parent.config.data.split).folds
    if fold not in there:
        raise RunError(f"{parent.key}: {parent.run} has folds {', '.join(map(str, there))}, and no fold {fold}")
    trained = training_clips(parent.config, theirs, fold)
    tested = [store.clips[name] for name in test_clips(config, store, fold)]
    same_set = theirs.data_set == store.data_set
    if leaked := _leaked(trained, tested, same_set):
        raise DataError(_told(parent, fold, f"{len(leaked)} of the {len(tested)} clips", leaked))
    if same_set and (people := _people(trained, tested, training_clips(config, store, fold))):
        raise DataError(_told(parent, fold, f"clips of {len(people)} subject(s)", people))


def _told(parent: ParentRun, fold: int, what: str, names: list[str]) -> str:
    more = f", and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return (
        f"{parent.key}: fold {fold} of {parent.run} was trained on {what} that fold {fold} is tested on here "
        f"({', '.join(names[:_MAX_NAMED])}{more}), so its test would not be one. Begin from a run with the same folds, "
        "or train the parent again on this store"
    )


def _leaked(trained: list[Clip], tested: list[Clip], same_set: bool) -> list[str]:
    """Clips for the test that were trained on: by id in the same data set, and by what their files held in any."""
    ids = {clip.id for clip in trained} if same_set else set[str]()
    files = {clip.sha256 for clip in trained} - {""}
    return [clip.id for clip in tested if clip.id in ids or clip.sha256 in files]


def _people(trained: list[Clip], tested: list[Clip], own: list[Clip]) -> list[str]:
    """Subjects of the test that the parent knows, and that this run itself keeps from its training."""
    known, kept = ({clip.subject for clip in clips} for clips in (trained, own))
    return sorted({clip.subject for clip in tested if clip.subject is not None and clip.subject in known - kept})
