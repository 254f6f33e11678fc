"""The table that a sweep trains: a base configuration, and for each row the keys in which it differs.

name: table4
base: dfew_160                       # a file beside this one, or the name of a shipped configuration
rows:
  full: {}
  static: {model.prompts: 0}         # keys as in --set; a row's name becomes its folder
seeds: [1, 2, 3]                     # may be left out; each row becomes one for each: full-seed1, full-seed2, …
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr, field_validator, model_validator

from mmadfer.config import identity
from mmadfer.config import schema as configs
from mmadfer.config.base import Section, validated
from mmadfer.config.schema import Config
from mmadfer.errors import ConfigError, RunError
from mmadfer.utils.files import read_yaml

FILE = "sweep.yaml"
"""In a sweep's folder: its table, with everything resolved."""
SHIPPED = "ablations"
"""The folder of the paper's tables, beside the shipped configurations."""
TAKEN = ("code", "jobs", "report", FILE)
"""What else lies beside the rows."""
SEED = "train.seed"
_ROW_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"


class SweepTable(Section):
    """What a sweep is asked for."""

    name: Annotated[StrictStr, Field(pattern=_ROW_NAME)]
    base: StrictStr
    rows: Annotated[dict[Annotated[StrictStr, Field(pattern=_ROW_NAME)], dict[StrictStr, Any]], Field(min_length=1)]
    seeds: tuple[Annotated[StrictInt, Field(ge=0)], ...] = ()
    """Every row is trained with each as its `train.seed`; a sweep's own table has these rows, and no seeds."""

    @field_validator("rows")
    @classmethod
    def _rows_have_folders(cls, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        count = Counter(row.lower() for row in (*TAKEN, *rows))
        if twice := [row for row in rows if count[row.lower()] > 1]:
            raise ValueError(
                f"{', '.join(twice)}: rows are folders, whose names must differ also without case, and from "
                f"{', '.join(TAKEN)}"
            )
        for row, keys in rows.items():
            if whole := [key for key, value in keys.items() if isinstance(value, dict)]:
                raise ValueError(f"{row}: {whole[0]} would replace a whole section: write {whole[0]}.KEY: VALUE")
        plain: dict[str, dict[str, Any]] = json.loads(
            json.dumps(rows, default=str)
        )  # what YAML reads as a date is text
        return plain

    @model_validator(mode="after")
    def _seeds_are_the_only_ones(self) -> "SweepTable":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has one twice: {', '.join(map(str, self.seeds))}")
        if own := [row for row, keys in self.rows.items() if self.seeds and SEED in keys]:
            raise ValueError(f"{', '.join(own)}: {SEED} is set, and seeds are given for every row: leave one out")
        return self

    def with_seeds(self) -> dict[str, Any]:
        """The values of a table in which each row is there once for each seed, next to each other."""
        rows = {f"{row}-seed{k}": {**keys, SEED: k} for row, keys in self.rows.items() for k in self.seeds}
        return {"name": self.name, "base": self.base, "rows": rows or self.rows}

    @property
    def groups(self) -> dict[str, dict[str, int]]:
        """Rows that came of `seeds`: the name before -> its rows `NAME-seedK`, each with K."""
        found: dict[str, dict[str, int]] = {}
        for row, keys in self.rows.items():
            name, seed = row.rpartition("-seed")[0], keys.get(SEED)
            if name and isinstance(seed, int) and row == f"{name}-seed{seed}":
                found.setdefault(name, {})[row] = seed
        return found

    def texts(self, row: str) -> list[str]:
        """A row's keys as `--set` has them; its run is named after it, unless it says otherwise."""
        named = {"name": f"{self.name}-{row}", **self.rows[row]}
        return [f"{key}={json.dumps(value)}" for key, value in named.items()]

    @property
    def common(self) -> dict[str, Any]:
        """Keys that have the same value in every row."""
        first, *others = self.rows.values()
        return {key: value for key, value in first.items() if all((key, value) in row.items() for row in others)}

    @property
    def basis(self) -> str:
        """The base, and what all rows have in common, in one line."""
        return f"{self.base}{f' with {keys_in_words(self.common)}' if self.common else ''}"

    def own(self, row: str) -> dict[str, Any]:
        """A row's keys without those that all rows have in common."""
        return {key: value for key, value in self.rows[row].items() if key not in self.common}


def keys_in_words(keys: dict[str, Any]) -> str:
    """Keys and values in one line."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in keys.items())


def read_table(file: Path) -> SweepTable:
    """The table of a file.

    Raises:
        ConfigError: no such file, broken YAML, or a key or a value that breaks a rule.
    """
    return validated(SweepTable, read_yaml(file), str(file))


def table_of(folder: Path) -> SweepTable:
    """The table of a sweep.

    Raises:
        RunError: it is not a sweep, or its table is damaged.
    """
    if not is_sweep(folder):
        raise RunError(f"{folder} is not a sweep (no {FILE}): `mmadfer launch sweep` makes one")
    try:
        return read_table(folder / FILE)
    except ConfigError as error:
        raise RunError(f"the sweep's own table is damaged: {error}") from error


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (folder / FILE).is_file()


def find_table(source: str) -> Path:
    """A table's file: by its path, or a shipped one: table4, ablations/table4, configs/ablations/table4.yaml.

    Raises:
        ConfigError: neither.
    """
    shipped = source.removeprefix(f"{configs.CONFIGS.name}/").removeprefix(f"{SHIPPED}/")
    try:
        return configs.find_config(f"{SHIPPED}/{shipped}") if not Path(source).is_file() else Path(source)
    except ConfigError as error:
        tables = ", ".join(sorted(path.stem for path in (configs.CONFIGS / SHIPPED).glob("*.yaml")))
        raise ConfigError(
            f"{source} cannot be read: no such file, and none of the shipped tables ({tables})"
        ) from error


def read(file: Path, overrides: Sequence[str] = (), instead: str | None = None) -> tuple[SweepTable, dict[str, Config]]:
    """A table with everything resolved (the base's place, and `overrides` in each row), and each row's configuration.

    Args:
        file: as `find_table` gives it.
        overrides: as `--set` has them.
        instead: another base, a file or the name of a shipped configuration.

    Raises:
        ConfigError: as `read_table`, and where a row's configuration is wrong.
    """
    asked, more = read_table(file), dict(_override(text) for text in overrides)
    if asked.seeds and SEED in more:
        raise ConfigError(f"{file} has seeds for every row: leave --set {SEED} out, or the seeds")
    asked = validated(SweepTable, asked.with_seeds(), str(file))
    try:
        base = configs.find_config(instead or asked.base, Path() if instead else file.absolute().parent).absolute()
    except ConfigError as error:
        raise ConfigError(f"{'--base' if instead else f'{file}: base'}: {error}") from error
    made = {row: _config(f"{file}: rows.{row}", base, [*asked.texts(row), *overrides]) for row in asked.rows}
    rows = {row: {**keys, **more} for row, keys in asked.rows.items()}
    return asked.model_copy(update={"base": str(base), "rows": rows}), made


def _override(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key.strip(), configs.value(value, f"the value of {key.strip()}")


def _config(where: str, base: Path, overrides: list[str]) -> Config:
    try:
        return identity.absolute(configs.load(base, overrides))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
