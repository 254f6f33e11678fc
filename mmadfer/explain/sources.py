"""What is explained: video files as `mmadfer predict` takes them, and clips of a store."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mmadfer.config.model import Modality
from mmadfer.contract import Contract
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.store.landmark_tensors import checked, landmark_rows
from mmadfer.data.store.store import Store
from mmadfer.data.video_windows import Windows
from mmadfer.errors import DataError
from mmadfer.explain.choice import Chosen
from mmadfer.explain.film import Shown
from mmadfer.explain.maps import Maps
from mmadfer.explain.unit_scores import unit_scores
from mmadfer.runtime.inputs import Video, VideoPart, read_parts, record_parts, whole_pictures
from mmadfer.tasks.codebook import Disgust
from mmadfer.utils.folders import some
from mmadfer.utils.names import in_utf8

_LONGEST = 640
"""Side of a picture that is kept of the source."""
_BLOCK = 64
"""Frames of a stored clip that are read at once, as each reading also reads the record's head."""


Compare = Callable[[VideoPart, Maps], dict[Modality, dict[str, float]]]


def _nothing(part: VideoPart, maps: Maps) -> dict[Modality, dict[str, float]]:
    return {}


class Source(NamedTuple):
    """A clip to explain."""

    name: str
    """As it is told."""
    folder: str
    """A name for the folder with its pictures; others may have the same."""
    parts: Callable[[], Iterator[VideoPart]]
    """The clip, or its windows, in time."""
    pictures: Callable[[], Iterator[Shown]] | None
    """Of the overlay video, in time; None where the model sees none."""
    sound: Path | None
    """The file with its sound, if it has some; None where there is no such file."""
    facts: dict[str, Any]
    """What else is known of it, for `explain.json`."""
    margin: float | None = None
    """Of the squares around the face that the model sees of the pictures; None: it sees them whole."""
    compare: Compare = _nothing
    """Of a part and its pictures, measures that need to know more of the clip, by modality."""


def of_videos(videos: Sequence[Video], contract: Contract, windows: Windows | None) -> list[Source]:
    """Videos, each read window by window with `windows` or where the model has its own."""
    return [_of_video(video, contract, windows) for video in videos]


def _of_video(video: Video, contract: Contract, windows: Windows | None) -> Source:
    sees = "vision" in contract.model.modalities and contract.modalities != "audio"
    pictures = partial(_pictures, video, contract) if sees else None
    parts, sound = partial(read_parts, video, contract, windows), _sound(video.sound or video.path)
    margin = None if video.cropped else contract.prepare.face_margin
    return Source(in_utf8(str(video.path)), video.path.stem or "clip", parts, pictures, sound, {}, margin)


def _pictures(video: Video, contract: Contract) -> Iterator[Shown]:
    for picture in whole_pictures(video, contract.prepare):
        yield Shown(picture.time, picture.rgb(_LONGEST))


def check_clips(store: Store, chosen: Sequence[Chosen]) -> None:
    """Refuse a store that is not that of the run's test.

    Raises:
        DataError: it lacks clips, or has other labels for them.
    """
    if missing := [one.id for one in chosen if one.id not in store.clips]:
        raise DataError(f"{store.path} has no clip {some(missing)}, which the run has tested: give the run's own store")
    for one in chosen:
        label = store.clips[one.id].label
        if isinstance(one.truth, str) and label != one.truth:
            raise DataError(
                f"clip {one.id!r} has the label {label!r} in {store.path}, and had {one.truth!r} in the run's test: "
                "give the run's own store"
            )


def of_clips(store: Store, chosen: Sequence[Chosen], contract: Contract, disgust: Disgust = "program") -> list[Source]:
    """Clips of a store, with the frames that it holds; sound is the media file's, where that is still there.

    `disgust` says with which units of Disgust pictures are compared.
    """
    return [_of_clip(store, one, contract, disgust) for one in chosen]


def _of_clip(store: Store, one: Chosen, contract: Contract, disgust: Disgust) -> Source:
    clip = store.clips[one.id]
    sees = "vision" in contract.model.modalities and contract.modalities != "audio"
    sound = _sound(store.root / clip.sound if clip.sound else store.media(one.id))
    facts = {"clip": one.id, "chosen": one.why, "truth": one.truth}
    pictures = partial(_stored, store, one.id) if sees else None
    parts, compare = partial(record_parts, store, one.id, contract), partial(_compared, store, one.id, disgust)
    return Source(one.id, one.id, parts, pictures, sound, facts, compare=compare)


def _compared(
    store: Store, clip: str, disgust: Disgust, part: VideoPart, maps: Maps
) -> dict[Modality, dict[str, float]]:
    """With the action-unit maps of the clip's label, where the store has landmarks.

    Raises:
        DataError: these are no landmarks.
    """
    about = store.clips[clip]
    if TENSOR not in about.tensors or not about.label or "vision" not in maps:
        return {}
    seen = part.first + part.shown[0]
    read = store.read(clip, [], rows={TENSOR: partial(landmark_rows, clip, seen)}).tensors[TENSOR]
    scores = unit_scores(maps["vision"], checked(read, clip, len(seen)), store.size, about.label, disgust)
    return {"vision": scores} if scores else {}


def _stored(store: Store, clip: str) -> Iterator[Shown]:
    count = store.clips[clip].frames
    for start in range(0, count, _BLOCK):
        block = range(start, min(start + _BLOCK, count))
        record = store.read(clip, block)
        assert record.times is not None
        for k, jpeg in zip(block, record.jpegs, strict=True):
            yield Shown(float(record.times[k]), decode_jpeg(jpeg))


def _sound(path: Path) -> Path | None:
    return path if path.is_file() else None
