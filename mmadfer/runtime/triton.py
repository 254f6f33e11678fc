"""mmadfer in Triton's Python backend: the `model.py` files of `mmadfer.export.server.to_triton` name these classes.

Triton makes them, in a process for each instance, and gives them requests; each request holds a batch of its own.
Shapes: B clips, N pictures, T steps, C classes.
"""

import json
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.data.media.frames import DecodedClip
from mmadfer.errors import DataError, MmadferError
from mmadfer.runtime.arrays import Inputs, empty_clip
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.choice import BACKENDS, choose_backend
from mmadfer.runtime.batches import Batches, finite
from mmadfer.runtime.inputs import Video, load_readers, read_parts
from mmadfer.runtime.packed import packed, unpacked
from mmadfer.runtime.subprocess_call import in_subprocess
from mmadfer.tasks.calibration import softmax
from mmadfer.utils.files import read_bytes
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

CONTRACT = "contract.json"
"""File in a model's version folder: its contract."""
_MODEL_FILES = ("model.onnx", "model.engine")
"""Files, of which one lies in the version folder of a model that mmadfer computes itself."""
VIDEO, IMAGES_INPUT, SAMPLES, RATE_INPUT, CROPPED = "video", "images", "samples", "rate", "cropped"
"""Inputs: a file's bytes; or RGB pictures, the sound's samples, their rate, and whether the pictures are faces."""
NOTES, PROBABILITIES, LABEL, VALUES, SECONDS = "notes", "probabilities", "label", "values", "seconds"
"""Outputs, beside those of `ports`; `seconds` says when the steps are of a model that gives values of each."""
LIMIT_PARAMETER = "seconds"
"""Parameter of `Reader`'s model: the most that a request is read."""
ERROR = "error"
WORD = "the video"
"""Takes the place of the temporary file's name in messages."""

_Arrays = dict[str, np.ndarray]


class _Step:
    """What all have in common: a version folder, and requests that fail one by one."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once, with all that it knows about the model."""
        self.start(Path(args["model_repository"]) / args["model_version"], args)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Called by Triton: one response for each request."""
        return [_answered(self.work, request) for request in requests]

    def start(self, folder: Path, args: dict[str, str]) -> None:
        """Get ready.

        Args:
            folder: the version folder.
            args: what Triton says.
        """
        raise NotImplementedError

    def work(self, given: _Arrays) -> _Arrays:
        """Outputs by name, from inputs by name.

        Raises:
            MmadferError: what the client is to be told.
        """
        raise NotImplementedError


def _answered(work: Callable[[_Arrays], _Arrays], request: Any) -> Any:
    import triton_python_backend_utils as triton

    try:
        return _response(work(_arrays(request)))
    except MmadferError as error:
        code = triton.TritonError.INVALID_ARG if isinstance(error, DataError) else triton.TritonError.INTERNAL
        return triton.InferenceResponse(error=triton.TritonError(str(error), code))
    except Exception as error:  # for the log; the client learns no more than its kind
        LOGGER.error(traceback.format_exc())
        kind = f"{type(error).__name__} in the server, whose log says more"
        return triton.InferenceResponse(error=triton.TritonError(kind, triton.TritonError.INTERNAL))


def _arrays(request: Any) -> _Arrays:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _response(outputs: _Arrays) -> Any:
    import triton_python_backend_utils as triton

    return triton.InferenceResponse([triton.Tensor(name, array) for name, array in outputs.items()])


class Reader(_Step):
    """From files or pictures to the model's inputs, by the code that reads them everywhere else."""

    def start(self, folder: Path, args: dict[str, str]) -> None:
        """Load the contract and the face detector."""
        self._contract = _contract(folder)
        self._decoded = IMAGES_INPUT if "vision" in self._contract.model.modalities else SAMPLES
        self._seconds = float(json.loads(args["model_config"])["parameters"][LIMIT_PARAMETER]["string_value"])
        load_readers(self._contract)

    def work(self, given: _Arrays) -> _Arrays:
        """`video`, or `images` and what belongs to them -> inputs of the model, and `notes`.

        Of a model that only hears, `samples` and their `rate` take the place of `images`.
        """
        if (VIDEO in given) == (self._decoded in given):
            more = (
                f"with {SAMPLES}, {RATE_INPUT} and {CROPPED}" if self._decoded == IMAGES_INPUT else f"with {RATE_INPUT}"
            )
            raise DataError(f"give {VIDEO} alone, or {self._decoded} {more}")
        self._end = time.monotonic() + self._seconds
        files = given[VIDEO][:, 0] if VIDEO in given else ()
        read = [self._read_file(data) for data in files] or self._read_pictures(given)
        names = ports.inputs(self._contract)
        columns = map(np.concatenate, zip(*(one.inputs for one in read), strict=True))
        arrays = {name: _shaped(array) for name, array in zip(names, columns, strict=True)}
        if self._contract.per_step:
            arrays[SECONDS] = np.stack([one.seconds for one in read])
        return arrays | {NOTES: _texts("; ".join(one.notes) for one in read)}

    def _read_file(self, data: bytes) -> "_ReadClip":
        with tempfile.NamedTemporaryFile(prefix="mmadfer-") as file:
            file.write(data)
            file.flush()
            return self._read(Video(Path(file.name)))

    def _read_pictures(self, given: _Arrays) -> list["_ReadClip"]:
        if self._decoded == SAMPLES:
            rates = given.get(RATE_INPUT, [[0]] * len(given[SAMPLES]))
            return [self._read_sound(Video(Path(WORD)), *clip) for clip in zip(given[SAMPLES], rates, strict=True)]
        images = given[IMAGES_INPUT]
        self._check_pictures(images.shape[1:])
        nothing: dict[str, Any] = {
            SAMPLES: np.zeros((len(images), 0), np.float32),
            RATE_INPUT: [[0]] * len(images),
            CROPPED: [[False]] * len(images),
        }
        samples, rate, cropped = (given.get(name, default) for name, default in nothing.items())
        return [self._read_one(*clip) for clip in zip(images, samples, rate, cropped, strict=True)]

    def _check_pictures(self, shape: tuple[int, ...]) -> None:
        fps = self._contract.prepare.fps
        most = int(self._contract.prepare.max_seconds * fps)
        if not all(shape) or shape[0] > most:
            raise DataError(
                f"{IMAGES_INPUT} of a clip are {' x '.join(map(str, shape))}: give 1 to {most} pictures ({fps:g} per "
                "second) of 1 x 1 pixels at least, in three colours"
            )

    def _read_one(
        self, images: np.ndarray, samples: np.ndarray, rate: Sequence[int], cropped: Sequence[bool]
    ) -> "_ReadClip":
        video = Video(Path(WORD), None, bool(cropped[0]), DecodedClip(images, WORD))
        return self._read_sound(video, samples, rate) if len(samples) else self._read(video)

    def _read_sound(self, video: Video, samples: np.ndarray, rate: Sequence[int]) -> "_ReadClip":
        with tempfile.NamedTemporaryFile(prefix="mmadfer-", suffix=".wav") as file:
            file.write(wav(samples, int(rate[0])))
            file.flush()
            return self._read(video._replace(sound=Path(file.name)))

    def _read(self, video: Video) -> "_ReadClip":
        """One clip, and the notes that `mmadfer predict` would print about it.

        It is read in a copy of this process, because Triton 24.06 and later never start a process again that has ended.
        """
        try:
            data = in_subprocess(lambda: packed(self._found(video)), self._end - time.monotonic())
        except TimeoutError as error:
            raise DataError(
                f"{WORD} is not read within {self._seconds:g} s, the most that a request gets: cut it into shorter "
                "ones, or make its pictures smaller"
            ) from error
        except ChildProcessError as error:
            raise DataError(
                f"{WORD} ended the process that read it ({error}): it is damaged, or wants more memory than is left"
            ) from error
        found = unpacked(data)
        if ERROR in found:
            raise DataError(str(found[ERROR]))
        inputs = tuple(found[name] for name in ports.inputs(self._contract))
        return _ReadClip(inputs, found[NOTES].tolist(), found[SECONDS])

    def _found(self, video: Video) -> _Arrays:
        """What is to be handed on of a clip."""
        try:
            part, *more = islice(read_parts(video, self._contract), 2)
            if more:
                raise DataError(f"{video.path} is longer than one window of the model: {self._longest()}")
        except DataError as error:
            return {ERROR: np.array(_told(str(error), video))}
        inputs = part.inputs or empty_clip(self._contract)
        notes = np.array([_told(str(note), video) for note in part.notes], str)
        seconds = part.times[part.shown[0]] if part.shown else np.zeros(0)
        return dict(zip(ports.inputs(self._contract), inputs, strict=True)) | {NOTES: notes, SECONDS: seconds}

    def _longest(self) -> str:
        window = self._contract.window
        span = window.span(self._contract.model.frames) if window else 0
        return f"send {span} frames or fewer at once, or predict the whole file with `mmadfer predict`"


class _ReadClip(NamedTuple):
    """A clip for the model."""

    inputs: Inputs
    notes: list[str]
    seconds: np.ndarray
    """float64 (T,): when the frames are shown that the model is shown; (0,) of a model that gives one answer a clip."""


class Model(_Step):
    """The model, computed by mmadfer's own runtime: where Triton has no backend for it."""

    def start(self, folder: Path, args: dict[str, str]) -> None:
        """Load it, and compute an empty clip."""
        path = next(folder / name for name in _MODEL_FILES if (folder / name).is_file())
        gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        backend = BACKENDS[choose_backend(path, None)](path, device, None)
        self._ports, self._batches = ports.inputs(backend.contract), Batches(backend)
        self._batches.logits([empty_clip(backend.contract)])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One batch of all requests; where that fails, each alone, so that only the one at fault fails."""
        if len(requests) > 1:
            try:
                return self._together([_arrays(request) for request in requests])
            except Exception as error:
                LOGGER.warning(f"{len(requests)} requests, now each alone: {type(error).__name__}: {error}")
        return super().execute(requests)

    def _together(self, given: list[_Arrays]) -> list[Any]:
        logits = self.work({name: np.concatenate([one[name] for one in given]) for name in self._ports})[ports.OUTPUT]
        first = next(iter(self._ports))
        ends = np.cumsum([len(one[first]) for one in given])
        return [_response({ports.OUTPUT: part}) for part in np.split(logits, ends[:-1])]

    def work(self, given: _Arrays) -> _Arrays:
        """Inputs of the model -> `logits`; a batch that the memory does not hold is computed in parts."""
        arrays = [given[name].reshape(len(given[name]), *shape) for name, (_, shape) in self._ports.items()]
        clips = [tuple(array[row : row + 1] for array in arrays) for row in range(len(arrays[0]))]
        return {ports.OUTPUT: self._batches.logits(clips, len(clips))}


class Namer(_Step):
    """From `logits` to probabilities and a label, or to values."""

    def start(self, folder: Path, args: dict[str, str]) -> None:
        """Load the contract."""
        self._contract = _contract(folder)

    def work(self, given: _Arrays) -> _Arrays:
        """`logits` -> `probabilities` float32 (B, C) and `label` (B, 1); or `values` float32 (B, C) or (B, T, C)."""
        logits = finite(given[ports.OUTPUT], self._contract)
        if self._contract.output == "values":
            return {VALUES: logits}
        best = (self._contract.labels[k] for k in logits.argmax(axis=-1))
        return {PROBABILITIES: softmax(logits).astype(np.float32), LABEL: _texts(best)}


def _told(text: str, video: Video) -> str:
    """A message or note without the names of temporary files, which tell the client nothing."""
    if video.sound:
        text = text.replace(str(video.sound), f"{WORD}'s sound")
    return text.replace(str(video.path), WORD)


def _contract(folder: Path) -> Contract:
    return contracts.loads(read_bytes(folder / CONTRACT), folder / CONTRACT)


def _shaped(array: np.ndarray) -> np.ndarray:
    """Triton's tensors have one dimension beside the batch, at least."""
    return array[:, None] if array.ndim == 1 else array


def _texts(lines: Any) -> np.ndarray:
    return np.array([[line.encode("utf-8", "backslashreplace")] for line in lines], dtype=object)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of float32 samples (samples,), one channel, which keeps every bit.

    Raises:
        DataError: a rate that is none.
    """
    if not 1 <= rate <= 768_000:
        raise DataError(f"{RATE_INPUT} is {rate}: give the samples' rate in Hz")
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)  # 3: IEEE float
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body
