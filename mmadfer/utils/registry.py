"""Parts by name: our own, and those that installed packages bring by entry points."""

from collections import defaultdict
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mmadfer.errors import ConfigError
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)


class PlugInError(ConfigError, ValueError):
    """Mend or remove a package that brings a part; a ValueError, so that a configuration that names it is refused."""


class Registry:
    """The parts of one kind by name, imported when they are asked for.

    A package adds a part by an entry point of the kind's group, for example in its pyproject.toml
    `[project.entry-points."mmadfer.fusions"]` with `gated = "my_package.gated:GatedFusion"`.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, str]) -> None:
        """`kind` names a part in errors, `group` is that of the entry points, `own` has `module:attribute` by name."""
        self.kind, self.group, self.own = kind, group, own

    @cached_property
    def plug_ins(self) -> dict[str, list[EntryPoint]]:
        """Parts of installed packages by name, with several only where packages clash; no name is one of our own."""
        found = defaultdict[str, list[EntryPoint]](list)
        for point in entry_points(group=self.group):
            if point.name in self.own:
                LOGGER.warning(f"{self.kind} {point.name!r} of {_package(point)} is not used: mmadfer has its own")
            else:
                found[point.name].append(point)
        return dict(found)

    def names(self) -> list[str]:
        """All names, our own first."""
        return [*self.own, *sorted(self.plug_ins)]

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: nothing has that name; says which there are.
            PlugInError: parts of several packages have it.
        """
        if name not in self.own and name not in self.plug_ins:
            near = get_close_matches(name, self.names(), n=1)
            raise ValueError(
                f"there is no {self.kind} {name!r}{f': did you mean {near[0]}?' if near else '.'} Known are "
                f"{', '.join(self.names())}, and what installed packages add as entry points of {self.group}"
            )
        if name not in self.own and len(self.plug_ins[name]) > 1:
            packages = " and ".join(sorted(map(_package, self.plug_ins[name])))
            raise PlugInError(f"{self.kind} {name!r} is there several times, of {packages}: remove all but one of them")
        return name

    def load(self, name: str) -> Any:
        """The part itself.

        Raises:
            ValueError: nothing has that name.
            PlugInError: it is another package's, and does not load.
            ImportError: it is our own, and what it needs is not installed.
        """
        if self.check(name) in self.plug_ins:
            return self._load(self.plug_ins[name][0])
        module, _, attribute = self.own[name].partition(":")
        return getattr(import_module(module), attribute)

    def source(self, name: str) -> str | None:
        """Package and version that a part comes from, as `my-package 1.0`; None for our own."""
        points = self.plug_ins.get(name)
        return _package(points[0]) if points and points[0].dist is not None else None

    def _load(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:  # whatever a package's import may raise
            told = f"{self.kind} {point.name!r} of {_package(point)} does not load: {type(error).__name__}: {error}"
            raise PlugInError(f"{told}. Mend or reinstall that package") from error


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
