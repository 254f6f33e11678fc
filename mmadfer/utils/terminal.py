"""Words on a terminal: the one place that they go through, because many of them are of strangers.

Names of files, labels, keys and messages out of files may hold escape sequences, which set a terminal's title, write to
its clipboard or hide lines; and a terminal may lack the signs that are to be shown. `say` prints plain lines, and
`mmadfer.utils.console` makes tables, both of what `shown` and `encodable` leave.
"""

import codecs
import io
import re
import sys
import traceback
from types import TracebackType

HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line breaks, signs that turn the order of those after them, and bytes that are no text."""
_KEPT = "\n\t"
_PLAIN = {"█": "#", "…": "...", "±": "+/-", "·": "-", "→": "->"}
"""Signs of our own, and those that take their place where a terminal lacks them."""


def one_line(text: str) -> bool:
    """Whether a text can be shown as it is, on a line of its own."""
    return not HIDDEN.search(text)


def shown(text: str, *, lines: bool = False) -> str:
    """Text that does nothing to a terminal: what is hidden in it is escaped, as `\\x1b`.

    Args:
        text: of any origin.
        lines: line breaks and tabs stay.
    """
    return HIDDEN.sub(lambda found: found[0] if lines and found[0] in _KEPT else _escaped(found[0]), text)


def encodable(text: str, encoding: str | None) -> str:
    """Text in the signs that an encoding has: others become like ones, or are escaped."""
    encoding = encoding or "utf-8"
    return text if encoding.lower().startswith("utf") else text.encode(encoding, "mmadfer.plain").decode(encoding)


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign) or _escaped(sign) for sign in error.object[error.start : error.end]), error.end


codecs.register_error("mmadfer.plain", _instead)


def say(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print a line, or several.

    Args:
        text: of any origin.
        err: on standard error.
        end: what follows it.
    """
    stream = sys.stderr if err else sys.stdout
    print(encodable(shown(str(text), lines=True), stream.encoding), end=end, file=stream, flush=True)


def take_all_signs() -> None:
    """What others print, such as the option parser its help, is escaped where the terminal lacks signs, too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="mmadfer.plain")


def warning(message: Warning | str, *_: object, **__: object) -> str:
    """For `warnings.formatwarning`: a warning in words for users, who have no use for the program's line."""
    return f"warning: {shown(str(message), lines=True)}\n"


def fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: a traceback, whose words may be of strangers too."""
    say("".join(traceback.format_exception(kind, error, trace)), err=True, end="")
