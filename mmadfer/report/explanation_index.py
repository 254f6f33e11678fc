"""`explain.json` as it must be; what else stands in it is passed over."""

from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field


def _plain(name: str) -> str:
    if not name or name in (".", "..") or name != PurePath(name).name:
        raise ValueError(f"{name!r:.80} is no name of a file beside it")
    return name


Name = Annotated[str, AfterValidator(_plain)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Spread(BaseModel):
    """A measure over clips."""

    mean: Number
    std: Number
    clips: int


class IndexPart(BaseModel):
    """A clip, or a window of it."""

    sheet: Name | None = None
    label: str | None = None
    answer: dict[str, Number] = Field(default_factory=dict)


class IndexClip(BaseModel):
    """An explained clip."""

    name: str
    folder: Name
    chosen: str = ""
    truth: Any = None
    parts: list[IndexPart]

    def title(self) -> str:
        """What it is, and what the model says of it."""
        words = [f"{self.chosen}: {self.name}" if self.chosen else self.name]
        if isinstance(self.truth, str):
            words.append(f"truth {self.truth}")
        said = next((part for part in self.parts if part.label), None)
        if said is not None and said.label is not None:
            words.append(f"the model says {said.label}, {said.answer.get(said.label, 0):.0%}")
        return ", ".join(words)


class IndexModel(BaseModel):
    """The model."""

    fold: int | None = None
    weights_hash: str = ""


class Index(BaseModel):
    """The file."""

    method: str
    layer: int
    layers: int
    model: IndexModel
    measures: dict[str, dict[str, Spread]]
    clips: list[IndexClip]
