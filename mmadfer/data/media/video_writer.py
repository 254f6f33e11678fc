"""Writes a video: pictures with their times, and the sound of a source beside them, as they come.

Nothing is held but what the encoders hold and a piece of sound, whatever the video's length.
"""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from mmadfer.data.media.decode import Sound, SoundTrack
from mmadfer.errors import ClipError

RATE = 25
"""Pictures per second where the source has none, and until the second picture is known."""
_CLOCK = Fraction(1, 90_000)
_BLOCK = 1024
"""Samples that the AAC encoder takes at once."""
_VIDEO = {"crf": "20", "preset": "veryfast", "threads": "1"}
_SOUND_RATE = 48_000
"""In Hz, of the written sound: one that every AAC encoder knows."""
_ENDS = "the sound of the overlay ends"
"""How notes begin."""
_LONGER_SECONDS = 0.5
"""By which sound is longer than pictures before it is worth a note."""


class VideoWriter:
    """An MP4 file, H.264 and AAC; a context manager, and only a block that succeeds gives a whole file.

    Args:
        path: of the file.
        size: height and width in pixels, even numbers.
        sound: the file whose sound is copied, if it has some; None: no sound.

    Attributes:
        notes: what a person should know of it.
    """

    def __init__(self, path: Path, size: tuple[int, int], sound: Path | None) -> None:
        self._file = av.open(str(path), "w", format="mp4")
        self._stream: Any = self._file.add_stream("libx264", rate=RATE, options=_VIDEO)
        (self._stream.height, self._stream.width), self._stream.pix_fmt = size, "yuv420p"
        self._stream.codec_context.time_base = _CLOCK
        self._last, self._each = -1, round(1 / RATE / _CLOCK)
        self.notes = list[str]()
        self._voice = self._heard(sound) if sound else None

    def _heard(self, sound: Path) -> "_Voice | None":
        try:
            return _Voice(self._file, sound, self.notes)
        except ClipError as error:
            if error.reason != "no sound":
                self.notes.append(f"{_ENDS} at the start: {error}")
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._encode(None)
                if self._voice:
                    self._voice.finish(float((self._last + self._each) * _CLOCK))
        finally:
            self._file.close()

    def write(self, time: float, picture: np.ndarray) -> None:
        """Add a picture uint8 (H, W, 3) that is shown from `time` (seconds) on; times rise."""
        before, self._last = self._last, max(self._last + 1, round(time / _CLOCK))  # one that goes back is refused
        self._each = self._last - before if before >= 0 else self._each
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = self._last, _CLOCK
        self._encode(frame)
        if self._voice:
            self._voice.until(time)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._each  # of the last one the file has no other way to know
            self._file.mux(packet)


class _Voice:
    """The sound of the source, encoded as far as the pictures, so that neither waits for the other.

    It ends with the pictures, with a note if the source's goes on. Where it can be read no further it ends too, with a
    note, for the pictures do not need it.

    Raises:
        ClipError: not even the first piece can be read.
    """

    def __init__(self, file: Any, source: Path, notes: list[str]) -> None:
        self._file, self._pieces, self._notes = file, iter(SoundTrack(source, _SOUND_RATE)), notes
        first = next(self._pieces)
        channels = 1 if len(first.waveform) == 1 else 2
        self._layout, self._channels = ("mono", "stereo")[channels - 1], channels
        self._stream: Any = file.add_stream("aac", rate=_SOUND_RATE, layout=self._layout)
        self._held = np.zeros((channels, 0), np.float32)
        at, self._more = round(first.start * _SOUND_RATE), True
        self._at, self._early = max(0, at), max(0, -at)
        self._take(first)

    def _take(self, sound: Sound) -> None:
        """Hold a piece, without what is heard before time 0."""
        waveform = sound.waveform[:, self._early :]
        self._early -= sound.waveform.shape[1] - waveform.shape[1]
        mixed = waveform if len(waveform) == self._channels else waveform.mean(axis=0, keepdims=True)
        self._held = np.concatenate([self._held, np.broadcast_to(mixed, (self._channels, waveform.shape[1]))], axis=1)

    def until(self, time: float) -> None:
        """Encode what is heard before `time`, but for less than a block."""
        self._encode_blocks(time)
        while self._more and self._end < time:
            self._read()
            self._encode_blocks(time)

    def _encode_blocks(self, time: float) -> None:
        while self._held.shape[1] >= _BLOCK and self._at + _BLOCK <= time * _SOUND_RATE:
            self._encode(self._held[:, :_BLOCK])
            self._held = self._held[:, _BLOCK:]

    def _read(self) -> None:
        sound = self._next()
        self._more = sound is not None
        if sound is not None:
            self._take(sound)

    @property
    def _end(self) -> float:
        """Of what is read, in seconds."""
        return (self._at + self._held.shape[1]) / _SOUND_RATE

    def _next(self) -> Sound | None:
        try:
            return next(self._pieces, None)
        except ClipError as error:
            self._notes.append(f"{_ENDS} at {self._end:.2f} s: {error}")
            return None

    def finish(self, end: float) -> None:
        """Encode what is left, up to `end`, when the last picture is over."""
        self.until(end)
        last = self._held[:, : max(0, round(end * _SOUND_RATE) - self._at)]
        while self._more and self._end < end + _LONGER_SECONDS:
            self._read()
        if self._end > end + _LONGER_SECONDS:
            self._notes.append(f"{_ENDS} at {end:.2f} s with the pictures; that of the source goes on")
        if last.shape[1]:
            self._encode(last)
        self._file.mux(self._stream.encode(None))

    def _encode(self, samples: np.ndarray) -> None:
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", self._layout)
        block.sample_rate, block.pts, block.time_base = _SOUND_RATE, self._at, Fraction(1, _SOUND_RATE)
        self._at += samples.shape[1]
        self._file.mux(self._stream.encode(block))
