"""Tables as CSV, of which a spreadsheet takes no text for a formula, whoever chose the names in it."""

import csv
import io
from collections.abc import Iterable, Sequence

from mmadfer.utils.names import in_utf8

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute."""
GUARD = "'"


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def cell(text: str, guard: str = GUARD) -> str:
    """Text that a spreadsheet does not take for a formula, in UTF-8 whatever bytes a name has; see `plain_cell`."""
    text = in_utf8(text)
    return guard + text if text.lstrip(GUARD).startswith(FORMULA) else text


def plain_cell(text: str) -> str:
    """The text of which `cell` made this one, with the usual guard."""
    return text[1:] if text.startswith(GUARD) and text.lstrip(GUARD).startswith(FORMULA) else text
