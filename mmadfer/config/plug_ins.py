"""Parts that a configuration takes from installed packages: which packages, and whether they are here again."""

import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmadfer.config.distillation import DISTILLATIONS
from mmadfer.config.model import TABLES, ModelConfig
from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.schema import Config
from mmadfer.config.training import OPTIMIZERS, SCHEDULES
from mmadfer.errors import MissingDependencyError
from mmadfer.tasks.tables import LOSSES, TASKS
from mmadfer.utils.terminal import shown


def of_model(model: ModelConfig) -> dict[str, str]:
    """Package and version of each part of the model that is not our own: `model.fusion: gated` -> `gates 1.5`."""
    return dict(_of_model(model))


def of_config(config: Config) -> dict[str, str]:
    """The same of a whole configuration."""
    others = (
        ("task.name", TASKS, config.task.name),
        ("data.sampler", SAMPLERS, config.data.sampler),
        ("task.loss", LOSSES, config.task.loss),
        ("task.distill", DISTILLATIONS, config.task.distill and config.task.distill.name),
        ("train.optimizer", OPTIMIZERS, config.train.optimizer),
        ("train.schedule", SCHEDULES, config.train.schedule),
    )
    found = {f"{key}: {name}": table.source(name) for key, table, name in others if name}
    return of_model(config.model) | {what: source for what, source in found.items() if source}


def _of_model(model: ModelConfig) -> Iterator[tuple[str, str]]:
    for key, table in TABLES.items():
        name = getattr(model, key).name
        if source := table.source(name):
            yield f"model.{key}: {name}", source


def check(needed: Mapping[str, Any], where: object) -> None:
    """Whether the packages that `of_model` named are installed; warns where one has another version.

    Raises:
        MissingDependencyError: one is not; names it.
    """
    for what, source in needed.items():
        package, _, was = str(source).rpartition(" ")
        try:
            here = version(package)
        except (PackageNotFoundError, ValueError) as error:
            raise MissingDependencyError(
                f"{where} was made with {shown(str(what))} of the package {shown(str(source))}, which is not installed "
                f"here: install it (pip install {shown(package)}=={shown(was)})"
            ) from error
        if here != was:
            told = f"{where} was made with {shown(str(what))} of {shown(str(source))}, and here is {package} {here}"
            warnings.warn(told, stacklevel=3)
