"""Which action units an expression has (Belharbi et al. 2024, figure 2); nothing here imports torch.

The figure and the authors' program agree but in Disgust: the program has the Upper Lid Raiser (FACS 5), the figure AU10
with that name, and AU10 is the Upper Lip Raiser.
"""

import json
from pathlib import Path
from typing import Any, Literal

Disgust = Literal["program", "facs10"]
"""The units of Disgust: with FACS 5, as the published program, or with FACS 10, as the number in the figure."""

_BOOK: dict[str, Any] = json.loads(Path(__file__).with_name("codebook.json").read_text(encoding="utf-8"))
EXPRESSIONS: tuple[str, ...] = tuple(_BOOK["expressions"])
"""Those with units, by the codebook's names."""
FACS: tuple[int, ...] = tuple(unit["facs"] for unit in _BOOK["units"])
"""The number of each unit in the Facial Action Coding System; units are counted as the published program does."""
UNIT_NAMES: tuple[str, ...] = tuple(unit["name"] for unit in _BOOK["units"])
NONE = -1
"""In the place of an expression: a label that has no units."""
_OF_LABEL = {label: place for place, one in enumerate(_BOOK["expressions"].values()) for label in one["labels"]}


def units_of(expression: str, disgust: Disgust = "program") -> tuple[int, ...]:
    """The units of an expression of `EXPRESSIONS`, as places in `FACS`."""
    own = _BOOK["disgust"][disgust] if expression == "Disgust" else _BOOK["expressions"][expression]["units"]
    return tuple(own)


def expression_of(label: str) -> int:
    """The place in `EXPRESSIONS` of a class label, in capitals or not: `happy` and `happiness` are one.

    `NONE` for neutral, contempt, anxiety, compound labels and all others that are not in the codebook.
    """
    return _OF_LABEL.get(label.strip().lower(), NONE)
