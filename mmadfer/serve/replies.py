"""What answers hold, for the description of the interface (OpenAPI)."""

from typing import Any, Literal

from pydantic import BaseModel, Field

State = Literal["waiting", "reading", "done", "failed", "cancelled"]


class Error(BaseModel):
    """What is wrong, the rule, and what to do."""

    error: str


class Health(BaseModel):
    """Whether the server works."""

    status: Literal["ok"]


class Queued(BaseModel):
    """A job that was taken."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    url: str
    state: State


class PersonBoxes(BaseModel):
    """Where a face is over time."""

    person: int | None = Field(description="Number of the person; null where people are not told apart.")
    times: list[float] = Field(description="In seconds of the video, rising.")
    boxes: list[list[float]] = Field(description="For each time x0, y0, x1, y1, in shares of the picture.")


class JobState(BaseModel):
    """How far a job is, and in the end what came out of it."""

    id: str
    state: State
    name: str = Field(description="What the client calls the video, shortened.")
    progress: float | None = Field(ge=0, le=1, description="Share of the work; null while it is not known.")
    seconds_done: float = Field(description="Of the video, that are predicted.")
    seconds: float | None = Field(description="Length of the video, as far as it is known.")
    waits_behind: int = Field(description="Jobs that are before it in the queue.")
    seconds_left: float | None = Field(description="Until it is done, as far as that can be told.")
    error: str | None
    size: tuple[int, int] | None = Field(description="Width and height of the pictures.")
    prediction: dict[str, Any] | None = Field(
        default=None, description="Of a job that is done: as `mmadfer predict --out FILE.json` writes it."
    )
    boxes: list[PersonBoxes] | None = Field(default=None, description="Of a job that is done.")


class ServerLimits(BaseModel):
    """What the server takes."""

    bytes: int
    seconds: float
    jobs: int
    queue: int
    live: int


class ModelFacts(BaseModel):
    """The model that answers."""

    name: str
    facts: dict[str, Any]
    contract: dict[str, Any] = Field(description="The contract for a person, as `mmadfer export` prints it.")
    output: Literal["labels", "values"]
    labels: list[str]
    values: dict[str, tuple[float, float]] = Field(description="Lowest and highest number of each.")
    per_step: bool = Field(description="Whether there is a value for each frame.")
    modalities: list[str]
    faces: bool = Field(description="Whether people can be told apart.")
    live: bool
    live_reason: str | None = Field(description="Why there is no live prediction.")
    window: float | None = Field(description="Seconds of the windows that the model was trained on.")
    windows: bool = Field(description="Whether `window` and `hop` may be given.")
    limits: ServerLimits
    token: bool = Field(description="Whether requests need one.")
    notice: str = Field(description="What the law says to whoever uses it.")
