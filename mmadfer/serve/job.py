"""A job: one video, from its upload to what the model says of it."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from mmadfer.data.media.notes import Note, Share, Whole
from mmadfer.data.video_windows import Windows
from mmadfer.errors import DataError, MmadferError
from mmadfer.runtime.inputs import Video, VideoPart
from mmadfer.runtime.prediction import Prediction
from mmadfer.runtime.recogniser import Recogniser, Waiting
from mmadfer.serve.boxes import Boxes
from mmadfer.serve.computing import Computing, Lane
from mmadfer.serve.errors import in_fields
from mmadfer.serve.limits import MOST_SEGMENTS, Limits
from mmadfer.serve.reading import About, Most, Readers, Reading, StoppedError
from mmadfer.serve.upload import Upload

WAITING, READING, DONE, FAILED, CANCELLED = "waiting", "reading", "done", "failed", "cancelled"
ENDS = (DONE, FAILED, CANCELLED)


class Job:
    """One video; its state is read by any thread, `run` is one thread's.

    Args:
        name: 128 random bits, by which it is asked for.
        upload: what was sent.
        recogniser: the model, for the faces that are asked for.
        windows: as the video is cut.
    """

    def __init__(self, name: str, upload: Upload, recogniser: Recogniser, windows: Windows | None) -> None:
        self.id, self.upload, self.recogniser, self._windows = name, upload, recogniser, windows
        self.state, self.error, self.about = WAITING, "", About(None, None)
        self.prediction: Prediction | None = None
        self.ended = 0.0
        """When it ended, by the clock of `monotonic`; 0: not yet."""
        self.begun = 0.0
        self._answer = recogniser.answer(Video(Path(upload.name)))
        self._boxes, self._changed = Boxes(), threading.Condition()
        self._finished, self._open, self._awaited = 0, dict[int, int](), 0
        self._reading: Reading | None = None
        self._lane: Lane | None = None

    def run(self, readers: Readers, computing: Computing, limits: Limits) -> None:
        """Read and predict it.

        Raises:
            MmadferError, OSError: what is wrong with it, for `fail`.
        """
        most = Most(limits.max_seconds, limits.timeout)
        if (lane := self._begin(computing)) is None:
            return
        try:
            reading = readers.open(self.upload.video, self.upload.sound, self._windows, self.recogniser.faces, most)
            try:
                self._read(reading, lane)
            finally:
                reading.close()
                self.upload.remove()  # before the rest is computed
            self._end(self.begun + limits.timeout)
        except StoppedError:  # whoever has stopped it has said why
            pass
        finally:
            self.upload.remove()
            lane.close()

    def _begin(self, computing: Computing) -> Lane | None:
        """What computes for it; None where it was cancelled while it waited."""
        with self._changed:
            if self.state != WAITING:
                return None
            self.state, self.begun = READING, monotonic()
            self._lane = Lane(computing, self.fail)
            return self._lane

    def _read(self, reading: Reading, lane: Lane) -> None:
        with self._changed:
            if self.state != READING:
                return
            self._reading = reading
        for found in reading.found():
            if isinstance(found, About):
                self.about = found._replace(looked=max(self.about.looked, found.looked))
            else:
                self._take(found, lane)

    def _take(self, part: VideoPart, lane: Lane) -> None:
        part = part._replace(notes=tuple(map(self._renamed, part.notes)))
        waiting = list[Waiting]()
        with self._changed:
            number = len(self._answer.segments)
            if number >= MOST_SEGMENTS:
                raise DataError(
                    f"{self.upload.name} has more than {MOST_SEGMENTS} windows, of all people: give a longer hop"
                )
            self.recogniser.collect(self._answer, part, waiting)
            self._boxes.add(part)
            self._open[number] = len(waiting)
            self._awaited += len(waiting)
            self._go_on()
        for inputs, tell in waiting:
            lane.put(inputs, partial(self._told, number, tell))

    def _told(self, number: int, tell: Callable[[np.ndarray], None], logits: np.ndarray) -> None:
        """Take the logits of a look; called by the thread that computes."""
        with self._changed:
            tell(logits)
            self._open[number] -= 1
            self._awaited -= 1
            self._go_on()

    def _go_on(self) -> None:
        """Segments are finished in their order."""
        while self._open.get(self._finished) == 0:
            del self._open[self._finished]
            self._finished += 1
        self._changed.notify_all()

    def _end(self, deadline: float) -> None:
        """Wait for what is computed, and put all together."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: not self._awaited or self.state != READING, max(0.0, deadline - monotonic())
            )
            if self.state != READING:
                return
            if not there:
                raise DataError(f"{self.upload.name} is not predicted in the time that a job gets here: cut it up")
        prediction = self._answer.prediction()  # all is there; of many windows it takes a while, and others ask
        with self._changed:
            if self.state == READING:
                self.prediction = prediction
                self._stop(DONE)

    def _renamed(self, note: Note) -> Note:
        if isinstance(note, Share):
            return note._replace(text=self.upload.told(note.text))
        return Whole(self.upload.told(note)) if isinstance(note, Whole) else self.upload.told(note)

    def fail(self, error: Exception) -> None:
        """End it, if it has not, with what is wrong; any thread may."""
        if isinstance(error, MmadferError):
            told = in_fields(self.upload.told(str(error)))
        elif isinstance(error, OSError):
            told = f"the server cannot read it now ({error.strerror or error}): try again later"
        else:
            told = f"{type(error).__name__} in the server, whose log says more"
        with self._changed:
            if self.state not in ENDS:
                self.error = told
                self._stop(FAILED)

    def cancel(self) -> bool:
        """End it, if it has not; whether it had not."""
        with self._changed:
            if self.state in ENDS:
                return False
            waited = self.state == WAITING
            self._stop(CANCELLED)
        if waited:
            self.upload.remove()
        return True

    def _stop(self, state: str) -> None:
        self.state, self.ended = state, monotonic()
        if self._reading is not None:
            self._reading.kill()
        if self._lane is not None:
            self._lane.close()
        self._changed.notify_all()

    def finished_from(self, first: int, most: int) -> list[dict[str, Any]]:
        """Finished segments from a number on, and how many of them at most."""
        with self._changed:
            return self._answer.segments[first : min(first + most, self._finished)]

    @property
    def seconds_done(self) -> float:
        """Of the video, that are predicted."""
        segments, count = self._answer.segments, self._finished
        return max(0.0, segments[count - 1]["end"] - segments[0]["start"]) if count else 0.0

    @property
    def progress(self) -> float | None:
        """Share of the work that is done, as far as that is known: half of it is to look at all pictures once."""
        if self.state == DONE:
            return 1.0
        seconds, looked = self.about.seconds, 1.0 if self._finished else self.about.looked
        if not seconds or not looked:
            return None
        return (looked + min(1.0, self.seconds_done / seconds)) / 2

    @property
    def seconds(self) -> float | None:
        """Of the video: as it says, and in the end as it is."""
        return self.seconds_done if self.state == DONE else self.about.seconds

    @property
    def seconds_left(self) -> float | None:
        """Until it is done, as far as that can be told."""
        progress = self.progress
        if self.state != READING or not progress:
            return None
        return (monotonic() - self.begun) * (1 - progress) / progress

    @property
    def weight(self) -> int:
        """What it takes of memory, in segments: without any as much as five."""
        return 5 + len(self._answer.segments) + len(self._boxes) // 10

    def boxes(self) -> list[dict[str, Any]]:
        """Where faces are, person by person."""
        with self._changed:
            return self._boxes.to_list()
