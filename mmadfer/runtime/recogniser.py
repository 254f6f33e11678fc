"""`Recogniser(path)(video)`: the same way from file to label for every backend."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.agreement import check_rate
from mmadfer.data.clip import ClipData, Keep, read_clip
from mmadfer.data.fbank import SILENCE
from mmadfer.data.image import decode_jpeg, resize
from mmadfer.data.record import Record
from mmadfer.data.sampling import test_indexes
from mmadfer.errors import DataError, WeightsError
from mmadfer.runtime.backends import BACKENDS, choose

Inputs = tuple[np.ndarray, np.ndarray]
"""Of one clip: frames uint8 (1, T, 3, S, S) and fbank float32 (1, 1, frames, mels)."""

OTHER_CROPS = "trained on faces cropped by the data set's owners; here they were found by mmadfer"
"""A prediction's note, since such crops differ by more than the model has seen."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about a video."""

    video: str
    label: str
    probabilities: dict[str, float]
    """Softmax of the logits, in the model's label order."""
    segments: list[dict[str, Any]]
    """Parts of the video, in time: {start, end (seconds), label, probabilities}; one over the whole clip for now."""
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


class Recogniser:
    """A model file and the preparation that its contract asks for.

    Args:
        path: run or fold directory, checkpoint, .safetensors, published .pth, or .onnx.
        backend: `torch` or `onnxruntime`; by default what the file is for.
        fold: which fold of a run directory.
        device: `cpu` or `cuda`.

    Raises:
        WeightsError: the path holds no usable model, or not for this backend.
        MissingDependencyError: the backend or the device is not there.
    """

    def __init__(
        self, path: Path | str, backend: str | None = None, fold: int | None = None, device: str = "cpu"
    ) -> None:
        self.path = Path(path)
        self.backend_name = choose(self.path, backend)
        self.backend = BACKENDS[self.backend_name](self.path, device, fold)
        if fold is not None and self.contract.fold not in (None, fold):
            raise WeightsError(f"{path} holds fold {self.contract.fold}, not {fold}: leave the fold out, or give a run")

    @property
    def contract(self) -> Contract:
        """The model's labels, sizes and preprocessing."""
        return self.backend.contract

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.contract.labels

    def __call__(self, video: Path | str) -> Prediction:
        """Predict one video, or a folder with one image for each frame, which has no sound.

        Raises:
            DataError: no such file, not a video, no face, no sound (unless the model takes silence for it), too long,
                or sound at a rate that the model does not know.
        """
        heard = partial(check_rate, self.contract, path=video)
        clip = read_clip(Path(video), self.contract.prepare, keep=seen_frames(self.contract), heard=heard)
        logits = self.backend.logits(*from_clip(clip, self.contract))[0]
        return self._prediction(str(video), clip, logits)

    def predict(self, videos: Iterable[Path | str]) -> Iterator[Prediction | Failure]:
        """Predict many videos, one after the other; one that cannot be read becomes a `Failure`."""
        for video in videos:
            try:
                yield self(video)
            except DataError as error:
                yield Failure(str(video), error)

    def facts(self) -> dict[str, Any]:
        """Which model this is, for those who keep its predictions."""
        contract = self.contract
        return {
            "file": self.path.name,
            "backend": self.backend_name,
            "data_set": contract.data_set,
            "fold": contract.fold,
            "weights_hash": contract.weights_hash,
            "version": contract.version,
        }

    def _prediction(self, video: str, clip: ClipData, logits: np.ndarray) -> Prediction:
        probabilities = dict(zip(self.labels, softmax(logits).tolist(), strict=True))
        label = self.labels[int(logits.argmax())]
        segment = {"start": clip.span[0], "end": clip.span[1], "label": label, "probabilities": probabilities}
        return Prediction(video, label, probabilities, [segment], self.facts(), [*clip.notes, *_notes(self.contract)])


def _notes(contract: Contract) -> list[str]:
    other = contract.cropped and contract.modalities != "audio" and contract.prepare.face_box != "union"
    return [OTHER_CROPS] if other else []


def seen_frames(contract: Contract) -> Keep:
    """The frames of a clip that the model sees, for `read_clip`'s `keep`: no other is cut out and encoded."""
    return lambda count: test_indexes(count, contract.model.frames)[0].tolist()


def from_clip(clip: ClipData, contract: Contract) -> Inputs:
    """What every backend is fed with for a clip that was read with `keep=seen_frames(contract)`.

    The crops pass through JPEG as in preparation, so that a file gives the very arrays that its record in a
    store gives, and parity can tell that both ways are one.
    """
    # Without it, bytes differ by 0.7 on average (10 at most) and logits by up to 1e-4 where clips differ by 1e-2
    # (ViT-B, 160 px, 8 clips): no label changes, but no equality is left to check. It takes 10 to 25 ms beside 300 to
    # 800 ms for decoding and faces. What remains is DALI's resizing in training against Pillow's here, as small.
    return _inputs(clip.jpegs, clip.fbank, contract)


def from_record(record: Record, contract: Contract) -> Inputs:
    """The same for a clip in a store."""
    chosen = seen_frames(contract)(len(record.jpegs))
    return _inputs([record.jpegs[i] for i in chosen], record.fbank, contract)


def _inputs(jpegs: Sequence[bytes], fbank: np.ndarray, contract: Contract) -> Inputs:
    frames = resize([decode_jpeg(data) for data in jpegs], contract.model.image_size)
    if contract.modalities == "audio":
        frames = np.zeros_like(frames)
    if contract.modalities == "vision":
        fbank = np.full_like(fbank, SILENCE)
    return frames[None], fbank[None, None]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (..., C) of logits (..., C)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
