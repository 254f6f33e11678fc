"""`mmadfer adapt`: a trained model, and a folder of one person's own videos, to a model for this person."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmadfer.data.store.store import Store
from mmadfer.data.video_windows import windows_of
from mmadfer.errors import ConfigError, DataError, MmadferError
from mmadfer.launch.launching import INTERRUPTED
from mmadfer.run import directory as runs
from mmadfer.runtime.find_videos import videos as find
from mmadfer.utils.files import check_place, sync
from mmadfer.utils.temporary_folders import workplace
from mmadfer.utils.terminal import one_line, say

if TYPE_CHECKING:
    from mmadfer.train.person import Adapted

_SUFFIX, _STORE, _SETTINGS = ".safetensors", "person.store", "adapt.yaml"
"""Of a model; in the temporary folder, the person's and the labelled clips, and what `--set` says."""
_SHOWN = 10
"""Videos that could not be used that are named."""


@dataclass(frozen=True)
class Asked:
    """What somebody asks for."""

    videos: Sequence[Path]
    out: Path
    name: str
    data: Path | None = None
    fold: int | None = None
    window: float | None = None
    hop: float | None = None
    jobs: int = 1
    overrides: Sequence[str] = ()


def adapt_files(model: Path, asked: Asked) -> None:
    """Adapt, and write the model; it appears whole, or nothing is written.

    Raises:
        ConfigError, DataError, WeightsError: what cannot be, or a model that is not better; says the rule.
        typer.Exit: it was asked to stop, and has said so.
    """
    _check(asked)
    for line in _written(model, asked).lines(asked.out):
        say(line)


def _written(model: Path, asked: Asked) -> "Adapted":
    from mmadfer.model.weights.build import save_weights

    with workplace(asked.out) as folder, _in_own_words(folder, asked):
        told = "nothing was written"
        try:
            made = _adapted(model, asked, folder)
            save_weights(folder / asked.out.name, made.model, made.contract, frozen=True)
            told = f"{asked.out} may be there already; if it is, it is whole"
            publish(folder / asked.out.name, asked.out)
        except KeyboardInterrupt:
            say(f"stopped: {told}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    return made


def publish(made: Path, out: Path) -> None:
    """Give a file that is whole its name, unless another command has taken that meanwhile.

    Of two commands at once, one gets the name: a link is refused where a file is, and a rename is not. On disks without
    links, such a file is looked for just before.

    Raises:
        ConfigError: the name is taken.
    """
    try:
        os.link(made, out)
    except FileExistsError:
        raise _taken(out) from None
    except OSError:
        _refuse_existing(out)
        os.replace(made, out)
    sync(out.parent)


@contextmanager
def _in_own_words(folder: Path, asked: Asked) -> Iterator[None]:
    """An error that names a file in `folder`, which is gone when it is read, says what this was made of."""
    videos = ", ".join(map(str, asked.videos))
    words = {
        folder / _STORE: f"the temporary store of {videos} and the labelled clips",
        folder / _SETTINGS: "--set",
        folder: str(asked.out),
    }
    try:
        yield
    except MmadferError as error:
        text = str(error)
        for path, word in words.items():
            text = text.replace(str(path.absolute()), word).replace(str(path), word)
        error.args = (text, *error.args[1:])
        raise


def _adapted(model: Path, asked: Asked, folder: Path) -> "Adapted":
    """Read the videos, adapt and check, in an empty folder."""
    from mmadfer.model.weights.load import load
    from mmadfer.train import person
    from mmadfer.train.person_sources import run_of, sources_of
    from mmadfer.train.person_store import write_person_store

    contract, run, path = person.contract_of(load(model, asked.fold), model), run_of(model), folder / _STORE
    config = person.person_config(contract, model, path, folder / _SETTINGS, asked.overrides)
    found, windows = find([*asked.videos]), windows_of(asked.window, asked.hop)
    with Store(_sources_path(asked, run, model)) as store:
        sources = store, sources_of(contract, run, store, asked.name)
        read = write_person_store(path, contract, asked.name, found, windows, sources, asked.jobs)
    _tell(read.problems)
    if read.videos < 2:
        raise DataError(
            f"{read.videos} of {len(found)} videos can be used, and two are needed: one to adapt on, and one to check "
            "on. Give more videos of this person"
        )
    made = person.adapt_model(model, asked.fold, run.config.name if run else model.stem, asked.name, config)
    if made is None:
        raise KeyboardInterrupt
    return made


def _check(asked: Asked) -> None:
    if asked.out.suffix != _SUFFIX:
        raise ConfigError(f"{asked.out} must end in {_SUFFIX}: by this mmadfer knows the file when it loads it")
    if not one_line(asked.name) or not asked.name.strip():
        raise ConfigError(f"--name {asked.name!r}: it must be one line of plain text, and not empty")
    _refuse_existing(asked.out)
    check_place(asked.out)


def _refuse_existing(out: Path) -> None:
    if os.path.lexists(out):
        raise _taken(out)


def _taken(out: Path) -> ConfigError:
    return ConfigError(f"{out} exists, and may be another person's model: choose another --out, or remove it")


def _sources_path(asked: Asked, run: runs.Run | None, model: Path) -> Path:
    path = asked.data or (run.config.data.store if run else None)
    if path is None:
        raise ConfigError(f"{model} does not say where its training clips are: give their store with --data STORE")
    return path


def _tell(problems: Sequence[str]) -> None:
    for line in problems[:_SHOWN]:
        say(f"left out: {line}", err=True)
    if len(problems) > _SHOWN:
        say(f"left out: {len(problems) - _SHOWN} more", err=True)
