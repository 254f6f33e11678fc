"""A kind of media file of the matrix, and how ffmpeg is told to encode its pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import media_reference as reference

Maker = Callable[[Path, Path], object]
"""maker(folder of the sources, file to write)."""


@dataclass(frozen=True)
class Kind:
    """One file of the matrix."""

    name: str
    make: str | Maker
    holds: str = "va"
    """v: pictures, a: sound; a letter that is missing must be missing for the reader, too."""
    joined: bool = False
    """Its sound has gaps or overlaps, whose edges need not be exact to a sample."""
    refused: str = ""
    """Words of the error that must come in the place of pictures and sound."""
    alone: bool = False
    """ffmpeg is to read its pictures and sound one at a time: together, it counts a jump of their clock twice."""
    lag: float = 0.0
    """Seconds by which its sound as a whole may be earlier or later: its time stamps are in milliseconds, or begin a
    little after 0."""
    slack: float = 0.001
    """Seconds by which times of pictures may be off."""
    may_lack: bool = False
    """Whether it may be that it cannot be made: not every container takes everything."""
    wrong: str = ""
    """What is wrong with it today; empty, as it should be, or the test expects it to fail."""
    colours: float = 2.0
    """Mean difference of colours, of 255, that two versions of FFmpeg may have."""

    def write(self, sources: Path, to: Path) -> Path:
        """Make the file."""
        path = to / self.name
        if callable(self.make):
            self.make(sources, path)
        else:
            reference.run(*words(self.make), str(path), folder=sources)
        return path


def words(command: str) -> list[str]:
    """ffmpeg's arguments, with the input that is understood."""
    return [*([] if "-i " in command else ["-i", "source.mkv"]), *command.split()]


H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
BFRAMES = f"{H264} -bf 2 -g 12"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=error:pools=none -pix_fmt yuv420p"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 400k"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 400k"
AV1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -b:v 300k -pix_fmt yuv420p"
MPEG2 = "-c:v mpeg2video -q:v 3"
MPEG4 = "-c:v mpeg4 -q:v 3"
MJPEG = "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"
FFV1 = "-c:v ffv1 -g 1"
PAL = "-t 0.4 -s 720x576 -aspect 4:3 -r 25"
