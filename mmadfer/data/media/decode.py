"""Pictures and sound of a media file, as a player shows and plays them, or as the published program reads them.

A player turns and mirrors pictures as the file says, stretches pixels that are not square, and plays sound at its own
time: where there is none, nothing is heard. The published program works on images and samples that a converter wrote:
pixels as they are stored, and all samples one after the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np

from mmadfer.data.media.container import MOST_PIXELS, DecodedFrame, check_length, decode_stream, readable_file
from mmadfer.errors import ClipError

_MAX_FPS = 1000
"""A file with more pictures per second of the limit is too long, whatever its time stamps say."""
USUAL_FPS = Fraction(25)
"""Pictures per second of a stream that says neither times nor a rate."""
SQUARE = Fraction(1, 100)
"""Pixels whose sides differ by less than this share are square, but for rounding."""
MOST_STRETCHED = 8
"""Times that a pixel may be wider than high, or higher than wide; more is a damaged header."""
_SAMPLE_RATES_HZ = (1000, 192_000)
"""Lowest and highest rate of sound in Hz; what is outside is a damaged header."""
MOST_CHANNELS = 24
"""22.2 surround; more is a damaged header too."""
_TIMESTAMP_TOLERANCE_SECONDS = 0.04
"""Seconds by which time stamps of sound may be off, as those in milliseconds or of irregular packets are; it is a
filter bank's four frames, and shorter than a picture's 25th of a second is long."""

PixelAspect = Literal["square", "stored"]


@dataclass(frozen=True)
class Frame:
    """A picture of a video stream."""

    frame: av.VideoFrame
    time: float
    """When it is shown, in seconds from the start of the file."""
    pixel: Fraction
    """Width of a pixel as a multiple of its height; 1 where it is left as it is stored."""
    matrix: bytes | None
    """How it is to be turned and mirrored, as libavutil/display.h has it; None: not at all."""
    told: list[str]
    """What a person should know of the file, as far as it is read; the same list for all of its frames."""

    @property
    def damaged(self) -> bool:
        """Whether the decoder had to make up a part of it."""
        return self.frame.is_corrupt

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """The picture as it is to be seen, uint8 RGB (H, W, 3): stretched, turned and mirrored.

        It is made smaller if its longer side has more than `longest` pixels.
        """
        width, height = _stretched(self.frame.width, self.frame.height, self.pixel)
        if longest and max(width, height) > longest:
            scale = longest / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        image = self.frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(_turned(image, self.matrix))


def _stretched(width: int, height: int, pixel: Fraction) -> tuple[int, int]:
    """Sides with square pixels; none is made shorter."""
    return (round(width * pixel), height) if pixel >= 1 else (width, round(height / pixel))


def _turned(image: np.ndarray, matrix: bytes | None) -> np.ndarray:
    """A picture as a display matrix (libavutil/display.h) says, by the nearest of the eight turns and mirrors."""
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def video_frames(path: Path | str, limit: float | None = None, pixels: PixelAspect = "square") -> Iterator[Frame]:
    """Decode all frames of the first video stream; pictures are converted when they are wanted.

    Args:
        path: of the file.
        limit: seconds of pictures that are read at most.
        pixels: `square` stretches pixels that are not; `stored` takes them as they are.

    Raises:
        ClipError: `unreadable` (no such file, not a video, damaged, cut off), `empty` (no picture in it), or `too long`
            as soon as pictures lie more than `limit` seconds apart.
    """
    first, told, pixel, known, unknown, number = 0.0, list[str](), Fraction(1), 0.0, -1, -1
    angle, matrix = 0, None
    for number, decoded in enumerate(decode_stream(Path(path), "video", limit, told)):
        known, unknown = (known, unknown + 1) if decoded.time is None else (decoded.time, 0)
        time = known + unknown * _each(decoded) if unknown else known
        if not number:
            first, pixel = time, _pixel(decoded, pixels, told)
            _tell_rate(decoded, told)
        check_length(path, limit, max(time - first, (number + 1) / _MAX_FPS))
        if not number or decoded.frame.rotation != angle:
            angle, matrix = decoded.frame.rotation, _matrix(decoded.frame)
        yield Frame(decoded.frame, time, pixel, matrix, told)
    if number < 0:
        raise ClipError(f"{path} has no pictures: give a video file", "empty")


def _matrix(frame: av.VideoFrame) -> bytes | None:
    """A frame's display matrix; not to be asked of every one, for PyAV keeps each alive that was asked."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if found is None else bytes(found)


def _each(decoded: DecodedFrame) -> float:
    """Seconds that a picture without a time stamp is shown."""
    frame = decoded.frame
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / (decoded.stream.guessed_rate or USUAL_FPS))


def _tell_rate(decoded: DecodedFrame, told: list[str]) -> None:
    rate = f"{1 / _each(decoded):.4g} in a second"
    if decoded.stream.container.format.name == "mjpeg":  # of which FFmpeg makes up both
        told.append(f"its pictures have no times and no rate: taken as {rate} (another: ffmpeg -framerate)")
    elif decoded.time is None:
        told.append(f"its pictures have no time stamps: taken as {rate}")


def _pixel(decoded: DecodedFrame, pixels: PixelAspect, told: list[str]) -> Fraction:
    """Width by height of what becomes a pixel; what is unusual is told."""
    pixel = Fraction(decoded.stream.sample_aspect_ratio or 1)
    if pixel <= 0 or abs(pixel - 1) <= SQUARE:
        return Fraction(1)
    width, height = _stretched(decoded.frame.width, decoded.frame.height, pixel)
    words = f"its pixels are {float(pixel):.3g} times as wide as high"
    if not 1 <= MOST_STRETCHED * pixel <= MOST_STRETCHED**2 or width * height > MOST_PIXELS:
        told.append(f"{words}, by its header, which cannot be: taken as square")
    elif pixels == "stored":
        told.append(f"{words}: left so, as the published program does; faces are squeezed")
    else:
        told.append(f"{words}: stretched to squares, as players do")
        return pixel
    return Fraction(1)


class Sound(NamedTuple):
    """A piece of sound."""

    waveform: np.ndarray
    """float32 (channels, samples) in [-1, 1]."""
    rate: int
    """In Hz."""
    start: float
    """When the sound that it is a piece of starts, in seconds from the start of the file."""


class SoundTrack:
    """The sound of a file, to be gone through once, piece by piece, so that a film's need not fit into the memory.

    Args:
        path: of the file.
        rate: in Hz, or `native`.
        limit: seconds that it may have.
        placed: sound lies at its own time: where there is none, before it or in the middle, are zeros, and of two
            pieces that lie over each other the first is heard. Otherwise all samples come one after the other.

    Raises:
        ClipError: `no sound` (no sound stream, or nothing in it) before the first piece; `too long` or `unreadable`
            when it is gone through.
    """

    def __init__(
        self,
        path: Path | str,
        rate: int | Literal["native"] = "native",
        limit: float | None = None,
        placed: bool = True,
    ) -> None:
        self.told = list[str]()
        """What a person should know of the file, as far as it is read."""
        self.gaps = list[tuple[float, float]]()
        """Starts and ends, in seconds, of what has no samples, as far as it is read."""
        self._path, self._rate, self._limit, self.placed = Path(path), rate, limit, placed
        self._layout, self._kind, self._start = "", (0, 0), 0.0
        self._count, self._moved = 0, 0.0
        """Samples up to now, and seconds by which they come too early, where they are not placed."""
        self._resampler: av.AudioResampler | None = None
        self._at = 0
        """Samples that it was given."""

    def __iter__(self) -> Iterator[Sound]:
        """Yields pieces that follow each other."""
        any_ = False
        with readable_file(self._path):
            for waveform in self._resampled():
                any_ = True
                rate = self._kind[0] if self._rate == "native" else self._rate
                yield Sound(waveform, rate, self._start)
        if not any_:
            raise ClipError(f"{self._path} has no sound: give a video with a sound track", "no sound")

    def _resampled(self) -> Iterator[np.ndarray]:
        """(channels, samples) at the rate that is wanted."""
        for time, packed in self._packed():
            yield from self._fed(time, packed)
        yield from self._rest()

    def _fed(self, time: float | None, packed: np.ndarray) -> Iterator[np.ndarray]:
        """What the next packed samples (samples, channels) add to the sound, (channels, samples) as it is wanted."""
        for piece in self._in_time(time, packed):
            if self._rate == "native":
                yield piece.T
                continue
            self._resampler = self._resampler or av.AudioResampler(format="flt", rate=self._rate)
            frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="flt", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._kind[0], self._at, Fraction(1, self._kind[0])
            self._at += len(piece)
            yield from self._arrays(self._resampler.resample(frame))

    def _rest(self) -> Iterator[np.ndarray]:
        """What the resampler holds at the end."""
        if self._resampler:
            yield from self._arrays(self._resampler.resample(None))

    def _arrays(self, frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            if frame.samples:
                yield frame.to_ndarray().reshape(-1, self._kind[1]).T

    def _in_time(self, time: float | None, packed: np.ndarray) -> Iterator[np.ndarray]:
        """The next packed samples (samples, channels), at their place."""
        rate = self._kind[0]
        if not self._count and self.placed and time is not None and time - self._start <= _TIMESTAMP_TOLERANCE_SECONDS:
            self._start = time
        now = self._start + self._count / rate + self._moved
        late = 0.0 if time is None else time - now
        if late > _TIMESTAMP_TOLERANCE_SECONDS:
            self.gaps.append((now, now + late))
            check_length(self._path, self._limit, now + late)
        for piece in self._fitted(packed, late) if self.placed else [packed]:
            self._count += len(piece)
            check_length(self._path, self._limit, self._count / rate)
            yield piece
        self._moved += late if not self.placed and abs(late) > _TIMESTAMP_TOLERANCE_SECONDS else 0.0

    def _fitted(self, packed: np.ndarray, late: float) -> Iterator[np.ndarray]:
        """Silence and a piece that comes late, or the part of a piece that is not there yet."""
        rate = self._kind[0]
        if late > _TIMESTAMP_TOLERANCE_SECONDS:
            yield from self._silence(round(late * rate))
        elif late < -_TIMESTAMP_TOLERANCE_SECONDS:
            packed = packed[round(-late * rate) :]
        if len(packed):
            yield packed

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        rate, channels = self._kind
        for start in range(0, samples, rate):
            yield np.zeros((min(rate, samples - start), channels), np.float32)

    def _packed(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """As they are decoded: time, and samples (samples, channels)."""
        # packed samples are one plane; of 8 planes and more, PyAV 18 reads on behind the last one
        packer = av.AudioResampler(format="flt")
        for decoded in decode_stream(self._path, "audio", self._limit, self.told):
            layout = decoded.frame.layout
            self._kind, self._layout = self._same(decoded.frame.sample_rate, layout.nb_channels), layout.name
            for part in packer.resample(decoded.frame):
                if part.samples:
                    yield decoded.time, part.to_ndarray().reshape(-1, self._kind[1])

    def _same(self, rate: int, channels: int) -> tuple[int, int]:
        """Rate and number of channels, which stay what they were in a sound file."""
        kind, before = (rate, channels), self._kind
        if not (_SAMPLE_RATES_HZ[0] <= kind[0] <= _SAMPLE_RATES_HZ[1] and 1 <= kind[1] <= MOST_CHANNELS):
            raise ClipError(
                f"{self._path} says that its sound has {kind[1]} channels at {kind[0]} Hz, but at most {MOST_CHANNELS} "
                f"at {_SAMPLE_RATES_HZ[0]} to {_SAMPLE_RATES_HZ[1]} Hz can be: it is damaged; copy it again"
            )
        if before[0] and kind != before:
            raise ClipError(
                f"the sound of {self._path} changes from {before[1]} channels at {before[0]} Hz to {kind[1]} at "
                f"{kind[0]} Hz: it is damaged, or several recordings in one file; copy it again, or cut it"
            )
        return kind
