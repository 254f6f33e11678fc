"""Compare what mmadfer reads of a media file with ffmpeg's decode of it: frames, samples, windows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import media_reference as reference
import numpy as np
from media_kinds import Kind
from media_places import ALIKE, places

from mmadfer.config import PrepareConfig
from mmadfer.contract import span
from mmadfer.data import frames, media, windows
from mmadfer.data.hearing import Sounds
from mmadfer.data.image import decode_jpeg, square
from mmadfer.errors import ClipError

SETTINGS = PrepareConfig(face_size=32, no_sound="silence", jpeg_quality=100)
WINDOWS = windows.Windows(0.5, 0.5)
PIECES = ((0.0, 0.4), (0.31, 0.71), (0.7, 1.2), (1.1, 1.5))
"""Start and end of the windows of sound without pictures."""
SECONDS = 0.001
"""By which times may be off."""
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


def differences(kind: Kind, path: Path) -> list[str]:
    """What is read unlike, in words; none if all is as it should be."""
    if kind.refused:
        return list(_refused(kind, path))
    pictures = reference.pictures(path) if "v" in kind.holds else None
    sound = reference.sound(path, kind.joined) if "a" in kind.holds else None
    try:
        both = Both(kind, path, pictures, sound, list(media.read_frames(path)) if pictures else [])
        return [*_pictures(both), *_sound(both)] or [*_windows(both)]
    except ClipError as error:
        return [f"error: {error}"]


def _refused(kind: Kind, path: Path) -> Iterator[str]:
    for holds, read in (("v", media.read_frames), ("a", media.sound_chunks)):
        if holds in kind.holds:
            try:
                for _ in read(path):
                    pass
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
        yield from _nothing("empty", "pictures", lambda: next(media.read_frames(both.path)))
        return
    times, images = both.pictures
    got = both.frames
    if len(got) != len(images):
        yield f"{len(got)} pictures, not {len(images)}"
    again = [(picture.time, picture.rgb()) for picture in frames.pictures(both.path, 300)]
    if any(a[0] != b[0] or not np.array_equal(a[1], b[1]) for a, b in zip_longest(got, again, fillvalue=(-1, None))):
        yield "read_frames and pictures differ"
    late = np.abs([time for time, _ in got[: len(times)]] - times[: len(got)])
    if not np.isfinite(times).all():
        yield "ffmpeg knows no times"
    elif late.max() > SECONDS:
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
        yield from _nothing("no sound", "sound", lambda: media.read_sound(both.path))
        return
    got, rate = media.read_sound(both.path)
    if (rate, len(got)) != (both.sound.rate, len(both.sound.waveform)):
        yield f"{len(got)} channels at {rate} Hz, not {len(both.sound.waveform)} at {both.sound.rate} Hz"
    else:
        yield from unlike(got, both.sound.waveform, rate, both.kind)


def unlike(got: np.ndarray, wanted: np.ndarray, rate: int, kind: Kind) -> Iterator[str]:
    """How two sounds (channels, samples) differ."""
    many = min(got.shape[1], wanted.shape[1])
    if abs(got.shape[1] - wanted.shape[1]) > (PLACE * rate if kind.joined else 1):
        yield f"{got.shape[1] / rate:.4f} s of sound, not {wanted.shape[1] / rate:.4f} s"
    off = np.abs(got[:, :many] - wanted[:, :many])
    if not off.size or off.max() <= ALIKE:
        return
    near = PLACE if kind.joined else 0.0
    moved = [f"{by:+.4f} s at {at:.1f} s" for at, by in places(got, wanted, rate, near) if abs(by) > near]
    if moved or not kind.joined:
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
        inside = np.flatnonzero((shown >= window.start - windows.EXACT) & (shown < window.end - windows.EXACT))
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
            yield from (f"{name}: {said}" for said in _heard(both, window.clip.waveform, (window.start, window.end)))


def _pieces(both: Both) -> Iterator[str]:
    if both.sound is None or both.sound.rate > HIGHEST:
        return
    sounds = Sounds(both.path, None, SETTINGS, False)
    for piece in PIECES:
        if piece[1] * both.sound.rate < both.sound.waveform.shape[1]:
            heard = sounds.within(*piece).waveform
            yield from (f"{piece[0]} - {piece[1]} s: {said}" for said in _heard(both, heard, piece))


def _heard(both: Both, got: np.ndarray, piece: windows.Span) -> Iterator[str]:
    """How the sound (samples,) of a window differs."""
    if both.sound is None:
        return
    start, end = (round(time * both.sound.rate) for time in piece)
    wanted = both.sound.waveform[:1, start:end][:, : span(both.sound.rate, SETTINGS.sound.frames)]
    if np.any(wanted) or np.any(got):
        yield from unlike(got[None], wanted, both.sound.rate, both.kind)
