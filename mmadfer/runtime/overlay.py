"""The overlay video of a prediction: boxes and labels on the pictures, probabilities beside them, a timeline below.

    +-----------------------+---------------+
    | picture with a box    | person 1      |   of everybody who is predicted at that time
    | around each face      | happy  ####   |
    +-----------------------+---------------+
    | timeline of each person, with a line  |   the label of each window in its colour; of values, a curve
    +---------------------------------------+

At each moment the window is shown that `stretches.stretches` gives it. Pictures are read again and keep their times,
the sound is the source's. Held in memory are one picture, and where the face is in each frame.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.video_writer import VideoWriter
from mmadfer.errors import DataError
from mmadfer.runtime.inputs import Video, VideoPart, whole_pictures
from mmadfer.runtime.prediction import Prediction
from mmadfer.runtime.stretches import MOST_PEOPLE, Stretch, by_person, longest_shown, said, stretches
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.files import atomic
from mmadfer.utils.progress import Meter
from mmadfer.utils.terminal import shown

_LONGEST = 1280
"""Of the picture's sides, in pixels; a larger one is made smaller."""
_LEAST = 240
"""Of the picture's height, so that the panel has room; below a smaller one is black."""
_PANEL, _LINE, _PAD, _TRACK = 232, 18, 6, 26
"""Pixels: width of the panel, height of its lines, space around things, height of a person's timeline."""
_TEXT, _NUMBER = 13, 42
"""Pixels: height of letters, and width of a number."""
_MOST_BARS = 8
"""Classes in the panel for each person: those with the highest mean over the video; fewer where room is scarce."""
_INK, _FAINT, _BACK = (235, 235, 235), (90, 90, 90), (24, 24, 28)
_EXACT = 1e-6
"""Seconds by which times may be off by rounding."""
Ranges = Mapping[str, tuple[float, float]]


class Place(NamedTuple):
    """Where a face is during one part of a video."""

    times: np.ndarray
    """Float64 (n,), in seconds, rising."""
    boxes: np.ndarray
    """Float32 (n, 4): x0, y0, x1, y1 in shares of the picture."""


_PlaceOf = Mapping[int, Place | None]


class Places:
    """Keeps where faces are in the parts of videos that a `Recogniser` reads; give it as its `on_part`."""

    def __init__(self) -> None:
        self._of = dict[Path, list[Place | None]]()

    def __call__(self, video: Video, part: VideoPart) -> None:
        """Keep what is needed of the next part of a video."""
        kept = self._of.setdefault(video.path, [])
        if part.boxes is None:
            kept.append(None)
            return
        order = np.argsort(part.times, kind="stable")
        kept.append(Place(part.times[order], part.boxes[order].astype(np.float32)))

    def of(self, video: Path) -> list[Place | None]:
        """One for each segment of the video's prediction; None where no face was looked for or found."""
        return self._of.get(video, [])


def write_overlay(
    out: Path,
    video: Video,
    prediction: Prediction,
    places: Sequence[Place | None],
    settings: PrepareConfig,
    ranges: Ranges,
) -> list[str]:
    """Write the overlay of a video as MP4 (H.264, AAC), atomically.

    Args:
        out: the file.
        video: what was predicted; its pictures and sound are read again.
        prediction: what the model says of it.
        places: of each of the prediction's segments (`Places.of`).
        settings: how its pictures are read, as the model's contract says.
        ranges: of the values, by name, of a model that gives values.

    Returns:
        what a person should know, such as sound that could not be copied whole.

    Raises:
        DataError: the video cannot be read any more, or the overlay cannot be encoded.
        OSError: the disk is full, for example.
    """
    pictures, people = _pictures(video, settings), _people(prediction, places)
    first = next(pictures)
    sheet = _Sheet(first[1].size, people, ranges)
    sound = video.sound or (video.path if video.path.is_file() else None)
    end = math.ceil(sheet.end)
    with atomic(out) as path, Meter(f"drawing {out.name}", end, goes_on=False, unit="seconds of video") as meter:
        with _encoding(out), VideoWriter(path, sheet.size, sound) as file:
            for time, picture in chain([first], pictures):
                file.write(time, sheet.drawn(time, picture))
                while meter.done < min(time, end):
                    meter.step()
        return [*sheet.notes, *file.notes]


@contextmanager
def _encoding(out: Path) -> Iterator[None]:
    """Say in plain words what FFmpeg cannot write; what the system says, as of a full disk, stays an OSError."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError | MemoryError):
            raise
        raise DataError(
            f"{out} cannot be encoded as H.264 and AAC (FFmpeg says {error.strerror!r}): leave this video out of the "
            "overlays"
        ) from error


def _pictures(video: Video, settings: PrepareConfig) -> Iterator[tuple[float, Image.Image]]:
    for picture in whole_pictures(video, settings):
        yield picture.time, Image.fromarray(picture.rgb(_LONGEST))


class _Person:
    """What is said of one person over time, and where the face is."""

    def __init__(
        self, number: int | None, segments: Sequence[dict[str, Any]], said_of: Sequence[Stretch], places: _PlaceOf
    ) -> None:
        self.number, self.told = number, said_of
        self.name = "" if number is None else f"person {number}"
        self._places = [(one.start, places.get(id(one.segment))) for one in stretches(segments)]

    def at(self, time: float) -> dict[str, Any] | None:
        """What is said at a time, if anything is."""
        k = bisect_right(self.told, time, key=lambda one: one.start) - 1
        one = self.told[k] if k >= 0 else None
        if one is None or not said(one.segment):
            return None
        return one.segment if time < one.end + _EXACT * (k == len(self.told) - 1) else None  # the last picture has one

    def box(self, time: float) -> np.ndarray | None:
        """Where the face is then, (4,) in shares of the picture."""
        k = bisect_right(self._places, time, key=lambda one: one[0]) - 1
        place = self._places[max(0, k)][1]
        return None if place is None else place.boxes[max(0, bisect_right(place.times, time + _EXACT) - 1)]


def _people(prediction: Prediction, places: Sequence[Place | None]) -> list[_Person]:
    where = {id(segment): place for segment, place in zip(prediction.segments, places, strict=False)}
    over_time = _of_series(prediction.series) if prediction.series else None
    return [
        _Person(number, segments, over_time or stretches(segments), where)
        for number, segments in by_person(prediction.people, prediction.segments).items()
    ]


def _of_series(series: Mapping[str, Any]) -> list[Stretch]:
    seconds, names = series["seconds"], list(series["values"])
    ends = [*seconds[1:], seconds[-1] + (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)]
    rows = zip(*series["values"].values(), strict=True)
    return [
        Stretch(start, end, {"values": dict(zip(names, row, strict=True))})
        for start, end, row in zip(seconds, ends, rows, strict=True)
    ]


class _Bar(NamedTuple):
    name: str
    text: str
    share: float
    """Of the bar's full length."""


class _Sheet:
    """Draws pictures; `size` is the height and width of what comes out, `end` the time of the timeline's end.

    `notes` say what there is no room for.
    """

    def __init__(self, picture: tuple[int, int], people: Sequence[_Person], ranges: Ranges) -> None:
        self._people, self._ranges = people, ranges
        self._names = list(ranges) or list(_probabilities(people[0])[0])
        self._colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(self._names)}
        self._ranked = {person.number: list(ranges) or _ranked(person) for person in people}
        kept = longest_shown({person.number: person.told for person in people})
        self._rows = [person for person in people if person.number in kept]
        self.notes = [f"timelines of the {MOST_PEOPLE} people shown longest, of {len(people)}"] * (
            len(people) > len(kept)
        )
        self.start, self.end = min(one.told[0].start for one in people), max(one.told[-1].end for one in people)
        self._room = (picture[0], max(_LEAST, picture[1]))
        width, height = self._room[0] + _PANEL, self._room[1] + _TRACK * len(self._rows) + _PAD
        self.size = (height + height % 2, width + width % 2)
        self._font: Any = ImageFont.load_default(_TEXT)
        self._base = Image.new("RGB", self.size[::-1], _BACK)
        self._draw_timelines(ImageDraw.Draw(self._base))

    def drawn(self, time: float, picture: Image.Image) -> np.ndarray:
        """A picture at a time with all that belongs to it, uint8 (H, W, 3)."""
        sheet, y = self._base.copy(), _PAD
        sheet.paste(picture.crop((0, 0, *self._room)), (0, 0))
        pen = ImageDraw.Draw(sheet)
        told = [(person, segment) for person in self._people if (segment := person.at(time))]
        for person, segment in told:
            self._draw_face(pen, person, segment, person.box(time), picture.size)
            y = self._draw_bars(pen, person, segment, y, self._bars_for(person, len(told)))
        x = self._x(time)
        pen.line((x, self._room[1] + _PAD, x, self.size[0]), fill=_INK, width=2)
        return np.asarray(sheet)

    def _draw_face(
        self, pen: ImageDraw.ImageDraw, person: _Person, segment: dict[str, Any], box: Any, picture: tuple[int, int]
    ) -> None:
        colour, text = (
            self._colours.get(segment.get("label", ""), PALETTE[0]),
            shown(f"{person.name} {said(segment)}".strip()),
        )
        x, y = _PAD, _PAD
        if box is not None:
            x, y0, x1, y1 = (np.clip(box, 0, 1) * (*picture, *picture)).round().astype(int).tolist()
            pen.rectangle((x, y0, max(x, x1), max(y0, y1)), outline=colour, width=3)
            y = max(0, y0 - _LINE)
        pen.rectangle((x, y, x + pen.textlength(text, self._font) + 2 * _PAD, y + _LINE), fill=colour)
        pen.text((x + _PAD, y + 1), text, "white", self._font)

    def _bars_for(self, person: _Person, count: int) -> list[str]:
        """The names of a person's bars where so many people share the panel: at least one, in the model's order."""
        lines = ((self._room[1] - _PAD) // count - _PAD) // _LINE - bool(person.name)
        best = self._ranked[person.number][: max(1, lines)]
        return [name for name in self._names if name in best]

    def _draw_bars(
        self, pen: ImageDraw.ImageDraw, person: _Person, segment: dict[str, Any], y: int, names: Sequence[str]
    ) -> int:
        """Draw a person's part of the panel from `y` on, if there is room for it; where the next one's begins."""
        left, middle, right = self._room[0] + _PAD, self._room[0] + _PANEL // 2, self._room[0] + _PANEL - _NUMBER
        if y + (len(names) + bool(person.name)) * _LINE > self._room[1]:
            return y
        if person.name:
            pen.text((left, y), person.name, _INK, self._font)
            y += _LINE
        for bar in self._bars(segment, names):
            pen.text((left, y), self._cut(pen, shown(bar.name), middle - left - _PAD), _INK, self._font)
            long = round(bar.share * (right - middle - _PAD))
            pen.rectangle((middle, y + 3, middle + max(1, long), y + _TEXT), fill=self._colours[bar.name])
            pen.text((right, y), bar.text, _INK, self._font)
            y += _LINE
        return y + _PAD

    def _bars(self, segment: dict[str, Any], names: Sequence[str]) -> list[_Bar]:
        if not self._ranges:
            shares = segment["probabilities"]
            return [_Bar(name, f"{shares[name]:.0%}", shares[name]) for name in names]
        values = {name: (segment["values"][name], *self._ranges[name]) for name in names}
        return [
            _Bar(name, f"{value:.2f}", min(1.0, max(0.0, (value - low) / (high - low))))
            for name, (value, low, high) in values.items()
        ]

    def _cut(self, pen: ImageDraw.ImageDraw, name: str, width: int) -> str:
        """As much of a name as there is room for."""
        if pen.textlength(name, self._font) <= width:
            return name
        fits = [k for k in range(len(name)) if pen.textlength(name[:k] + "...", self._font) <= width]
        return name[: max(fits, default=0)] + "..."

    def _draw_timelines(self, pen: ImageDraw.ImageDraw) -> None:
        for row, person in enumerate(self._rows):
            top = self._room[1] + _PAD + row * _TRACK
            pen.rectangle((0, top, self.size[1], top + _TRACK - _PAD), fill=_FAINT)
            for one in person.told:
                if label := one.segment.get("label"):
                    pen.rectangle(
                        (self._x(one.start), top, self._x(one.end), top + _TRACK - _PAD), self._colours[label]
                    )
            for name in self._ranges:
                self._draw_curve(pen, person, name, top)
            pen.text((_PAD, top + 1), person.name, "white", self._font, stroke_width=2, stroke_fill="black")

    def _draw_curve(self, pen: ImageDraw.ImageDraw, person: _Person, name: str, top: int) -> None:
        for one in person.told:
            for bar in self._bars(one.segment, [name] if said(one.segment) else []):
                y = top + round((1 - bar.share) * (_TRACK - _PAD))
                pen.line((self._x(one.start), y, self._x(one.end), y), fill=self._colours[name], width=2)

    def _x(self, time: float) -> float:
        return (time - self.start) / max(self.end - self.start, _EXACT) * (self.size[1] - 1)


def _probabilities(person: _Person) -> list[dict[str, float]]:
    return [one.segment["probabilities"] for one in person.told if one.segment["label"]]


def _ranked(person: _Person) -> list[str]:
    """The classes that a person's bars may be of: those with the highest mean, from that on."""
    told = _probabilities(person)
    means = {name: sum(one[name] for one in told) for name in told[0]}
    return sorted(means, key=lambda name: -means[name])[:_MOST_BARS]
