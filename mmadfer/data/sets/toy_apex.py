"""A toy set of videos with a short apex: for one second the face does what its class does.

The mouth opens, the brows rise, or both, somewhere in 5.3 s; before and after nothing happens. The voice rises or calms
down whatever the class. All clips have one face and one voice, so that nothing but the apex tells them apart. The names
of the classes are of the field; nobody's emotion is measured here.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmadfer.data.sets import ClipTable, SourceClip, toy
from mmadfer.data.sets.toy_face import TOY_FPS, draw_look, render_face
from mmadfer.data.sets.toy_making import clips_of_classes, make_classes
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ, draw_voice, speak
from mmadfer.utils.files import atomic

APEX_CLASSES = {"happy": (True, False), "sad": (False, True), "surprise": (True, True)}
"""Label -> whether the mouth opens, and whether the brows rise."""
CLIPS_PER_CLASS = 40
FRAMES, APEX_FRAMES = 80, 15
_SEED = 1
_PLAN = {"name": "toy_apex", "version": 1, "seed": _SEED}
_PULSE = 3
"""Widths of a pulse from its start to its end."""


def table(root: Path | str, folds: int = 5) -> ClipTable:
    """The clips under `root`, which are made where they are not there yet; folds have equal shares of the classes.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    make(root)
    clips = [
        SourceClip(_media(root, label, k).stem, _media(root, label, k), label, k % folds + 1)
        for label, k in clips_of_classes(root, _PLAN, APEX_CLASSES)
    ]
    return ClipTable("toy_apex", tuple(APEX_CLASSES), clips)


def make(root: Path, clips_per_class: int = CLIPS_PER_CLASS, jobs: int | None = None) -> None:
    """Make `root/LABEL/ID.mp4`; what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    make_classes(root, _PLAN, clips_per_class, APEX_CLASSES, _make_one, lambda clip: _media(*clip).is_file(), jobs)


def content(label: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Frames uint8 (FRAMES, SIDE, SIDE, 3), sound float32 (samples,), and the frame in which the apex begins."""
    rng = _stream(label, number)
    start = _draw_start(rng)
    centre, width = (start + APEX_FRAMES / 2) / FRAMES, APEX_FRAMES / FRAMES / _PULSE
    mouth, brows = APEX_CLASSES[label]
    same = np.random.RandomState(_SEED)
    look = replace(draw_look(same), mouth=(centre, width, float(mouth)), brows=(centre, width, float(brows)))
    calms = bool(rng.randint(2))
    sound = speak(draw_voice(same), FRAMES * VOICE_RATE_HZ // TOY_FPS, backward=calms, rng=rng)
    return render_face(look, FRAMES, backward=False), sound, start


def apex_start(label: str, number: int) -> int:
    """The frame in which the apex of a clip begins."""
    return _draw_start(_stream(label, number))


def _stream(label: str, number: int) -> np.random.RandomState:
    return np.random.RandomState([_SEED, list(APEX_CLASSES).index(label), number])


def _draw_start(rng: np.random.RandomState) -> int:
    return int(rng.randint(0, FRAMES - APEX_FRAMES + 1))


def _media(root: Path, label: str, number: int) -> Path:
    return root / label / f"{label}-{number:03d}.mp4"


def _make_one(asked: tuple[Path, str, int]) -> None:
    root, label, number = asked
    video, sound, _ = content(label, number)
    with atomic(_media(root, label, number)) as path:
        toy.write_clip(path, video, sound)
