"""Parts of the model by name, each with a section of its own; installed packages may add some (`utils.registry`).

    model:
      fusion: {name: bottleneck, latent: 128}
      joint: sum                               # short for {name: sum}

A part of a plug-in may have a class `Settings`, derived from the section of its kind here: its keys are then checked
like all others. Nothing here imports torch.
"""

from collections.abc import Iterable
from types import new_class
from typing import Any, ClassVar, Literal

from pydantic import ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from mmadfer.config.base import Section, problems
from mmadfer.utils.registry import Registry

Model = Any
"""A `mmadfer.config.model.ModelConfig`, which is made of these."""


DESCRIBED = "described"
"""Context of validation for a contract: an exported model has its parts inside, and needs no package of theirs."""


class Part(Section):
    """What every part has."""

    name: str

    def check(self, model: Model) -> None:
        """Raises ValueError where the part does not fit the rest of the model; says what to change."""


class JointPart(Part):
    """Of what makes one sequence of both encoders."""

    sound_patches: ClassVar[bool] = False
    """Whether it takes the sound's patches, each at its time, beside the summary of all (`Encoded.patches`)."""

    def width_of(self, model: Model) -> int:
        """W of the sequence; by default the encoder's, of vision where there are two."""
        return int(getattr(model, (*model.modalities, "text")[0]).width)

    def steps_of(self, model: Model) -> int:
        """T of the sequence; by default one step for each frame, and one for sound alone."""
        return model.frames if "vision" in model.modalities else 1


class TemporalPart(Part):
    """Of what works on the sequence before the head."""

    summarises: ClassVar[bool] = False
    """Whether it gives a CLS token beside the sequence."""


class HeadPart(Part):
    """Of what makes the output."""

    per: Literal["clip", "step"] = "clip"
    """One output for each clip, or for each step of the sequence."""
    pool: Literal["cls", "mean"] | None = None
    """What of the sequence stands for the clip: the CLS token, or the mean over steps; by default the CLS token where
    the temporal part gives one."""

    def check(self, model: Model) -> None:
        """As in `Part`."""
        if self.per == "step" and self.pool:
            raise ValueError(f"head.pool {self.pool} is for outputs per clip: with head.per step, leave it out")
        if self.pool == "cls" and not model.temporal.summarises:
            raise ValueError(f"head.pool cls needs a CLS token, which temporal {model.temporal.name} does not give")


class Parts(Registry):
    """A table of one kind of part: what makes it, and its section; the first is the default."""

    def __init__(self, kind: str, group: str, section: type[Part], own: dict[str, type[Part]]) -> None:
        """`section` is that of plug-ins without `Settings`, `own` has the sections by `module:attribute`."""
        named = {str(one.model_fields["name"].default): (place, one) for place, one in own.items()}
        super().__init__(kind, group, {name: place for name, (place, _) in named.items()})
        self._section, self._sections = section, {name: one for name, (_, one) in named.items()}

    def sections(self) -> Iterable[type[Part]]:
        """Of our own parts."""
        return self._sections.values()

    def section(self, name: str) -> type[Part]:
        """The section of one part.

        Raises:
            ValueError: nothing has that name, or its package does not load or has another kind of section.
        """
        if self.check(name) in self._sections:
            return self._sections[name]
        found = getattr(self.load(name), "Settings", self._section)
        if not (isinstance(found, type) and issubclass(found, self._section)):
            raise ValueError(
                f"{self.kind} {name!r} of {self.source(name)}: Settings must be a {self._section.__name__}"
            )
        return found

    def read(self, value: Any, info: ValidationInfo) -> Any:
        """A section of its part's own kind, of a tree of values, or of a name alone; for pydantic.

        Where the context is `DESCRIBED`, a part of a package that is not installed is read as it stands.
        """
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            return value
        name = value.get("name", next(iter(self.own)))
        absent = info.context == DESCRIBED and name not in self.names()
        section = self._absent() if absent else self.section(str(name))
        try:
            return section.model_validate({**value, "name": name})
        except ValidationError as error:
            raise PydanticCustomError("part", "{told}", {"told": "; ".join(problems(error, section))}) from error

    def _absent(self) -> type[Part]:
        found: type[Part] = new_class("Absent", (self._section,), {"extra": "allow"})
        return found

    def made(self, part: Part) -> Any:
        """What makes a part: a module's class.

        Raises:
            ValueError, ImportError: as `load`.
        """
        return self.load(part.name)
