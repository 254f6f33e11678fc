"""What a model says about a video, and how it comes about part by part."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.windows import WindowConfig
from mmadfer.contract import Contract, other_looks
from mmadfer.data.media.notes import Whole, kind
from mmadfer.errors import ClipError, DataError, MmadferError
from mmadfer.runtime.card import card
from mmadfer.runtime.inputs import Video, VideoPart
from mmadfer.runtime.series import PartSeries, joined
from mmadfer.tasks.calibration import softmax
from mmadfer.tasks.pooling import clip_logits
from mmadfer.utils.memory import lacks_memory


@dataclass(frozen=True)
class Prediction:
    """What a model says about a video."""

    video: str
    label: str | None
    """The most probable class; None of a model that gives values."""
    probabilities: dict[str, float]
    """Softmax of the logits, in the model's label order; the logits of several windows and looks are pooled as the
    model's `data.window.pool` says, by default by the mean of their probabilities, and adjusted after that."""
    segments: list[dict[str, Any]]
    """Parts of the video, in time: {start, end (seconds), label, probabilities, notes}, or `values` in place of label
    and probabilities; one over the whole clip, or the windows. One that lacks a face or sound has the label None, no
    probabilities or values, and the reason in its notes. Where people are told apart, each has its own ones, with
    `person` (a number from 1; None: nobody) and `box` (the median of the face's boxes, [x0, y0, x1, y1] in shares of
    the picture's width and height)."""
    model: dict[str, Any]
    """Which model said so: file, backend, data set, fold, weights hash, version."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of this one, such as a sound that is missing and was taken for silence."""
    values: dict[str, float] = field(default_factory=dict)
    """Of a model that gives values, by name; with windows, their mean over all that have one; of one that gives values
    of each step, their mean over time."""
    series: dict[str, Any] = field(default_factory=dict)
    """Of a model that gives values of each step: `seconds`, a list with the time of each frame, and `values`, by name a
    list with the value at each; windows that overlap are averaged. Frames in no window that has a face and sound are
    left out."""
    sentence: str = ""
    """That a model of sentences has read about the video, with ` […]` where it was cut; others read none."""
    people: list[dict[str, Any]] = field(default_factory=list)
    """Where people are told apart, each of them: {person, start, end, label, probabilities, notes}, or `values`, of all
    their segments; the video itself then has the label None, and no probabilities or values."""

    def _repr_html_(self) -> str:
        """What a notebook shows of it: see `card`."""
        return card(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: label and probabilities, or values; of several people theirs."""
        whole = asdict(self)
        if self.people:
            return {key: whole[key] for key in ("video", "people", "segments", "model", "notes")}
        del whole["people"]
        if not whole["sentence"]:
            del whole["sentence"]
        values, series = whole.pop("values"), whole.pop("series")
        if not values:
            return whole
        head = {"video": whole.pop("video"), "values": values, **({"series": series} if series else {})}
        return head | {key: value for key, value in whole.items() if key not in ("label", "probabilities")}


class Failure(NamedTuple):
    """A video that could not be read, and why."""

    video: str
    error: DataError


class Answer:
    """Collects the parts of one video, in order."""

    def __init__(
        self,
        video: Video,
        contract: Contract,
        model: dict[str, Any],
        shift: np.ndarray | None = None,
        temperature: float | None = None,
    ) -> None:
        self.video, self._contract, self._model, self._shift = video, contract, model, shift
        self._temperature = temperature
        self._of_looks = _of_looks(contract, model) if temperature is not None else []
        self._segments, self._rows = list[dict[str, Any]](), list[list[np.ndarray]]()
        self._series = list[PartSeries]()
        self._told, self._reasons = Counter[str](), Counter[str]()
        self._awaited, self._all_there = 0, False
        self._error: DataError | None = None
        self._sentence = ""

    @property
    def segments(self) -> list[dict[str, Any]]:
        """One for each part, as `Prediction.segments` has them; a label or values come with the logits."""
        return self._segments

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return self._all_there and not self._awaited

    def take(self, parts: Iterable[VideoPart]) -> Iterator[VideoPart]:
        """Hand the parts on, each to be given to `add` before the next, and keep what is wrong with the video.

        Raises:
            MmadferError, ImportError: something that is not this video's fault.
        """
        try:
            yield from parts
        except DataError as error:
            self._error = error
        except (MmadferError, ImportError):  # what is not installed is no fault of the video
            raise
        except Exception as error:  # one odd file must not end the others
            if lacks_memory(error):
                raise
            self._error = ClipError(f"{self.video.path}: {type(error).__name__}: {error}")
            self._error.__cause__ = error
        self._all_there = True

    def add(self, part: VideoPart) -> Callable[[np.ndarray], None]:
        """The next part. What is returned takes the model's logits for each look at it, if it can be predicted."""
        notes, self._sentence = list(map(str, part.notes)), part.sentence or self._sentence
        said: dict[str, Any] = {"values": {}} if self._gives_values else {"label": None, "probabilities": {}}
        segment: dict[str, Any] = {"start": part.start, "end": part.end, **said, "notes": notes}
        self._segments.append(segment)
        self._told.update({kind(note): 1 for note in part.notes})
        self._reasons.update([part.reason] * (part.inputs is None))
        self._awaited += part.inputs is not None
        self._rows.append([])
        if self._contract.per_step and part.inputs is not None:
            self._series.append(PartSeries(part.first, part.times, part.shown, self._rows[-1]))
        return partial(self._look, segment, 1 + len(part.others), self._rows[-1])

    def _look(self, segment: dict[str, Any], looks: int, rows: list[np.ndarray], logits: np.ndarray) -> None:
        rows.append(logits)
        if len(rows) == looks:
            logits = np.mean(rows, axis=0) if self._gives_values else self._pooled(rows)
            self._tell(segment, logits.mean(axis=0) if self._contract.per_step else logits)

    @property
    def _gives_values(self) -> bool:
        return self._contract.output == "values"

    def _pooled(self, rows: list[np.ndarray]) -> np.ndarray:
        """Logits float64 (C,) of those of several windows and looks, as a test has them, adjusted or calibrated."""
        logits = clip_logits(np.stack(rows), self._contract.window or WindowConfig())
        if self._temperature is not None:
            return logits / self._temperature
        return logits if self._shift is None else logits - self._shift

    def _tell(self, segment: dict[str, Any], logits: np.ndarray) -> None:
        names = self._contract.names
        if self._gives_values:
            segment["values"] = dict(zip(names, logits.astype(np.float64).tolist(), strict=True))
        else:
            segment["probabilities"] = dict(zip(names, softmax(logits).tolist(), strict=True))
            segment["label"] = names[int(logits.argmax())]
        self._awaited -= 1

    def result(self) -> Prediction | Failure:
        """What became of the video."""
        try:
            return self.prediction()
        except DataError as error:
            return Failure(str(self.video.path), error)

    def prediction(self) -> Prediction:
        """What the model says about the whole.

        Raises:
            DataError: the video cannot be read, or none of its windows predicted.
        """
        told = self._predicted()
        video, notes = str(self.video.path), self._of_looks + listed_notes(self._segments, self._told)
        if self._contract.per_step:
            return self._over_time(video, notes)
        whole = self._put_together(told, self._rows)
        if self._gives_values:
            return Prediction(video, None, {}, self._segments, self._model, notes, whole, sentence=self._sentence)
        label = max(whole, key=whole.__getitem__)
        return Prediction(video, label, whole, self._segments, self._model, notes, sentence=self._sentence)

    def of_window(self) -> Prediction:
        """What the model says about a single window; one that cannot be predicted has no label, and its reason."""
        if self._rows[0]:
            return self.prediction()
        return Prediction(
            str(self.video.path), None, {}, self._segments, self._model, listed_notes(self._segments, self._told)
        )

    def _predicted(self) -> list[dict[str, Any]]:
        """The segments that could be predicted.

        Raises:
            DataError: as `prediction`.
        """
        if self._error:
            raise self._error
        told = [one for one in self._segments if one["values" if self._gives_values else "probabilities"]]
        if not told:
            listed = "; ".join(f"{note} (in {count})" for note, count in self._told.items())
            raise ClipError(
                f"{self.video.path}: none of {len(self._segments)} windows can be predicted: {listed}",
                self._reasons.most_common(1)[0][0],
            )
        return told

    def _over_time(self, video: str, notes: list[str]) -> Prediction:
        seconds, found = joined(self._series)
        values = dict(zip(self._contract.names, found.T.tolist(), strict=True))
        means = {name: float(np.mean(column)) for name, column in values.items()}
        series = {"seconds": seconds.tolist(), "values": values}
        return Prediction(video, None, {}, self._segments, self._model, notes, means, series, self._sentence)

    def _put_together(self, told: list[dict[str, Any]], rows: Iterable[list[np.ndarray]]) -> dict[str, float]:
        """Probabilities or values of the whole, of the windows that have some, and the logits of all their looks."""
        if self._gives_values:
            found = np.asarray(np.mean([list(one["values"].values()) for one in told], axis=0), np.float64)
        else:
            found = softmax(self._pooled([row for looks in rows for row in looks]))
        return dict(zip(self._contract.names, found.tolist(), strict=True))


def _of_looks(contract: Contract, model: Mapping[str, Any]) -> list[str]:
    """A note where the looks that were asked for are not those of the temperature."""
    told = other_looks(contract, model.get("clips", 1), model.get("flips", False))
    return [told] if told else []


def listed_notes(segments: Sequence[dict[str, Any]], told: Mapping[str, int]) -> list[str]:
    """The notes of one part; or those of all, each once, and how many it holds for where that is not all.

    Args:
        segments: the parts.
        told: kind of note -> how many of the parts have it.
    """
    count = len(segments)
    if count == 1:
        return list(segments[0]["notes"])
    return [
        note if times == count or isinstance(note, Whole) else f"{note} (in {times} of {count} windows)"
        for note, times in told.items()
    ]
