"""The overlay video: the source's pictures with heat, beside them what the model saw, below them the spectrogram.

    +-----------------+-----------+
    | picture         | last seen |   the picture at that time; the frame that the model saw last; both with its heat
    +-----------------+-----------+
    | spectrogram with heat |     |   of the part that is shown, with a line at the time
    +-----------------------------+

In the picture, the heat lies in the square around the face that the model is shown of it, and moves with the face.
Pictures keep their times, and the sound is the source's. Held in memory is the part that is shown, whatever the video's
length: pictures and sound are read again, and encoded as they come.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from mmadfer.data.faces.detection import square_around
from mmadfer.data.media.video_writer import RATE, VideoWriter
from mmadfer.explain.drawing import FRAME_SECONDS, heat_square, heated_frames, sized, spectrogram
from mmadfer.explain.part import ExplainedPart

SIDE = 240
"""Height of the pictures, and side of the frame with heat."""
_SOUND_HEIGHT = 128
_WIDEST = 3 * SIDE // 2
"""Of the source's picture; a wider one is made smaller, with black above and below."""
_GREY = (60, 60, 60)
_EXACT = 1e-6
"""Seconds by which times may be off by rounding."""


class Shown(NamedTuple):
    """A picture of the source."""

    time: float
    """In seconds."""
    image: np.ndarray
    """uint8 (H, W, 3)."""


class Film:
    """Writes an overlay video part by part; a context manager, and only a block that succeeds gives a whole file.

    Args:
        path: of the MP4 file.
        pictures: the source's, in time; None: it has none, and the spectrogram is shown alone.
        sound: the file with its sound, or None.
        sees: the model sees frames.
        hears: the model hears.
        margin: of the squares around the face that it sees; None: it sees pictures whole.
    """

    def __init__(
        self,
        path: Path,
        pictures: Iterator[Shown] | None,
        sound: Path | None,
        sees: bool,
        hears: bool,
        margin: float | None = None,
    ) -> None:
        self._pictures, self._hears, self._margin = pictures, hears, margin
        self._next = next(pictures, None) if pictures else None
        self._wide = _width(self._next.image) if self._next else 0
        width = self._wide + (SIDE if sees else 0) or 2 * SIDE
        height = (SIDE if self._wide or sees else 0) + (_SOUND_HEIGHT if hears else 0)
        self._canvas = np.zeros((height, width, 3), np.uint8)
        self._part: ExplainedPart | None = None
        self._end, self._ticks = 0.0, 0
        self._file = VideoWriter(path, (height, width), sound)

    @property
    def notes(self) -> list[str]:
        """What a person should know of it."""
        return self._file.notes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:  # closed whatever happens; whole only where nothing does
            if error is not None:
                raise error
            self._until(np.inf)

    def show(self, part: ExplainedPart | None, start: float, end: float) -> None:
        """From `start` on, show this part, or pictures alone where it could not be explained."""
        self._until(start)
        self._end = end
        self._take(part)

    def _take(self, part: ExplainedPart | None) -> None:
        self._part = part
        warm = heated_frames(part, SIDE) if part and "vision" in part.heat else []
        order = np.argsort(part.times, kind="stable").tolist() if part and warm else []
        self._warm, self._times = [warm[k] for k in order], [float(part.times[k]) for k in order] if part else []
        self._heat = part.heat["vision"][order] if part and warm else np.zeros((0, 1, 1))
        self._places = _Places(part, self._margin) if part and warm else None
        size = (_SOUND_HEIGHT, self._canvas.shape[1])
        self._bands = spectrogram(part, size) if part and part.fbank is not None else None

    def _until(self, time: float) -> None:
        if self._pictures is None:
            self._tick(time)
            return
        while self._next is not None and self._next.time < time:
            self._draw(self._next.time, self._next.image)
            self._next = next(self._pictures, None)

    def _tick(self, time: float) -> None:
        """Pictures of a source without any, up to `time`, at most to the end of the part."""
        while (now := self._ticks / RATE) < min(time, self._end):
            self._draw(now, None)
            self._ticks += 1

    def _draw(self, time: float, image: np.ndarray | None) -> None:
        canvas, seen = self._canvas, _at(self._times, time)
        canvas[:] = 0
        if image is not None:
            shown = _fit(canvas[:SIDE, : self._wide], image)
            if self._places and (square := self._places.square(time, shown.shape[0], shown.shape[1])):
                heat_square(shown, self._heat[seen], square)
        if self._warm:
            canvas[:SIDE, self._wide : self._wide + SIDE] = self._warm[seen]
        if self._hears:
            self._draw_sound(canvas[-_SOUND_HEIGHT:], time)
        self._file.write(time, canvas)

    def _draw_sound(self, canvas: np.ndarray, time: float) -> None:
        if self._bands is None or self._part is None or self._part.fbank is None:
            canvas[:] = _GREY
            return
        canvas[:] = self._bands
        seconds = len(self._part.fbank) * FRAME_SECONDS
        column = int((time - self._part.sound_start) / seconds * canvas.shape[1])
        if 0 <= column < canvas.shape[1]:
            canvas[:, column : column + 2] = (0, 255, 120)


class _Places:
    """Where in pictures the frames of a part lie."""

    def __init__(self, part: ExplainedPart, margin: float | None) -> None:
        order = np.argsort(part.frame_times, kind="stable")
        self._times, self._margin = part.frame_times[order].tolist(), margin
        self._boxes = None if part.boxes is None else part.boxes[order]

    def square(self, time: float, height: int, width: int) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 in a picture of so many pixels; None where that is not known."""
        if self._margin is None:
            return 0, 0, width, height
        if self._boxes is None:
            return None
        return square_around(self._boxes[_at(self._times, time)], height, width, self._margin)


def _at(times: Sequence[float], time: float) -> int:
    """The last of rising times that is not after `time`; before the first one, that."""
    return max(0, bisect_right(times, time + _EXACT) - 1)


def _width(image: np.ndarray) -> int:
    height, width = image.shape[:2]
    return min(_WIDEST, max(2, round(SIDE * width / height / 2) * 2))


def _fit(canvas: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Draw an image in the middle, as large as it fits; the part of the canvas that it takes."""
    room = canvas.shape[:2]
    scale = min(room[0] / image.shape[0], room[1] / image.shape[1])
    size = (max(1, min(room[0], round(image.shape[0] * scale))), max(1, min(room[1], round(image.shape[1] * scale))))
    top, left = ((whole - side) // 2 for whole, side in zip(room, size, strict=True))
    shown = canvas[top : top + size[0], left : left + size[1]]
    shown[:] = sized(image, size)
    return shown
