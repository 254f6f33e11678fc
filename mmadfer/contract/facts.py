"""What a contract says of models before, of sentences, of whom a model was adapted to, and of looks at a clip."""

from typing import Annotated, Literal

from pydantic import Field

from mmadfer.config.base import Line, Positive, Section

TEACHERS = " (teacher)"
"""What ends the name of a part that a student has of its teacher."""


class TeacherFacts(Section):
    """Whose student a model is: a run of `stages.teacher`, by what is the same on any machine."""

    name: Line
    """Of its configuration."""
    fold: Positive | None = None
    data_set: Line
    modalities: Literal["both", "vision", "audio"] = "both"
    """What it was trained on, and looked at while it taught."""
    labels: Annotated[tuple[Line, ...], Field(max_length=100_000)] = ()
    """Its classes, or the names of its values."""
    encoder_hash: Line = ""
    weights_hash: Line = ""
    """As in its own contract."""


class OriginFacts(Section):
    """A model before this one (`stages`): it began with its weights, or learnt from who did."""

    data_set: Line
    """That it was trained on."""
    licences: dict[Line, Line] = Field(default_factory=dict)
    """As in its own contract."""


class TextFacts(Section):
    """What a model that reads sentences was trained on, by what is the same on any machine."""

    template: Annotated[int, Field(ge=1)]
    """The version of the template that made them (`mmadfer.data.cues.template`)."""
    calm_face: Literal["own", "program"] = "own"
    """What they say of a face at rest."""
    use: tuple[Literal["text", "face", "voice"], ...] = ()
    """Parts of which they were made; none: of cues that no video gives, or in words of somebody's own."""
    tokenizer: Line
    """SHA-256 of the tokenizer's file, or what stands in its place (`mmadfer.data.tokens`)."""
    sentences: Line = ""
    """SHA-256 of their file."""


class Looks(Section):
    """In how many ways a clip was looked at; what the model says of each is averaged."""

    clips: Annotated[int, Field(ge=1, le=16)] = 1
    """Index sets of frames (`data.test_clips`)."""
    flips: bool = False
    """Each of them also mirrored (`data.test_flips`)."""

    def __str__(self) -> str:
        sets = "1 index set" if self.clips == 1 else f"{self.clips} index sets"
        return f"{sets} of frames, {'each also mirrored' if self.flips else 'not mirrored'}"


class AdaptedFacts(Section):
    """Whom a model was adapted to (`adapt`), and from which model."""

    people: Annotated[tuple[Line, ...], Field(min_length=1, max_length=100_000)]
    """By their names in the store. On others, the model may be worse than the one that it was adapted from."""
    clips: Positive
    """Of theirs that it was adapted on."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of their clips of the store that these are: the others are tested. None: they are of videos of their own
    (`mmadfer adapt`), and no store's."""
    labels: Literal["withheld", "given"] = "withheld"
    """`given`: it has learnt the labels of those clips."""
    name: Line
    """Of the configuration of the run that it began with, of which it is the same fold."""
    weights_hash: Line = ""
    """Of that model."""
