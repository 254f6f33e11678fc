"""Tables, bars and lines in colour on a terminal, of words that may come from strangers."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

from mmadfer.utils.terminal import encodable, shown


class Console(rich.console.Console):
    """Rich's, for any words and any terminal: strings are made harmless before they are laid out, so tables stay even.

    Styles, boxes and cursor movements are Rich's own and stay.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)  # `:boy:` may be a part of a name

    def render_str(self, text: str, **options: Any) -> Text:
        """As the base class; brackets that are no markup are shown as they are."""
        text = encodable(shown(text, lines=True), self.encoding)
        try:
            return super().render_str(text, **options)
        except MarkupError:
            return super().render_str(text, **{**options, "markup": False})

    def render(self, *given: Any, **options: Any) -> Iterable[Segment]:
        """As the base class; what did not come as a string, such as a bar's text, is made harmless here."""
        return map(self._harmless, super().render(*given, **options))

    def _harmless(self, segment: Segment) -> Segment:
        text, style, control = segment
        if control:
            return segment
        if not self.encoding.startswith("utf"):
            text = encodable(text.replace("…", "~"), self.encoding)  # where Rich cuts: as wide, or the table breaks
        return Segment(shown(text, lines=True), style)
