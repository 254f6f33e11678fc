"""What a task promises beside its step: its scores, and how they are called and shown. This imports no torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["classes", "values"]


@dataclass(frozen=True)
class Score:
    """A number that says how good a model is."""

    name: str
    """In files: result.json, metrics.jsonl, reports."""
    title: str
    """For people."""
    meaning: str
    """In a few words, behind the title."""
    percent: bool = True
    """Whether it is a fraction in [0, 1], shown in percent."""
    smaller: bool = False
    """Whether a smaller one is better."""

    @property
    def heading(self) -> str:
        """Of a column of `number`s."""
        return f"{self.title} %" if self.percent else self.title

    def number(self, value: float | None) -> str:
        """As in a table under `heading`; `-` for none."""
        return "-" if value is None else f"{100 * value:.2f}" if self.percent else f"{value:.4f}"

    def shown(self, value: Any, digits: int = 2) -> str:
        """With its unit; nothing for what is no number."""
        if not isinstance(value, int | float):
            return ""
        return f"{value:.{digits}%}" if self.percent else f"{value:.{digits + 2}f}"

    def signed(self, value: float) -> str:
        """A difference of two, with its sign."""
        return f"{100 * value:+.2f}" if self.percent else f"{value:+.4f}"

    def spread(self, deviation: float | None) -> str:
        """A standard deviation behind its mean; nothing for none."""
        return "" if deviation is None else f" ± {self.number(deviation)}"

    def fits(self, value: Any) -> bool:
        """Whether it can be one."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return 0 <= value <= 1 if self.percent else abs(value) < 1e12

    def better(self, value: float, than: float) -> bool:
        """Whether it is better than another; equal ones are not."""
        return value < than if self.smaller else value > than


class TaskSpec(ABC):
    """A task by its name. N clips; names are the C labels of classes, or of values."""

    output: ClassVar[Kind]
    """What the model's output is: logits of classes, or values."""
    target: ClassVar[str]
    """The usual name of the target that it is compared with."""
    loss: ClassVar[str]
    """The usual one, by its name in the table of losses."""
    scores: ClassVar[tuple[Score, ...]]
    """The first is the primary one: the best epoch goes by it."""
    module: ClassVar[str] = "mmadfer.tasks.base:Task"
    """Where its step is, as `module:attribute`; a subclass of `mmadfer.tasks.base.Task`."""

    def step(self) -> Any:
        """The class of its step, which imports torch."""
        module, _, attribute = self.module.partition(":")
        return getattr(import_module(module), attribute)

    @property
    def primary(self) -> Score:
        """The score that epochs are chosen by."""
        return self.scores[0]

    @property
    def names(self) -> list[str]:
        """Of its scores."""
        return [score.name for score in self.scores]

    @property
    def titles(self) -> list[str]:
        """Of its scores, for people."""
        return [score.title for score in self.scores]

    @property
    def unit(self) -> str:
        """Behind the titles of a table, where all its numbers are percent."""
        return " in percent" if all(score.percent for score in self.scores) else ""

    @abstractmethod
    def statistics(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> "np.ndarray":
        """float64 (N, K): numbers of each clip whose sums over clips give the scores.

        Args:
            truth: int64 (N,) labels, or float (N, C) values; of steps (N, T, C), NaN where there is no true value.
            output: int64 (N,) the most probable labels, or float values of the shape of `truth`.
            classes: C.
        """

    def statistics_over_time(
        self, truth: "Sequence[np.ndarray]", output: "Sequence[np.ndarray]", classes: int
    ) -> "np.ndarray":
        """The same of values over time, for clips of several lengths: float (L, C) each."""
        import numpy as np

        pairs = zip(truth, output, strict=True)
        return np.concatenate([self.statistics(true[None], said[None], classes) for true, said in pairs])

    @abstractmethod
    def from_sums(self, sums: "np.ndarray") -> "np.ndarray":
        """The scores float64 (..., S), of sums (..., K) of `statistics` over clips."""

    def score(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> dict[str, float]:
        """Each score of these clips, by its name; arguments as of `statistics`."""
        found = self.from_sums(self.statistics(truth, output, classes).sum(0))
        return dict(zip(self.names, found.tolist(), strict=True))
