"""What the library tells while it works: which lines are shown, where, and in what form."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmadfer

PACKAGE = Path(mmadfer.__file__).parent
TELL = """
from mmadfer.utils.logs import logger
told = logger("mmadfer.data.clip")
told.debug("a detail")
told.info("100 % of a.mp4 \\x1b[31m")
told.warning("odd")
"""
COMMANDS = ("cli", "launch", "export", "utils")
"""Rooms of what a command prints because it was asked for it."""


def told(level: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if name != "MMADFER_LOG"}
    settings |= {"MMADFER_LOG": level} if level else {}
    return subprocess.run([sys.executable, *command], env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("level", "out"),
    [
        (None, "100 % of a.mp4 \\x1b[31m\n"),
        ("info", "100 % of a.mp4 \\x1b[31m\n"),
        ("DEBUG", "mmadfer.data.clip: a detail\n100 % of a.mp4 \\x1b[31m\n"),
        ("warning", ""),
    ],
)
def test_levels_and_streams(level: str | None, out: str) -> None:
    done = told(level, "-c", TELL)
    assert (done.stdout, done.stderr, done.returncode) == (out, "odd\n", 0)


def test_a_level_that_there_is_not_is_an_error_of_the_command_line() -> None:
    done = told("loud", "-m", "mmadfer", "doctor")
    assert done.returncode == 2
    assert done.stderr == "error: MMADFER_LOG is 'loud': it must be one of debug, info, warning\n"
    assert told("loud", "-c", TELL).stdout.startswith("100 %")


def test_an_application_can_take_the_lines_itself() -> None:
    own = """
import logging
logging.getLogger("mmadfer").handlers.clear()
logging.getLogger("mmadfer").propagate = True
logging.basicConfig(format="%(levelname)s %(name)s", level="INFO")
"""
    done = told(None, "-c", f"import mmadfer.utils.logs{own}{TELL}")
    assert done.stdout == ""
    assert done.stderr == "INFO mmadfer.data.clip\nWARNING mmadfer.data.clip\n"


def test_rooms_below_the_commands_tell_by_loggers() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in COMMANDS]
    assert len(files) > 100
    say = [path for path in files for node in ast.walk(ast.parse(path.read_text())) if _says(node)]
    assert say == []


def _says(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and any(one.name == "say" for one in node.names)
