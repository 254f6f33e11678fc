"""A toy set of people who each show the same thing in a way of their own: shifted, or turned.

A class is a direction in a plane whose axes are how bright the light is, and how wide the mouth is open and how excited
the voice is: frozen encoders with random weights see the one and hear the other. A clip shows a point in that
direction, with an error of its own. In `toy_subjects` all points of a person are shifted by a vector of their own; in
`toy_subjects_turned` they are turned around the middle by an angle of their own, after which all classes together look
nearly the same: clips without labels hardly say by how much. All have the same face and voice, for a model that knows
seven people tells new faces and voices from none of them; but the light of each person has a cast of its own, by which
a clip shows whose it is. Without it (`CAST` 0), the same clip is of one class by one person and of another by another:
no model of clips can be right about both, so that adapting to the one has to forget the other. The names of the labels
are of the field; nobody's emotion is measured here.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmadfer.data.sets import ClipTable, SourceClip, toy
from mmadfer.data.sets.toy_face import draw_look, render_curves
from mmadfer.data.sets.toy_making import begin_set, clips_begun, make_clips
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ, draw_voice, speak_curve
from mmadfer.data.store.store import writing_store
from mmadfer.utils.files import atomic

LABELS = ("surprise", "happy", "calm", "sad")
"""Bright; mouth open; dark; mouth closed: a quarter of a turn each."""
PEOPLE = 8
CLIPS = 12
"""Of each person and class."""
FPS, FRAMES = 5, 6
RADIUS, ERROR, SHIFT, TURN = 0.25, 0.05, 0.25, np.pi / 2
"""Of the directions, and of a clip's error; the largest shift along an axis, and turn, of a person."""
DARK, BRIGHT = 0.3, 1.2
"""Factors of the light at the ends of its axis."""
CAST = 0.3
"""How much more or less of a colour a person's light has at most."""
_SEED = 1
_COUNT = "clips_of_each_person_and_class"
Clip = tuple[int, int, int]
"""Person, class and number."""


def table(root: Path | str, folds: int = 4) -> ClipTable:
    """The clips of shifted people under `root`, which are made where they are not there yet; nobody is in two folds.

    Raises:
        DataError: `root` holds something else.
    """
    return _table(Path(root), folds, turned=False)


def turned(root: Path | str, folds: int = 4) -> ClipTable:
    """The same of turned people."""
    return _table(Path(root), folds, turned=True)


def _table(root: Path, folds: int, turned: bool) -> ClipTable:
    make(root, turned=turned)
    clips = [
        SourceClip(_media(root, clip).stem, _media(root, clip), LABELS[clip[1]], clip[0] % folds + 1, _person(clip[0]))
        for clip in _clips(clips_begun(root, _plan(turned), _COUNT))
    ]
    return ClipTable(_name(turned), LABELS, clips)


def make(root: Path, clips: int = CLIPS, jobs: int | None = None, turned: bool = False) -> None:
    """Make `root/PERSON/ID.mp4`; what is there is left as it is, and a set begun is finished.

    Args:
        root: the folder.
        clips: of each person and class.
        jobs: processes, by default one for each core.
        turned: whether people are turned, not shifted.

    Raises:
        DataError: `root` holds something else.
    """
    with writing_store(root):
        count = begin_set(root, _plan(turned), _COUNT, clips)
        make_clips(partial(_make_one, root, turned), [*_clips(count)], lambda k: _media(root, k).is_file(), jobs)


def point(clip: Clip, turned: bool) -> tuple[float, float]:
    """What a clip shows, each in [0, 1]: how bright the light is, and how open the mouth and excited the voice."""
    person, label, number = clip
    own = np.random.RandomState([_SEED, person])
    shift, turn = own.uniform(-SHIFT, SHIFT, 2), own.uniform(-TURN, TURN)
    angle = 2 * np.pi * label / len(LABELS) + turn * turned
    error = np.random.RandomState([_SEED, person, label, number]).normal(0, ERROR, 2)
    x, y = 0.5 + RADIUS * np.array([np.cos(angle), np.sin(angle)]) + shift * (not turned) + error
    return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))


def content(clip: Clip, turned: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames uint8 (FRAMES, SIDE, SIDE, 3), and sound float32 (samples,)."""
    light, mouth = point(clip, turned)
    own = np.random.RandomState([_SEED, PEOPLE])
    look, voice = replace(draw_look(own), gain=DARK + (BRIGHT - DARK) * light), draw_voice(own)
    video = render_curves(look, brows=np.zeros(FRAMES), mouth=np.full(FRAMES, mouth))
    video = np.clip(video * cast(clip[0]), 0, 255).astype(np.uint8)
    rng = np.random.RandomState([_SEED, *clip, 1])
    sound = speak_curve(voice, FRAMES * VOICE_RATE_HZ // FPS, lambda time: np.full_like(time, mouth), rng)
    return video, sound


def cast(person: int) -> NDArray[np.float64]:
    """Factors of red, green and blue of a person's light, float64 (3,), whose mean is 1."""
    factors = 1 + np.random.RandomState([_SEED, person, 0]).uniform(-CAST, CAST, 3)
    return np.asarray(factors / factors.mean())


def _name(turned: bool) -> str:
    return "toy_subjects_turned" if turned else "toy_subjects"


def _plan(turned: bool) -> dict[str, object]:
    return {"name": _name(turned), "version": 2, "seed": _SEED}


def _clips(count: int) -> Iterator[Clip]:
    return product(range(PEOPLE), range(len(LABELS)), range(count))


def _person(number: int) -> str:
    return f"person-{number + 1}"


def _media(root: Path, clip: Clip) -> Path:
    person, label, number = clip
    return root / _person(person) / f"{_person(person)}-{LABELS[label]}-{number:02d}.mp4"


def _make_one(root: Path, turned: bool, clip: Clip) -> None:
    with atomic(_media(root, clip)) as path:
        toy.write_clip(path, *content(clip, turned), FPS)
