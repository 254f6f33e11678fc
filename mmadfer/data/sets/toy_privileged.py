"""A toy set with privileged sound: the voice tells the class cleanly, and the face alone tells it noisily.

Every clip has an arousal in [0, 1], of which its label is the fifth that it lies in. The voice is as excited as that.
The mouth is as open and the brows as low as it is, each with an error of its own that stays for the whole clip. So a
model of both knows the arousal itself, and a model of faces has to learn it from few clips with errors in them: what
the voice says of two clips of one label, or of neighbouring ones, is more than their labels do. Looks differ between
clips, and all have one voice. The names of the labels are of the field; nobody's emotion is measured here.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmadfer.data.sets import ClipTable, SourceClip, toy
from mmadfer.data.sets.toy_face import draw_look, render_curves
from mmadfer.data.sets.toy_making import begin_set, clips_begun, make_clips
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ, draw_voice, speak_curve
from mmadfer.data.store.store import writing_store
from mmadfer.utils.files import atomic

AROUSAL = ("very low", "low", "medium", "high", "very high")
"""Labels, by rising arousal."""
CLIPS = 360
FPS, FRAMES = 5, 6
ERROR = 0.2
"""Deviation of what mouth and brows show from the arousal, each by itself."""
_SEED = 1
_PLAN = {"name": "toy_privileged", "version": 1, "seed": _SEED}


def table(root: Path | str, folds: int = 2) -> ClipTable:
    """The clips under `root`, which are made where they are not there yet; folds have equal shares of the labels.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    make(root)
    clips = [
        SourceClip(_media(root, k).stem, _media(root, k), label_of(k), k // len(AROUSAL) % folds + 1)
        for k in range(clips_begun(root, _PLAN, "clips"))
    ]
    return ClipTable("toy_privileged", AROUSAL, clips)


def make(root: Path, clips: int = CLIPS, jobs: int | None = None) -> None:
    """Make `root/clips/ID.mp4`; what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    with writing_store(root):
        count = begin_set(root, _PLAN, "clips", clips)
        make_clips(partial(_make_one, root), range(count), lambda k: _media(root, k).is_file(), jobs)


def label_of(number: int) -> str:
    """The label of a clip, by its number."""
    return AROUSAL[number % len(AROUSAL)]


def content(number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """Frames uint8 (FRAMES, SIDE, SIDE, 3), sound float32 (samples,), and the arousal; by the clip's number alone."""
    rng = np.random.RandomState([_SEED, number])
    arousal = float((number % len(AROUSAL) + rng.uniform()) / len(AROUSAL))
    mouth, brows = np.clip(arousal + rng.normal(0, ERROR, 2), 0, 1)
    look, voice = draw_look(rng), draw_voice(np.random.RandomState(_SEED))
    video = render_curves(look, brows=np.full(FRAMES, 1 - brows), mouth=np.full(FRAMES, mouth))
    samples = FRAMES * VOICE_RATE_HZ // FPS
    sound = speak_curve(voice, samples, lambda time: np.full_like(time, arousal), rng)
    return video, sound, arousal


def _media(root: Path, number: int) -> Path:
    return root / "clips" / f"privileged-{number:03d}.mp4"


def _make_one(root: Path, number: int) -> None:
    video, sound, _ = content(number)
    with atomic(_media(root, number)) as path:
        toy.write_clip(path, video, sound, FPS)
