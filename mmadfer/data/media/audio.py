"""The sound of a clip as the model hears it, or silence in its place; of a video in windows, piece by piece."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.contract import samples_of_frames
from mmadfer.data.media import frames
from mmadfer.data.media.decode import Sound, SoundTrack
from mmadfer.data.media.fbank import SILENCE, count, fbank, frame_samples, later
from mmadfer.data.media.frames import DecodedClip, FrameSource, NumberedCrops
from mmadfer.errors import ClipError

_Notes = tuple[str, ...]
_SILENT_PEAK = 1e-3
"""A channel whose peak is below this share of the loudest one's, -60 dB, carries no sound."""
_MIN_GAP_SECONDS = 0.1
"""Seconds without samples that are worth a note."""


class Heard(NamedTuple):
    """A clip's sound; the fields are those of `ClipData`."""

    fbank: np.ndarray
    waveform: np.ndarray
    rate: int
    silent: bool
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """Length of the whole sound; 0 where there is none, or only a part was read."""
    later: np.ndarray = np.zeros((0, 0), np.float32)
    """float32 (m, mels): the filter bank after `fbank`, where all of the sound was asked for."""
    frames: int = 0
    """Filter-bank frames of `fbank` and `later` together, without padding."""
    start: float = 0.0
    """When the sound starts, in seconds."""


def hear(source: Path, waveform: np.ndarray, rate: int, settings: PrepareConfig) -> Heard:
    """What the model hears of sound float32 (channels, samples) of the file `source`, and what is later in it.

    Raises:
        ClipError: `no sound` or `sound rate`, as `fbank`.
    """
    heard = waveform[:, : samples_of_frames(rate, settings.sound.frames)]
    number, told = channel(heard, settings)
    if number:
        heard = heard[[number]]
    with _named(source):
        bands = fbank(heard, rate, settings.sound)
        rest = later(waveform[[number]], rate, settings.sound)
    frames = min(count(heard.shape[1], rate), settings.sound.frames) + len(rest)
    return Heard(bands, heard[0].copy(), rate, not np.any(heard[0]), told, later=rest, frames=frames)


def channel(waveform: np.ndarray, settings: PrepareConfig) -> tuple[int, tuple[str, ...]]:
    """The channel of a waveform float32 (channels, samples) that is heard, from 0, and what is to be told of it.

    It is the first, but for one that carries nothing where another does.
    """
    peaks = np.abs(waveform).max(axis=1, initial=0)
    loudest = int(np.argmax(peaks))
    if peaks[0] >= _SILENT_PEAK * peaks[loudest]:
        return 0, ()
    words = f"the first of {len(peaks)} channels holds {'next to nothing' if peaks[0] else 'nothing but zeros'}"
    if settings.media == "published":
        return 0, (f"{words}, and is heard, as by the published program; the sound is on channel {loudest + 1}",)
    return loudest, (f"{words}: channel {loudest + 1} is heard",)


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Errors that do not name the file do so."""
    try:
        yield
    except ClipError as error:
        if str(source) in str(error):
            raise
        raise ClipError(f"{source}: {error}", error.reason) from error


def unheard(error: ClipError, settings: PrepareConfig) -> Heard:
    """Silence in the place of sound that is missing, with a note that tells why.

    Raises:
        ClipError: the error itself, where the settings leave out clips without sound, or it is another one.
    """
    if error.reason != "no sound" or settings.no_sound != "silence":
        raise error
    return silence(settings)._replace(notes=(f"no sound, silence in its place: {error}",))


def silence(settings: PrepareConfig) -> Heard:
    """What the model hears of a clip without sound."""
    bands = np.full((settings.sound.frames, settings.sound.mels), SILENCE, np.float32)
    return Heard(bands, np.zeros(0, np.float32), 0, True)


def read(path: FrameSource, sound: Path | None, settings: PrepareConfig, mute: bool, whole: bool = False) -> Heard:
    """The sound of a clip: what the model hears of it, or with `whole` up to `sound.max_seconds` of it.

    Raises:
        ClipError: as `clip.read_clip`.
    """
    if mute:
        return silence(settings)
    try:
        source = source_of(path, sound)
        track = SoundTrack(source, settings.sound.rate, settings.max_seconds, settings.media == "player")
        with _named(source):
            waveform, rate, seconds, start = beginning(track, lambda rate: _wanted(rate, settings, whole))
        found = hear(source, waveform, rate, settings)
    except ClipError as error:
        return unheard(error, settings)
    told = (*track.told, *_gaps(track.gaps, settings.media), *found.notes)
    return found._replace(notes=told, seconds=seconds, start=start)


def beginning(track: SoundTrack, wanted: Callable[[int], int]) -> tuple[np.ndarray, int, float, float]:
    """The first samples of a sound, float32 (channels, samples), its rate, seconds of the whole, and when it starts.

    The rest is gone through, since it may be damaged, and not kept: a minute of silence has few bytes in a file.

    Args:
        track: the sound.
        wanted: how many samples, by their rate; what it raises is raised before they are decoded.

    Raises:
        ClipError: as `SoundTrack`.
    """
    kept, there, rate, most, start = list[np.ndarray](), 0, 0, 0, 0.0
    for chunk in track:
        if not rate:
            rate, most, start = chunk.rate, wanted(chunk.rate), chunk.start
        if there < most:
            kept.append(chunk.waveform[:, : most - there].copy())
        there += chunk.waveform.shape[1]
    return np.concatenate(kept, axis=1), rate, there / rate, start


def _wanted(rate: int, settings: PrepareConfig, whole: bool) -> int:
    heard = _span(rate, settings)
    return max(heard, int(rate * settings.sound.max_seconds)) if whole else heard


def _span(rate: int, settings: PrepareConfig) -> int:
    """Samples that can be heard; raises ClipError, `sound rate`, where none of that rate can."""
    frame_samples(rate)
    return samples_of_frames(rate, settings.sound.frames)


def _gaps(gaps: Iterable[tuple[float, float]], how: str, within: tuple[float, float] = (-math.inf, math.inf)) -> _Notes:
    """What a person should know of stretches, from and to in seconds, that have no samples."""
    parts = [(max(start, within[0]), min(end, within[1])) for start, end in gaps]
    parts = [(start, end) for start, end in parts if end > start]
    total = sum(end - start for start, end in parts)
    if total < _MIN_GAP_SECONDS:
        return ()
    where = f"from {parts[0][0]:.1f} to {parts[0][1]:.1f} s" if len(parts) == 1 else f"in {len(parts)} places"
    cure = "what follows is moved there, as by the published program" if how == "published" else "silence in its place"
    return (f"no sound {where}, {total:.1f} s: {cure}",)


def source_of(path: FrameSource, sound: Path | None) -> Path:
    """The file with a clip's sound.

    Raises:
        ClipError: `no sound`: there is none.
    """
    if sound is None:
        if isinstance(path, NumberedCrops):
            return path.video
        if isinstance(path, DecodedClip):
            raise ClipError(f"{path} came without sound", "no sound")
        if path.is_dir():
            frames.images(path, math.inf)  # one that is empty, or may not be read, is told as such
            raise ClipError(
                f"{path} is a folder of images, which has no sound: name the file that has it (predict: --sound)",
                "no sound",
            )
        return path
    if not sound.exists():
        raise ClipError(f"{sound} does not exist", "no sound")
    return sound


class Sounds:
    """The sound of one video, read as far as the windows need it.

    Args:
        path: the video.
        sound: the file with its sound, if that is not `path`.
        settings: what is done to it.
        mute: take silence for it.
        placed: sound lies at its own time.
    """

    def __init__(self, path: Path, sound: Path | None, settings: PrepareConfig, mute: bool, placed: bool) -> None:
        self._settings, self.rate = settings, 0
        self._nothing = silence(settings) if mute else None
        self._held, self._at = list[np.ndarray](), 0
        """Pieces (channels, samples) from sample `_at` on."""
        if not mute:
            self._open(path, sound, placed)

    def _open(self, path: Path, sound: Path | None, placed: bool) -> None:
        try:
            self._source = source_of(path, sound)
            self._track = SoundTrack(self._source, self._settings.sound.rate, placed=placed)
            self._chunks = iter(self._track)
            self._begin(next(self._chunks))
        except ClipError as error:
            self._nothing = unheard(error, self._settings)

    def _begin(self, first: Sound) -> None:
        with _named(self._source):
            self._span = _span(first.rate, self._settings)
        self._held.append(first.waveform)
        self.rate, self._start = first.rate, first.start

    def within(self, start: float, end: float, since: float = math.inf) -> Heard:
        """What the model hears of the sound from `start` to `end`, or silence where the settings take it for missing
        sound.

        Args:
            start: in seconds; -inf: where the sound starts.
            end: in seconds; inf: where it ends.
            since: in seconds; what may still be asked for, if that is before `start`. All before it is forgotten.

        Raises:
            ClipError: `no sound`.
        """
        if self._nothing:
            return self._nothing
        first = self._sample(start)
        last = min(self._sample(end), first + self._span)
        self._read(min(first, self._sample(since)), last)
        piece = np.concatenate(self._held, axis=1)[:, max(0, first - self._at) :][:, : last - first]
        try:
            if not piece.size:
                raise ClipError("no sound in this part of the video", "no sound")
            found = hear(self._source, piece, self.rate, self._settings)
        except ClipError as error:
            return unheard(error, self._settings)
        return found._replace(notes=(*self._track.told, *self._told(start, end), *found.notes))

    def _told(self, start: float, end: float) -> _Notes:
        return _gaps(self._track.gaps, "player" if self._track.placed else "published", (start, end))

    def seconds(self, most: float) -> float:
        """How long the sound is, 0 where there is none; read on to its end, but not behind `most` seconds.

        What has gone by cannot be heard again.
        """
        if self._nothing:
            return 0.0
        last = self._sample(most)
        while self._there < last and (chunk := next(self._chunks, None)):
            self._at, self._held = self._there, [chunk.waveform]
        return min(self._there, last) / self.rate

    @property
    def _there(self) -> int:
        """The sample behind the last one read."""
        return self._at + sum(piece.shape[1] for piece in self._held)

    def _sample(self, time: float) -> int:
        if math.isinf(time):
            return 0 if time < 0 else sys.maxsize
        return max(0, round((time - self._start) * self.rate))

    def _read(self, first: int, last: int) -> None:
        """Hold the samples from `first` to `last`, and no piece before them."""
        while True:
            while len(self._held) > 1 and self._at + self._held[0].shape[1] <= first:
                self._at += self._held.pop(0).shape[1]
            chunk = next(self._chunks, None) if self._there < last else None
            if chunk is None:
                return
            self._held.append(chunk.waveform)
