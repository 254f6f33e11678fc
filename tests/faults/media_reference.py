"""What a media file shows and sounds like by ffmpeg's command line, the independent decode of the matrix of media."""

import re
import struct
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SHOWN = re.compile(r"Parsed_showinfo.* pts_time:(\S+) .* sar:(\d+)/(\d+) s:(\d+)x(\d+) ")
OLDEST = (5, 1)
"""The first ffmpeg with `-fps_mode`."""
PLACED = "aresample=async=1:first_pts=0"
"""Sound at its own times, from the start of the file on; filled or cut where they are off by more than 0.1 s."""
CLOSELY = f"{PLACED}:min_hard_comp=0.02"

ALL = ("-map", "0:V?", "-map", "0:a?", "-c", "copy", "-f", "null", "-")
"""Have ffmpeg look at all streams: some containers' times count from the first of those that are asked for."""


class Pictures(NamedTuple):
    """What is seen of a file."""

    times: np.ndarray
    """Seconds from the start of the file; NaN: unknown."""
    images: list[np.ndarray]
    """Upright, with square pixels, uint8 (H, W, 3)."""
    start: float
    """When the file starts by its own clock, in seconds; NaN: unknown."""


class Sound(NamedTuple):
    """What is heard of a file."""

    waveform: np.ndarray
    """float32 (channels, samples), sample 0 at the start of the file."""
    rate: int
    start: float
    """As in `Pictures`."""


@cache
def version() -> tuple[int, ...]:
    """Of the ffmpeg that is installed; (0,) without one."""
    try:
        said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    found = re.match(r"ffmpeg version n?(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (99,)  # a build of the day has no number


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg.

    Raises:
        RuntimeError: it failed, with its words.
    """
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-y", "-threads", "1", *arguments]
    result = subprocess.run(command, capture_output=True, check=False, cwd=folder)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.decode(errors='replace')[-2000:]}")
    return result


def _start(result: subprocess.CompletedProcess[bytes]) -> float:
    found = re.search(rb"Duration: .*, start: (\S+),", result.stderr)
    return float(found[1]) if found else float("nan")


def pictures(path: Path, alone: bool = False) -> Pictures:
    """The frames of the first video stream that is no attached picture; `alone`: at times from its own start on."""
    result = run(
        *("-i", f"file:{path}", "-map", "0:V:0", "-vf", "showinfo", "-fps_mode", "passthrough", "-autoscale", "0"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-", *(() if alone else ALL)),
    )
    times, images, at = [], list[np.ndarray](), 0
    for time, *numbers in SHOWN.findall(result.stderr.decode(errors="replace")):
        across, down, width, height = map(int, numbers)
        image = np.frombuffer(result.stdout, np.uint8, width * height * 3, at).reshape(height, width, 3)
        times.append(float("nan" if time == "NOPTS" else time))
        images.append(square_pixels(image, Fraction(across, down or 1)))
        at += image.size
    assert at == len(result.stdout)
    return Pictures(np.array(times), images, _start(result))


def square_pixels(image: np.ndarray, aspect: Fraction) -> np.ndarray:
    """The picture, wider or higher by its pixels' aspect; ratios within 1 % of 1, and unknown ones (0), are 1."""
    if not aspect or abs(aspect - 1) <= 0.01:
        return image
    size = round(image.shape[1] * max(aspect, 1)), round(image.shape[0] * max(1 / aspect, 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def sound(path: Path, closely: bool = False, alone: bool = False) -> Sound:
    """The first sound stream; `closely`: gaps of 0.02 s and more are filled."""
    result = run(
        *("-i", f"file:{path}", "-map", "0:a:0", "-af", CLOSELY if closely else PLACED),
        *("-c:a", "pcm_f32le", "-bitexact", "-f", "wav", "-", *(() if alone else ALL)),
    )
    data = result.stdout
    channels, rate = struct.unpack_from("<HI", data, data.index(b"fmt ") + 10)
    samples = np.frombuffer(data, "<f4", offset=data.index(b"data") + 8)
    return Sound(samples.reshape(-1, channels).T, rate, _start(result))
