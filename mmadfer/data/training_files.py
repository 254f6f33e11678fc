"""The files that a training begins with: read and checked before anything is made.

Nothing here imports torch, so that a launcher can ask.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.data.aligned_clips import check_alignment
from mmadfer.data.compatibility import adopted
from mmadfer.data.fold_clips import check_training
from mmadfer.data.frame_windows import check_windows
from mmadfer.data.loading.adaptation import fold_sampler
from mmadfer.data.parent_leakage import check_stages
from mmadfer.data.sentences import ClipTokens, check_sentences
from mmadfer.data.source_subjects import check_subjects
from mmadfer.data.store.store import Store
from mmadfer.data.task_targets import check_targets
from mmadfer.errors import ConfigError
from mmadfer.run import directory as runs


def from_store(config: Config) -> Config:
    """The configuration with what its store says: how clips were prepared, and how many folds there are (`adopted`).

    Raises:
        ConfigError: no store is given, a file is not there, or the configuration names other values than the store's.
        DataError: the store is damaged, or another file.
    """
    _check_paths(config)
    with Store(store_path(config)) as store:
        return adopted(config, store)[0]


def check_files(
    config: Config, folds: Iterable[int] = (), planned: Mapping[Path, Config] | None = None, run: Path | None = None
) -> None:
    """Refuse, before anything is made, a training of these folds that could not begin.

    `planned` are configurations of parents (`stages`) that are made with it; `run` is the run directory, if known.

    Raises:
        ConfigError: no store is given, a file is not there, or the store has other folds, labels or sound, or too few
            clips; or the sampler does not take its options.
        DataError: the store is damaged, or another file, or lacks what the task learns; or a parent has seen clips of
            the test.
        RunError: a parent is no run; or other folds of the run have read other sentences.
    """
    _check_paths(config)
    with Store(store_path(config)) as store:
        whole, _ = adopted(config, store)
        there = [fold for fold in folds if fold in store.split(whole.data.split, whole.data.folds).folds]
        check_clips(whole, store, there)
        check_training(whole, store, there)
        _check_read(check_sentences(whole, store), run, there)
        for fold in there:
            fold_sampler(whole, store, fold)
        check_stages(whole, store, there, planned)


def _check_read(tokens: ClipTokens | None, run: Path | None, folds: Iterable[int]) -> None:
    """Whether these folds would read what the run has read, as far as that is known without the model."""
    if tokens is None or run is None:
        return
    for fold in folds:
        runs.check_text(run, fold, {"sentences": tokens.facts.sentences, "tokenizer": tokens.facts.tokenizer})


def check_clips(config: Config, store: Store, folds: Iterable[int]) -> None:
    """Whether clips hold what a training of these folds looks at.

    Raises:
        ConfigError, DataError: they do not; says what is lacking.
    """
    folds = [*folds]
    check_targets(config, store, folds)
    check_windows(config, store)
    check_alignment(config, store, folds)
    check_subjects(config, store, folds)


def _check_paths(config: Config) -> None:
    named = {
        "data.store": store_path(config),
        "model.vision.weights": config.model.vision.weights,
        "model.audio.weights": config.model.audio.weights,
        "data.text": config.data.text,
        "model.text.folder": config.model.text.folder if config.model.text else None,
    }
    for key, path in named.items():
        if path is not None and not path.exists():
            raise ConfigError(f"{key}: {path} does not exist")


def store_path(config: Config) -> Path:
    """`data.store`, which must be set; else a ConfigError."""
    if config.data.store is None:
        raise ConfigError("data.store is not set: `mmadfer prepare` makes a store; give it with --set data.store=FILE")
    return config.data.store
