"""`mmadfer card RUN|STORE`, and the options of licences that all exports have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadfer.errors import ConfigError
from mmadfer.utils.terminal import say

if TYPE_CHECKING:
    from mmadfer.export.cards import Terms

Licences = Annotated[
    list[str] | None,
    typer.Option("--licence", help="A licence that you hold or know of: PART=LICENCE, as 'my clips=own' (repeat)."),
]
Commercial = Annotated[
    bool,
    typer.Option("--commercial", help="Refuse a model with a part that no product may have, or may not be known to."),
]


def terms_of(commercial: bool, licences: list[str] | None) -> "Terms":
    """What these options say.

    Raises:
        ConfigError: a licence that is stated has another form, or is not known.
    """
    from mmadfer.contract.licences import parse_stated
    from mmadfer.export.cards import Terms

    return Terms(commercial, parse_stated(licences or ()))


def card(
    path: Annotated[
        Path, typer.Argument(help="Run directory (a model card, and one of its data), or a store (a data card).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The card to write, .md (default: RUN/MODEL_CARD.md, STORE.card.md).")
    ] = None,
    licence: Licences = None,
) -> None:
    """Write a card of a model or of data: what it is, how good, for what, and under which licences."""
    from mmadfer.report.cards.writing import write_run_cards, write_store_card
    from mmadfer.utils.files import check_place

    if not path.exists():
        raise ConfigError(f"no file or folder {path}: give a run directory or a store")
    if out is not None:
        if out.suffix != ".md":
            raise ConfigError(f"--out {out} must end in .md: a card is Markdown")
        check_place(out)
    stated = tuple(licence or ())
    written = write_run_cards(path, out, stated) if path.is_dir() else [write_store_card(path, out, stated)]
    for file in written:
        say(f"card    {file}")
