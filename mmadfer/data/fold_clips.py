"""Which clips of a store a fold is trained on, validated on and tested on, and whether it can be trained at all.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections.abc import Iterable

from mmadfer.config.schema import Config
from mmadfer.data.splits import halves, hold_out
from mmadfer.data.store.splits import Split
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError, DataError


def check_training(config: Config, store: Store, folds: Iterable[int]) -> None:
    """Refuse folds that could not be trained on this store.

    Raises:
        ConfigError: a label in `data.labels` that the store lacks, or too few clips for one batch, or for
            `data.validation`.
        DataError: the store has no such fold.
    """
    check_labels(store, labels_of(config, store))
    for fold in folds:
        steps_per_epoch(config, store, fold)
        adapting_clips(config, store, fold)


def labels_of(config: Config, store: Store) -> tuple[str, ...]:
    """Class names in class order: the store's, or those of them that the configuration names, in its order."""
    return config.data.labels or store.labels


def used_clips(config: Config, store: Store) -> list[Clip]:
    """All clips of `data.split` with a label of `data.labels`: what its folds train on, validate on and test.

    Raises:
        DataError: the store has no such split.
    """
    return _of_labels(config, store, _split(config, store).parts)


def training_clips(config: Config, store: Store, fold: int) -> list[Clip]:
    """What is trained on where `fold` of `data.split` is tested: the other folds' clips, or those of the part `train`.

    Those kept for validation are left out. Clips whose label `data.labels` does not name are in no part.

    Raises as `validation_clips`.
    """
    kept = {*validation_clips(config, store, fold)}
    return [clip for clip in _rest(config, store, fold) if clip.id not in kept]


def validation_clips(config: Config, store: Store, fold: int) -> list[str]:
    """Ids of the clips that are validated on, sorted: the split's own, or those that `data.validation` keeps.

    Raises:
        DataError: the store has no such split or fold.
        ConfigError: `data.validation` takes all clips of a label, or none; or the split has clips for validation.
    """
    share, own = config.data.validation, _split(config, store).validation()
    rest = _rest(config, store, fold)
    if own and share:
        raise ConfigError(
            f"the split {config.data.split} has {len(own)} clips for validation, and data.validation is {share}: set 0"
        )
    if own:
        return [clip.id for clip in _of_labels(config, store, own)]
    labels, subjects = {clip.id: clip.label for clip in rest}, {clip.id: clip.subject for clip in rest}
    return sorted(hold_out(labels, share, subjects)) if share else []


def test_clips(config: Config, store: Store, fold: int, adapts: float | None = None) -> list[str]:  # noqa: PT028
    """Ids of the clips that `fold` tests, sorted; under `adapt`, without those that it adapts on.

    Args:
        config: `data.split`, `.folds` and `.labels`, and `adapt`.
        store: the clips.
        fold: from 1.
        adapts: the share of each person's clips that a model was adapted on, by default that of `adapt`.

    Raises:
        DataError: the store has no such split or fold, or none of its clips has one of the labels; or as
            `adapting_clips`.
    """
    tested = store.fold(fold, config.data.split, config.data.folds)
    if adapts is not None or config.adapt is not None:
        gone = {*adapting_clips(config, store, fold, adapts)}
        tested = [name for name in tested if name not in gone]
    ids = [clip.id for clip in _of_labels(config, store, tested)]
    if not ids:
        raise DataError(f"fold {fold} of {store.path} has no clip labelled {', '.join(labels_of(config, store))}")
    return ids


def adapting_clips(config: Config, store: Store, fold: int, share: float | None = None) -> list[str]:
    """Ids of the clips that `fold` adapts on, sorted: a `share`, by default that of `adapt`, and without both none.

    Their labels are not looked at.

    Raises:
        DataError: clips without a subject; a person who is tested is trained on, too, or has clips of one file only;
            or there is a single clip.
    """
    share = config.adapt.share if share is None and config.adapt else share
    if share is None:
        return []
    people = _people(config, store, fold)
    parts = [_adapting(store, name, ids, share) for name, ids in people.items()]
    found = sorted(clip for part in parts for clip in part)
    if len(found) < 2:
        raise DataError(
            f"{store.path}: fold {fold} has {len(found)} clip of {', '.join(people)} to adapt on, and a discrepancy is "
            "of two or more: give more clips, or a larger adapt.share"
        )
    return found


def _people(config: Config, store: Store, fold: int) -> dict[str, list[str]]:
    """Clips of each person that `fold` tests, whatever their labels."""
    tested = [store.clips[name] for name in store.fold(fold, config.data.split, config.data.folds)]
    split = _split(config, store)
    trained = [store.clips[name] for name in (*split.rest(fold), *split.validation())]
    if bare := [clip.id for clip in (*tested, *trained) if clip.subject is None]:
        raise DataError(
            f"{store.path} has {len(bare)} clip(s) without a subject ({', '.join(bare[:3])}), and adapt is to people: "
            "prepare the set with its subjects (a CSV has a column `subject`), or leave adapt out"
        )
    if both := sorted({str(clip.subject) for clip in tested} & {str(clip.subject) for clip in trained}):
        raise DataError(
            f"fold {fold} of {store.path} tests clips of {', '.join(both[:3])}, and trains on others of the same: who "
            "is adapted to cannot be a source. Set data.split leave_one_subject_out or by_subject"
        )
    people: dict[str, list[str]] = {}
    for clip in tested:
        people.setdefault(str(clip.subject), []).append(clip.id)
    return people


def _adapting(store: Store, person: str, ids: list[str], share: float) -> list[str]:
    try:
        return halves({name: store.clips[name].media_digest or store.clips[name].media for name in ids}, share)[0]
    except DataError as error:
        raise DataError(f"{store.path}: {person}: {error}: leave this person out, or give more clips") from error


def _split(config: Config, store: Store) -> Split:
    return store.split(config.data.split, config.data.folds)


def _rest(config: Config, store: Store, fold: int) -> list[Clip]:
    """What is neither tested by `fold` nor the split's own for validation."""
    store.fold(fold, config.data.split, config.data.folds)
    return _of_labels(config, store, _split(config, store).rest(fold))


def _of_labels(config: Config, store: Store, ids: Iterable[str]) -> list[Clip]:
    clips = [store.clips[name] for name in ids]
    known = {*labels_of(config, store)}
    return [clip for clip in clips if clip.label in known] if known else clips


def steps_per_epoch(config: Config, store: Store, fold: int, clips: int | None = None) -> int:
    """Optimizer steps in an epoch of this fold; the last incomplete batch is dropped.

    Args:
        config: `train.batch_size`; under `adapt`, half of each batch are training clips.
        store: the clips.
        fold: from 1.
        clips: that are trained on, where that is a part of the fold's training clips.

    Raises:
        ConfigError: the training clips of the fold do not fill one batch.
        DataError: the store has no such fold.
    """
    clips = len(training_clips(config, store, fold)) if clips is None else clips
    halved = 2 if config.adapt else 1
    if halved * clips < config.train.batch_size:
        raise ConfigError(
            f"fold {fold} of {store.path} leaves {clips} training clips, which do not fill one batch: "
            f"set train.batch_size to {halved * clips} or less (it is {config.train.batch_size})"
        )
    return halved * clips // config.train.batch_size


def check_labels(store: Store, labels: tuple[str, ...]) -> None:
    """Raise a ConfigError where the store lacks one of these labels, one is there twice, or there is only one."""
    unknown = sorted({*labels} - {*store.labels})
    if len({*labels}) < len(labels):
        raise ConfigError(f"data.labels names a class twice: {', '.join(labels)}")
    if len(labels) < 2 and (labels or store.labels):
        raise ConfigError(f"data.labels names {', '.join(labels) or 'nothing'}: a model tells two labels or more apart")
    if unknown:
        raise ConfigError(
            f"data.labels names {', '.join(unknown)}, but {store.path} has {', '.join(store.labels)}: name labels of "
            "the store, all or some of them, or leave data.labels out"
        )
