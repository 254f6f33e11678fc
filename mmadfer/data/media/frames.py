"""The pictures of a clip, one after the other: the frames of a video file, or the images of a folder.

A folder holds one image for each frame, in the order of the numbers in their names. Hidden files and what file managers
leave are passed over; anything else that is no image is an error, since a clip of which a part is missing looks like a
whole one.
"""

import io
import math
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from PIL import Image, ImageOps

from mmadfer.config.schema import FPS, PrepareConfig
from mmadfer.data.media import decode, notes
from mmadfer.data.media.container import MOST_PIXELS
from mmadfer.data.media.notes import Note
from mmadfer.errors import ClipError
from mmadfer.utils.files import is_clutter

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""What is read of all that Pillow knows; some of its formats start other programs."""
UPRIGHT, ORIENTATION = 1, 0x0112
"""EXIF's value and key for a picture that needs no turning."""
BASELINE, PROGRESSIVE = 0xC0, 0xC2
"""Markers of the two JPEG codings that every decoder reads, also those of GPUs."""
_HEADER_BYTES = 2**20
"""Bytes of a JPEG file in which its header ends."""


class Picture(Protocol):
    """One frame, decoded when it is asked for."""

    @property
    def time(self) -> float:
        """When it is shown, in seconds."""

    @property
    def damaged(self) -> bool:
        """Whether the decoder had to make up a part of it."""

    @property
    def told(self) -> Sequence[Note]:
        """What a person should know of all pictures of the clip, as far as they are read."""

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """The upright picture, uint8 (H, W, 3), made smaller if its longer side has more than `longest` pixels."""


@dataclass(frozen=True)
class ImageFile:
    """An image in a folder."""

    path: Path
    time: float
    damaged: bool = False
    """Never: an image that is damaged is an error."""
    told: Sequence[Note] = ()

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """See `Picture`; also an image in grey or with a palette.

        Raises:
            ClipError: it is no image, damaged, cut off, too large, or has more than 8 bits per colour.
        """
        with _image(self.path, self.path) as image:
            if image.mode.startswith(("I", "F")):
                raise ClipError(f"{self.path} has more than 8 bits per colour: save it with 8")
            return np.asarray(_smaller(ImageOps.exif_transpose(image).convert("RGB"), longest))

    def is_jpeg(self, size: int) -> bool:
        """Whether its bytes can be kept: a JPEG of size x size that every decoder shows alike.

        Raises:
            ClipError: it is no image.
        """
        with self.path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        with _image(self.path, io.BytesIO(head)) as image:
            return (
                image.format == "JPEG"
                and image.mode in ("RGB", "L")
                and image.size == (size, size)
                and image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
                and image.info.get("adobe_transform", 1) != 0  # colours kept as RGB, which some decoders overlook
                and _coding(head) in (BASELINE, PROGRESSIVE)
            )

    def data(self) -> bytes:
        """The file's own bytes.

        Raises:
            ClipError: the image in them is cut off.
        """
        data = self.path.read_bytes()
        with _image(self.path, io.BytesIO(data)) as image:
            image.load()
        return data


@dataclass(frozen=True)
class MemoryPicture:
    """A picture in memory, uint8 (H, W, 3)."""

    pixels: np.ndarray
    time: float
    damaged: bool = False
    """Never: nothing decodes it here."""
    told: Sequence[str] = ()

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """See `Picture`."""
        return np.asarray(_smaller(Image.fromarray(self.pixels), longest))


class DecodedClip:
    """The pictures of a clip in memory, in the place of a path.

    Args:
        images: uint8 RGB (N, H, W, 3), N >= 1.
        name: in errors and notes.
    """

    def __init__(self, images: np.ndarray, name: str) -> None:
        self.images, self._name = images, name

    def __str__(self) -> str:
        return self._name


@dataclass(frozen=True)
class NumberedCrops:
    """Images of a video's frames, named by the number of the frame, from 1; a frame may have none.

    A frame without an image shows the one before it, and the first ones the first image that there is.
    """

    folder: Path
    video: Path
    """Which says when each frame is shown."""
    limit: float
    """Seconds of the video that are read at most."""

    def __str__(self) -> str:
        return str(self.folder)

    @cached_property
    def times(self) -> list[float]:
        """When each frame of the video is shown, in seconds.

        Raises:
            ClipError: as `decode.video_frames`.
        """
        return [frame.time for frame in decode.video_frames(self.video, self.limit)]

    @cached_property
    def images(self) -> list["ImageFile"]:
        """One for each frame of the video.

        Raises:
            ClipError: `empty` (no image), or a file of another name, or a number that the video does not have.
        """
        numbered = {self._number(image.path): image for image in images(self.folder, math.inf)}
        last = max(numbered)
        if last > len(self.times) + slack_frames(SLACK, len(self.times)):
            raise ClipError(
                f"{self.folder} has an image of frame {last}, but {self.video} has {len(self.times)} frames: they do "
                "not belong together"
            )
        lost = sum(k not in numbered for k in range(1, len(self.times) + 1))
        told = notes.uncropped(lost, len(self.times))
        shown, found = numbered[min(numbered)], list[ImageFile]()
        for k, time in enumerate(self.times, 1):
            shown = numbered.get(k, shown)
            found.append(replace(shown, time=time, told=told))
        return found

    def _number(self, path: Path) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", path.stem) or int(path.stem) < 1:
            raise ClipError(f"{path} is not named by the number of its frame, from 1 (00001.jpg): move it elsewhere")
        return int(path.stem)


SLACK = 0.01
"""Share of a video's frames by which the numbers of its crops may exceed them: decoders do not agree on the last."""
_LEAST_SLACK = 10
"""Frames that always pass, where some do."""


def slack_frames(share: float, count: int) -> int:
    """Frames that `share` of `count` are, where it is not 0 at least 10."""
    return max(_LEAST_SLACK, int(share * count)) if share else 0


FrameSource = Path | DecodedClip | NumberedCrops
"""A video file, a folder with one image for each frame, pictures in memory, or crops of a video's frames."""


class Seen:
    """What is known of pictures that have gone by."""

    def __init__(self) -> None:
        self._times, self._damaged = array("d"), bytearray()  # a film has a million
        self._told: Sequence[Note] = ()

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> "Seen":
        """Go through all pictures of a clip."""
        seen = cls()
        for _ in seen.passing(pictures):
            pass
        return seen

    def passing(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Hand pictures on, and note what is to be known of each."""
        for picture in pictures:
            self._times.append(picture.time)
            self._damaged.append(picture.damaged)
            self._told = picture.told
            yield picture

    @property
    def times(self) -> np.ndarray:
        """float64 seconds, in the order of time: a time stamp that goes back is a fault, the one before holds."""
        return np.maximum.accumulate(np.array(self._times))

    @property
    def damaged(self) -> np.ndarray:
        """bool, as in `Picture`."""
        return np.array(self._damaged, bool)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a person should know of the pictures' file."""
        return tuple(self._told)


def pictures(path: FrameSource, settings: PrepareConfig) -> Iterator[Picture]:
    """All pictures of a video file, of a folder of images or in memory, in time; the last two at `settings.fps`.

    Raises:
        ClipError: `unreadable`, `empty`, or `too long` (more than `settings.max_seconds`).
    """
    if isinstance(path, DecodedClip):
        for k, image in enumerate(path.images):
            yield MemoryPicture(image, k / settings.fps)
    elif has_images(path):
        yield from image_files(path, settings)
    elif isinstance(path, Path):
        pixels: decode.PixelAspect = "stored" if settings.media == "published" else "square"
        yield from decode.video_frames(path, settings.max_seconds, pixels)


def images(folder: Path, limit: float, fps: float = FPS) -> Sequence[ImageFile]:
    """The images of a folder, in the order of the numbers in their names.

    Raises:
        ClipError: `empty` (no image), `too long` (more than `limit` seconds at `fps` per second), or something in it is
            no regular file.
    """
    files = [Path(entry.path) for entry in os.scandir(folder) if not is_clutter(entry.name)]
    if not files:
        raise ClipError(f"{folder} holds no images: give a folder with one image for each frame", "empty")
    if len(files) > limit * fps:
        raise ClipError(
            f"{folder} holds {len(files)} images, more than {limit:g} s at {fps:g} per second: cut it into clips, or "
            "raise prepare.max_seconds",
            "too long",
        )
    for file in files:
        if not file.is_file():  # also a named pipe, which would be waited for without end
            raise ClipError(f"{file} is not a file: a folder of frames holds images alone; move it elsewhere")
    return [ImageFile(file, k / fps) for k, file in enumerate(sorted(files, key=_natural))]


def image_files(path: Path | NumberedCrops, settings: PrepareConfig) -> Sequence[ImageFile]:
    """The image of each frame, in order.

    Raises:
        ClipError: as `images` and `NumberedCrops.images`.
    """
    return path.images if isinstance(path, NumberedCrops) else images(path, settings.max_seconds, settings.fps)


def is_image_folder(path: FrameSource) -> TypeGuard[Path]:
    """Whether it is a folder of images, which does not say when they are shown."""
    return isinstance(path, Path) and path.is_dir()


def has_images(path: FrameSource) -> TypeGuard[Path | NumberedCrops]:
    """Whether its frames are image files."""
    return isinstance(path, NumberedCrops) or is_image_folder(path)


def has_times(path: FrameSource) -> bool:
    """Whether its pictures say themselves when they are shown."""
    return not (isinstance(path, DecodedClip) or is_image_folder(path))


def _smaller(image: Image.Image, longest: int | None) -> Image.Image:
    """The image itself, or one whose longer side has `longest` pixels."""
    if not longest or max(image.size) <= longest:
        return image
    width, height = (max(1, round(side * longest / max(image.size))) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _natural(file: Path) -> tuple[list[int | str], str]:
    """Numbers by value, what is between them as text: 2.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", file.name)  # text and digits take turns, so that like is compared with like
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], file.name


@contextmanager
def _image(name: Path, content: Path | io.BytesIO) -> Iterator[Any]:
    """An image whose pixels are not read yet; whatever is wrong with it names the file."""
    try:
        with Image.open(content, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ClipError(
                    f"{name} has {image.width} x {image.height} pixels, more than any video: make it smaller"
                )
            yield image
    except (ClipError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever its parsers meet
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the image
        raise ClipError(f"{name} is no readable image ({_words(error)}): mend it, or move it elsewhere") from error


def _words(error: Exception) -> str:
    return "not an image" if "cannot identify" in str(error) else str(error) or type(error).__name__


def _coding(data: bytes) -> int:
    """The marker of a JPEG's frame header (SOF, ITU-T T.81 table B.1); 0 if none is found."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])  # FF FF: padding
    return 0
