"""Rolling windows of a live source: pictures and sound with their times, as they come.

Each window is cut out as `video_windows` cuts that of a file. Held in memory are the pictures and the sound of one
window and one hop; where windows may be left out, as much again between the thread that reads and the one that
computes.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import clip as clips
from mmadfer.data.clip import Keep
from mmadfer.data.faces import detection
from mmadfer.data.faces.one_thread import one_thread
from mmadfer.data.faces.search import FaceSearch, LargerPictures, without_faces
from mmadfer.data.live_items import Item, LiveSound, Picture, checked, end_of
from mmadfer.data.media.decode import Frame
from mmadfer.data.media.live_sound import LiveSounds
from mmadfer.data.video_windows import EXACT, Cutter, Span, VideoWindow, Windows, window_of

_JOIN_SECONDS = 1.0
"""Seconds that the thread which reads the source is waited for; it may be waiting for a camera."""


@dataclass(frozen=True)
class LiveAsked:
    """How windows are read; what is not told here is as in `video_windows.read_windows`."""

    settings: PrepareConfig
    windows: Windows
    keep: Keep
    name: Path
    """What errors call the source."""
    mute: bool = False
    cropped: bool = False
    blind: bool = False
    heard: Callable[[int], None] | None = None
    """Called with the rate of the sound in Hz as soon as it is known."""
    device: str = "cpu"


class LiveWindow(NamedTuple):
    """A window, and how many before it were left out since the last one."""

    window: VideoWindow
    left_out: int


def live_windows(source: Iterable[Item], asked: LiveAsked, leave_out: bool) -> Iterator[LiveWindow]:
    """The windows of a source, each as soon as an item behind it is there, or the source ends.

    They begin with the first picture. When the source ends, the last window ends with it, and may overlap the one
    before it by more than others; of a source shorter than a window it is shorter.

    Args:
        source: in order of time, a piece of sound by its first sample.
        asked: how they are read.
        leave_out: read the source in a thread of its own, and go on with the newest window whenever the next is asked
            for; otherwise the source waits.

    Raises:
        ClipError: an item that cannot be, or that comes out of order; a rate that the model does not know.
    """
    rolling = _Rolling(asked, leave_out)
    if not leave_out:
        for item in checked(source, asked.name):
            rolling.add(item)
            rolling.search()
            while rolling.complete:
                yield rolling.next()
    else:
        yield from _read_ahead(checked(source, asked.name), rolling, asked.windows)
    yield from rolling.rest()


@dataclass
class _Held:
    """A picture that windows may still want."""

    number: int
    picture: Frame
    found: np.ndarray | None = None
    """The faces in it when it is small; None: not searched."""
    reduced: bool = False
    """As in `FaceSearch`."""
    larger: np.ndarray | None = None
    """The faces in it when it is larger; None: not searched."""


class _Rolling:
    """What is held of a source, and the windows that can be cut out of it."""

    def __init__(self, asked: LiveAsked, newest: bool) -> None:
        self._asked, self._newest, self._windows = asked, newest, asked.windows
        self._frames, self._sounds = deque[_Held](), None if not asked.mute else self._silent(asked)
        self._follows = not asked.cropped and asked.settings.face_box != "union"
        self._larger = LargerPictures(asked.device)
        self._begin: float | None = None
        self._latest, self._number, self._left_out = -math.inf, 0, 0
        """Of the items, the time of the last; the next window, and how many before it are left out."""

    @staticmethod
    def _silent(asked: LiveAsked) -> LiveSounds:
        return LiveSounds(asked.name, asked.settings, True, 0.0)

    def add(self, item: Picture | LiveSound) -> None:
        """Take the next item, and hold no more than is needed."""
        if self._sounds is None:
            self._sounds = LiveSounds(self._asked.name, self._asked.settings, False, item.time)
        self._latest = item.time
        if isinstance(item, Picture):
            self._frames.append(_Held(item.number, item.picture))
            self._begin = round(item.time, 3) if self._begin is None else self._begin
        else:
            self._sounds.push(item.time, item.samples, item.rate)
        while self._newest and self._is_complete(self._number + 1):
            self._number += 1
            self._left_out += 1
        self._forget()

    def _forget(self) -> None:
        """Hold what the next window wants, and one that ends with the source between it and the one before."""
        back = self._latest - self._windows.seconds if self._begin is None else self._span(self._number)[0]
        before = back - self._windows.hop - EXACT
        while self._frames and self._frames[0].picture.time < before:
            self._frames.popleft()
        rate = self._sounds.rate if self._sounds else 0
        if self._sounds:
            self._sounds.forget(before)
            if self._sounds.rate and not rate and self._asked.heard:
                self._asked.heard(self._sounds.rate)

    def _span(self, number: int) -> Span:
        assert self._begin is not None
        return self._windows.span(self._begin, number)

    @property
    def complete(self) -> bool:
        """Whether all of the next window is there."""
        return self._is_complete(self._number)

    def _is_complete(self, number: int) -> bool:
        return self._begin is not None and self._latest >= self._span(number)[1] - EXACT

    def unsearched(self) -> _Held | None:
        """A picture in which faces are to be looked for."""
        if not self._follows:
            return None
        every = self._asked.settings.detect_every
        return next((one for one in self._frames if one.found is None and one.number % every == 0), None)

    def search(self) -> None:
        """Look for faces in all pictures that are to be searched."""
        while (one := self.unsearched()) is not None:
            self.look(one)

    def look(self, one: _Held) -> None:
        """Look for faces in a picture, small."""
        image = one.picture.rgb(detection.DETECTION_SIDE_PX)
        with one_thread():
            (one.found,) = detection.detect([image], self._asked.device)
        one.reduced = max(image.shape) >= detection.DETECTION_SIDE_PX

    def next(self) -> LiveWindow:
        """The next window, which is complete."""
        self.search()
        window = self._cut(self._span(self._number))
        self._number += 1
        return self._told(window)

    def _told(self, window: VideoWindow) -> LiveWindow:
        told, self._left_out = LiveWindow(window, self._left_out), 0
        self._forget()
        return told

    def rest(self) -> Iterator[LiveWindow]:
        """The windows that are over with the source."""
        if not self._frames or self._begin is None or self._sounds is None:
            return
        self._sounds.end()
        if self._follows and self._frames[-1].found is None:
            self.look(self._frames[-1])  # the last picture is always searched
        self.search()
        times = np.array([one.picture.time for one in self._frames])
        end = clips.shown_span_seconds(times)[1]
        spans = self._windows.between(self._begin, end)
        whole = (-math.inf, end + self._asked.settings.max_seconds) if len(spans) == 1 else None
        for k, span in enumerate(spans[self._number :], self._number + 1):
            window = self._cut(span, k == len(spans), whole)
            self._number = k
            yield self._told(window)

    def _cut(self, span: Span, final: bool = False, heard: Span | None = None) -> VideoWindow:
        asked, held, missed = self._asked, list(self._frames), set[int]()
        times = np.array([one.picture.time for one in held])
        first, last = np.searchsorted(times, np.array(span) - EXACT).tolist()
        last = len(held) if final else last
        detections = self._detections(held, first, last) if self._follows else FaceSearch()
        cutter = Cutter(asked.settings, asked.blind, times, detections, self._shared(missed))
        plan = cutter.plan(span, first, last, asked.keep)
        wanted = ((k, held[k].picture) for k in sorted({*plan.frames} - plan.made.keys()))
        for _ in cutter.cut(wanted, deque([plan])):
            pass
        assert self._sounds is not None
        return _numbered(window_of(plan, self._sounds, missed, heard or span), held)

    def _shared(self, missed: set[int]) -> clips.Cut | None:
        if self._follows:
            return None
        settings = self._asked.settings
        return clips.squares(settings) if self._asked.cropped else clips.unions(settings, self._asked.device, missed)

    def _detections(self, held: list[_Held], first: int, last: int) -> FaceSearch:
        """The faces in a window's pictures, also larger ones if small ones show hardly any."""
        if first < last and all(one.found is None for one in held[first:last]):
            self.look(held[last - 1])  # of a window shorter than from one searched picture to the next
        looks = [k for k in range(first, last) if held[k].found is not None]
        some = [held[k] for k in looks]
        found = FaceSearch(looks, [one.found for one in some if one.found is not None], [one.reduced for one in some])
        with one_thread():
            for k in without_faces(found, 0, len(some)):
                if some[k].larger is None:
                    some[k].larger = self._larger.detect(some[k].picture)
        for k, one in enumerate(some):
            if one.larger is not None and len(one.larger):
                found.faces[k] = one.larger
                found.enlarged.add(k)
        return found


def _numbered(window: VideoWindow, held: list[_Held]) -> VideoWindow:
    """The window with the number of its first picture in the source, and not among those held."""
    if window.clip is None:
        return window
    return replace(window, clip=replace(window.clip, first=held[window.clip.first].number))


class _Feed:
    """A thread that reads a source, and holds no more than its last `seconds`."""

    def __init__(self, source: Iterator[Picture | LiveSound], seconds: float) -> None:
        self._source, self._seconds = source, seconds
        self._items = deque[Picture | LiveSound]()
        self._there, self._ended, self._stopped = threading.Condition(), False, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="read-live", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._source:
                with self._there:
                    self._items.append(item)
                    while end_of(self._items[0]) < item.time - self._seconds:
                        self._items.popleft()
                    self._there.notify()
                    if self._stopped:
                        return
        except BaseException as error:
            self._error = error
        finally:
            with self._there:
                self._ended = True
                self._there.notify()

    def take(self, wait: bool) -> tuple[list[Picture | LiveSound], bool]:
        """What has come since the last time, and whether that is all there will be.

        Raises:
            Exception: what the source raises, after all that came before it.
        """
        with self._there:
            while wait and not self._items and not self._ended:
                self._there.wait()
            taken, ended = list(self._items), self._ended
            self._items.clear()
        if ended and not taken and self._error:
            raise self._error
        return taken, ended and not self._error

    def stop(self) -> None:
        """Read no further."""
        self._stopped = True
        with suppress(RuntimeError):  # the thread itself closes the stream
            self._thread.join(_JOIN_SECONDS)


def _read_ahead(source: Iterator[Picture | LiveSound], rolling: _Rolling, windows: Windows) -> Iterator[LiveWindow]:
    """The newest window whenever one is asked for; meanwhile, faces are looked for in what has come."""
    feed = _Feed(source, windows.seconds + windows.hop)
    try:
        ended = False
        while not ended or rolling.complete:
            if not ended:
                taken, ended = feed.take(wait=not rolling.complete and rolling.unsearched() is None)
                for item in taken:
                    rolling.add(item)
            if rolling.complete:
                yield rolling.next()
            elif (one := rolling.unsearched()) is not None:
                rolling.look(one)
    finally:
        feed.stop()
