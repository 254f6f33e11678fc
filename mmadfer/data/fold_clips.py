"""Which clips of a store a fold is trained on, validated on and tested on, and whether it can be trained at all.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections.abc import Iterable

from mmadfer.config.schema import Config
from mmadfer.data.splits import hold_out
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError


def check_training(config: Config, store: Store, folds: Iterable[int]) -> None:
    """Refuse folds that could not be trained on this store.

    Raises:
        ConfigError: a label that is not in `data.labels`, or too few clips for one batch, or for `data.validation`.
        DataError: the store has no such fold.
    """
    check_labels(store, config.data.labels or store.labels)
    for fold in folds:
        steps_per_epoch(config, store, fold)


def training_clips(config: Config, store: Store, fold: int) -> list[Clip]:
    """What is trained on where `fold` is the test fold: the other folds' clips, but those kept for validation.

    Raises as `validation_clips`.
    """
    kept = {*store.fold(fold), *validation_clips(config, store, fold)}
    return [clip for clip in store.clips.values() if clip.id not in kept]


def validation_clips(config: Config, store: Store, fold: int) -> list[str]:
    """Ids of the clips of other folds than `fold` that `data.validation` keeps from training, sorted; none for 0.

    Raises:
        DataError: the store has no such fold.
        ConfigError: `data.validation` takes all clips of a label, or none.
    """
    test, share = set(store.fold(fold)), config.data.validation
    rest = [clip for clip in store.clips.values() if clip.id not in test]
    labels, subjects = {clip.id: clip.label for clip in rest}, {clip.id: clip.subject for clip in rest}
    return sorted(hold_out(labels, share, subjects)) if share else []


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
    """Raise a ConfigError where clips have a label that is not among these, or one of these is there twice."""
    unknown = sorted({clip.label for clip in store.clips.values()} - set(labels))
    if len(set(labels)) < len(labels):
        raise ConfigError(f"data.labels names a class twice: {', '.join(labels)}")
    if unknown:
        raise ConfigError(
            f"{store.path} has clips labelled {', '.join(unknown)}, which data.labels does not name "
            f"(it has {', '.join(labels)}): add them, or prepare a store without these clips"
        )
