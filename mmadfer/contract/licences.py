"""What licences allow, and which data sets and encoders have which: the one table `licences.yaml`, read."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmadfer.config.base import Line, Section, validated
from mmadfer.errors import ConfigError
from mmadfer.utils.files import read_yaml

_TABLE = Path(__file__).with_name("licences.yaml")
NOT_KNOWN = "not known"

Kind = Literal["films", "acted", "laboratory", "internet", "toy"]


class Licence(Section):
    """What a licence allows."""

    commercial: bool
    hub: Line = ""
    """Its name on the Hugging Face hub; empty where that has none."""
    follows: Line
    """What follows from it for who passes the model on."""


class PartFacts(Section):
    """Whose licence a part has; none where nobody has said it."""

    licence: Line | None = None
    source: Line = ""
    note: Line = ""


class DataFacts(PartFacts):
    """The same of a data set, and what is seen in it."""

    kind: Kind


class LicenceTable(Section):
    """All of `licences.yaml`."""

    licences: dict[Line, Licence]
    parts: dict[Line, PartFacts]
    data_sets: Annotated[dict[Line, DataFacts], Field(min_length=1)]


@cache
def licence_table() -> LicenceTable:
    """The table; the same for all."""
    return validated(LicenceTable, read_yaml(_TABLE), str(_TABLE))


def encoder_licence(name: str) -> str:
    """That of `MAE-Face` or `AudioMAE`."""
    return licence_table().parts[name].licence or NOT_KNOWN


def data_set_facts(name: str | None) -> DataFacts | None:
    """What is known of a data set, by its name; None of one's own."""
    return licence_table().data_sets.get(name or "")


def parse_stated(lines: Iterable[str]) -> dict[str, str]:
    """`PART=LICENCE` lines, as `--licence` takes them, as a dict.

    Raises:
        ConfigError: another form, or a licence that the table has not.
    """
    stated = dict[str, str]()
    for line in lines:
        part, equals, licence = (piece.strip() for piece in line.partition("="))
        if not part or not equals:
            raise ConfigError(f"--licence {line!r} must read PART=LICENCE, for example --licence 'my clips=own'")
        known = licence_table().licences
        if licence not in known:
            near = get_close_matches(licence, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"--licence {line!r}: {hint}known licences are {', '.join(known)}")
        stated[part] = licence
    return stated
