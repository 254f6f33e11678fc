"""The known key that an unknown one is nearest to, in its own section or in another one."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

SAME, CLOSE = 0.8, 0.65
"""Likeness (of `difflib`) of two words that differ by a slip, and of two that may be meant for each other."""


def section(kind: Any, parents: Sequence[int | str]) -> type[BaseModel] | None:
    """The section below `kind` that these keys lead to, if they lead to one."""
    for name in parents:
        field = kind.model_fields.get(name) if kind is not None else None
        kind = _section_in(field.annotation) if field else None
    return kind


def nearest(kind: type[BaseModel], parents: Sequence[int | str], name: str) -> str | None:
    """The dotted key that `name`, which the section `parents` below `kind` does not have, is likely meant for."""
    here = section(kind, parents)
    own = list(here.model_fields) if here is not None else []
    before = "".join(f"{part}." for part in parents)
    if slip := get_close_matches(name, own, n=1, cutoff=SAME):
        return before + slip[0]
    everywhere = list(dotted(kind))
    if there := [key for key in everywhere if key.rpartition(".")[2] == name]:
        return _most_like(before + name, there)
    if near := get_close_matches(name, own, n=1, cutoff=CLOSE):
        return before + near[0]
    leaves = {key.rpartition(".")[2]: key for key in reversed(everywhere)}
    found = get_close_matches(name, leaves, n=1, cutoff=SAME)
    return leaves[found[0]] if found else None


def dotted(kind: type[BaseModel], before: str = "") -> Iterator[str]:
    """All keys of a section and of the sections below it."""
    for name, field in kind.model_fields.items():
        yield before + name
        for below in _sections_in(field):
            yield from dotted(below, f"{before}{name}.")


def _sections_in(field: FieldInfo) -> Iterable[type[BaseModel]]:
    """The section that a field holds, or all that it may hold, where it names a part (`mmadfer.config.parts`)."""
    for table in field.metadata:
        if hasattr(table, "sections"):
            found: Iterable[type[BaseModel]] = table.sections()
            return found
    below = _section_in(field.annotation)
    return [below] if below else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be left out (`Section | None`)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def _most_like(key: str, others: list[str]) -> str:
    return (get_close_matches(key, others, n=1, cutoff=0) or others)[0]
