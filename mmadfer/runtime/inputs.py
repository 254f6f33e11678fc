"""From a file to the parts of a video that a model is shown, with the arrays of each (`arrays`).

A model that was trained on windows (`data.window`) sees a clip in windows, cut out of it as out of a store's record:
the clip is read once, as preparation reads it.

Shapes: T frames, S image side.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.contract import Contract, hertz
from mmadfer.data.clip import ClipData, read_clip, shown_span_seconds
from mmadfer.data.compatibility import check_rate
from mmadfer.data.draws import test_indexes
from mmadfer.data.faces import detection
from mmadfer.data.faces.people import Faces
from mmadfer.data.frame_windows import covering_windows, window_indexes
from mmadfer.data.media.audio import hear
from mmadfer.data.media.fbank import SHIFT
from mmadfer.data.media.frames import DecodedClip, NumberedCrops, Picture, pictures
from mmadfer.data.media.image import decode_jpeg, encode_jpeg
from mmadfer.data.media.notes import Note
from mmadfer.data.store.store import Store
from mmadfer.data.video_windows import VideoWindow, Windows, read_windows
from mmadfer.data.window_sound import read_window, window_sound, window_span_seconds
from mmadfer.errors import ClipError, ConfigError
from mmadfer.runtime import listening
from mmadfer.runtime.arrays import (
    Inputs,
    WindowsOf,
    as_entry,
    as_record,
    from_clip,
    from_parts,
    seen_frames,
    window_frames,
)

USUAL_RATES = (44_100, 48_000)
"""Of the sound of videos, in Hz."""
OTHER_CROPS = "trained on faces cropped by the data set's owners; here they were found by mmadfer"
"""A note, since such crops differ by more than the model has seen."""
_MAX_FPS = 1000
"""Images per second of a folder, as in `prepare.fps`."""
_LONG_CLIP_FACTOR = 2
"""A clip so many times as long as the sound that the model hears gets a note: most of it is not heard."""


class Video(NamedTuple):
    """Something to predict."""

    path: Path
    """A video file, or a folder with one image for each frame."""
    sound: Path | None = None
    """The file with its sound, if that is not `path`."""
    cropped: bool = False
    """The frames show nothing but the face."""
    pictures: DecodedClip | NumberedCrops | None = None
    """In the place of `path`, which then is no file; not in windows."""
    fps: float | None = None
    """Images per second of a folder or of `pictures`; None: as the model's training clips had."""


class ClipViews(NamedTuple):
    """In how many ways a clip is looked at; what the model says of each is averaged."""

    clips: int = 1
    """Index sets, as `test_indexes` makes them."""
    flips: bool = False
    """Each of them also mirrored."""


class VideoPart(NamedTuple):
    """A part of a video, or the whole of it."""

    start: float
    """In seconds, as is `end`."""
    end: float
    inputs: Inputs | None
    """None where it cannot be predicted."""
    notes: tuple[Note, ...] = ()
    """What a person should know of it; where it cannot be predicted, why."""
    reason: str = ""
    """Why it cannot be predicted, as a `ClipError` has it."""
    others: tuple[Inputs, ...] = ()
    """What else the model is shown of it; see `ClipViews`."""
    times: np.ndarray = np.zeros(0)
    """When each of its frames is shown, float64 (n,) in seconds; of a model that sees."""
    shown: tuple[np.ndarray, ...] = ()
    """The frames that the model is shown, int64 (T,) places in `times`: by `inputs`, and by each of `others`."""
    first: int = 0
    """The number of its first frame in the video, where there are `times`."""
    sound_start: float = 0.0
    """When the sound of `inputs` starts, in seconds on the clock of `times`."""
    boxes: np.ndarray | None = None
    """Where the face is in each frame of `times`, as `ClipData.boxes`."""
    sentence: str = ""
    """That the model reads, whose tokens are the last of `inputs`; empty where it reads none."""
    clip: ClipData | None = None
    """What `inputs` were made of; None of the windows that a model was trained on."""
    person: int = 0
    """The number of the one whose face `inputs` show, from 1; 0 where people are not told apart, or nobody is there."""


def read_parts(
    video: Video,
    contract: Contract,
    windows: Windows | None = None,
    views: ClipViews | None = None,
    faces: Faces = "largest",
    limit: float = math.inf,
) -> Iterator[VideoPart]:
    """Read a video as the model's contract says: as one part, or window by window, `windows` or the model's own.

    What the model has learnt to do without is not looked for: sound by a model of pictures alone, faces by one of sound
    alone. One that was trained on sound with black pictures (`data.modalities`) still needs a video: its pictures say
    from when to when a window goes; one without a vision encoder also reads a file of sound (`listening`). What
    training has left out of some clips may be missing, with a note; but not both faces and sound.

    With other `faces` than the largest there is a part for each person in each window (`video_windows.read_windows`);
    `people.check_people` says of which models and videos. A video that is read in `windows` may have `limit` seconds.

    Raises:
        DataError: it cannot be read, or lacks what the model needs; or its sound, which somebody named, does not exist.
    """
    if video.sound and contract.modalities != "vision" and not video.sound.exists():
        raise ClipError(f"{video.sound} does not exist: give the file with the sound of {video.path}", "no sound")
    sees = "vision" in contract.model.modalities
    views = views if views and sees else ClipViews()
    if faces == "largest" and windows is None and contract.window and not contract.pooled_windows:
        yield from _own_windows(video, contract, views)
        return
    if faces == "largest" and windows is None:
        clip = read_whole(video, contract, clips=views.clips)
        yield _part(video, contract, clip, *clip.span, views)
        return
    contract = contract.model_copy(update={"window": None})  # frames are spread over each window, as over a clip
    settings, given = asked(video, contract, views.clips)
    given |= {} if faces == "largest" else {"faces": faces, "blind": False}
    read = partial(read_windows, **given) if sees else partial(listening.read_windows, **_heard(given))
    with _told_of_windows():
        for one in read(video.path, settings, windows, limit=limit):
            yield part_of(one, video, contract, views)


def part_of(one: VideoWindow, video: Video, contract: Contract, views: ClipViews) -> VideoPart:
    """A window as the model is shown it, or why it cannot be; it was read as `asked` says."""
    if one.clip is None:
        notes, reason = (str(one.problem), *one.notes), getattr(one.problem, "reason", "")
        return VideoPart(one.start, one.end, None, notes, reason, person=one.person)
    part = _part(video, contract, one.clip, one.start, one.end, views)
    return part._replace(notes=(*part.notes, *one.notes), sound_start=one.start, person=one.person)


@contextmanager
def _told_of_windows() -> Iterator[None]:
    """Whoever asks for a video that is too long is told how to have it."""
    try:
        yield
    except ClipError as error:
        if error.reason != "too long":
            raise
        what, _, _ = str(error).rpartition(": ")  # the pictures' or the sound's file
        raise ClipError(f"{what}: predict it in windows (--window 5 --hop 1)", error.reason) from error


def _part(video: Video, contract: Contract, clip: ClipData, start: float, end: float, views: ClipViews) -> VideoPart:
    first, *others = _views(clip, contract, views)
    told = tuple(_notes(video, contract, clip, end - start))
    part = VideoPart(start, end, first, told, others=tuple(others), sound_start=clip.sound_start, clip=clip)
    if "vision" not in contract.model.modalities or contract.window is not None:
        return part
    shown = [*test_indexes(len(clip.times), contract.model.frames, views.clips)] * (1 + views.flips)
    return part._replace(times=clip.times, shown=tuple(shown), first=clip.first, boxes=clip.boxes)


def _own_windows(video: Video, contract: Contract, views: ClipViews) -> Iterator[VideoPart]:
    """The windows of `data.window`, as a test has them; a note of the clip is one of each."""
    assert contract.window is not None
    frames = contract.model.frames
    span, hop = contract.window.span(frames), contract.window.hop_of(frames)
    clip = read_whole(video, contract, windows=lambda n: covering_windows(n, span, hop))
    for k, window in enumerate(covering_windows(len(clip.times), span, hop)):
        jpegs = clip.jpegs[k * frames : (k + 1) * frames]
        sound = window_sound(as_record(clip), as_entry(clip), window)
        one = from_parts(jpegs, sound, contract)
        start, end = window_span_seconds(clip.times, window)
        told = tuple(_notes(video, contract, clip, end - start))
        its = slice(window[0], window[0] + window[1])
        boxes = None if clip.boxes is None else clip.boxes[its]
        shown = window_indexes(window, frames, contract.window.stride) - window[0]
        mirrored, looks = (_mirrored(one),) * views.flips, (shown,) * (1 + views.flips)
        yield VideoPart(start, end, one, told, "", mirrored, clip.times[its], looks, window[0], start, boxes)


def _mirrored(inputs: Inputs) -> Inputs:
    frames, *sound = inputs
    return np.ascontiguousarray(frames[..., ::-1]), *sound


def _views(clip: ClipData, contract: Contract, views: ClipViews) -> list[Inputs]:
    """Each way in which a clip is looked at, of one read with `keep=seen_frames(contract, views.clips)`."""
    sets = np.array_split(np.array(clip.jpegs, object), views.clips)
    made = [from_clip(replace(clip, jpegs=one.tolist()), contract) for one in sets]
    if views.flips:
        made += list(map(_mirrored, made))
    return made


def read_whole(
    video: Video, contract: Contract, device: str = "cpu", clips: int = 1, windows: WindowsOf | None = None
) -> ClipData:
    """Read a video as one clip, as `read_parts` does; `device` is where faces are looked for, as in `read_clip`.

    `clips` index sets of frames are kept, one after the other; of a model that has learnt windows, the frames of
    `windows` (by default of those that enter it together).

    Sound that does not exist is missing sound, as for a clip of a store.

    Raises:
        DataError: it cannot be read, or lacks what the model needs.
    """
    settings, given = asked(video, contract, clips)
    if contract.window is not None:
        given |= {"keep": window_frames(contract, windows), "whole_sound": True}
    with _told_of_windows():
        if "vision" not in contract.model.modalities:
            return listening.read_clip(video.path, settings, **_heard(given))
        return read_clip(video.pictures or video.path, settings, device=device, **given)


def asked(video: Video, contract: Contract, clips: int) -> tuple[PrepareConfig, dict[str, Any]]:
    """How the video is read: what is done to it, and the arguments that clips and windows share."""
    cropped, mute = video.cropped or contract.modalities == "audio", contract.modalities == "vision"
    heard, keep = partial(_check_rate, contract, video.sound or video.path), seen_frames(contract, clips)
    missing = contract.missing if contract.modalities == "both" else ()
    blind = "vision" in missing
    given = {"sound": video.sound, "mute": mute, "cropped": cropped, "keep": keep, "heard": heard, "blind": blind}
    changed: dict[str, Any] = {"no_sound": "silence"} if "audio" in missing else {}
    return at_own_rate(contract.prepare, video).model_copy(update=changed), given


def at_own_rate(settings: PrepareConfig, video: Video) -> PrepareConfig:
    """What is done to clips, with the images per second of this one.

    Raises:
        ConfigError: it is no rate.
    """
    return settings if video.fps is None else settings.model_copy(update={"fps": _checked(video.fps)})


def whole_pictures(video: Video, settings: PrepareConfig) -> Iterator[Picture]:
    """All pictures of a video or folder, however long it is.

    Raises:
        ClipError: it cannot be read.
        ConfigError: its rate is none.
    """
    return pictures(video.path, at_own_rate(settings, video).model_copy(update={"max_seconds": math.inf}))


def _heard(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("sound", "heard")}


def _checked(fps: float) -> float:
    if not 0 < fps <= _MAX_FPS:
        raise ConfigError(
            f"fps is {fps:g}: give the images per second of the folder, more than 0 and at most {_MAX_FPS}"
        )
    return fps


def _check_rate(contract: Contract, path: Path, rate: int) -> None:
    check_rate(contract, rate, path)
    if rate and contract.waveform_rate not in (None, rate):
        raise ClipError(
            f"{path} has sound at {rate} Hz, but this model was exported for samples at "
            f"{hertz([contract.waveform_rate or 0])}. Convert the sound (ffmpeg -i FILE -c:v copy -ar "
            f"{contract.waveform_rate} NEW), or export the model with --input fbank",
            "sound rate",
        )


def _notes(video: Video, contract: Contract, clip: ClipData, seconds: float) -> Iterator[Note]:
    """What a person should know of a clip that is so long, of what the model makes use of."""
    yield from clip.notes
    if clip.silent and clip.rate:
        yield "the sound that the model hears is nothing but zeros"
    if contract.modalities != "audio":
        yield from clip.faceless
        if contract.cropped and not video.cropped and contract.prepare.face_box != "union":
            yield OTHER_CROPS
    hears = contract.model.fbank[0] * SHIFT / 1000
    if clip.rate and seconds > _LONG_CLIP_FACTOR * hears:
        yield (
            f"the model hears only the first {hears:.1f} s of {seconds:.1f}; windows hear all of them "
            f"(--window {hears:.0f} --hop 1)"
        )


def record_parts(store: Store, name: str, contract: Contract) -> Iterator[VideoPart]:
    """A clip of a store as one part, or in the model's own windows, as a test has them; no more is read of it.

    Raises:
        DataError: no such clip, or it is damaged.
    """
    clip, frames, window = store.clips[name], contract.model.frames, contract.window
    if window is None:
        (shown,) = test_indexes(clip.frames, frames)
        record = store.read(name, shown.tolist())
        assert record.times is not None
        inputs = from_parts(record.jpegs, record.fbank, contract)
        span = shown_span_seconds(record.times)
        yield VideoPart(*span, inputs, times=record.times, shown=(shown,), sound_start=clip.sound_start)
        return
    for one in covering_windows(clip.frames, window.span(frames), window.hop_of(frames)):
        shown = window_indexes(one, frames, window.stride)
        record = read_window(store, name, one, shown.tolist())
        assert record.times is not None
        inputs = from_parts(record.jpegs, record.fbank, contract)
        start, end = window_span_seconds(record.times, one)
        times = record.times[one[0] : one[0] + one[1]]
        yield VideoPart(start, end, inputs, (), "", (), times, (shown - one[0],), one[0], start)


def load_readers(contract: Contract) -> None:
    """Load what reading a clip needs, and use it once."""
    settings = contract.prepare
    if contract.modalities != "audio":
        noise = np.random.default_rng(0).integers(
            0, 256, (detection.DETECTION_SIDE_PX, detection.DETECTION_SIDE_PX, 3), np.uint8
        )
        list(detection.detect([noise]))
        decode_jpeg(encode_jpeg(noise, settings.jpeg_quality))
    if contract.modalities != "vision":
        for rate in _rates(contract):
            hear(Path(), np.zeros((1, rate), np.float32), rate, settings)


def _rates(contract: Contract) -> Sequence[int]:
    """Rates at which sound will be heard, so far as they can be known."""
    rate = contract.waveform_rate or contract.prepare.sound.rate
    return [rate] if rate != "native" else contract.sound_rates or USUAL_RATES
