"""A toy set with a value in each frame: one stretch of the voice flips the sign of what the face says.

The mouth opens and the brows fall with a curve x over the clip. The voice is even, but for one stretch of an eighth of
the clip, at a random time, in which it is more excited or calmer. The valence of a frame is x, or -x where it is
calmer. So a frame and the sound of its own time do not tell the sign: every step has to look at that stretch. Face and
voice are always the same ones, so that few clips are enough.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmadfer.data.sets import ClipTable, SourceClip, toy
from mmadfer.data.sets.toy_face import draw_look, render_curves
from mmadfer.data.sets.toy_making import begin_set, clips_begun, make_clips
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ, draw_voice, speak_curve
from mmadfer.data.store.store import writing_store
from mmadfer.data.store.targets import Target
from mmadfer.utils.files import atomic

TARGET = "mood"
CLIPS = 240
FPS = 5
FRAMES = 26
"""5.2 s: as long as the filter bank of 512 frames, so that step k of both is nearly the same moment."""
_SEED = 1
_STRETCH = 1 / 16
"""Half of the stretch, as a share of the clip."""
_PLAN = {"name": "toy_flip", "version": 1, "seed": _SEED}


@dataclass(frozen=True)
class FlipClip:
    """What a clip shows, says and means."""

    video: NDArray[np.uint8]
    """(FRAMES, SIDE, SIDE, 3)."""
    sound: NDArray[np.float32]
    """(FRAMES * VOICE_RATE_HZ / FPS,)."""
    valence: NDArray[np.float32]
    """(FRAMES, 1) in [-1, 1]."""


def table(root: Path | str, folds: int = 5) -> ClipTable:
    """The clips under `root`, which are made where they are not there yet.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    make(root)
    names = [_name(k) for k in range(clips_begun(root, _PLAN, "clips"))]
    clips = [
        SourceClip(name, _media(root, name), "", k % folds + 1, tensors={TARGET: _trace(root, name)})
        for k, name in enumerate(names)
    ]
    return ClipTable("toy_flip", (), clips, targets={TARGET: Target("steps", ("valence",))})


def make(root: Path, clips: int = CLIPS, jobs: int | None = None) -> None:
    """Make `root/clips/ID.mp4` and `root/traces/ID.npy`; what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    with writing_store(root):
        count = begin_set(root, _PLAN, "clips", clips)
        make_clips(partial(_make_one, root), range(count), lambda k: _media(root, _name(k)).is_file(), jobs)


def _make_one(root: Path, number: int) -> None:
    """The trace first: a clip that is there has one."""
    name, clip = _name(number), content(number)
    with atomic(_trace(root, name)) as path, path.open("wb") as file:
        np.save(file, clip.valence)
    with atomic(_media(root, name)) as path:
        toy.write_clip(path, clip.video, clip.sound, FPS)


def _name(number: int) -> str:
    return f"flip-{number:03d}"


def _media(root: Path, name: str) -> Path:
    return root / "clips" / f"{name}.mp4"


def _trace(root: Path, name: str) -> Path:
    return root / "traces" / f"{name}.npy"


def content(number: int) -> FlipClip:
    """A clip, by its number alone."""
    rng = np.random.RandomState([_SEED, number])
    time = (np.arange(FRAMES) + 0.5) / FRAMES
    x = rng.uniform(0.7, 1) * np.sin(2 * np.pi * (rng.uniform(1, 2.5) * time + rng.uniform()))
    sign, middle = rng.choice([-1.0, 1.0]), rng.uniform(2 * _STRETCH, 1 - 2 * _STRETCH)
    same = np.random.RandomState(_SEED)
    video = render_curves(draw_look(same), brows=(1 - x) / 2, mouth=(1 + x) / 2)
    samples = FRAMES * VOICE_RATE_HZ // FPS
    sound = speak_curve(draw_voice(same), samples, lambda share: 0.5 + 0.5 * sign * _bump(share, middle), rng)
    return FlipClip(video, sound, (sign * x).astype(np.float32)[:, None])


def _bump(share: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """1 in the stretch, 0 elsewhere, with soft edges; `share` is the time as a share of the clip."""
    return 1 / (1 + np.exp((np.abs(share - middle) - _STRETCH) / (_STRETCH / 8)))
