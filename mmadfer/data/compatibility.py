"""What a store must have in common with a configuration that trains on it, and with a model that is tested on it.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from mmadfer.config.base import validated
from mmadfer.config.schema import Config, DataConfig, ModelConfig, PrepareConfig
from mmadfer.contract import Contract, hertz
from mmadfer.data.fold_clips import labels_of
from mmadfer.data.store.record import Clip
from mmadfer.data.store.splits import FOLDS
from mmadfer.data.store.store import Store
from mmadfer.errors import ClipError, ConfigError, DataError

OF_CLIPS = {"fps", "max_seconds", "no_sound", "sound.max_seconds", "landmarks"}
"""Keys below `prepare` that say which clips are kept and told of, and what is kept beside frames and sound; not how
those that are kept are processed."""
OF_TRACK = {"face_margin", "detect_every"}
"""Keys that have no effect where `face_box` is `union`."""


def adopted(config: Config, store: Store) -> tuple[Config, str]:
    """The configuration with what the store says, and a word on what else it names that the store does not hold.

    `prepare`, `data.folds`, `data.labels` and `model.fbank` are the store's where the configuration names no other.

    Raises:
        ConfigError: it names a value that makes other clips or folds than the store's; says both, and how to mend it.
    """
    named = _named(config)
    _refuse_other(config, store, named)
    told = [item for item in _all_differences(config.prepare, store.prepare) if item[0] in named]
    words = f"{store.path} was prepared with {_told(told, 2)}, not {_told(told, 1)}: the store's settings hold"
    changed: dict[str, Any] = {"prepare": store.prepare, "data": _data(config, store)}
    bands = (store.prepare.sound.frames, store.prepare.sound.mels)
    if bands != config.model.fbank:
        changed["model"] = _with_fbank(config, store, bands)
    return config.model_copy(update=changed), words if told else ""


def _named(config: Config) -> set[str]:
    """Keys below `prepare` that the configuration names, whatever their values."""
    own = config.prepare.model_fields_set if "prepare" in config.model_fields_set else set[str]()
    sound = config.prepare.sound.model_fields_set if "sound" in own else set[str]()
    return {*own, *(f"sound.{key}" for key in sound)}


def _refuse_other(config: Config, store: Store, named: Container[str]) -> None:
    differ = [item for item in _differences(config.prepare, store.prepare) if item[0] in named]
    if differ:
        raise ConfigError(
            f"{store.path} was prepared with {_told(differ, 2)}, the configuration has {_told(differ, 1)}: the model "
            f"would be trained on other clips than the configuration says. Prepare the data again with this "
            f"configuration (mmadfer prepare ... --config), or say what the store holds: {_cure(differ, store)}"
        )


def _data(config: Config, store: Store) -> DataConfig:
    name = config.data.split
    there = store.split(name, config.data.folds).folds
    count = config.data.folds if "folds" in config.data.model_fields_set else max(there, default=0)
    if there != tuple(range(1, count + 1)):
        where = "" if name == FOLDS else f" of the split {name}"
        cure = f". Prepare the data again with --set data.folds={count}" if name == FOLDS else ": leave data.folds out"
        raise ConfigError(
            f"{store.path} has clips in folds {', '.join(map(str, there)) or 'none'}{where}, but data.folds is "
            f"{count}: the store must have folds 1 to data.folds, and no other{cure}{_own_folds(there)}"
        )
    return config.data.model_copy(update={"folds": count, "labels": labels_of(config, store) or None})


def _with_fbank(config: Config, store: Store, bands: tuple[int, int]) -> ModelConfig:
    if "fbank" in config.model.model_fields_set:
        raise ConfigError(
            f"{store.path} holds filter banks of {list(bands)} frames and mels, but model.fbank is "
            f"{list(config.model.fbank)}: leave model.fbank out, or prepare the data again"
        )
    tree = {**config.model.model_dump(exclude_unset=True), "fbank": bands}
    return validated(ModelConfig, tree, f"model.fbank, which is {list(bands)} in {store.path},")


def check_store(contract: Contract, store: Store) -> None:
    """Refuse a store that was not prepared as the model was trained.

    Raises:
        DataError: it has labels or rates of sound that the model does not know, or differs in a setting of `prepare`
            that changes what a clip becomes.
    """
    own = contract.store and contract.store == store.header.fingerprint
    unknown = sorted({*store.labels} - {*contract.labels}) if contract.output == "classes" else []
    if unknown and not own:  # of its own store, it may have learnt some labels only
        raise DataError(
            f"{store.path} has labels that the model does not know: {', '.join(unknown)}; the model knows "
            f"{', '.join(contract.labels)}. Take the store of its own data set ({contract.data_set})."
        )
    check_prepared(contract, store)


def check_prepared(contract: Contract, store: Store) -> None:
    """Refuse a store whose clips are made in another way than those that the model was trained on, whatever its labels.

    Raises:
        DataError: it has rates of sound that the model does not know, or differs in a setting of `prepare`
            that changes what a clip becomes.
    """
    differ = _differences(contract.prepare, store.prepare)
    if differ:
        raise DataError(
            f"{store.path} was prepared with {_told(differ, 2)}, the model was trained with {_told(differ, 1)}: other "
            "faces, frames or sound cost accuracy, silently. Prepare a store with the model's settings: "
            + " ".join(f"--set prepare.{key}={wanted}" for key, wanted, _ in differ)
        )
    if not (contract.store and contract.store == store.header.fingerprint):
        _check_rates(contract, store)


def check_rate(contract: Contract, rate: int, path: Path | str) -> None:
    """Refuse a file whose sound has a rate at which the model has heard none.

    Args:
        contract: of the model.
        rate: at which the file's filter bank was computed, in Hz; 0 where it has no sound.
        path: the file, for the message.

    Raises:
        ClipError: `sound rate`: the model hears sound at its own rate, knows its rates, and this is none of them.
    """
    if _strange(contract, [rate]):
        raise ClipError(_other_sound(contract, path, f"{rate} Hz", rate), "sound rate")


def sound_rates(clips: Iterable[Clip]) -> dict[int, int]:
    """Rate in Hz, rising -> how many clips were heard at it; clips without sound, or of unknown rate, do not count."""
    counts = Counter(clip.rate for clip in clips if clip.rate)
    return dict(sorted(counts.items()))


def mostly_cropped(store: Store) -> bool:
    """Whether more than half of the clips are frames that the set's owners cropped; a model says no more of a mix."""
    return 2 * sum(clip.cropped for clip in store.clips.values()) > len(store.clips)


def other_crops(contract: Contract, store: Store) -> str:
    """What to warn of where clips were not cropped by those who cropped the training's; "" if there is nothing.

    A mixed store is as most of its clips, and its own models are not warned of. `face_box: union` makes the same faces
    as the published program did for MAFW, so there it does not matter who ran it.
    """
    own = contract.store and contract.store == store.header.fingerprint
    others = sum(clip.cropped != contract.cropped for clip in store.clips.values())
    if own or not others or contract.modalities == "audio" or contract.prepare.face_box == "union":
        return ""
    ways = ("found by mmadfer", "cropped by the data set's owners")
    return (
        f"the model was trained on faces {ways[contract.cropped]}; those of {others} of {len(store.clips)} clips of "
        f"{store.path} were {ways[not contract.cropped]}. Other crops cost accuracy: the result says less."
    )


def _check_rates(contract: Contract, store: Store) -> None:
    counts = sound_rates(store.clips.values())
    strange = _strange(contract, counts)
    if strange:
        found = ", ".join(f"{rate} Hz ({counts[rate]} of {len(store.clips)} clips)" for rate in strange)
        raise DataError(_other_sound(contract, store.path, found, strange[0]))


def _other_sound(contract: Contract, path: Path | str, found: str, rate: int) -> str:
    nearest = min(contract.sound_rates, key=lambda known: abs(known - rate))
    return (
        f"{path} has sound at {found}, but the model was trained at {hertz(contract.sound_rates)}: it takes sound at "
        "its own rate, and mel bands of another rate cost accuracy, silently. Convert the sound of such a file (ffmpeg "
        f"-i FILE -c:v copy -ar {nearest} NEW), or train with --set prepare.sound.rate=16000, which resamples all sound"
    )


def _strange(contract: Contract, rates: Iterable[int]) -> list[int]:
    """Those of the rates that the model has not heard; none where it hears nothing, resamples, or does not say."""
    known = contract.sound_rates
    if contract.modalities == "vision" or contract.prepare.sound.rate != "native" or not known:
        return []
    return [rate for rate in rates if rate and rate not in known]


def _own_folds(there: tuple[int, ...]) -> str:
    whole = there and there == tuple(range(1, len(there) + 1))
    return f", or train with the store's own (--set data.folds={len(there)})" if whole else ""


def _differences(one: PrepareConfig, other: PrepareConfig) -> list[tuple[str, Any, Any]]:
    """Keys below `prepare` that change what a clip becomes and whose values differ, with both values."""
    idle = OF_CLIPS | (OF_TRACK if one.face_box == other.face_box == "union" else set())
    return [item for item in _all_differences(one, other) if item[0] not in idle]


def _all_differences(one: PrepareConfig, other: PrepareConfig) -> list[tuple[str, Any, Any]]:
    left, right = (_flat(section) for section in (one, other))
    return [(key, left[key], right[key]) for key in left if left[key] != right[key]]


def _flat(section: PrepareConfig) -> dict[str, Any]:
    values = section.model_dump(exclude={"sound"}) | {"landmarks": section.landmarks}
    return values | {f"sound.{key}": value for key, value in section.sound.model_dump().items()}


def _told(differ: list[tuple[str, Any, Any]], side: int) -> str:
    return ", ".join(f"{item[0]} {item[side]}" for item in differ)


def _cure(differ: list[tuple[str, Any, Any]], store: Store) -> str:
    keys = [f"--set prepare.{key}={held}" for key, _, held in differ]
    if {key for key, *_ in differ} & {"sound.frames", "sound.mels"}:
        held = store.prepare.sound
        keys.append(f"--set 'model.fbank=[{held.frames}, {held.mels}]'")
    return " ".join(keys)
