"""What the library tells while it works: loggers by module, shown on the terminal.

`MMADFER_LOG` is the least level that is shown: debug, info (the default) or warning. Lines go through `say`, which
takes out what would act on the terminal; warnings and errors go to standard error, all else to standard output.

An application with handlers of its own takes this one away:

    logging.getLogger("mmadfer").handlers.clear()
    logging.getLogger("mmadfer").propagate = True
"""

import logging
import os

from mmadfer.errors import ConfigError
from mmadfer.utils.terminal import say

_VARIABLE = "MMADFER_LOG"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


class Terminal(logging.Handler):
    """One line for each record: rich's own handler lays records out in columns, which cuts paths in two."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show it; a line for developers begins with the name of its module."""
        prefix = f"{record.name}: " if record.levelno < logging.INFO else ""
        say(f"{prefix}{record.getMessage()}", err=record.levelno >= logging.WARNING)


def logger(module: str) -> logging.Logger:
    """The logger of a module of mmadfer."""
    return logging.getLogger(module)


def set_level() -> None:
    """Show what `MMADFER_LOG` asks for, from now on.

    Raises:
        ConfigError: it names no level.
    """
    wanted = os.environ.get(_VARIABLE, "info").lower()
    if wanted not in LEVELS:
        raise ConfigError(f"{_VARIABLE} is {wanted!r}: it must be one of {', '.join(LEVELS)}")
    logging.getLogger("mmadfer").setLevel(LEVELS[wanted])


def _begin() -> None:
    root = logging.getLogger("mmadfer")
    root.addHandler(Terminal())
    root.propagate = False
    root.setLevel(LEVELS.get(os.environ.get(_VARIABLE, "").lower(), logging.INFO))


_begin()
