"""Sound that comes piece by piece from a live source, placed and heard as that of a file."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.audio import Heard, Sounds, unheard
from mmadfer.data.media.decode import Sound, SoundTrack
from mmadfer.errors import ClipError


class LiveTrack(SoundTrack):
    """Pieces of sound that are there up to now; an iteration that has ended goes on when more was pushed.

    Args:
        path: what errors call the source.
        rate: in Hz, or `native`.
        begin: when the source begins, in seconds; from then on sound that is missing is silence.
    """

    def __init__(self, path: Path, rate: int | str, begin: float) -> None:
        super().__init__(path, rate)  # type: ignore[arg-type]
        self._start = begin
        self._pending = deque[tuple[float, np.ndarray]]()
        self._pieces: Iterator[np.ndarray] = iter(())

    def push(self, time: float, samples: np.ndarray, rate: int) -> None:
        """Add float32 (channels, n), n >= 1, at `rate` Hz, whose first sample is at `time` seconds.

        Raises:
            ClipError: channels or a rate that cannot be, or others than before.
        """
        self._kind = self._same(rate, len(samples))
        self._layout = {1: "mono", 2: "stereo"}.get(len(samples), f"{len(samples)} channels")
        self._pending.append((time, np.ascontiguousarray(samples.T)))

    def __iter__(self) -> Iterator[Sound]:
        return self

    def __next__(self) -> Sound:
        """The next piece at the rate that is wanted; StopIteration where there is none yet."""
        while (piece := next(self._pieces, None)) is None:
            if not self._pending:
                raise StopIteration
            self._pieces = self._fed(*self._pending.popleft())
        return Sound(piece, self._kind[0] if self._rate == "native" else self._rate, self._start)

    def end(self) -> None:
        """Nothing more is to come: what the resampler holds can be heard."""
        self._pieces = iter([*self._pieces, *(piece for one in self._pending for piece in self._fed(*one))])
        self._pending.clear()
        self._pieces = iter([*self._pieces, *self._rest()])


class LiveSounds(Sounds):
    """The sound of a live source, held as far back as `forget` has left it.

    Args:
        path: what errors call the source.
        settings: what is done to sound.
        mute: take silence for it.
        begin: as of `LiveTrack`.
    """

    def __init__(self, path: Path, settings: PrepareConfig, mute: bool, begin: float) -> None:
        self._track: LiveTrack
        self._begun = begin
        super().__init__(path, None, settings, mute, placed=True)

    def _open(self, path: Path, _: Path | None, placed: bool) -> None:
        self._source = path
        self._track = LiveTrack(path, self._settings.sound.rate, self._begun)
        self._chunks = iter(self._track)

    def push(self, time: float, samples: np.ndarray, rate: int) -> None:
        """Add a piece, as `LiveTrack.push`; nothing where silence is taken for all sound."""
        if self._nothing is None:
            self._track.push(time, samples, rate)

    def end(self) -> None:
        """Nothing more is to come."""
        if self._nothing is None:
            self._track.end()

    def within(self, start: float, end: float, since: float = float("inf")) -> Heard:
        """As `Sounds.within`, of what is there; sound that is still missing is none, and not silence."""
        if self._nothing is None and not self._there_is_sound():
            return unheard(ClipError("no sound in this part of the source", "no sound"), self._settings)
        return super().within(start, end, since)

    def forget(self, before: float) -> None:
        """Hold nothing of what is heard before this time, in seconds."""
        if self._nothing is None and self._there_is_sound():
            sample = self._sample(before)
            self._read(sample, sample)
            self._track.gaps[:] = [gap for gap in self._track.gaps if gap[1] > before]

    def _there_is_sound(self) -> bool:
        if not self.rate and (first := next(self._chunks, None)):
            self._begin(first)
        return self.rate > 0
