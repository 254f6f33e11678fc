"""What a model says about a video, and how it comes about part by part."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.faces import lacks_memory
from mmadfer.errors import ClipError, DataError, MmadferError
from mmadfer.runtime.inputs import Part, Video

OTHER_CROPS = "trained on faces cropped by the data set's owners; here they were found by mmadfer"
"""A prediction's note, since such crops differ by more than the model has seen."""
LONG = 2
"""A video so many times as long as the sound that the model hears gets a note: most of it is not heard."""
FRAME = 0.01
"""Seconds from one filter-bank frame to the next."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about a video."""

    video: str
    label: str
    probabilities: dict[str, float]
    """Softmax of the logits, in the model's label order; with windows, their mean over all that have one."""
    segments: list[dict[str, Any]]
    """Parts of the video, in time: {start, end (seconds), label, probabilities, notes}; one over the whole clip, or the
    windows. One that lacks a face or sound has the label None, no probabilities, and the reason in its notes."""
    model: dict[str, Any]
    """Which model said so: file, backend, data set, fold, weights hash, version."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of this one, such as a sound that is missing and was taken for silence."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class Failure(NamedTuple):
    """A video that could not be read, and why."""

    video: str
    error: DataError


class Answer:
    """Collects the parts of one video, in order."""

    def __init__(self, video: Video, contract: Contract, model: dict[str, Any]) -> None:
        self._video, self._contract, self._model = video, contract, model
        self._segments = list[dict[str, Any]]()
        self._expected: int | None = None
        self._error: DataError | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return self._expected == len(self._segments)

    def take(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Hand the parts on, count them, and keep what is wrong with the video.

        Raises:
            MmadferError: something that is not this video's fault.
        """
        count = 0
        try:
            for part in parts:
                count += 1
                yield part
        except DataError as error:
            self._error = error
        except MmadferError:
            raise
        except Exception as error:  # one odd file must not end the others
            if lacks_memory(error):
                raise
            self._error = ClipError(f"{self._video.path}: {type(error).__name__}: {error}")
            self._error.__cause__ = error
        self._expected = count

    def add(self, part: Part, logits: np.ndarray | None) -> None:
        """The next part, and the model's logits (C,) for it; None where it cannot be predicted."""
        label, shares = None, dict[str, float]()
        if logits is not None:
            shares = dict(zip(self._contract.labels, softmax(logits).tolist(), strict=True))
            label = self._contract.labels[int(logits.argmax())]
        self._segments.append(
            {"start": part.start, "end": part.end, "label": label, "probabilities": shares, "notes": list(part.notes)}
        )

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
        told = [one for one in self._segments if one["label"] is not None]
        if not told:
            reasons = Counter(note for one in self._segments for note in one["notes"])
            listed = "; ".join(f"{reason} (in {count})" for reason, count in reasons.items())
            raise ClipError(
                f"{self._video.path}: none of {len(self._segments)} windows can be predicted: {listed}",
                "no face" if "no face" in reasons else "no sound",
            )
        shares = told[0]["probabilities"]
        if len(told) > 1:
            mean = np.mean([list(one["probabilities"].values()) for one in told], axis=0)
            shares = dict(zip(self._contract.labels, mean.tolist(), strict=True))
        label = max(shares, key=shares.__getitem__) if len(told) > 1 else told[0]["label"]
        return Prediction(str(self._video.path), label, shares, self._segments, self._model, self._notes())

    def _notes(self) -> list[str]:
        """Those of all parts, each once, and how many it holds for where that is not all."""
        count, notes = len(self._segments), list[str]()
        for note, times in Counter(note for one in self._segments for note in set(one["notes"])).items():
            notes.append(note if times == count else f"{note} (in {times} of {count} windows)")
        return [*notes, *self._of_the_whole()]

    def _of_the_whole(self) -> Iterator[str]:
        contract, heard = self._contract, self._contract.model.fbank[0] * FRAME
        found = not self._video.cropped and contract.modalities != "audio" and contract.prepare.face_box != "union"
        if contract.cropped and found:
            yield OTHER_CROPS
        longest = max(one["end"] - one["start"] for one in self._segments)
        if contract.modalities != "vision" and longest > LONG * heard:
            yield (
                f"the model hears only the first {heard:.1f} s of {longest:.1f}; windows hear all of them "
                f"(--window {heard:.0f} --hop 1)"
            )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (..., C) of logits (..., C)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
