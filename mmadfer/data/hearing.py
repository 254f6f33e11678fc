"""The sound of a clip as the model hears it, or silence in its place; of a video in windows, piece by piece."""

import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmadfer.config import PrepareConfig
from mmadfer.contract import span
from mmadfer.data import frames, media
from mmadfer.data.fbank import SILENCE, fbank
from mmadfer.data.frames import Decoded, Source
from mmadfer.errors import ClipError


class Heard(NamedTuple):
    """A clip's sound; the fields are those of `ClipData`."""

    fbank: np.ndarray
    waveform: np.ndarray
    rate: int
    silent: bool
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """Of the whole sound; 0 where there is none."""


def hear(source: Path, waveform: np.ndarray, rate: int, settings: PrepareConfig) -> Heard:
    """What the model hears of sound float32 (channels, samples) of the file `source`.

    Raises:
        ClipError: `no sound` or `sound rate`, as `fbank`.
    """
    bands = _fbank(source, waveform, rate, settings)
    heard = waveform[0, : span(rate, settings.sound.frames)].copy()
    return Heard(bands, heard, rate, not np.any(waveform), seconds=waveform.shape[1] / rate)


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


def read(path: Source, sound: Path | None, settings: PrepareConfig, mute: bool) -> Heard:
    """The whole sound of a clip.

    Raises:
        ClipError: as `clip.read_clip`.
    """
    if mute:
        return silence(settings)
    try:
        source = source_of(path, sound)
        return hear(source, *media.read_sound(source, settings.sound.rate, settings.max_seconds), settings)
    except ClipError as error:
        return unheard(error, settings)


def source_of(path: Source, sound: Path | None) -> Path:
    """The file with a clip's sound.

    Raises:
        ClipError: `no sound`: there is none.
    """
    if sound is None:
        if isinstance(path, Decoded):
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


def _fbank(source: Path, waveform: np.ndarray, rate: int, settings: PrepareConfig) -> np.ndarray:
    try:
        return fbank(waveform, rate, settings.sound)
    except ClipError as error:
        raise ClipError(f"{source}: {error}", error.reason) from error


class Sounds:
    """The sound of one video, read as far as the windows need it."""

    def __init__(self, path: Path, sound: Path | None, settings: PrepareConfig, mute: bool) -> None:
        self._settings, self.rate = settings, 0
        self._nothing = silence(settings) if mute else None
        self._held, self._at = list[np.ndarray](), 0
        """Pieces (channels, samples) from sample `at` on."""
        if not mute:
            self._open(path, sound)

    def _open(self, path: Path, sound: Path | None) -> None:
        try:
            self._source = source_of(path, sound)
            self._chunks = media.sound_chunks(self._source, self._settings.sound.rate)
            first = next(self._chunks)
        except ClipError as error:
            self._nothing = unheard(error, self._settings)
            return
        self._held.append(first.waveform)
        self.rate, self._start = first.rate, first.start

    def within(self, start: float, end: float) -> Heard:
        """The sound from `start` to `end`, or silence where the settings take it for missing sound.

        Args:
            start: in seconds; -inf: where the sound starts.
            end: in seconds; inf: where it ends.

        Raises:
            ClipError: `no sound`.
        """
        if self._nothing:
            return self._nothing
        first, last = self._sample(start), self._sample(end)
        self._forget(first)
        self._read(last)
        piece = np.concatenate(self._held, axis=1)[:, max(0, first - self._at) :][:, : last - first]
        try:
            if not piece.size:
                raise ClipError("no sound in this part of the video", "no sound")
            return hear(self._source, piece, self.rate, self._settings)
        except ClipError as error:
            return unheard(error, self._settings)

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

    def _forget(self, before: int) -> None:
        while len(self._held) > 1 and self._at + self._held[0].shape[1] <= before:
            self._at += self._held.pop(0).shape[1]

    def _read(self, end: int) -> None:
        there = self._there
        while there < end and (chunk := next(self._chunks, None)):
            self._held.append(chunk.waveform)
            there += chunk.waveform.shape[1]
