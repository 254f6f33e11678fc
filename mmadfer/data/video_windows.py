"""A long video in windows: each is a clip of its own, with its own frames, face and sound.

The pictures are gone through twice, as in `clip`: once small to look for faces, once to cut them out. Held in memory
are the times of the pictures and the faces found, and the crops and the sound of the windows that are not over yet;
never the whole video's. A video no longer than one window is a whole clip, with all of its sound.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import clip as clips
from mmadfer.data.clip import ClipData, Keep
from mmadfer.data.faces.people import Faces, Person, largest
from mmadfer.data.faces.search import Face, FaceSearch, search_faces, search_larger
from mmadfer.data.faces.track import interpolate
from mmadfer.data.media import frames, notes
from mmadfer.data.media.audio import Sounds
from mmadfer.data.media.notes import Note
from mmadfer.errors import ClipError, ConfigError

Span = tuple[float, float]
"""Start and end in seconds."""
EXACT = 1e-6
"""Seconds by which time stamps may be off by rounding."""
SHORTEST = 0.1
"""Seconds of a window; less holds no frame of a slow video."""
SHORTEST_HOP = 0.04
"""Seconds from one window to the next: a frame of most videos, so that each window is another one."""
OF_ONE = ("no face", "no sound", "empty")
"""Reasons that say nothing of other windows; all others are the file's."""
MOST_BETWEEN_LOOKS = 5
"""Every so-many-th frame is searched, at least, where people are told apart: they pass each other within a second."""


@dataclass(frozen=True)
class Windows:
    """How a video is cut: `seconds` long windows that start every `hop` seconds.

    Raises:
        ConfigError: shorter than 0.1 s, a hop under 0.04 s, or one that would leave out a part of the video.
    """

    seconds: float
    hop: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= SHORTEST and SHORTEST_HOP <= self.hop <= self.seconds):
            raise ConfigError(
                f"windows of {self.seconds:g} s every {self.hop:g} s: a window has at least {SHORTEST:g} s, and the "
                f"hop is at least {SHORTEST_HOP:g} s and not longer than the window, for example --window 5 --hop 1"
            )

    def spans(self, times: np.ndarray) -> list[Span]:
        """The windows of a video whose frames are shown at `times`.

        The last one ends with the video, so that all are equally long and no part is left out; a video that is not
        longer than a window is one.
        """
        return self.between(*clips.shown_span_seconds(times))

    def between(self, begin: float, end: float) -> list[Span]:
        """The windows of a video that is shown from `begin` to `end`, as `spans`."""
        last = round(end - self.seconds, 3)
        if last - begin <= EXACT:
            return [(begin, end)]
        spans = [self.span(begin, k) for k in range(self.newest(begin, last) + 1)]
        return spans + [(last, round(last + self.seconds, 3))] * (last - spans[-1][0] > EXACT)

    def start(self, begin: float, number: int) -> float:
        """When a window of a video that is shown from `begin` starts; they are counted from 0."""
        return round(begin + number * self.hop, 3)

    def span(self, begin: float, number: int) -> Span:
        """When that window starts and ends."""
        start = self.start(begin, number)
        return start, round(start + self.seconds, 3)

    def newest(self, begin: float, time: float) -> int:
        """The last window that has started at `time`."""
        number = math.ceil((time - begin) / self.hop)  # starts are rounded: this one, or one before it
        while number and self.start(begin, number) > time + EXACT:
            number -= 1
        return number


def windows_of(seconds: float | None, hop: float | None) -> Windows | None:
    """The windows that somebody asks for, by default one after the other; None: none.

    Raises:
        ConfigError: a hop alone, or windows that cannot be.
    """
    if seconds is None:
        if hop is not None:
            raise ConfigError(f"a hop of {hop:g} s without windows: give their length too, for example --window 5")
        return None
    return Windows(seconds, seconds if hop is None else hop)


@dataclass(frozen=True)
class VideoWindow:
    """A part of a video."""

    start: float
    """In seconds, as is `end`."""
    end: float
    clip: ClipData | None
    """What the model sees of it; None if there is something missing that it needs."""
    problem: ClipError | None = None
    """What is missing."""
    notes: tuple[Note, ...] = ()
    """What a person should know of the whole video; it is known with the last window."""
    person: int = 0
    """The number of the one whose face it shows, from 1; 0 where people are not told apart, or nobody is there."""


@dataclass(frozen=True)
class Plan:
    """What is cut out of the frames for one window."""

    span: Span
    times: np.ndarray
    frames: list[int]
    """Those that become a JPEG, by their number in the video, in the order of the model."""
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    """Where the face is in them; none where frames are cut without."""
    places: np.ndarray | None = None
    """The same of all frames, as `ClipData.boxes`."""
    notes: tuple[Note, ...] = ()
    faceless: tuple[Note, ...] = ()
    """As in `ClipData`."""
    first: int = 0
    """The number of its first frame in the video."""
    problem: ClipError | None = None
    made: dict[int, bytes] = field(default_factory=dict)
    """The JPEGs up to now."""
    person: int = 0
    """As in `VideoWindow`."""
    since: float = math.inf
    """From when on plans behind this one may want sound, if that is before it starts."""
    final: bool = False
    """The last of the video."""

    @property
    def whole(self) -> bool:
        """Whether all JPEGs are made."""
        return self.made.keys() >= set(self.frames)


def read_windows(
    path: Path | str,
    settings: PrepareConfig,
    windows: Windows | None,
    *,
    sound: Path | str | None = None,
    mute: bool = False,
    cropped: bool = False,
    keep: Keep,
    heard: Callable[[int], None] | None = None,
    device: str = "cpu",
    blind: bool = False,
    faces: Faces = "largest",
    limit: float = math.inf,
) -> Iterator[VideoWindow]:
    """Read a video of any length window by window; arguments and errors are those of `clip.read_clip`.

    `max_seconds` has no effect but on the sound of a video no longer than its window, which is heard until that long
    behind the last picture; a video in windows may have `limit` seconds. A face is followed within its window only, so
    that each scene has its own. What a window lacks is its `problem`; what all of them lack, and a damaged file, is an
    error.

    With other `faces` than the largest, people are told apart over the whole video (`faces.people`), and each window
    comes once for each of them who is in it: from the first frame in it that shows them to the last, with the sound of
    that time. Without `windows` the whole video is one, no longer than `max_seconds`.

    Yields:
        the windows in time; those of one window by the person's number, so that none begins before the one before it.

    Raises:
        ClipError: as `clip.read_clip`.
        MissingDependencyError: people are to be told apart, and scipy is not installed.
    """
    path = Path(path)
    longest = settings.max_seconds
    settings = settings.model_copy(update={"max_seconds": limit if windows else longest})
    with clips.readable_clip(path):
        source = None if sound is None else Path(sound)
        sounds = Sounds(path, source, settings, mute, placed=True)
        if heard is not None:
            heard(sounds.rate)
        reader = _Reader(path, settings, cropped, device, blind, faces)
        spans = windows.spans(reader.times) if windows else [clips.shown_span_seconds(reader.times)]
        whole = (-math.inf, spans[0][1] + longest) if len(spans) == 1 else None  # as `read_clip` hears it
        if whole and settings.media == "published":
            sounds = Sounds(path, source, settings, mute, placed=False)
        for plan in reader.windows(spans, keep):
            window = window_of(plan, sounds, reader.missed, whole if whole and plan.span == spans[0] else plan.span)
            if plan.final:
                seconds = sounds.seconds(plan.span[1] + longest)
                window = replace(window, notes=clips.length_notes_of(path, settings, seconds, reader.times))
            yield window


def window_of(plan: Plan, sounds: Sounds, missed: set[int], heard: Span) -> VideoWindow:
    """A window whose pictures are cut out, with its sound.

    Args:
        plan: the window.
        sounds: of the video.
        missed: the frames in which no face was found, where each is cut by its own.
        heard: from when to when sound is heard.

    Raises:
        ClipError: what is wrong with more than this window.
    """
    start, end = plan.span
    try:
        if plan.problem:
            raise plan.problem
        found = sounds.within(*heard, plan.since)
        if not found.rate and notes.BLACK in plan.faceless:
            raise ClipError("neither face nor sound", "no face")
    except ClipError as error:
        if error.reason not in OF_ONE:
            raise
        return VideoWindow(start, end, None, error, person=plan.person)
    told = tuple(dict.fromkeys((*found.notes, *plan.notes)))
    faceless = plan.faceless or notes.faceless(sum(k in missed for k in plan.frames), len(plan.frames))
    jpegs = [plan.made[k] for k in plan.frames]
    clip = ClipData(jpegs, found.fbank, plan.times, found.rate, found.silent, told, found.waveform, faceless)
    return VideoWindow(start, end, replace(clip, first=plan.first, boxes=plan.places), person=plan.person)


class Cutter:
    """Cuts windows out of pictures that were looked at.

    Args:
        settings: what is done to them.
        blind: take black pictures for a face that is nowhere found.
        times: when each of the pictures is shown, rising.
        detections: where faces were found in them.
        shared: how pictures are cut, where no face is followed.
    """

    def __init__(
        self,
        settings: PrepareConfig,
        blind: bool,
        times: np.ndarray,
        detections: FaceSearch,
        shared: clips.Cut | None = None,
    ) -> None:
        self.settings, self._blind, self.times = settings, blind, times
        self._detections, self._shared = detections, shared
        self._damaged, self._notes = np.zeros(len(times), bool), tuple[Note, ...]()
        self._names: list[str] | None = None

    def cut(self, wanted: Iterator[tuple[int, frames.Picture]], open_: deque[Plan]) -> Iterator[None]:
        """Picture by picture, give its JPEG to the windows that want it."""
        if self._shared is None:
            for k, picture in wanted:
                image = picture.rgb()
                for plan in open_:
                    if k in plan.boxes:
                        plan.made[k] = clips.face_jpeg(image, plan.boxes[k], self.settings)
                yield
            return
        ahead, behind = tee(wanted)  # some pictures are taken before the first of them is cut
        for (k, _), jpeg in zip(behind, self._shared(ahead), strict=False):
            for plan in open_:
                if k in plan.frames:
                    plan.made[k] = jpeg
            yield

    def first(self, time: float) -> int:
        """The first frame that is not shown before a time."""
        return int(np.searchsorted(self.times, time - EXACT))

    def plan(self, span: Span, first: int, last: int, keep: Keep, face: Face | None = None) -> Plan:
        """What is cut out of the frames from `first` to before `last`: a face, by default the one that is followed."""
        if first == last:
            return Plan(span, np.empty(0), [], problem=ClipError("no pictures", "empty"))
        order = self._order(first, last)
        chosen = [first + order[k] for k in keep(len(order))]
        times = self.times[[first + k for k in order]]
        told = (*self._notes, *notes.damaged(self._damaged[first:last]))
        if self._shared:
            return Plan(span, times, chosen, notes=told, first=first)
        face = face or self._detections.follow(*self._detections.looks(first, last))
        boxes = interpolate([index - first for index in face.indexes], face.boxes, last - first)
        if boxes is None and self._blind:
            made = dict.fromkeys(chosen, clips.black(self.settings))
            return Plan(span, times, chosen, notes=told, faceless=(notes.BLACK,), made=made, first=first)
        if boxes is None:
            return Plan(span, np.empty(0), [], problem=ClipError("no face", "no face"))
        chosen_boxes = {k: boxes[k - first] for k in chosen}
        told = (*told, *face.notes)
        return Plan(span, times, chosen, chosen_boxes, boxes[order], told, face.faceless, first=first)

    def _order(self, first: int, last: int) -> list[int]:
        if self.settings.mafw_frame_order == "time":
            return list(range(last - first))
        names = self._names[first:last] if self._names else [f"{k}.jpg" for k in range(last - first)]
        return clips.text_order(names)


class _Reader(Cutter):
    """The pictures of one video."""

    def __init__(
        self, path: Path, settings: PrepareConfig, cropped: bool, device: str, blind: bool, faces: Faces
    ) -> None:
        self.path, self._faces, self._device = path, faces, device
        self._people: list[Person] | None = None
        self.missed = set[int]()
        shared: clips.Cut | None = None
        detections = FaceSearch()
        if cropped:
            seen, shared = clips.whole(path, settings)
        elif settings.face_box == "union":
            seen, shared = clips.union_crops(path, settings, device, self.missed)
        elif faces == "largest":
            seen, detections = search_faces(path, settings, device)
        else:
            often = {"detect_every": min(settings.detect_every, MOST_BETWEEN_LOOKS)}
            seen, detections = search_faces(path, settings.model_copy(update=often), device, cuts=True)
        super().__init__(settings, blind, seen.times, detections, shared)
        self._damaged, self._notes = seen.damaged, seen.notes
        if frames.is_image_folder(path):
            self._names = [image.path.name for image in frames.images(path, math.inf, settings.fps)]

    def windows(self, spans: Sequence[Span], keep: Keep) -> Iterator[Plan]:
        """Go through the pictures again; each window comes with its JPEGs as soon as it is over.

        Before that, once more for the faces of windows in which none is found in small pictures.
        """
        parts = [self._detections.looks(*map(self.first, span)) for span in spans]
        search_larger(self.path, self.settings, self._device, self._detections, parts)
        if self._faces != "largest":
            self._people = largest(self._detections.people(self.times), self._faces)
        todo, open_ = deque(spans), deque[Plan]()
        for _ in self.cut(self._wanted(todo, open_, keep), open_):
            while open_ and open_[0].whole:
                yield open_.popleft()
        while todo:  # those behind the last picture
            open_.extend(self._plans(todo, keep))
        if not all(plan.whole for plan in open_):
            raise ClipError(f"{self.path} has changed while it was read: predict it again")
        yield from open_

    def _wanted(self, todo: deque[Span], open_: deque[Plan], keep: Keep) -> Iterator[tuple[int, frames.Picture]]:
        """The pictures that windows want, which are opened as they begin."""
        for k, picture in enumerate(frames.pictures(self.path, self.settings)):
            while todo and self.first(todo[0][0]) <= k:
                open_.extend(self._plans(todo, keep))
            if any(k in plan.frames for plan in open_):
                yield k, picture
            elif not todo and all(plan.whole for plan in open_):
                return

    def _plans(self, todo: deque[Span], keep: Keep) -> list[Plan]:
        """Take the next window; as it is to be cut, or for each person in it."""
        span = todo.popleft()
        first, last = self.first(span[0]), self.first(span[1]) if todo else len(self.times)
        if first == last or self._people is None:
            plans = [self.plan(span, first, last, keep)]
        else:
            plans = self._of_people(self._people, span, first, last, keep)
            plans = [replace(plan, since=todo[0][0] if todo else math.inf) for plan in plans]
        return plans if todo else [*plans[:-1], replace(plans[-1], final=True)]

    def _of_people(self, people: Sequence[Person], span: Span, first: int, last: int, keep: Keep) -> list[Plan]:
        looks, plans = range(*self._detections.looks(first, last)), list[Plan]()
        for person in people:
            if not person.is_in(looks):
                continue
            begin, end = self._detections.stretch(person, first, last)
            if begin < end:
                face = self._detections.face_of(person, *self._detections.looks(begin, end))
                its = self._span(span, (first, last), (begin, end))
                if its == span or its[1] - its[0] >= SHORTEST:
                    plans.append(replace(self.plan(its, begin, end, keep, face), person=person.number))
        nobody = Plan(span, np.empty(0), [], problem=ClipError("no face", "no face"))
        return plans or [nobody]

    def _span(self, window: Span, frames: tuple[int, int], part: tuple[int, int]) -> Span:
        """When a part of a window's frames is shown."""
        start = window[0] if part[0] == frames[0] else round(float(self.times[part[0]]), 3)
        return start, window[1] if part[1] == frames[1] else round(float(self.times[part[1]]), 3)
