"""The commands that pass a model on: `mmadfer card`, `push`, `sign` and `verify`."""

import typer

from mmadfer.cli.card import card


def add_commands(app: typer.Typer) -> None:
    """Give an application these commands."""
    app.command()(card)
