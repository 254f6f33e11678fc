"""Additional losses beside a task's own, as configurations name them; nothing here imports torch."""

from importlib import import_module
from typing import Annotated, Any, ClassVar

from pydantic import Field

from mmadfer.config.base import Section

Weight = Annotated[float, Field(ge=0, lt=1e6)]


class TermConfig(Section):
    """What every one has; a field of `task` that holds one is an additional loss, called as the field."""

    module: ClassVar[str]
    """Where its `mmadfer.tasks.base.Term` is, as `module:attribute`."""
    uses_teacher: ClassVar[bool] = False
    """Whether it needs `stages.teacher`."""
    weight: Weight = 1.0
    """By which it enters the loss."""

    def term(self) -> Any:
        """Its class, which imports torch."""
        module, _, attribute = self.module.partition(":")
        return getattr(import_module(module), attribute)

    def check_with(self, config: Any) -> None:
        """Raises ValueError where it does not fit the rest of the configuration; says what to change."""
