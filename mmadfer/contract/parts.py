"""The parts of a model, what each may be used for, and the gate that refuses what no product may have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmadfer.contract import Contract
from mmadfer.contract.facts import TEACHERS
from mmadfer.contract.licences import NOT_KNOWN, PartFacts, data_set_facts, licence_table
from mmadfer.errors import ConfigError, LicenceError

_PUBLISHED = "weights"
"""The part of a released checkpoint that has its data set's terms."""


@dataclass(frozen=True)
class Part:
    """A part of a model, and what its licence allows."""

    name: str
    what: str
    """`code`, `weights` or `data`."""
    licence: str
    """By its name in the table, or as a contract says it; `NOT_KNOWN` where nobody has said it."""
    commercial: bool | None
    """None: not known."""
    follows: str = ""
    source: str = ""
    stated: bool = False
    """By who exported the model, and not by the table."""

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "allowed", False: "not allowed", None: NOT_KNOWN}[self.commercial]


def parts_of(contract: Contract, stated: Mapping[str, str] | None = None) -> list[Part]:
    """Code, weights and data that a model and those before it were made of, with their licences.

    Args:
        contract: the model's.
        stated: licences that its exporter states, by the name of the part.

    Raises:
        ConfigError: `stated` names what is no part of the model.
    """
    stated = stated or {}
    found = [_of_contract(name, licence, contract.data_set, stated) for name, licence in contract.licences.items()]
    if "vision" in contract.model.modalities:
        found.append(_of_table("MTCNN", "weights", licence_table().parts["MTCNN"], stated))
    found.append(data_part(contract.data_set, stated))
    if contract.teacher is not None and contract.teacher.data_set != contract.data_set:
        found.append(data_part(contract.teacher.data_set, stated))
    for origin in contract.origins:
        found += [_of_contract(name, licence, origin.data_set, stated) for name, licence in origin.licences.items()]
        found.append(data_part(origin.data_set, stated))
    _check_stated(stated, found)
    return list(dict.fromkeys(found))


def data_part(name: str, stated: Mapping[str, str] | None = None) -> Part:
    """A data set as a part."""
    return _of_table(name, "data", data_set_facts(name) or PartFacts(), stated or {})


def _check_stated(stated: Mapping[str, str], found: Iterable[Part]) -> None:
    names = [part.name for part in found]
    for name in stated:
        if name not in names:
            raise ConfigError(
                f"--licence names {name!r}, which is no part of this model: its parts are {', '.join(names)}"
            )


def _of_contract(name: str, licence: str, data_set: str, stated: Mapping[str, str]) -> Part:
    """A part that the contract names; of the weights of a released checkpoint, the terms of its data set."""
    plain = name.removesuffix(TEACHERS)
    if plain == _PUBLISHED:
        known = data_set_facts(data_set)
        return _of_table(name, "weights", PartFacts(licence=known.licence if known else None), stated)
    facts = licence_table().parts.get(plain, PartFacts())
    licence = licence if licence in licence_table().licences else ""  # of what the table knows, the table's counts
    return _of_table(name, "code" if plain == "mmadfer" else "weights", facts, stated, licence)


def _of_table(name: str, what: str, facts: PartFacts, stated: Mapping[str, str], licence: str = "") -> Part:
    licence = stated.get(name) or facts.licence or licence
    known = licence_table().licences.get(licence)
    if known is None:
        return Part(name, what, NOT_KNOWN, None, facts.note, facts.source)
    follows = known.follows + (f" ({facts.note})" if facts.note and name not in stated else "")
    return Part(name, what, licence, known.commercial, follows, facts.source, name in stated)


def hub_licence(parts: Iterable[Part]) -> str | None:
    """The hub's name of the one licence that binds a model most; None where there is no one such, or none known.

    Code alone says nothing of what may be done with weights that were trained on data.
    """
    others = [part for part in parts if part.what != "code"]
    if any(part.commercial is None for part in others):
        return None
    binding = {part.licence for part in others if not part.commercial}
    known = [licence_table().licences[name].hub for name in binding]
    return known[0] if len(known) == 1 and known[0] else None


def refuse_non_commercial(parts: Iterable[Part], what: str) -> None:
    """Pass where each part allows commercial use.

    Raises:
        LicenceError: a part forbids it, or nobody has said that it allows it; names all of them.
    """
    bad = [part for part in parts if not part.commercial]
    if not bad:
        return
    lines = "".join(f"\n  {part.name} ({part.what}): {part.licence}, commercial use {part.verdict}" for part in bad)
    raise LicenceError(
        f"{what} cannot be exported for commercial use, which the licence of each of its parts must allow:{lines}\n"
        "Train it without these parts; or, where you hold another licence, state it: --licence 'PART=LICENCE', for "
        f"example --licence '{bad[0].name}=own'"
    )
