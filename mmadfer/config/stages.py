"""What a run begins from and learns from: other runs, fold by fold."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from mmadfer.config.base import Line, Section

Patterns = tuple[Annotated[Line, Field(min_length=1)], ...]


class StagesConfig(Section):
    """Fold k takes fold k of these runs, which must have been trained without any clip that fold k is tested on."""

    init: Path | None = None
    """The run whose trained weights this one begins with."""
    missing: Patterns = ()
    """Tensors that `init` lacks, by name with `*` for any characters: they are drawn as without it."""
    extra: Patterns = ()
    """Tensors of `init` that this model lacks, named in the same way: they are left out."""
    teacher: Path | None = None
    """The run whose model a task may ask for its answers; it does not learn."""

    @property
    def parents(self) -> dict[str, Path]:
        """The runs that are named, by key."""
        return {key: path for key, path in (("init", self.init), ("teacher", self.teacher)) if path is not None}

    @model_validator(mode="after")
    def _patterns_need_init(self) -> "StagesConfig":
        if self.init is None and (self.missing or self.extra):
            raise ValueError("missing and extra name tensors of init, which is not set")
        return self


def fits(name: str, patterns: Patterns) -> bool:
    """Whether a tensor's name fits any of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
