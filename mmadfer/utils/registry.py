"""Parts by name: our own, and those that installed packages bring by entry points."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class Registry:
    """The parts of one kind by name, imported when they are asked for.

    A package adds a part by an entry point of the kind's group, for example in its pyproject.toml
    `[project.entry-points."mmadfer.fusions"]` with `gated = "my_package.gated:GatedFusion"`.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, str]) -> None:
        """`kind` names a part in errors, `group` is that of the entry points, `own` has `module:attribute` by name."""
        self.kind, self.group, self.own = kind, group, own

    @cached_property
    def plug_ins(self) -> dict[str, EntryPoint]:
        """Parts of installed packages by name; none of them has a name of our own."""
        return {point.name: point for point in entry_points(group=self.group) if point.name not in self.own}

    def names(self) -> list[str]:
        """All names, our own first."""
        return [*self.own, *sorted(self.plug_ins)]

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: nothing has that name; says which there are.
        """
        if name not in self.own and name not in self.plug_ins:
            near = get_close_matches(name, self.names(), n=1)
            raise ValueError(
                f"there is no {self.kind} {name!r}{f': did you mean {near[0]}?' if near else '.'} Known are "
                f"{', '.join(self.names())}, and what installed packages add as entry points of {self.group}"
            )
        return name

    def load(self, name: str) -> Any:
        """The part itself.

        Raises:
            ValueError: nothing has that name.
            ImportError: what it needs is not installed.
        """
        if self.check(name) in self.plug_ins:
            return self.plug_ins[name].load()
        module, _, attribute = self.own[name].partition(":")
        return getattr(import_module(module), attribute)

    def source(self, name: str) -> str | None:
        """Package and version that a part comes from, as `my-package 1.0`; None for our own."""
        point = self.plug_ins.get(name)
        return f"{point.dist.name} {point.dist.version}" if point is not None and point.dist is not None else None
