"""A toy set of drawn faces whose action units are moved by hand; where their 68 landmarks are is known exactly.

A face raises or lowers its brows, opens its mouth, lifts or drops its corners, as its class does, more and more over
the clip. Place, size, tilt and habits of a face differ from clip to clip, and shapes lie all around it. There is no
sound. The names of the classes are of the field; nobody's emotion is measured here.

    root/LABEL/ID/00.jpg …   the frames, which show nothing but the face and what is around it
    root/landmarks/ID.npy    float16 (FRAMES, 68, 2), x and y in pixels
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmadfer.data.faces.landmarks68 import GROUPS, TENSOR
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.data.sets.toy_making import clips_of_classes, make_classes
from mmadfer.utils.files import atomic

UNITS_CLASSES = {
    "happy": (0.0, 0.03, 0.14),
    "sad": (0.06, 0.0, -0.12),
    "surprise": (0.14, 0.18, 0.0),
    "angry": (-0.12, 0.02, 0.0),
    "neutral": (0.0, 0.0, 0.0),
}
"""Label -> how far brows go up, the mouth opens and its corners go up, in sizes of the face."""
CLIPS_PER_CLASS = 40
FRAMES, SIDE = 8, 64
_SEED = 1
_FINER = 4
"""How many times as large pictures are drawn as they are kept."""
_PLAN = {"name": "toy_units", "version": 1, "seed": _SEED}
Color = tuple[int, int, int]


def table(root: Path | str, folds: int = 5) -> ClipTable:
    """The clips under `root`, which are made where they are not there yet; folds have equal shares of the classes.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    make(root)
    clips = [
        SourceClip(
            _media(root, label, k).name,
            _media(root, label, k),
            label,
            k % folds + 1,
            cropped=True,
            tensors={TENSOR: _points(root, label, k)},
        )
        for label, k in clips_of_classes(root, _PLAN, UNITS_CLASSES)
    ]
    return ClipTable("toy_units", tuple(UNITS_CLASSES), clips)


def make(root: Path, clips_per_class: int = CLIPS_PER_CLASS, jobs: int | None = None) -> None:
    """Make the clips; what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    make_classes(root, _PLAN, clips_per_class, UNITS_CLASSES, _make_one, lambda clip: _points(*clip).is_file(), jobs)


def content(label: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Frames uint8 (FRAMES, SIDE, SIDE, 3), and landmarks (FRAMES, 68, 2) in pixels."""
    rng = np.random.RandomState([_SEED, list(UNITS_CLASSES).index(label), number])
    place = (*rng.uniform(0.47, 0.53, 2) * SIDE - (0, 0.06 * SIDE), rng.uniform(0.34, 0.38) * SIDE, rng.uniform(-5, 5))
    habit, shown = rng.normal(0, 0.012, 3), np.linspace(rng.uniform(0.5, 0.8), 1, FRAMES)
    brow, mouth, corners = np.outer(UNITS_CLASSES[label], shown) + habit[:, None]
    faces = [unit_points(max(m, -0.03), b, c) for b, m, c in zip(brow, mouth, corners, strict=True)]
    points = np.stack([placed(face, *place) for face in faces])
    ground, skin = _shapes(rng), _color(rng, 180, 220)
    return np.stack([_drawn(ground, skin, face) for face in points]), points.astype(np.float16)


def _color(rng: np.random.RandomState, low: int, high: int) -> Color:
    red, green, blue = rng.randint(low, high, 3).tolist()
    return red, green, blue


def _shapes(rng: np.random.RandomState) -> Image.Image:
    """What is around the face."""
    picture = Image.new("RGB", (SIDE * _FINER, SIDE * _FINER), _color(rng, 40, 160))
    pen = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y = rng.uniform(0, SIDE * _FINER, 2)
        w, h = rng.uniform(2, 12, 2) * _FINER
        pen.ellipse((x - w, y - h, x + w, y + h), outline=_color(rng, 0, 255), fill=_color(rng, 0, 255), width=6)
    return picture


def _drawn(ground: Image.Image, skin: Color, points: np.ndarray) -> NDArray[np.uint8]:
    """A face on its ground, uint8 (SIDE, SIDE, 3)."""
    picture, parts = ground.copy(), {name: points[list(at)] * _FINER for name, at in GROUPS.items()}
    pen, dark = ImageDraw.Draw(picture), (40, 25, 20)
    pen.polygon(_xy(_outline(parts["jaw"])), fill=skin)
    for name in ("left_brow", "right_brow"):
        pen.line(_xy(parts[name]), fill=dark, width=2 * _FINER, joint="curve")
    pen.line(_xy(parts["nose_bridge"]), fill=dark, width=_FINER // 2)
    pen.line(_xy(parts["nostrils"]), fill=dark, width=_FINER // 2)
    for name in ("left_eye", "right_eye"):
        pen.polygon(_xy(parts[name]), fill=(245, 245, 245), outline=dark)
        x, y = parts[name].mean(axis=0)
        pen.ellipse((x - _FINER, y - _FINER, x + _FINER, y + _FINER), fill=dark)
    pen.polygon(_xy(parts["outer_lips"]), fill=(170, 50, 60), outline=dark)
    pen.polygon(_xy(parts["inner_lips"]), fill=dark)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def _outline(jaw: np.ndarray) -> np.ndarray:
    """The jaw, closed by half an ellipse over the brows."""
    left, right, chin = jaw[0], jaw[-1], jaw[8]
    middle, across = (left + right) / 2, (right - left) / 2
    turn = np.linspace(0, np.pi, 13)[1:-1, None]
    up = (middle - chin) * 0.9
    closed: np.ndarray = np.concatenate([jaw, middle + across * np.cos(turn) + up * np.sin(turn)])
    return closed


def _xy(points: np.ndarray) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def _media(root: Path, label: str, number: int) -> Path:
    return root / label / f"{label}-{number:03d}"


def _points(root: Path, label: str, number: int) -> Path:
    return root / "landmarks" / f"{label}-{number:03d}.npy"


def write_frames(folder: Path, frames: NDArray[np.uint8]) -> None:
    """Write frames uint8 (T, H, W, 3) as pictures that are numbered from 00.jpg on."""
    for k, frame in enumerate(frames):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95)
        with atomic(folder / f"{k:02d}.jpg") as path:
            path.write_bytes(buffer.getvalue())


def _make_one(asked: tuple[Path, str, int]) -> None:
    """The landmarks last: where they are, the clip is whole."""
    frames, points = content(*asked[1:])
    write_frames(_media(*asked), frames)
    with atomic(_points(*asked)) as path, path.open("wb") as file:
        np.save(file, points)
