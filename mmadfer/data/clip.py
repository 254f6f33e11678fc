"""One clip to face crops and filter bank: the same for preparation, runtime and parity."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import detection
from mmadfer.data.faces.one_thread import one_thread
from mmadfer.data.faces.search import NO_FACE, Face, search_faces, search_larger
from mmadfer.data.faces.track import interpolate
from mmadfer.data.media import audio, container, frames, notes
from mmadfer.data.media.frames import FrameSource, Seen
from mmadfer.data.media.image import encode_jpeg, square
from mmadfer.data.media.notes import Note
from mmadfer.errors import ClipError

Keep = Callable[[int], Sequence[int]]
"""Of a clip's number of frames, which to keep; one may be named twice."""
Cut = Callable[[Iterator[tuple[int, frames.Picture]]], Iterator[bytes]]
"""Numbered pictures to the JPEG of each, one after the other."""
_GPU_PICTURES = 8
"""Full pictures that are held together for a GPU."""


@dataclass(frozen=True)
class ClipData:
    """What the model sees of a clip."""

    jpegs: list[bytes]
    """Face crops of the frames that were to be kept, as in the store."""
    fbank: np.ndarray
    """float32 (frames, mels), padded and normalised."""
    times: np.ndarray
    """When each frame of the whole clip is shown, float64 seconds, in the order in which frames are counted."""
    rate: int
    """Of the sound that the filter bank was computed from, in Hz; 0 where there was none."""
    silent: bool
    """The sound is nothing but zeros, or missing and replaced by silence."""
    notes: tuple[Note, ...] = ()
    """What a person should know of this clip, such as a sound that is missing."""
    waveform: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """float32 (samples,): of the first channel, what the filter bank was computed from; empty where there was none."""
    faceless: tuple[Note, ...] = ()
    """What a person should know of frames in which no face was found; of many a good clip there is some."""
    later: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """float32 (m, mels): the filter bank after `fbank`, where all of the sound was asked for."""
    sound_frames: int = 0
    """Filter-bank frames of `fbank` and `later` together, without padding."""
    sound_start: float = 0.0
    """When the sound starts, in seconds on the clock of `times`."""
    first: int = 0
    """The number of its first frame in the video that it is a window of."""
    boxes: np.ndarray | None = None
    """Where the face that is followed is in each frame of `times`, float64 (n, 4) as in `faces.track`; None where no
    face is followed."""

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the pictures in seconds; the last is shown as long as others are."""
        return shown_span_seconds(self.times)


def shown_span_seconds(times: np.ndarray) -> tuple[float, float]:
    """Start and end in seconds of frames that are shown at `times`; the last is shown as long as others are."""
    times = np.sort(times)
    each = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return round(float(times[0]), 3), round(float(times[-1]) + each, 3)


def read_clip(
    path: FrameSource | str,
    settings: PrepareConfig,
    *,
    sound: Path | str | None = None,
    mute: bool = False,
    cropped: bool = False,
    keep: Keep | None = None,
    heard: Callable[[int], None] | None = None,
    device: str = "cpu",
    blind: bool = False,
    whole_sound: bool = False,
) -> ClipData:
    """Decode a clip, find the face in its frames, cut it out of them, and compute the filter bank of its sound.

    Pictures are gone through twice, first small to find the face, and encoded as they come: never are all of them held
    in memory. Where no face is found in small pictures, they are gone through once more (`search.search_larger`).

    Args:
        path: a video file, a folder with one image for each frame, or pictures in memory.
        settings: what is done to it.
        sound: the file with its sound, if that is not `path`; one that does not exist is a clip without sound.
        mute: take silence for its sound, whatever it has.
        cropped: the frames show nothing but the face and are taken whole. JPEG files of the right size keep their very
            bytes, so that they lose nothing by being encoded again.
        keep: which frames become a JPEG; all by default.
        heard: called with the sound's rate in Hz (0: no sound) before the pictures are looked at, which takes longer;
            what it raises ends the reading.
        device: where faces are looked for, `cpu`, `cuda` or `networks.WITHOUT_TORCH`. Another device may move a crop
            by a pixel.
        blind: take black pictures for a face that is nowhere found, where there is sound.
        whole_sound: compute the filter bank of all of the sound, up to `sound.max_seconds`.

    Raises:
        ClipError: with `reason` `unreadable`, `empty`, `no sound`, `sound rate`, `no face` or `too long`.
        OSError: the disk fails.
    """
    path = Path(path) if isinstance(path, str) else path
    with readable_clip(path), container.remarked() as remarks:
        found = audio.read(path, None if sound is None else Path(sound), settings, mute, whole_sound)
        if heard is not None:
            heard(found.rate)
        made = _read_pictures(path, settings, cropped, keep, device, blind and found.rate > 0)
    apart = length_notes_of(path, settings, found.seconds, made.times)
    told = (*dict.fromkeys((*found.notes, *apart, *made.notes)), *remarks)
    return ClipData(
        made.jpegs,
        found.fbank,
        made.times,
        found.rate,
        found.silent,
        told,
        found.waveform,
        made.faceless,
        found.later,
        found.frames,
        found.start,
        boxes=made.boxes,
    )


def length_notes_of(path: FrameSource, settings: PrepareConfig, sound: float, times: np.ndarray) -> tuple[Note, ...]:
    """What is to be told of sound that is `sound` seconds long and pictures that are shown at `times`."""
    begin, end = shown_span_seconds(times)
    return notes.length_notes(sound, end - begin, None if frames.has_times(path) else settings.fps)


@contextmanager
def readable_clip(path: FrameSource) -> Iterator[None]:
    """Tell a file that is gone or not for us as a fault of the clip, not of the machine."""
    try:
        yield
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise ClipError(
            f"{error.filename or path} cannot be read ({error.strerror}): mend its permissions or the path"
        ) from error


class _Pictures(NamedTuple):
    """A clip's pictures; the fields are those of `ClipData`."""

    jpegs: list[bytes]
    times: np.ndarray
    notes: tuple[Note, ...]
    faceless: tuple[Note, ...]
    boxes: np.ndarray | None


def _read_pictures(
    path: FrameSource, settings: PrepareConfig, cropped: bool, keep: Keep | None, device: str, blind: bool
) -> _Pictures:
    missed, face, boxes = set[int](), NO_FACE, None
    if cropped:
        seen, cut = whole(path, settings)
    elif settings.face_box == "union":
        seen, cut = union_crops(path, settings, device, missed)
    else:
        seen, face, boxes, cut = _tracked(path, settings, device, blind)
    order = _order(path, len(seen.times), settings)
    chosen = order if keep is None else [order[k] for k in keep(len(order))]
    wanted = set(chosen)
    numbered = enumerate(frames.pictures(path, settings))
    made = dict(zip(sorted(wanted), cut((k, one) for k, one in numbered if k in wanted), strict=True))
    faceless = face.faceless or notes.faceless(sum(k in missed for k in chosen), len(chosen))
    told = (*seen.notes, *notes.damaged(seen.damaged), *face.notes)
    places = None if boxes is None else boxes[order]
    return _Pictures([made[k] for k in chosen], seen.times[order], told, faceless, places)


def _order(path: FrameSource, count: int, settings: PrepareConfig) -> list[int]:
    """The frames' numbers in the order in which the model sees them."""
    if settings.mafw_frame_order == "time":
        return list(range(count))
    if frames.has_images(path):
        names = [image.path.name for image in frames.image_files(path, settings)]
    else:
        names = [f"{k}.jpg" for k in range(count)]  # as the published program calls a video's frames
    return text_order(names)


def text_order(names: Sequence[str]) -> list[int]:
    """The published program's order of a clip's images: that of their names as text, without the last one."""
    return sorted(range(len(names)), key=names.__getitem__)[: max(1, len(names) - 1)]


def whole(path: FrameSource, settings: PrepareConfig) -> tuple[Seen, Cut]:
    """Frames as they are; the bytes of a folder's JPEG files are kept if all have the right size and coding."""
    seen = Seen.of(frames.pictures(path, settings))
    if frames.has_images(path) and all(
        image.is_jpeg(settings.face_size) for image in frames.image_files(path, settings)
    ):
        return seen, lambda some: (image.data() for _, image in some)
    return seen, squares(settings)


def squares(settings: PrepareConfig) -> Cut:
    """Pictures as they are, each made a square."""
    size, quality = settings.face_size, settings.jpeg_quality
    return lambda some: (encode_jpeg(square(one.rgb(), size), quality) for _, one in some)


def union_crops(path: FrameSource, settings: PrepareConfig, device: str, missed: set[int]) -> tuple[Seen, Cut]:
    """What is known of the pictures, and `unions`."""
    return Seen.of(frames.pictures(path, settings)), unions(settings, device, missed)


def unions(settings: PrepareConfig, device: str, missed: set[int]) -> Cut:
    """Each frame by its own faces; on a CPU also looked at on its own, so that others never change its last digit.

    Frames in which none is found are added to `missed`.
    """

    def cut(some: Iterator[tuple[int, frames.Picture]]) -> Iterator[bytes]:
        while batch := list(islice(some, _GPU_PICTURES if device.startswith("cuda") else 1)):
            images = [one.rgb() for _, one in batch]
            with one_thread():
                found = list(detection.detect(images, device))
            missed.update(k for (k, _), boxes in zip(batch, found, strict=True) if not len(boxes))
            for image, boxes in zip(images, found, strict=True):
                x0, y0, x1, y1 = detection.union_box(boxes, *image.shape[:2])
                yield encode_jpeg(square(image[y0:y1, x0:x1], settings.face_size), settings.jpeg_quality)

    return cut


def _tracked(
    path: FrameSource, settings: PrepareConfig, device: str, blind: bool
) -> tuple[Seen, Face, np.ndarray | None, Cut]:
    """Each frame by the box of the one face that is followed through the clip."""
    seen, detections = search_faces(path, settings, device)
    search_larger(path, settings, device, detections, [(0, len(detections.indexes))])
    face, count = detections.follow(), len(seen.times)
    boxes = interpolate(face.indexes, face.boxes, count)
    if boxes is None and blind:
        return seen, NO_FACE._replace(faceless=(notes.BLACK,)), None, lambda some: (black(settings) for _ in some)
    if boxes is None:
        searched = len(face.indexes)
        raise ClipError(f"{path} shows no face in any of the {searched} frames looked at (of {count})", "no face")

    def cut(some: Iterator[tuple[int, frames.Picture]]) -> Iterator[bytes]:
        for k, picture in some:
            yield face_jpeg(picture.rgb(), boxes[k], settings)

    return seen, face, boxes, cut


def face_jpeg(image: np.ndarray, box: np.ndarray, settings: PrepareConfig) -> bytes:
    """The JPEG of the face in a picture, uint8 RGB (H, W, 3); the box as in `detection.crop`."""
    return encode_jpeg(detection.crop(image, box, settings.face_size, settings.face_margin), settings.jpeg_quality)


def black(settings: PrepareConfig) -> bytes:
    """The JPEG of a crop that shows nothing; at the best quality, at which each pixel is 0 again."""
    return encode_jpeg(np.zeros((settings.face_size, settings.face_size, 3), np.uint8), 100)
