"""Compare what mmadfer reads of a media file with ffmpeg's decode of it: frames, samples, windows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import av
import media_reference as reference
import numpy as np
from media_kinds import Kind
from media_places import ALIKE, lag_of, places
from whole_media import read_frames, read_sound

from mmadfer.config.schema import PrepareConfig
from mmadfer.contract import samples_of_frames
from mmadfer.data import video_windows as windows
from mmadfer.data.media import frames
from mmadfer.data.media.audio import Sounds
from mmadfer.data.media.image import decode_jpeg, square
from mmadfer.errors import ClipError

SETTINGS = PrepareConfig(face_size=32, no_sound="silence", jpeg_quality=100)
WINDOWS = windows.Windows(0.5, 0.5)
PIECES = ((0.0, 0.4), (0.31, 0.71), (0.7, 1.2), (1.1, 1.5))
"""Start and end of the windows of sound without pictures."""
SECONDS = 0.001
"""By which the sound of a window may lie beside its place."""
PLACE = 0.05
"""Seconds by which sound may be out of place where it has gaps."""
HIGHEST = 96000
"""Rate in Hz of which filter banks are made."""
JPEG = 6.0
"""Mean difference of colours that a JPEG adds."""


@dataclass(frozen=True)
class Both:
    """A kind's file as ffmpeg and as mmadfer read it."""

    kind: Kind
    path: Path
    pictures: reference.Pictures | None
    sound: reference.Sound | None
    frames: list[tuple[float, np.ndarray]]
    heard: np.ndarray
    """What `read_sound` gives, float32 (channels, samples); empty where there is none."""
    rate: int


def differences(kind: Kind, path: Path) -> list[str]:
    """What is read unlike, in words; none if all is as it should be."""
    if kind.refused:
        return list(_refused(kind, path))
    start = _start(path)
    pictures = _seen(kind, path, start) if "v" in kind.holds else None
    sound = _heard(kind, path, start) if "a" in kind.holds else None
    try:
        read = read_sound(path) if sound else (np.zeros((0, 0), np.float32), 0)
        both = Both(kind, path, pictures, sound, list(read_frames(path)) if pictures else [], *read)
        return [*_pictures(both), *_sound(both)] or [*_windows(both)]
    except ClipError as error:
        return [f"error: {error}"]


def _start(path: Path) -> float:
    """When the file starts by its own clock, as this FFmpeg counts: some count a codec's delay, some do not."""
    with av.open(str(path)) as container:
        return (container.start_time or 0) / av.time_base


def _later(start: float, theirs: float) -> float:
    """By how much later ffmpeg counts all times of a file."""
    return start - theirs if 1e-4 < abs(start - theirs) < PLACE else 0.0


def _seen(kind: Kind, path: Path, start: float) -> reference.Pictures:
    found = reference.pictures(path)
    later = _later(start, found.start)
    if kind.alone:
        times = reference.pictures(path, alone=True).times
        later = times[0] - found.times[0]
        found = found._replace(times=times)
    return found._replace(times=found.times - later)


def _heard(kind: Kind, path: Path, start: float) -> reference.Sound:
    found = reference.sound(path, kind.joined, kind.alone)
    later = round(_later(start, found.start) * found.rate)
    return found._replace(waveform=found.waveform[:, max(0, later) :])


def _refused(kind: Kind, path: Path) -> Iterator[str]:
    for holds, read in (("v", read_frames), ("a", read_sound)):
        if holds in kind.holds:
            try:
                list(read(path))
                yield f"{read.__name__} reads it without an error"
            except ClipError as error:
                if kind.refused not in str(error):
                    yield f"{read.__name__} says {error}"


def _nothing(reason: str, what: str, read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
        yield f"{what} where there are none"
    except ClipError as error:
        if error.reason != reason:
            yield f"error in the place of no {what}: {error}"


def _pictures(both: Both) -> Iterator[str]:
    if both.pictures is None:
        yield from _nothing("empty", "pictures", lambda: next(read_frames(both.path)))
        return
    times, images = both.pictures.times, both.pictures.images
    got = both.frames
    if len(got) != len(images):
        yield f"{len(got)} pictures, not {len(images)}"
    again = [(picture.time, picture.rgb()) for picture in frames.pictures(both.path, SETTINGS)]
    if any(a[0] != b[0] or not np.array_equal(a[1], b[1]) for a, b in zip_longest(got, again, fillvalue=(-1, None))):
        yield "read_frames and pictures differ"
    late = np.abs([time for time, _ in got[: len(times)]] - times[: len(got)])
    if not np.isfinite(times).all():
        yield "ffmpeg knows no times"
    elif late.max() > both.kind.slack:
        yield f"picture {late.argmax()} at {got[late.argmax()][0]:.4f} s, not {times[late.argmax()]:.4f} s"
    off = [colours(image, wanted) for (_, image), wanted in zip(got, images, strict=False)]
    if max(off) > both.kind.colours:
        k = int(np.argmax(off))
        yield f"picture {k} {got[k][1].shape[:2]} off by {off[k]:.2f} from {images[k].shape[:2]}"


def colours(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, of 255; of other proportions: 255."""
    if one.shape == other.shape:
        return float(np.abs(one.astype(float) - other).mean())
    if abs(one.shape[1] / one.shape[0] * other.shape[0] / other.shape[1] - 1) > 0.02:
        return 255.0
    return colours(square(one, 64), square(other, 64))


def _sound(both: Both) -> Iterator[str]:
    if both.sound is None:
        yield from _nothing("no sound", "sound", lambda: read_sound(both.path))
        return
    got = both.heard
    if (both.rate, len(got)) != (both.sound.rate, len(both.sound.waveform)):
        yield f"{len(got)} channels at {both.rate} Hz, not {len(both.sound.waveform)} at {both.sound.rate} Hz"
    else:
        yield from unlike(got, both.sound.waveform, both.rate, both.kind.lag, both.kind.joined)


def unlike(got: np.ndarray, wanted: np.ndarray, rate: int, lag: float = 0.0, joined: bool = False) -> Iterator[str]:
    """How two sounds (channels, samples) differ, of which one may lag behind as a whole; `joined`: or lie nearby."""
    if abs(got.shape[1] - wanted.shape[1]) > (PLACE * rate if joined else 1 + lag * rate):
        yield f"{got.shape[1] / rate:.4f} s of sound, not {wanted.shape[1] / rate:.4f} s"
    if lag and not joined:
        by = lag_of(got, wanted, round(lag * rate))
        got, wanted = got[:, max(0, by) :], wanted[:, max(0, -by) :]
    many = min(got.shape[1], wanted.shape[1])
    off = np.abs(got[:, :many] - wanted[:, :many])
    if not off.size or off.max() <= ALIKE:
        return
    near = PLACE if joined else 0.0
    moved = [f"{by:+.4f} s at {at:.1f} s" for at, by in places(got, wanted, rate, near) if abs(by) > near]
    if moved or not joined:
        at = int(off.max(0).argmax()) / rate
        yield f"samples off by up to {off.max():.4f} (at {at:.4f} s); out of place: {', '.join(moved[:6])}"


def _windows(both: Both) -> Iterator[str]:
    if both.pictures is None:
        yield from _pieces(both)
        return
    shown = np.maximum.accumulate([time for time, _ in both.frames])
    small = [square(image, SETTINGS.face_size) for image in both.pictures.images]
    spans = WINDOWS.spans(shown)
    for window in windows.read_windows(both.path, SETTINGS, WINDOWS, cropped=True, keep=range):
        name = f"window {window.start:g} - {window.end:g}"
        end = window.end if window.end > window.start else math.inf  # a single picture is shown for no time
        inside = np.flatnonzero((shown >= window.start - windows.EXACT) & (shown < end - windows.EXACT))
        if window.clip is None:
            if len(inside):
                yield f"{name}: {window.problem}"
            continue
        jpegs = [decode_jpeg(data) for data in window.clip.jpegs]
        if len(jpegs) != len(inside):
            yield f"{name}: {len(jpegs)} pictures, not {len(inside)}"
        off = [colours(image, small[k]) for image, k in zip(jpegs, inside, strict=False)]
        if off and max(off) > both.kind.colours + JPEG:
            yield f"{name}: picture {int(np.argmax(off))} off by {max(off):.2f}"
        if len(spans) > 1:
            yield from (f"{name}: {said}" for said in _piece(both, window.clip.waveform, (window.start, window.end)))


def _pieces(both: Both) -> Iterator[str]:
    if both.sound is None or both.sound.rate > HIGHEST:
        return
    sounds = Sounds(both.path, None, SETTINGS, mute=False, placed=True)
    for piece in PIECES:
        if piece[1] * both.sound.rate < both.sound.waveform.shape[1]:
            heard = sounds.within(*piece).waveform
            yield from (f"{piece[0]} - {piece[1]} s: {said}" for said in _piece(both, heard, piece))


def _piece(both: Both, got: np.ndarray, piece: windows.Span) -> Iterator[str]:
    """How the sound (samples,) of a window differs; where it is not exact, from what is read of the whole file."""
    if both.sound is None:
        return
    start, end = (round(time * both.rate) for time in piece)
    whole = both.heard if both.kind.joined else both.sound.waveform
    wanted = whole[:, start:end][:, : samples_of_frames(both.rate, SETTINGS.sound.frames)]
    wanted = wanted[[_channel(wanted)]]
    if np.any(wanted) or np.any(got):
        yield from unlike(got[None], wanted, both.rate, PLACE if both.kind.joined else max(both.kind.lag, SECONDS))


def _channel(sound: np.ndarray) -> int:
    """The channel that is heard: the first, or the loudest, if the first carries nothing."""
    peaks = np.abs(sound).max(axis=1, initial=0)
    return int(peaks.argmax()) if peaks[0] < peaks.max() / 1000 else 0
