"""Runs one after the other, each of which may begin from, or learn from, an earlier one, fold by fold.

DIR/chain.yaml   the names of the runs, in order; written before they are made
DIR/NAME/        an ordinary run; on SLURM its array waits for those of its parents, element by element
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from mmadfer.config.base import Section, validated
from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.launch import in_use, launching
from mmadfer.launch.launching import Launch
from mmadfer.run import directory as runs
from mmadfer.run.parents import lacking
from mmadfer.utils.files import read_yaml, write_text
from mmadfer.utils.terminal import say

_FILE = "chain.yaml"


class _Chain(Section):
    runs: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")], ...], Field(min_length=1)]


def is_chain(folder: Path) -> bool:
    """Whether a folder holds a chain of runs."""
    return (folder / _FILE).is_file()


def runs_of(folder: Path) -> list[Path]:
    """The runs of a chain, in order.

    Raises:
        ConfigError: its list is damaged.
        RunError: one of them is not there.
    """
    names = _names(folder)
    if missing := [name for name in names if not (folder / name).exists()]:
        raise RunError(
            f"{folder} was not made as a whole, {missing[0]} is missing: launch the same configurations again, with "
            f"--run {folder} --resume"
        )
    return [runs.read(folder / name).path for name in names]


def _names(folder: Path) -> tuple[str, ...]:
    return validated(_Chain, read_yaml(folder / _FILE), str(folder / _FILE)).runs


def linked(settings: Sequence[Config], folder: Path) -> list[Config]:
    """The configurations of a chain in `folder`: the name of an earlier one under `stages` becomes that one's run.

    Raises:
        RunError: two have the same name, or one has nothing to do with those before it.
    """
    made: dict[str, Config] = {}
    for config in settings:
        parents = {key: folder / path for key, path in config.stages.parents.items() if str(path) in made}
        if config.name in made:
            raise RunError(f"two configurations are named {config.name}: give each a name of its own (--set sets both)")
        if made and not parents:
            raise RunError(
                f"{config.name} begins or learns from none of {', '.join(made)}: name one under stages.init or "
                "stages.teacher, or launch it by itself"
            )
        made[config.name] = config.model_copy(update={"stages": config.stages.model_copy(update=parents)})
    return list(made.values())


def start(folder: Path, tasks: Sequence[Launch]) -> int:
    """Make all runs, or open those that are there, then launch one after the other; here, each is waited for.

    Returns the exit code.

    Raises:
        RunError: as `launching.start_launch`.
    """
    runs.refuse_file(folder)
    if not is_chain(folder) and folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} exists and is not empty: choose another --run for the folder of the chain's runs")
    names = [task.run.name for task in tasks]
    if is_chain(folder) and not {*names} <= {*_names(folder)}:
        raise RunError(f"{folder} is a chain of {', '.join(_names(folder))}: choose another --run")
    for task in tasks:
        launching.check_launch(task)
    if not is_chain(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _FILE, yaml.safe_dump({"runs": names}))
    for task in tasks:
        launching.make_run(task)
    codes = [0]
    for task in tasks:
        if why := _hopeless(task):
            say(f"{task.run} is not begun: {why}")
            codes.append(1)
            continue
        codes.append(launching.go(task))
        if codes[-1] == launching.INTERRUPTED:
            return launching.INTERRUPTED
    say(f"All of them: `{launching.command('status', folder)}`, or cancel, or resume")
    return max(codes)


def _hopeless(task: Launch) -> str:
    """Why no fold can be trained on this machine, where none can."""
    if task.resources.cluster == "slurm":
        return ""
    lacks = [lacking(task.config, fold) for fold in task.todo()]
    return lacks[0] if lacks and all(lacks) else ""


def to_go_on(folder: Path) -> list[Path]:
    """The runs of a chain that have folds to train, and that nobody trains; the others are told of."""
    left = []
    for run in runs_of(folder):
        if who := in_use.holders(run):
            say(f"{run} is left alone: {who[0]}")
        elif all(runs.result(runs.fold_dir(run, fold)) for fold in range(1, runs.read(run).config.data.folds + 1)):
            say(f"{run} is finished")
        else:
            left.append(run)
    return left
