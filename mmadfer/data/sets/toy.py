"""The toy set: small real videos whose class needs both modalities and their order in time.

A face raises its brows and opens its mouth, in one order or the other; a voice grows excited or calms down. The
four pairs of orders are the four classes. Each order has the same distribution of frames and of spectra as its reverse,
so a bag of frames or a mean spectrum tells nothing, and one modality alone leaves two classes to choose from. The
names of the classes are of the field; nobody's emotion is measured here.
"""

from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.sets.toy_face import TOY_FPS, draw_look, render_face
from mmadfer.data.sets.toy_making import PLAN, check_folder, make_clips
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ, draw_voice, speak
from mmadfer.data.store.store import writing_store
from mmadfer.errors import DataError, FileError
from mmadfer.utils.files import atomic, read_json, read_object, write_json

TOY = "toy"
TOY_CLASSES = {"happy": (True, False), "sad": (True, True), "angry": (False, True), "surprise": (False, False)}
"""Label -> (mouth before brows, voice calms down)."""
MANIFEST = "manifest.json"
"""Written last: where it is, the set is whole."""
_TOY_VERSION = 2
"""Raised whenever the same seed would give other clips."""
_CLIP_FRAMES = (42, 48)
"""Fewest and most frames of a clip: 2.8 to 3.2 s."""
X264 = {"crf": "18", "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
"""Without look-ahead: with it, two or three files of twelve came out other than their twins."""
_BLOCK = 1024
"""Samples that the AAC encoder takes at once."""


@dataclass(frozen=True)
class Plan:
    """All that decides what the clips of a toy set hold."""

    clips_per_class: int = 50
    seed: int = 1
    version: int = _TOY_VERSION


@dataclass(frozen=True)
class _ClipToMake:
    """One clip to make: its file, class and number within the class."""

    media: Path
    label: str
    number: int
    seed: int


def table(root: Path | str, folds: int = 5) -> ClipTable:
    """The clips under `root`; where there is no whole set yet, it is made (with the default plan, or the one begun).

    Folds are numbered from 1, each with the same share of every class.

    Raises:
        DataError: `root` holds something that is not a toy set, or a set of another version.
    """
    root = Path(root)
    begun = _plan(root)
    make(root, **({"clips_per_class": begun.clips_per_class, "seed": begun.seed} if begun else {}))
    listed = read_json(root / MANIFEST)
    clips = [SourceClip(c["id"], root / c["media"], c["label"], c["number"] % folds + 1) for c in listed["clips"]]
    return ClipTable(TOY, tuple(listed["labels"]), clips)


def make(root: Path | str, clips_per_class: int = 50, seed: int = 1, jobs: int | None = None) -> Path:
    """Make the set as `root/<label>/<id>.mp4` and return its manifest; a whole set is left as it is.

    Each clip is published by a rename and the manifest comes last, so a broken-off call goes on where it was.
    `jobs` processes work at once, by default one for each core.

    Raises:
        DataError: `root` holds another set or something else.
    """
    root, plan = Path(root), Plan(clips_per_class, seed)
    _check(root, plan)
    if (root / MANIFEST).is_file():
        return root / MANIFEST
    with writing_store(root):
        write_json(root / PLAN, asdict(plan))
        clips = _jobs(root, plan)
        make_clips(_make, clips, lambda clip: clip.media.is_file(), jobs)
        write_json(root / MANIFEST, _manifest(root, plan, clips))
    return root / MANIFEST


def _check(root: Path, plan: Plan) -> None:
    begun = _plan(root)
    check_folder(root, TOY)
    if begun not in (None, plan):
        raise DataError(
            f"{root} holds another toy set ({begun}) than the one asked for ({plan}): "
            "choose another folder, or delete this one"
        )
    if plan.clips_per_class < 1 or plan.seed < 0:
        raise DataError(f"a toy set needs clips_per_class >= 1 and seed >= 0, not {plan}")


def _plan(root: Path) -> Plan | None:
    path = root / PLAN
    if not path.is_file():
        return None
    try:
        return Plan(**read_object(path))
    except (FileError, TypeError) as error:
        raise DataError(
            f"{path} is not a toy set's plan ({error}): choose another folder, or delete this one"
        ) from error


def _jobs(root: Path, plan: Plan) -> list[_ClipToMake]:
    return [
        _ClipToMake(root / label / f"{label}-{number:03d}.mp4", label, number, plan.seed)
        for label, number in product(TOY_CLASSES, range(plan.clips_per_class))
    ]


def _manifest(root: Path, plan: Plan, jobs: list[_ClipToMake]) -> dict[str, Any]:
    clips = [
        {"id": job.media.stem, "media": str(job.media.relative_to(root)), "label": job.label, "number": job.number}
        for job in jobs
    ]
    return {"name": TOY, "plan": asdict(plan), "labels": list(TOY_CLASSES), "clips": clips}


def _make(job: _ClipToMake) -> None:
    """Make one clip; its content depends on the seed, the class and the number only."""
    video, sound = content(job.label, job.number, job.seed)
    with atomic(job.media) as path:
        write_clip(path, video, sound)


def content(label: str, number: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames uint8 (n, SIDE, SIDE, 3) at TOY_FPS, and sound float32 (n * VOICE_RATE_HZ / TOY_FPS,) of one clip."""
    rng = np.random.RandomState([seed, list(TOY_CLASSES).index(label), number])
    frames = int(rng.randint(_CLIP_FRAMES[0], _CLIP_FRAMES[1] + 1))
    mouth_first, calms = TOY_CLASSES[label]
    video = render_face(draw_look(rng), frames, backward=mouth_first)
    return video, speak(draw_voice(rng), frames * VOICE_RATE_HZ // TOY_FPS, backward=calms, rng=rng)


def write_clip(path: Path, video: NDArray[np.uint8], sound: NDArray[np.float32], fps: int = TOY_FPS) -> None:
    """Write an MP4 file, H.264 and AAC, on one thread, so that the bytes are the same every time.

    `video` and `sound` as `content` gives them; pictures may have any even height and width, and `fps` any rate.
    """
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        picture = file.add_stream("libx264", rate=fps, options=X264)
        picture.width, picture.height, picture.pix_fmt = video.shape[2], video.shape[1], "yuv420p"
        voice = file.add_stream("aac", rate=VOICE_RATE_HZ, layout="mono")
        voice.bit_rate = 64000
        for image in video:
            file.mux(picture.encode(av.VideoFrame.from_ndarray(to_yuv(image), "yuv420p")))
        file.mux(picture.encode(None))
        for start in range(0, len(sound), _BLOCK):
            block = av.AudioFrame.from_ndarray(sound[None, start : start + _BLOCK], "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = VOICE_RATE_HZ, start, Fraction(1, VOICE_RATE_HZ)
            file.mux(voice.encode(block))
        file.mux(voice.encode(None))


def to_yuv(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) to the planes of yuv420p (H * 3 / 2, W), BT.601, in integers.

    FFmpeg's own conversion rounds differently from one process to the next.
    """
    height, width = image.shape[:2]
    rgb = image.astype(np.int32)
    luma = (rgb @ (66, 129, 25) + 128 >> 8) + 16
    small = rgb.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3))
    chroma = [(small @ row + 512 >> 10) + 128 for row in ((-38, -74, 112), (112, -94, -18))]
    return np.concatenate([luma.ravel(), *(plane.ravel() for plane in chroma)]).astype(np.uint8).reshape(-1, width)
