"""Compare what mmadfer reads of a media file with ffmpeg's decode of it: frame by frame, sample by sample, in windows."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import media_reference as reference
import numpy as np
from media_kinds import Kind

from mmadfer.config import PrepareConfig
from mmadfer.contract import span
from mmadfer.data import frames, media, windows
from mmadfer.data.hearing import Sounds
from mmadfer.data.image import decode_jpeg, square
from mmadfer.errors import ClipError

SETTINGS = PrepareConfig(face_size=32, no_sound="silence", jpeg_quality=100)
WINDOWS = windows.Windows(0.5, 0.5)
SECONDS = 0.001
"""By which times may be off."""
SAMPLES = 2e-3
"""By which samples may be off; lossy codecs' decoders round."""
ALIKE = 0.9
PLACE = 0.05
"""Seconds by which sound may be out of place where it has gaps."""
HIGHEST = 96000
"""Rate in Hz of which filter banks are made."""
JPEG = 6.0
"""Mean difference of colours that a JPEG adds."""


def differences(kind: Kind, path: Path) -> list[str]:
    """What is read unlike, in words; none if all is as it should be."""
    if kind.refused:
        return list(_refused(kind, path))
    try:
        found = [*_pictures(kind, path), *_sound(kind, path)]
        return found or [*_windows(kind, path)]
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


def _pictures(kind: Kind, path: Path) -> Iterator[str]:
    if "v" not in kind.holds:
        yield from _nothing("empty", "pictures", lambda: next(media.read_frames(path)))
        return
    times, images = reference.pictures(path)
    got = list(media.read_frames(path))
    if len(got) != len(images):
        yield f"{len(got)} pictures, not {len(images)}"
    again = [(picture.time, picture.rgb()) for picture in frames.pictures(path, 300)]
    if any(a[0] != b[0] or not np.array_equal(a[1], b[1]) for a, b in zip_longest(got, again, fillvalue=(-1, None))):
        yield "read_frames and pictures differ"
    known = np.isfinite(times)
    late = np.abs([time for time, _ in got[: len(times)]] - times[: len(got)])
    if not known.all():
        yield "ffmpeg knows no times"
    elif late.max() > SECONDS:
        yield f"picture {late.argmax()} at {got[late.argmax()][0]:.4f} s, not {times[late.argmax()]:.4f} s"
    off = [colours(image, wanted) for (_, image), wanted in zip(got, images, strict=False)]
    if max(off) > kind.colours:
        k = int(np.argmax(off))
        yield f"picture {k} {got[k][1].shape[:2]} off by {off[k]:.2f} from {images[k].shape[:2]}"


def colours(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, of 255; of other proportions: 255."""
    if one.shape == other.shape:
        return float(np.abs(one.astype(float) - other).mean())
    if abs(one.shape[1] / one.shape[0] * other.shape[0] / other.shape[1] - 1) > 0.02:
        return 255.0
    return colours(square(one, 64), square(other, 64))


def _nothing(reason: str, what: str, read: object) -> Iterator[str]:
    try:
        read()  # type: ignore[operator]
        yield f"{what} where there are none"
    except ClipError as error:
        if error.reason != reason:
            yield f"error in the place of no {what}: {error}"


def _sound(kind: Kind, path: Path) -> Iterator[str]:
    if "a" not in kind.holds:
        yield from _nothing("no sound", "sound", lambda: media.read_sound(path))
        return
    channels, rate = reference.layout(path)
    wanted = reference.sound(path, channels, kind.joined)
    got, heard = media.read_sound(path)
    if (heard, len(got)) != (rate, channels):
        yield f"{len(got)} channels at {heard} Hz, not {channels} at {rate} Hz"
    else:
        yield from unlike(got, wanted, rate, kind)


def unlike(got: np.ndarray, wanted: np.ndarray, rate: int, kind: Kind) -> Iterator[str]:
    """How two sounds (channels, samples) differ."""
    many = min(got.shape[1], wanted.shape[1])
    if abs(got.shape[1] - wanted.shape[1]) > (PLACE * rate if kind.joined else 1):
        yield f"{got.shape[1] / rate:.4f} s of sound, not {wanted.shape[1] / rate:.4f} s"
    first = round(kind.aside * rate)
    off = np.abs(got[:, first:many] - wanted[:, first:many])
    if not kind.joined and off.size and off.max() > SAMPLES:
        at = int(off.max(0).argmax()) + first
        moved = [f"{place:+.4f} s at {time:.1f} s" for time, place in places(got, wanted, rate) if place]
        yield f"samples off by up to {off.max():.4f} (at {at / rate:.4f} s); out of place: {', '.join(moved[:4])}"
    if kind.joined:
        moved = [f"{place:+.3f} s at {time:.1f} s" for time, place in places(got, wanted, rate) if abs(place) > PLACE]
        if moved:
            yield f"sound out of place: {', '.join(moved)}"


def places(got: np.ndarray, wanted: np.ndarray, rate: int) -> Iterator[tuple[float, float]]:
    """(time, by how much later `got` has what `wanted` has there), each 0.1 s; infinite: it has something else."""
    size, reach = rate // 10, rate // 2
    for start in range(0, wanted.shape[1] - size + 1, size):
        begin = max(0, start - reach)
        around = got[:, begin : start + size + reach]
        far = around.shape[1] < size
        yield start / rate, float("inf") if far else _place(wanted[:, start : start + size], around, start - begin, rate)


def _place(piece: np.ndarray, around: np.ndarray, expected: int, rate: int) -> float:
    here = around[:, expected : expected + piece.shape[1]]
    if here.shape == piece.shape and np.abs(here - piece).max() <= SAMPLES:
        return 0.0
    if _partly_silent(piece):
        return 0.0 if np.any(piece) or not np.any(here) else float("inf")
    channel = int(np.abs(piece).sum(1).argmax())
    score = _likeness(piece[channel].astype(float), around[channel].astype(float))
    near = slice(max(0, expected - round(PLACE * rate)), expected + round(PLACE * rate))
    best = near.start + int(score[near].argmax()) if score[near].size else int(score.argmax())
    if score[best] < min(ALIKE, score.max() - 0.1):  # where it is spliced within the piece, none is whole
        best = int(score.argmax())
    return float(best - expected) / rate if score[best] > 0.5 else float("inf")


def _likeness(piece: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The normalised correlation at each place."""
    size = 1 << int(np.ceil(np.log2(len(piece) + len(around))))
    match = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(piece, size)), size)
    power = np.concatenate([[0], np.cumsum(around**2)])
    many = len(around) - len(piece) + 1
    there = power[len(piece) :] - power[:many]
    return np.asarray(match[:many] / np.sqrt(np.maximum(there * (piece**2).sum(), 1e-9)))


def _partly_silent(piece: np.ndarray) -> bool:
    """Whether a gap begins or ends in it."""
    silent = np.abs(piece).max(0) < 1e-5
    return bool(silent.mean() > 0.05)


def _windows(kind: Kind, path: Path) -> Iterator[str]:
    if "v" not in kind.holds:
        yield from _pieces(kind, path)
        return
    times, images = reference.pictures(path)
    wanted, rate = np.zeros((1, 0)), 0
    if "a" in kind.holds:
        channels, rate = reference.layout(path)
        wanted = reference.sound(path, channels, kind.joined)
    shown = np.maximum.accumulate([time for time, _ in media.read_frames(path)])
    small = [square(image, SETTINGS.face_size) for image in images]
    whole = WINDOWS.spans(times)
    for window in windows.read_windows(path, SETTINGS, WINDOWS, cropped=True, keep=range):
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
        if off and max(off) > kind.colours + JPEG:
            yield f"{name}: picture {int(np.argmax(off))} off by {max(off):.2f}"
        if rate and len(whole) > 1:
            piece = _part(wanted, window.start, window.end, rate)
            yield from (f"{name}: {said}" for said in _heard(window.clip.waveform[None], piece, rate, kind, window.start))


def _pieces(kind: Kind, path: Path) -> Iterator[str]:
    channels, rate = reference.layout(path)
    wanted = reference.sound(path, channels, kind.joined)
    if rate > HIGHEST:
        return
    sounds = Sounds(path, None, SETTINGS, False)
    for start in (0.0, 0.31, 0.62, 1.1):
        if (start + 0.4) * rate < wanted.shape[1]:
            heard = sounds.within(start, start + 0.4)
            piece = _part(wanted, start, start + 0.4, rate)
            yield from (f"{start} s: {said}" for said in _heard(heard.waveform[None], piece, rate, kind, start))


def _part(sound: np.ndarray, start: float, end: float, rate: int) -> np.ndarray:
    """The first channel."""
    return sound[:1, round(start * rate) : round(end * rate)][:, : span(rate, SETTINGS.sound.frames)]


def _heard(got: np.ndarray, wanted: np.ndarray, rate: int, kind: Kind, start: float) -> Iterator[str]:
    if not np.any(wanted) and not np.any(got):
        return
    if not kind.joined and start >= kind.aside:
        yield from unlike(got, wanted, rate, kind)
    elif kind.joined:
        yield from unlike(got, wanted, rate, kind)
