"""The commands that pass a model on: `mmadfer card`, `push`, `sign` and `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from mmadfer.cli.card import Commercial, Licences, card, terms_of
from mmadfer.errors import ConfigError
from mmadfer.utils.terminal import say

_Chain = Annotated[list[Path] | None, typer.Option(help="A certificate between that one and the root, PEM (repeat).")]


def add_commands(app: typer.Typer) -> None:
    """Give an application these commands."""
    for command in (card, push, sign, verify):
        app.command()(command)


def push(
    path: Annotated[
        Path, typer.Argument(help="Run or fold directory, .safetensors, a published .pth, or a proven .onnx.")
    ],
    address: Annotated[str, typer.Argument(help="hub:USER/NAME, or a branch of it, hub:USER/NAME@BRANCH.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run (default: its first finished one).")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Store whose clips prove the ONNX file (default: the run's own).")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many of them, evenly spread.")] = 100,
    onnx: Annotated[bool, typer.Option(help="Also an ONNX file.")] = True,
    private: Annotated[
        bool, typer.Option("--private", help="To a repository that its owners alone see: a new one, or a private one.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="Sign with this private key, as `sign` does.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The key's certificate, PEM.")] = None,
    chain: _Chain = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    with_people: Annotated[
        bool, typer.Option("--with-people", help="Also a model adapted to people: their names and personal data.")
    ] = False,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """Push a model to the Hugging Face hub: safetensors, ONNX, contract and cards."""
    from mmadfer.export.to_hub import Push, Signer
    from mmadfer.export.to_hub import push as send
    from mmadfer.share.source import local_model

    if key is None and (certificate or chain):
        raise ConfigError("--certificate and --chain go with --key, the private key that signs")
    signer = None if key is None else Signer(key, certificate, tuple(chain or ()))
    terms = terms_of(commercial, licence)
    model = local_model(path, "weights")
    send(Push(model, fold, data, clips, onnx, private, signer, terms, with_people), address, dry_run)


def sign(
    path: Annotated[Path, typer.Argument(help="A model file, or a folder.")],
    key: Annotated[
        Path, typer.Option(help="The private key, of an elliptic curve, PEM (password: MMADFER_KEY_PASSWORD).")
    ],
    certificate: Annotated[Path | None, typer.Option(help="The key's certificate, PEM.")] = None,
    chain: _Chain = None,
) -> None:
    """Sign a model and all files that belong to it."""
    from mmadfer.share.signing import model_files, sign_model

    written = sign_model(path, key, certificate, tuple(chain or ()))
    say(f"signed  {', '.join(file.name for file in model_files(path))}\nto      {written}")


def verify(
    path: Annotated[Path, typer.Argument(help="A model file, a folder, or hub:USER/NAME@REVISION.")],
    key: Annotated[Path | None, typer.Option(help="The public key of who signed it, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The certificates that are trusted, PEM.")] = None,
) -> None:
    """Check that a model is what was signed: no file changed, missing or added."""
    from mmadfer.share.address import is_address, parse_address
    from mmadfer.share.signing import verify_model
    from mmadfer.share.source import BOTH

    given = [one for one in (key, certificate) if one is not None]
    if len(given) != 1:
        raise ConfigError("give one of --key and --certificate: whom the signature must be of")
    if is_address(path):
        from mmadfer.share.fetch import fetch

        fetched = fetch(parse_address(path), BOTH, whole=True)
        found = verify_model(fetched.folder, given[0], fetched.files)
    else:
        found = verify_model(path, given[0])
    say(f"as signed: {', '.join(file.name for file in found)}")
