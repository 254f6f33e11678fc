"""The command line is as wide as it was meant to be: no command or option comes or goes by accident."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mmadfer.cli.main import app

LIST = Path(__file__).with_name("command_line.txt")


def lines(command: Any, name: str = "mmadfer") -> Iterator[str]:
    """Every command with its arguments and options."""
    if hasattr(command, "commands"):
        for word, below in sorted(command.commands.items()):
            yield from lines(below, f"{name} {word}")
        return
    words = [param.name.upper() for param in command.params if not param.opts[0].startswith("-")]
    options = sorted(
        "/".join((*param.opts, *param.secondary_opts)) for param in command.params if param.opts[0][0] == "-"
    )
    yield " ".join([name, *words, *(option for option in options if option != "--help")])


def test_commands_and_options_are_those_of_the_list() -> None:
    found, meant = list(lines(typer.main.get_command(app))), LIST.read_text().splitlines()
    assert found == meant, (
        "the command line has changed. If that is meant, say why in the commit, and write the list anew: "
        "python tests/unit/test_command_line.py"
    )


if __name__ == "__main__":
    LIST.write_text("\n".join(lines(typer.main.get_command(app))) + "\n")
