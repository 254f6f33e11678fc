"""What a model says about a video, and how it comes about part by part."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.media.notes import Whole, kind
from mmadfer.errors import ClipError, DataError, MmadferError
from mmadfer.runtime.inputs import Video, VideoPart
from mmadfer.utils.memory import lacks_memory


@dataclass(frozen=True)
class Prediction:
    """What a model says about a video."""

    video: str
    label: str | None
    """The most probable class; None of a model that gives values."""
    probabilities: dict[str, float]
    """Softmax of the logits, in the model's label order; with windows, their mean over all that have one."""
    segments: list[dict[str, Any]]
    """Parts of the video, in time: {start, end (seconds), label, probabilities, notes}, or `values` in place of label
    and probabilities; one over the whole clip, or the windows. One that lacks a face or sound has the label None, no
    probabilities or values, and the reason in its notes."""
    model: dict[str, Any]
    """Which model said so: file, backend, data set, fold, weights hash, version."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of this one, such as a sound that is missing and was taken for silence."""
    values: dict[str, float] = field(default_factory=dict)
    """Of a model that gives values, by name; with windows, their mean over all that have one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: label and probabilities, or values."""
        whole = asdict(self)
        values = whole.pop("values")
        if not values:
            return whole
        head = {"video": whole.pop("video"), "values": values}
        return head | {key: value for key, value in whole.items() if key not in ("label", "probabilities")}


class Failure(NamedTuple):
    """A video that could not be read, and why."""

    video: str
    error: DataError


class Answer:
    """Collects the parts of one video, in order."""

    def __init__(
        self, video: Video, contract: Contract, model: dict[str, Any], shift: np.ndarray | None = None
    ) -> None:
        self._video, self._contract, self._model, self._shift = video, contract, model, shift
        self._segments = list[dict[str, Any]]()
        self._told, self._reasons = Counter[str](), Counter[str]()
        self._awaited, self._all_there = 0, False
        self._error: DataError | None = None

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
            self._error = ClipError(f"{self._video.path}: {type(error).__name__}: {error}")
            self._error.__cause__ = error
        self._all_there = True

    def add(self, part: VideoPart) -> Callable[[np.ndarray], None]:
        """The next part. What is returned takes the model's logits (C,) for each look at it, if it can be predicted."""
        notes = list(map(str, part.notes))
        said: dict[str, Any] = {"values": {}} if self._gives_values else {"label": None, "probabilities": {}}
        segment: dict[str, Any] = {"start": part.start, "end": part.end, **said, "notes": notes}
        self._segments.append(segment)
        self._told.update({kind(note): 1 for note in part.notes})
        self._reasons.update([part.reason] * (part.inputs is None))
        self._awaited += part.inputs is not None
        return partial(self._look, segment, 1 + len(part.others), [])

    def _look(self, segment: dict[str, Any], looks: int, rows: list[np.ndarray], logits: np.ndarray) -> None:
        rows.append(logits)
        if len(rows) == looks:
            logits = np.mean(rows, axis=0) if self._gives_values else averaged(rows)
            self._tell(segment, logits if self._shift is None else logits - self._shift)

    @property
    def _gives_values(self) -> bool:
        return self._contract.output == "values"

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
            return Failure(str(self._video.path), error)

    def prediction(self) -> Prediction:
        """What the model says about the whole.

        Raises:
            DataError: the video cannot be read, or none of its windows predicted.
        """
        if self._error:
            raise self._error
        kind = "values" if self._gives_values else "probabilities"
        told = [one for one in self._segments if one[kind]]
        if not told:
            listed = "; ".join(f"{note} (in {count})" for note, count in self._told.items())
            raise ClipError(
                f"{self._video.path}: none of {len(self._segments)} windows can be predicted: {listed}",
                self._reasons.most_common(1)[0][0],
            )
        whole = told[0][kind]
        if len(told) > 1:
            mean = np.mean([list(one[kind].values()) for one in told], axis=0)
            whole = dict(zip(self._contract.names, mean.tolist(), strict=True))
        video, notes = str(self._video.path), self._notes()
        if self._gives_values:
            return Prediction(video, None, {}, self._segments, self._model, notes, whole)
        label = max(whole, key=whole.__getitem__) if len(told) > 1 else told[0]["label"]
        return Prediction(video, label, whole, self._segments, self._model, notes)

    def _notes(self) -> list[str]:
        """Those of the one part; or those of all, each once, and how many it holds for where that is not all."""
        count = len(self._segments)
        if count == 1:
            return list(self._segments[0]["notes"])
        return [
            note if times == count or isinstance(note, Whole) else f"{note} (in {times} of {count} windows)"
            for note, times in self._told.items()
        ]


def averaged(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (C,) of several looks at one clip: the logarithm of their mean probabilities; those of a single one."""
    if len(rows) == 1:
        return rows[0]
    shares: np.ndarray = softmax(np.stack(rows)).mean(axis=0)
    return np.log(np.maximum(shares, np.finfo(shares.dtype).tiny))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (..., C) of logits (..., C)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
