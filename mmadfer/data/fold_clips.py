"""Which clips of a store a fold is trained on, validated on and tested on, and whether it can be trained at all.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections.abc import Iterable

from mmadfer.config.schema import Config
from mmadfer.data.splits import hold_out
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


def labels_of(config: Config, store: Store) -> tuple[str, ...]:
    """Class names in class order: the store's, or those of them that the configuration names, in its order."""
    return config.data.labels or store.labels


def used_clips(config: Config, store: Store) -> list[Clip]:
    """All clips of `data.split` with a label of `data.labels`: what its folds train on, validate on and test.

    Raises:
        DataError: the store has no such split.
    """
    return _of_labels(config, store, store.split(config.data.split).parts)


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
    share, own = config.data.validation, store.split(config.data.split).validation()
    rest = _rest(config, store, fold)
    if own and share:
        raise ConfigError(
            f"the split {config.data.split} has {len(own)} clips for validation, and data.validation is {share}: set 0"
        )
    if own:
        return [clip.id for clip in _of_labels(config, store, own)]
    labels, subjects = {clip.id: clip.label for clip in rest}, {clip.id: clip.subject for clip in rest}
    return sorted(hold_out(labels, share, subjects)) if share else []


def test_clips(config: Config, store: Store, fold: int) -> list[str]:
    """Ids of the clips that `fold` tests, sorted.

    Raises:
        DataError: the store has no such split or fold, or none of its clips has one of the labels.
    """
    ids = [clip.id for clip in _of_labels(config, store, store.fold(fold, config.data.split))]
    if not ids:
        raise DataError(f"fold {fold} of {store.path} has no clip labelled {', '.join(labels_of(config, store))}")
    return ids


def _rest(config: Config, store: Store, fold: int) -> list[Clip]:
    """What is neither tested by `fold` nor the split's own for validation."""
    store.fold(fold, config.data.split)
    return _of_labels(config, store, store.split(config.data.split).rest(fold))


def _of_labels(config: Config, store: Store, ids: Iterable[str]) -> list[Clip]:
    clips = [store.clips[name] for name in ids]
    known = {*labels_of(config, store)}
    return [clip for clip in clips if clip.label in known] if known else clips


def steps_per_epoch(config: Config, store: Store, fold: int) -> int:
    """Optimizer steps in an epoch of this fold; the last incomplete batch is dropped.

    Raises:
        ConfigError: the training clips of the fold do not fill one batch.
        DataError: the store has no such fold.
    """
    clips = len(training_clips(config, store, fold))
    if clips < config.train.batch_size:
        raise ConfigError(
            f"fold {fold} of {store.path} leaves {clips} training clips, which do not fill one batch: "
            f"set train.batch_size to {clips} or less (it is {config.train.batch_size})"
        )
    return clips // config.train.batch_size


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
