"""Predictions of a live source, window by window."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mmadfer.contract import Contract
from mmadfer.data.live import LiveAsked, live_windows
from mmadfer.data.live_items import LiveFrame, LiveSound
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ConfigError
from mmadfer.runtime.inputs import ClipViews, Video, VideoPart, asked, part_of
from mmadfer.runtime.prediction import Prediction

__all__ = ["LiveFrame", "LivePart", "LiveSound", "LiveStream", "check_live", "live_parts", "why_not_live"]


class LivePart(NamedTuple):
    """A window, and how many before it were left out since the last one."""

    part: VideoPart
    left_out: int


class LiveStream(Iterator[Prediction]):
    """The predictions of a live source, each made when it is asked for; see `Recogniser.stream`."""

    def __init__(self, parts: Generator[LivePart, None, None], predict: Callable[[VideoPart], Prediction]) -> None:
        self._parts, self._predict = parts, predict
        self.left_out = 0
        """Windows that were left out up to now."""
        self.part: VideoPart | None = None
        """The window of the last prediction, with the face's places."""

    def __next__(self) -> Prediction:
        """The prediction of the next window; a note says how many before it were left out."""
        self.part, left_out = next(self._parts)
        self.left_out += left_out
        prediction = self._predict(self.part)
        if not left_out:
            return prediction
        told = (
            f"{left_out} windows before it were left out: predictions are made more slowly than the source gives them"
        )
        return replace(prediction, notes=[*prediction.notes, told])

    def close(self) -> None:
        """Read no further."""
        self._parts.close()

    def __enter__(self) -> "LiveStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def why_not_live(contract: Contract, people: bool) -> str:
    """Why a model does not predict live sources: a window is not all that it needs, or it takes no pictures.

    Args:
        contract: of the model.
        people: whether people are told apart.

    Returns:
        words that go on from the model's name; none where it does predict them.
    """
    if people:
        return "tells people apart over a whole video: open it without faces"
    if contract.model.text is not None:
        return "reads sentences, of which there is one about a whole video: predict a recording"
    if contract.pooled_windows:
        return f"takes {contract.pooled_windows} windows of a clip together: predict a recording"
    if "vision" not in contract.model.modalities:
        return "takes no pictures, which say when the windows of a live source are over: predict a recording"
    return ""


def check_live(contract: Contract, path: Path, people: bool) -> None:
    """Raise ConfigError where a model does not predict live sources."""
    if reason := why_not_live(contract, people):
        raise ConfigError(f"{path} {reason}")


def live_parts(
    source: Iterable[LiveFrame | LiveSound],
    video: Video,
    contract: Contract,
    windows: Windows,
    views: ClipViews,
    leave_out: bool,
) -> Generator[LivePart, None, None]:
    """The windows of a live source as parts, as `inputs.read_parts` reads those of a file.

    Raises:
        DataError: as `data.live.live_windows`, or sound at a rate that the model does not know.
    """
    contract = contract.model_copy(update={"window": None})  # frames are spread over each window, as over a clip
    settings, given = asked(video, contract, views.clips)
    del given["sound"]
    how = LiveAsked(settings, windows, name=video.path, **given)
    for window, left_out in live_windows(source, how, leave_out):
        yield LivePart(part_of(window, video, contract, views), left_out)
