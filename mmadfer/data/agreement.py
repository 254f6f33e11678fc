"""What a store must have in common with a configuration that trains on it, and with a model that is tested on it.

Nothing here imports torch, so that a launcher can ask before it makes anything.
"""

from typing import Any

from mmadfer.config import Config, PrepareConfig
from mmadfer.contract import Contract
from mmadfer.data.store import Store
from mmadfer.errors import ConfigError, DataError


def check_config(config: Config, store: Store) -> None:
    """Refuse to train on a store whose sound or folds are not those of the configuration.

    Raises:
        ConfigError: `prepare.sound` or `data.folds` differ; says both, and how to mend it.
    """
    sound = [item for item in _differences(config.prepare, store.prepare) if item[0].startswith("sound.")]
    if sound:
        raise ConfigError(
            f"{store.path} was prepared with {_told(sound, 2)}, the configuration has {_told(sound, 1)}: the model "
            f"would be trained on other sound than the configuration says. Prepare the data again with this "
            f"configuration (mmadfer prepare ... --config), or say what the store holds: {_cure(sound, store)}"
        )
    if store.folds != tuple(range(1, config.data.folds + 1)):
        raise ConfigError(
            f"{store.path} has clips in folds {', '.join(map(str, store.folds)) or 'none'}, but data.folds is "
            f"{config.data.folds}: the store must have folds 1 to data.folds, and no other. Prepare the data again "
            f"with --set data.folds={config.data.folds}{_own_folds(store)}"
        )


def as_prepared(config: Config, store: Store) -> tuple[Config, str]:
    """The configuration with the store's own `prepare` section, and what that changed, in words ("" if nothing)."""
    differ = _differences(config.prepare, store.prepare)
    if not differ:
        return config, ""
    told = f"{store.path} was prepared with {_told(differ, 2)}, not {_told(differ, 1)}: the store's settings hold"
    return config.model_copy(update={"prepare": store.prepare}), told


def check_store(contract: Contract, store: Store) -> None:
    """Refuse a store that was not prepared as the model was trained.

    Raises:
        DataError: it has labels that the model does not know, or differs in any setting of `prepare`.
    """
    unknown = sorted(set(store.labels) - set(contract.labels))
    if unknown:
        raise DataError(
            f"{store.path} has labels that the model does not know: {', '.join(unknown)}; the model knows "
            f"{', '.join(contract.labels)}. Take the store of its own data set ({contract.data_set})."
        )
    differ = _differences(contract.prepare, store.prepare)
    if differ:
        raise DataError(
            f"{store.path} was prepared with {_told(differ, 2)}, the model was trained with {_told(differ, 1)}: other "
            "faces or sound cost accuracy, silently. Prepare a store with the model's settings: "
            + " ".join(f"--set prepare.{key}={wanted}" for key, wanted, _ in differ)
        )


def _own_folds(store: Store) -> str:
    count = len(store.folds)
    whole = count and store.folds == tuple(range(1, count + 1))
    return f", or train with the store's own (--set data.folds={count})" if whole else ""


def _differences(one: PrepareConfig, other: PrepareConfig) -> list[tuple[str, Any, Any]]:
    """Keys below `prepare` whose values differ, with both values."""
    left, right = (_flat(section) for section in (one, other))
    return [(key, left[key], right[key]) for key in left if left[key] != right[key]]


def _flat(section: PrepareConfig) -> dict[str, Any]:
    values = section.model_dump(exclude={"sound"})
    return values | {f"sound.{key}": value for key, value in section.sound.model_dump().items()}


def _told(differ: list[tuple[str, Any, Any]], side: int) -> str:
    return ", ".join(f"{item[0]} {item[side]}" for item in differ)


def _cure(sound: list[tuple[str, Any, Any]], store: Store) -> str:
    keys = [f"--set prepare.{key}={held}" for key, _, held in sound]
    if {key for key, *_ in sound} & {"sound.frames", "sound.mels"}:
        held = store.prepare.sound
        keys.append(f"--set 'model.fbank=[{held.frames}, {held.mels}]'")
    return " ".join(keys)
