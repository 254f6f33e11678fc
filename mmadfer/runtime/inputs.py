"""From a file to the arrays that every backend is fed with.

Shapes: B clips, T frames, S image side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.contract import Contract, hertz
from mmadfer.data.clip import ClipData, Keep, read_clip
from mmadfer.data.compatibility import check_rate
from mmadfer.data.draws import test_indexes
from mmadfer.data.faces import detection
from mmadfer.data.media.audio import hear
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.media.frames import DecodedClip
from mmadfer.data.media.image import decode_jpeg, encode_jpeg, resize
from mmadfer.data.media.notes import Note
from mmadfer.data.store.record import ClipRecord
from mmadfer.data.windows import Windows, read_windows
from mmadfer.errors import ClipError, ConfigError, DataError
from mmadfer.runtime import listening
from mmadfer.runtime.backends import ports

USUAL_RATES = (44_100, 48_000)
"""Of the sound of videos, in Hz."""
OTHER_CROPS = "trained on faces cropped by the data set's owners; here they were found by mmadfer"
"""A note, since such crops differ by more than the model has seen."""
_MAX_FPS = 1000
"""Images per second of a folder, as in `prepare.fps`."""
_LONG_CLIP_FACTOR = 2
"""A clip so many times as long as the sound that the model hears gets a note: most of it is not heard."""
FRAME = 0.01
"""Seconds from one filter-bank frame to the next."""
Inputs = tuple[np.ndarray, ...]
"""Of one clip, as `ports.inputs` has them: frames uint8 (1, T, 3, S, S), and fbank float32 (1, 1, frames, mels) or, for
a model that hears samples, waveform float32 (1, samples) and lengths int64 (1,). One modality has its own alone."""


class Video(NamedTuple):
    """Something to predict."""

    path: Path
    """A video file, or a folder with one image for each frame."""
    sound: Path | None = None
    """The file with its sound, if that is not `path`."""
    cropped: bool = False
    """The frames show nothing but the face."""
    pictures: DecodedClip | None = None
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


def read_parts(
    video: Video, contract: Contract, windows: Windows | None = None, looks: ClipViews | None = None
) -> Iterator[VideoPart]:
    """Read a video as the model's contract says: as one part, or window by window.

    What the model has learnt to do without is not looked for: sound by a model of pictures alone, faces by one of sound
    alone. One that was trained on sound with black pictures (`data.modalities`) still needs a video: its pictures say
    from when to when a window goes; one without a vision encoder also reads a file of sound (`listening`). What
    training has left out of some clips may be missing, with a note; but not both faces and sound.

    Raises:
        DataError: it cannot be read, or lacks what the model needs; or its sound, which somebody named, does not exist.
    """
    if video.sound and contract.modalities != "vision" and not video.sound.exists():
        raise ClipError(f"{video.sound} does not exist: give the file with the sound of {video.path}", "no sound")
    sees = "vision" in contract.model.modalities
    looks = looks if looks and sees else ClipViews()
    if windows is None:
        clip = read_whole(video, contract, clips=looks.clips)
        yield _part(video, contract, clip, *clip.span, looks)
        return
    settings, given = _asked(video, contract, looks.clips)
    read = partial(read_windows, **given) if sees else partial(listening.read_windows, **_heard(given))
    for one in read(video.path, settings, windows):
        if one.clip is None:
            yield VideoPart(
                one.start, one.end, None, (str(one.problem), *one.notes), getattr(one.problem, "reason", "")
            )
        else:
            part = _part(video, contract, one.clip, one.start, one.end, looks)
            yield part._replace(notes=(*part.notes, *one.notes))


def _part(video: Video, contract: Contract, clip: ClipData, start: float, end: float, looks: ClipViews) -> VideoPart:
    first, *others = _views(clip, contract, looks)
    return VideoPart(start, end, first, tuple(_notes(video, contract, clip, end - start)), others=tuple(others))


def _views(clip: ClipData, contract: Contract, looks: ClipViews) -> list[Inputs]:
    """Each way in which a clip is looked at, of one read with `keep=seen_frames(contract, looks.clips)`."""
    sets = np.array_split(np.array(clip.jpegs, object), looks.clips)
    made = [from_clip(replace(clip, jpegs=one.tolist()), contract) for one in sets]
    if looks.flips:
        made += [(np.ascontiguousarray(frames[..., ::-1]), *sound) for frames, *sound in made]
    return made


def read_whole(video: Video, contract: Contract, device: str = "cpu", clips: int = 1) -> ClipData:
    """Read a video as one clip, as `read_parts` does; `device` is where faces are looked for, as in `read_clip`.

    `clips` index sets of frames are kept, one after the other.

    Sound that does not exist is missing sound, as for a clip of a store.

    Raises:
        DataError: it cannot be read, or lacks what the model needs.
    """
    settings, given = _asked(video, contract, clips)
    try:
        if "vision" not in contract.model.modalities:
            return listening.read_clip(video.path, settings, **_heard(given))
        return read_clip(video.pictures or video.path, settings, device=device, **given)
    except ClipError as error:
        if error.reason != "too long":
            raise
        what, _, _ = str(error).rpartition(": ")  # the pictures' or the sound's file
        raise ClipError(f"{what}: predict it in windows (--window 5 --hop 1)", error.reason) from error


def _asked(video: Video, contract: Contract, clips: int) -> tuple[PrepareConfig, dict[str, Any]]:
    """How the video is read: what is done to it, and the arguments that clips and windows share."""
    cropped, mute = video.cropped or contract.modalities == "audio", contract.modalities == "vision"
    heard, keep = partial(_check_rate, contract, video.sound or video.path), seen_frames(contract, clips)
    missing = contract.missing if contract.modalities == "both" else ()
    blind = "vision" in missing
    given = {"sound": video.sound, "mute": mute, "cropped": cropped, "keep": keep, "heard": heard, "blind": blind}
    changed: dict[str, Any] = {"no_sound": "silence"} if "audio" in missing else {}
    if video.fps is not None:
        changed["fps"] = _checked(video.fps)
    return contract.prepare.model_copy(update=changed), given


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
    hears = contract.model.fbank[0] * FRAME
    if clip.rate and seconds > _LONG_CLIP_FACTOR * hears:
        yield (
            f"the model hears only the first {hears:.1f} s of {seconds:.1f}; windows hear all of them "
            f"(--window {hears:.0f} --hop 1)"
        )


def seen_frames(contract: Contract, clips: int = 1) -> Keep:
    """The frames of a clip that the model sees, for `read_clip`'s `keep`: no other is cut out and encoded."""
    return lambda count: test_indexes(count, contract.model.frames, clips).ravel().tolist()


def from_clip(clip: ClipData, contract: Contract) -> Inputs:
    """What a backend with this contract is fed with for a clip that was read with `keep=seen_frames(contract)`.

    The crops pass through JPEG as in preparation, so that a file gives the very arrays that its record in a
    store gives, and parity can tell that both ways are one.
    """
    # Without it, bytes differ by 0.7 on average (10 at most) and logits by up to 1e-4 where clips differ by 1e-2
    # (ViT-B, 160 px, 8 clips): no label changes, but no equality is left to check. It takes 10 to 25 ms beside 300 to
    # 800 ms for decoding and faces. What remains is DALI's resizing in training against Pillow's here, as small.
    frames = _seen(clip.jpegs, contract)
    if contract.input == "waveform":
        return *frames, *_samples(clip.waveform, contract)
    return *frames, *_bands(clip.fbank, contract)


def from_record(record: ClipRecord, contract: Contract) -> Inputs:
    """The same for a clip in a store.

    Raises:
        DataError: the model hears samples, which a store does not keep.
    """
    if contract.input == "waveform":
        raise DataError("a store keeps filter banks, but this model hears samples: predict the media files instead")
    chosen = seen_frames(contract)(len(record.jpegs))
    return *_seen([record.jpegs[i] for i in chosen], contract), *_bands(record.fbank, contract)


def empty_clip(contract: Contract) -> Inputs:
    """A clip of black frames and silence."""
    return tuple(np.zeros((1, *shape), kind) for kind, shape in ports.inputs(contract).values())


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


def _seen(jpegs: Sequence[bytes], contract: Contract) -> Inputs:
    if "vision" not in contract.model.modalities:
        return ()
    frames = resize([decode_jpeg(data) for data in jpegs], contract.model.image_size)
    return ((np.zeros_like(frames) if contract.modalities == "audio" else frames)[None],)


def _bands(fbank: np.ndarray, contract: Contract) -> Inputs:
    if "audio" not in contract.model.modalities:
        return ()
    return ((np.full_like(fbank, SILENCE) if contract.modalities == "vision" else fbank)[None, None],)


def _samples(waveform: np.ndarray, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    heard = waveform[: 0 if contract.modalities == "vision" else contract.samples]
    padded = np.zeros((1, contract.samples), np.float32)
    padded[0, : len(heard)] = heard
    return padded, np.array([len(heard)], np.int64)
