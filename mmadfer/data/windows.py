"""A long video in windows: each is a clip of its own, with its own frames, face and sound.

The pictures are gone through twice, as in `clip`: once small to look for faces, once to cut them out. Held in memory
are the faces found, and the frames and the sound of the windows that are not over yet; never the whole video's.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmadfer.config import PrepareConfig
from mmadfer.data import clip as clips
from mmadfer.data import faces, frames, media
from mmadfer.data.clip import ClipData, Heard, Keep
from mmadfer.errors import ClipError, ConfigError

Span = tuple[float, float]
"""Start and end in seconds."""
EXACT = 1e-6
"""Seconds by which time stamps may be off by rounding."""
SHORTEST = 0.1
"""Seconds of a window; less holds no frame of a slow video."""


@dataclass(frozen=True)
class Windows:
    """How a video is cut: `seconds` long windows that start every `hop` seconds.

    Raises:
        ConfigError: shorter than 0.1 s, or a hop that would leave out a part of the video.
    """

    seconds: float
    hop: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= SHORTEST and 0 < self.hop <= self.seconds):
            raise ConfigError(
                f"windows of {self.seconds:g} s every {self.hop:g} s: a window has at least {SHORTEST:g} s, and the "
                "hop is more than 0 and not longer than the window, for example --window 5 --hop 1"
            )

    def spans(self, times: np.ndarray) -> list[Span]:
        """The windows of a video whose frames are shown at `times`.

        The last one ends with the video, so that all are equally long and no part is left out; a video that is not
        longer than a window is one.
        """
        begin, end = clips.shown(times)
        last = round(end - self.seconds, 3)
        if last - begin <= EXACT:
            return [(begin, end)]
        starts = [round(begin + k * self.hop, 3) for k in range(int((last - begin) / self.hop + EXACT) + 1)]
        starts += [last] * (last - starts[-1] > EXACT)
        return [(start, round(start + self.seconds, 3)) for start in starts]


@dataclass(frozen=True)
class Window:
    """A part of a video."""

    start: float
    """In seconds, as is `end`."""
    end: float
    clip: ClipData | None
    """What the model sees of it; None if there is something missing that it needs."""
    problem: ClipError | None = None
    """What is missing."""


@dataclass(frozen=True)
class _Plan:
    """What is cut out of the frames for one window."""

    span: Span
    times: np.ndarray
    frames: list[int]
    """Those that become a JPEG, by their number in the video, in the order of the model."""
    boxes: dict[int, np.ndarray]
    """Where the face is in them; none where frames are cut without."""
    problem: ClipError | None = None


def read_windows(
    path: Path | str,
    settings: PrepareConfig,
    windows: Windows,
    *,
    sound: Path | str | None = None,
    cropped: bool = False,
    keep: Keep,
    heard: Callable[[int], None] | None = None,
    device: str = "cpu",
) -> Iterator[Window]:
    """Read a video of any length window by window; arguments and errors are those of `clip.read_clip`.

    `max_seconds` has no effect. A face is followed within its window only, so that each scene has its own. What a
    window lacks is its `problem`; what all of them lack, and a damaged file, is an error.

    Yields:
        the windows in time.
    """
    path = Path(path)
    settings = settings.model_copy(update={"max_seconds": math.inf})
    with clips.readable(path):
        sounds = _Sounds(path, None if sound is None else Path(sound), settings)
        if heard is not None:
            heard(sounds.rate)
        reader = _Reader(path, settings, cropped, device)
        plans = reader.plans(windows, keep)
        for plan, jpegs in reader.cut(plans):
            yield _window(plan, jpegs, sounds, reader, whole=len(plans) == 1)


def _window(plan: _Plan, jpegs: list[bytes], sounds: "_Sounds", reader: "_Reader", whole: bool) -> Window:
    start, end = plan.span
    try:
        if plan.problem:
            raise plan.problem
        found = sounds.within(*((-math.inf, math.inf) if whole else plan.span))
    except ClipError as error:
        return Window(start, end, None, error)
    missed = sum(k in reader.missed for k in plan.frames)
    clip = ClipData(jpegs, found.fbank, plan.times, found.rate, found.silent, found.notes, found.waveform, missed)
    return Window(start, end, clip)


class _Reader:
    """The pictures of one video."""

    def __init__(self, path: Path, settings: PrepareConfig, cropped: bool, device: str) -> None:
        self.path, self.settings = path, settings
        self.missed = set[int]()
        self._shared: clips.Cut | None = None
        self._looked, self._found = np.empty(0, int), list[np.ndarray]()
        if cropped:
            self.times, self._shared = clips.whole(path, settings)
        elif settings.face_box == "union":
            self.times, self._shared = clips.union(path, settings, device, self.missed)
        else:
            self.times, looked, self._found = clips.look(path, settings, device)
            self._looked = np.array(looked)
        self._names = [image.path.name for image in frames.images(path, math.inf)] if path.is_dir() else None

    def plans(self, windows: Windows, keep: Keep) -> list[_Plan]:
        """What to do for each window."""
        times = np.maximum.accumulate(self.times)  # a time stamp that goes back is a fault
        plans = []
        for start, end in windows.spans(times):
            first, last = np.searchsorted(times, (start - EXACT, end - EXACT)).tolist()
            plans.append(self._plan((start, end), first, last, keep))
        return plans

    def _plan(self, span: Span, first: int, last: int, keep: Keep) -> _Plan:
        if first == last:
            return _Plan(span, np.empty(0), [], {}, ClipError("no pictures", "empty"))
        order = self._order(first, last)
        chosen = [first + order[k] for k in keep(len(order))]
        times = self.times[[first + k for k in order]]
        if self._shared:
            return _Plan(span, times, chosen, {})
        boxes = self._boxes(first, last)
        if boxes is None:
            return _Plan(span, times, [], {}, ClipError("no face", "no face"))
        return _Plan(span, times, chosen, {k: boxes[k - first] for k in chosen})

    def _order(self, first: int, last: int) -> list[int]:
        if self.settings.mafw_frame_order == "time":
            return list(range(last - first))
        names = self._names[first:last] if self._names else [f"{k}.jpg" for k in range(last - first)]
        return clips.text_order(names)

    def _boxes(self, first: int, last: int) -> np.ndarray | None:
        begin, end = np.searchsorted(self._looked, (first, last)).tolist()
        if begin == end:  # a window so short that no frame in it was looked at: those next to it
            begin, end = max(0, begin - 1), min(len(self._looked), end + 1)
        indexes = (self._looked[begin:end] - first).tolist()
        return faces.interpolate(indexes, faces.track(self._found[begin:end]), last - first)

    def cut(self, plans: list[_Plan]) -> Iterator[tuple[_Plan, list[bytes]]]:
        """Go through the pictures again; each window comes with its JPEGs as soon as it is over."""
        wanted = defaultdict[int, list[int]](list)
        for number, plan in enumerate(plans):
            for k in set(plan.frames):
                wanted[k].append(number)
        made = defaultdict[int, dict[int, bytes]](dict)
        done = 0
        for k, jpegs in self._jpegs(wanted, plans):
            for number, jpeg in jpegs.items():
                made[number][k] = jpeg
            while done < len(plans) and max(plans[done].frames, default=-1) <= k:
                own = made.pop(done, {})
                yield plans[done], [own[i] for i in plans[done].frames]
                done += 1
        for plan in plans[done:]:
            if plan.frames:
                raise ClipError(f"{self.path} has changed while it was read: predict it again")
            yield plan, []

    def _jpegs(self, wanted: dict[int, list[int]], plans: list[_Plan]) -> Iterator[tuple[int, dict[int, bytes]]]:
        """Frame by frame: its number, and its JPEG for each window that wants it."""
        if not wanted:
            return
        last = max(wanted)
        pictures = enumerate(frames.pictures(self.path, math.inf))
        numbered = ((k, picture) for k, picture in pictures if k in wanted)
        if self._shared:
            for k, jpeg in zip(sorted(wanted), self._shared(numbered), strict=False):
                yield k, dict.fromkeys(wanted[k], jpeg)
            return
        for k, picture in numbered:
            image = picture.rgb()
            yield k, {n: clips.face_jpeg(image, plans[n].boxes[k], self.settings) for n in wanted[k]}
            if k == last:
                return


class _Sounds:
    """The sound of one video, read as far as the windows need it."""

    def __init__(self, path: Path, sound: Path | None, settings: PrepareConfig) -> None:
        self._settings = settings
        self._nothing: Heard | None = None
        self._held, self._at = list[np.ndarray](), 0
        """Pieces (channels, samples) from sample `at` on."""
        try:
            self._source = clips.sound_file(path, sound)
            self._chunks = media.sound_chunks(self._source, settings.sound.rate)
            first = next(self._chunks)
        except ClipError as error:
            self._nothing = clips.unheard(error, settings)
            self.rate = 0
            return
        self._held.append(first.waveform)
        self.rate, self._start = first.rate, first.start

    def within(self, start: float, end: float) -> Heard:
        """The sound from `start` to `end`, or silence where the settings take it for missing sound.

        Raises:
            ClipError: `no sound`.
        """
        if self._nothing:
            return self._nothing
        first, count = self._sample(start), math.inf if end == math.inf else self._sample(end) - self._sample(start)
        self._forget(first)
        self._read(first + count)
        piece = np.concatenate(self._held, axis=1)[:, max(0, first - self._at) :]
        piece = piece if count == math.inf else piece[:, : int(count)]
        try:
            if not piece.size:
                raise ClipError("no sound in this part of the video", "no sound")
            return clips.hear(self._source, piece, self.rate, self._settings)
        except ClipError as error:
            return clips.unheard(error, self._settings)

    def _sample(self, time: float) -> int:
        return 0 if time == -math.inf else max(0, round((time - self._start) * self.rate))

    def _forget(self, before: int) -> None:
        while len(self._held) > 1 and self._at + self._held[0].shape[1] <= before:
            self._at += self._held.pop(0).shape[1]

    def _read(self, end: float) -> None:
        there = self._at + sum(piece.shape[1] for piece in self._held)
        while there < end and (chunk := next(self._chunks, None)):
            self._held.append(chunk.waveform)
            there += chunk.waveform.shape[1]
