"""`Recogniser(path)(video)`: the same way from file to label for every backend."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from copy import copy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.contract import Contract, temperature_of
from mmadfer.data.video_windows import Windows, windows_of
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.runtime.arrays import Inputs, empty_clip, from_clip, from_record, seen_frames
from mmadfer.runtime.backends.choice import BACKENDS, choose_backend
from mmadfer.runtime.batches import Batches
from mmadfer.runtime.inputs import ClipViews, Video, VideoPart, load_readers, read_parts
from mmadfer.runtime.live import LiveFrame, LiveSound, LiveStream, check_live, live_parts
from mmadfer.runtime.people import PeopleAnswer, check_people, check_video
from mmadfer.runtime.prediction import Answer, Failure, Prediction
from mmadfer.runtime.sentences import GivenText, VideoSentences, check_whole
from mmadfer.share.source import BOTH, model_path
from mmadfer.tasks.logit_adjustment import check_tau, shift
from mmadfer.utils.logs import logger
from mmadfer.utils.prefetch import ahead

LOGGER = logger(__name__)

__all__ = ["Failure", "Prediction", "Recogniser", "Video", "from_clip", "from_record", "seen_frames"]

READY = 4
"""Parts of each video that lie ready, at least; 1.2 MB each at 160 px."""
MOST_JOBS = 256
"""Threads; each holds files open, of which a process may have 1024."""

MOST_CLIPS = 16
"""Index sets, as `data.test_clips` allows."""

_FORMS = {"torch": ("weights",), "onnxruntime": ("onnx",)}
"""Backend -> what it can use of a shared model."""

Results = Generator[Prediction | Failure, None, None]
Waiting = tuple[Inputs, Callable[[np.ndarray], None]]
"""What is to be computed, and what takes its logits; for those who read videos elsewhere: see `Recogniser.answer`."""


class Recogniser:
    """A model file and the preparation that its contract asks for; many threads may use it at once.

    Args:
        path: run or fold directory, checkpoint, .safetensors, published .pth, .onnx, or .engine; or a model on the hub,
            `hub:USER/NAME@REVISION`, of which the ONNX file is fetched where ONNX Runtime is installed.
        backend: `torch`, `onnxruntime` or `tensorrt`; by default what the file is for.
        fold: which fold of a run directory.
        device: `cpu`, `cuda`, `cuda:1` for the second GPU, or `tensorrt` (an .onnx through ONNX Runtime's provider);
            by default `cpu`, and `cuda` for an engine, which no CPU runs.
        adjust: tau by which logits are adjusted (`mmadfer.tasks.logit_adjustment`): 0 as trained, 1 for the mean
            recall of classes.
        clips: index sets of each clip or window whose probabilities are averaged, 1 to 16.
        flips: average each of them with its mirror image.
        calibrated: divide logits by the temperature that the model carries, fitted on clips for validation.
        text: what is said in videos, or sentences about them, for a model that reads sentences.
        faces: `largest`, the one whose face is largest and surest; `all` people, or as many of the largest, who are
            told apart over the video (`mmadfer.data.faces.people`) and predicted one by one.
        verify: a public key or certificates (PEM), by which the model's signature is checked before it is loaded.
        on_part: called with each video and part of it (one for each of its segments), as they are read.

    Raises:
        HubError: no such model on the hub, or no network.
        SignatureError: the signature is missing, of another key, or not of these files.
        WeightsError: the path holds no usable model, or not for this backend, or none whose logits can be adjusted or
            calibrated.
        ConfigError: `adjust`, `clips` or `faces` cannot be, or both `adjust` and `calibrated`.
        MissingDependencyError: the backend or the device is not there.
    """

    def __init__(
        self,
        path: Path | str,
        backend: str | None = None,
        fold: int | None = None,
        device: str | None = None,
        *,
        adjust: float = 0.0,
        clips: int = 1,
        flips: bool = False,
        calibrated: bool = False,
        text: GivenText | None = None,
        faces: str | int = "largest",
        verify: Path | str | None = None,
        on_part: Callable[[Video, VideoPart], None] | None = None,
    ) -> None:
        check_tau(adjust)
        if not 1 <= clips <= MOST_CLIPS:
            raise ConfigError(f"clips is {clips}: average 1 to {MOST_CLIPS} index sets")
        self.path = model_path(path, verify, _forms(backend))
        self.backend_name = choose_backend(self.path, backend)
        LOGGER.debug(f"{path} is opened by the backend {self.backend_name}")
        self.backend = BACKENDS[self.backend_name](self.path, device, fold)
        self.batches = Batches(self.backend)
        if fold is not None and self.contract.fold not in (None, fold):
            raise WeightsError(f"{path} holds fold {self.contract.fold}, not {fold}: leave the fold out, or give a run")
        if clips > 1 and self.contract.window is not None:
            raise ConfigError(f"clips is {clips}, but {path} has learnt windows (data.window), which have one set: 1")
        self.sentences = self._reading(text)
        self.faces = check_people(faces, self.contract, self.path)
        self.views, self._shift = ClipViews(clips, flips), _shift(self.contract, adjust, path) if adjust else None
        self._temperature = temperature_of(self.contract, path, adjust) if calibrated else None
        self._asked: dict[str, Any] = {"adjust": adjust, "clips": clips if clips > 1 else 0, "flips": flips}
        self._asked["temperature"] = self._temperature
        self._on_part = on_part

    def _reading(self, text: GivenText | None) -> VideoSentences | None:
        if self.contract.model.text is not None:
            return VideoSentences(self.path, self.contract, text)
        if text is not None and (text.transcripts or text.sentences):
            raise ConfigError(f"{self.path} reads no sentences: leave --transcripts and --sentences out")
        return None

    def of_faces(self, faces: str | int) -> "Recogniser":
        """The same model for others' faces, as `faces` says at its start; it shares everything else.

        Raises:
            ConfigError: as at its start.
            MissingDependencyError: as there.
        """
        other = copy(self)
        other.faces = check_people(faces, self.contract, self.path)
        return other

    @property
    def contract(self) -> Contract:
        """The model's labels, sizes and preprocessing."""
        return self.backend.contract

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the logits; none of a model that gives values."""
        return self.contract.labels

    @property
    def values(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest number of each value, in the order of the output; none of a model that gives classes."""
        return self.contract.values

    @property
    def tells_people_apart(self) -> bool:
        """Whether a prediction is of each person in a video, and not of the video."""
        return self.faces != "largest"

    def __call__(
        self,
        video: Path | str | Video,
        *,
        sound: Path | str | None = None,
        cropped: bool = False,
        fps: float | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Prediction:
        """Predict one video, or a folder with one image for each frame.

        Args:
            video: the file or folder.
            sound: the file with its sound, where that is another one; a folder of images has none of its own.
            cropped: the frames show nothing but the face, and are taken whole.
            fps: images per second of a folder; by default as the model's training clips had, 25 where nobody said.
            window: seconds; cut the video into windows as long, and predict each. For videos of any length. By
                default, a model that was trained on windows (`data.window`) looks at its own, and others at the whole.
            hop: seconds from the start of a window to that of the next; by default as long as the window.

        Raises:
            DataError: no such file, not a video, no face, no sound (unless the model takes silence for it), too long,
                or sound at a rate that the model does not know.
            ConfigError: windows that are too short, or leave out a part.
        """
        if isinstance(video, Video) and (sound or cropped or fps):
            raise ConfigError(
                "a Video says itself where its sound is, whether it is cropped, and its rate: give these to it alone"
            )
        if not isinstance(video, Video):
            video = Video(Path(video), Path(sound) if sound else None, cropped, fps=fps)
        answer, waiting = self.answer(video), list[Waiting]()
        for part in self._read_parts(video, self.windows(window, hop)):
            self.collect(answer, part, waiting)
            while len(waiting) >= self.batches.usual:
                self.compute(waiting, self.batches.usual)
        self.compute(waiting)
        return answer.prediction()

    def predict(
        self,
        videos: Iterable[Path | str | Video],
        *,
        jobs: int = 1,
        batch: int | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Results:
        """Predict many videos; one that cannot be read becomes a `Failure`, and the others go on.

        Args:
            videos: taken one by one, as there is room.
            jobs: threads that read videos, ahead of the model; at most 256, and of use up to the number of cores.
            batch: clips or windows that are computed together; by default one on a CPU, and on a GPU what the model
                was exported for. The last digits of a probability can depend on it, and a result waits for its batch.
            window: as for one video.
            hop: as for one video.

        Yields:
            a result for each video, in their order, as soon as it and those before it are there. Close the generator
            where the rest is not wanted, which ends the threads.

        Raises:
            ConfigError: windows or numbers that cannot be.
            MmadferError: the memory does not hold a single clip.
        """
        if not 1 <= jobs <= MOST_JOBS or (batch is not None and batch < 1):
            raise ConfigError(
                f"jobs is {jobs} and batch {batch}: both must be at least 1, and jobs at most {MOST_JOBS}"
            )
        tasks = (video if isinstance(video, Video) else Video(Path(video)) for video in videos)
        return self._predict(tasks, jobs, batch or self.batches.usual, self.windows(window, hop))

    def stream(
        self,
        source: Iterable[LiveFrame | LiveSound],
        *,
        window: float = 5.0,
        hop: float = 1.0,
        leave_out: bool = True,
        cropped: bool = False,
        name: str = "live",
    ) -> LiveStream:
        """Predict rolling windows of a live source, each as soon as its last picture and sound are there.

        What is said of a window is what `Recogniser(video, window=, hop=)` says of that of a file with the same
        pictures and sound. Held in memory are one window and one hop; twice that with `leave_out`.

        Args:
            source: pictures and pieces of sound in order of time, also without end.
            window: seconds, as for one video.
            hop: seconds, as for one video.
            leave_out: read the source in a thread of its own, and leave out windows where the model, or who takes the
                predictions, is slower than the source; `LiveStream.left_out` counts them. False: every window is
                predicted, and the source waits, as a recording can.
            cropped: the pictures show nothing but the face, and are taken whole.
            name: what `Prediction.video` and errors call the source.

        Returns:
            an iterator of one `Prediction` for each window, with one segment; one that lacks a face or sound has no
            label, and the reason in its notes. Close it where the rest is not wanted.

        Raises:
            ConfigError: windows that cannot be, or a model that needs more than a window (sentences, people told
                apart, windows of a clip taken together), or no pictures.
            DataError: when it is iterated: an item that cannot be, or out of order, or sound at a rate that the model
                does not know.
        """
        check_live(self.contract, self.path, self.tells_people_apart)
        windows = self.windows(window, hop)
        assert windows is not None
        video = Video(Path(name), cropped=cropped)
        parts = live_parts(source, video, self.contract, windows, self.views, leave_out)
        return LiveStream(parts, partial(self._of_window, video))

    def _of_window(self, video: Video, part: VideoPart) -> Prediction:
        answer, waiting = self.answer(video), list[Waiting]()
        self.collect(answer, part, waiting)
        while waiting:
            self.compute(waiting, self.batches.usual)
        return answer.of_window()

    def _predict(self, tasks: Iterable[Video], jobs: int, batch: int, windows: Windows | None) -> Results:
        waiting, open_ = list[Waiting](), deque[Answer]()
        read = partial(self._read_parts, windows=windows)
        for task, parts in ahead(tasks, read, jobs, max(batch, READY)):
            answer = self.answer(task)
            open_.append(answer)
            for part in answer.take(parts):
                self.collect(answer, part, waiting)
                while len(waiting) >= batch:
                    self.compute(waiting, batch)
                    yield from _finished(open_)
            yield from _finished(open_)
        self.compute(waiting)
        yield from _finished(open_)

    def _read_parts(self, video: Video, windows: Windows | None) -> Iterator[VideoPart]:
        if self.sentences is not None:
            return self.sentences.read_parts(video, windows, self.views)
        if self.tells_people_apart:
            check_video(video)
        return read_parts(video, self.contract, windows, self.views, self.faces)

    def windows(self, window: float | None, hop: float | None) -> Windows | None:
        """The windows that are asked for, as in a call.

        Raises:
            ConfigError: they cannot be, or not of this model.
        """
        if window is not None and self.contract.pooled_windows:
            raise ConfigError(
                f"{self.path} takes {self.contract.pooled_windows} windows of a clip together and tells the clip's "
                "label: leave --window out, or take the model exported without --windows"
            )
        if window is None and self.tells_people_apart and self.contract.window is not None:
            raise ConfigError(
                f"{self.path} has learnt windows (data.window), which it cuts out of one face's frames: with --faces "
                "give the windows in seconds, for example --window 5 --hop 1"
            )
        found = windows_of(window, hop)
        if self.sentences is not None:
            check_whole(found)
        return found

    def answer(self, task: Video) -> Answer:
        """For the parts of a video that are read elsewhere, as `read_parts` does: what a server needs.

        `collect` takes its parts in order, and `compute` what waits of it or of several answers, until it is complete.
        """
        answer = PeopleAnswer if self.tells_people_apart else Answer
        return answer(task, self.contract, self.facts(), self._shift, self._temperature)

    def collect(self, answer: Answer, part: VideoPart, waiting: list[Waiting]) -> None:
        """Add the next part to an answer; what is to be computed of it joins what waits."""
        tell = answer.add(part)
        if self._on_part is not None:
            self._on_part(answer.video, part)
        if part.inputs is not None:
            waiting.extend((inputs, tell) for inputs in (part.inputs, *part.others))

    def compute(self, waiting: list[Waiting], count: int | None = None) -> None:
        """Compute the first `count` that wait, or all, and take them out of the list."""
        some = waiting[:count]
        if some:
            logits = self.batches.logits([inputs for inputs, _ in some], len(some))
            for (_, tell), row in zip(some, logits, strict=True):
                tell(row)
            del waiting[: len(some)]

    def warm(self, batch: int | None = None, readers: bool = True) -> "Recogniser":
        """Do once what only the first answer has to wait for, so that a server's first is as fast as the others.

        It loads the face detector and computes an empty clip, and as many together as come in batches.

        Args:
            batch: as for `predict`.
            readers: load the face detector, too; without, for those who read videos elsewhere.

        Returns:
            the recogniser itself.
        """
        if readers:
            load_readers(self.contract)
        nothing = empty_clip(self.contract)
        for count in {1, batch or self.batches.usual}:
            self.batches.logits([nothing] * count, count)
        return self

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
            **({"teacher": contract.teacher.model_dump(mode="json")} if contract.teacher else {}),
            **({"adapted_to": list(contract.adapted.people)} if contract.adapted else {}),
            **{name: value for name, value in self._asked.items() if value},
            **({"faces": self.faces} if self.tells_people_apart else {}),
        }


def _forms(backend: str | None) -> tuple[str, ...]:
    """What of a shared model is used, the best first."""
    if backend in _FORMS:
        return _FORMS[backend]
    return BOTH if find_spec("onnxruntime") else BOTH[::-1]


def _shift(contract: Contract, tau: float, path: Path | str) -> np.ndarray:
    if not contract.priors:
        raise WeightsError(
            f"{path} does not know the labels that it was trained on, by which its logits would be adjusted: leave "
            "--adjust out, or take a model that this version has trained; `mmadfer evaluate --adjust` reads them from "
            "the store"
        )
    return shift(contract.labels, contract.priors, tau)


def _finished(answers: deque[Answer]) -> Iterator[Prediction | Failure]:
    while answers and answers[0].complete:
        yield answers.popleft().result()
