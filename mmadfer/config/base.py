"""Values that come from a file, checked: every error names the key, the rule and the value."""

import reprlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mmadfer.config.nearest import nearest, section
from mmadfer.errors import ConfigError
from mmadfer.utils.terminal import one_line, shown

Positive = Annotated[int, Field(gt=0, le=1_000_000)]
"""A count; no use is known for a larger one, which would ask for all time or memory."""
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_MAX_SHOWN_CHARACTERS = 100
"""Characters of a value that a message shows."""
_REPR = reprlib.Repr()  # which looks at no more than it shows: aliases make a value without end out of a few lines
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 3, *[2 * _MAX_SHOWN_CHARACTERS] * 3


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def _checked(text: str) -> str:
    if not one_line(text):
        raise ValueError("no control characters or line breaks may be in it")
    return text


Line = Annotated[str, AfterValidator(_checked)]
"""Text from a file that a person will see."""

S = TypeVar("S", bound=Section)
_Place = Callable[[tuple[int | str, ...]], str | None]


def validated(
    kind: type[S], tree: dict[str, Any], where: str, place: _Place = lambda key: None, context: Any = None
) -> S:
    """A tree of values as a section; `where` is named in errors.

    Args:
        kind: the section.
        tree: its values.
        where: the file, for errors.
        place: where the value with a key stands, if not in `where`.
        context: for validators that look at it.

    Raises:
        ConfigError: unknown key, or a value that breaks a rule.
    """
    try:
        return kind.model_validate(tree, context=context)
    except ValidationError as error:
        raise ConfigError(_explain(error, where, kind, place)) from error


def _explain(error: ValidationError, where: str, kind: type[Section], place: _Place) -> str:
    lines = [f"{where} breaks {error.error_count()} rule(s):"]
    for item, problem in zip(error.errors(), problems(error, kind), strict=True):
        stands = place(item["loc"])
        lines.append(f"  {problem}{f' [{stands}]' if stands not in (None, where) else ''}")
    return "\n".join(lines)


def problems(error: ValidationError, kind: type[Section]) -> list[str]:
    """Each rule that the values of a section break: the key, what is wrong, and the value."""
    lines = []
    for item in error.errors():
        key = ".".join(_word(part) for part in item["loc"]) or "(top)"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _unknown(kind, item["loc"])
        elif item["type"] not in ("missing", "part") and item["loc"]:
            message = f"{message} (got {_short(item['input'])})"
        lines.append(f"{key}: {message}")
    return lines


def _unknown(kind: type[Section], key: tuple[int | str, ...]) -> str:
    name, here = str(key[-1])[:_MAX_SHOWN_CHARACTERS], section(kind, key[:-1])
    near = nearest(kind, key[:-1], name)
    known = ", ".join(sorted(here.model_fields)) if here is not None else ""
    return f"unknown key{f': did you mean {near}?' if near else ';'} known here: {known}"


def _word(part: int | str) -> str:
    text = shown(str(part))
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."


def _short(value: Any) -> str:
    return _word(_REPR.repr(value))
