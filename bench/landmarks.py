"""How good landmarks are without hand-made ones: what changes them, and how far they are from other programs' points.

    python bench/landmarks.py [PHOTOGRAPH ...] [--nothing 400] [--crops FILE.npy] [--against NAME=FILE.npy ...]

Faces are those that MTCNN finds in the photographs with a probability of 0.9; without any named, in scikit-image's
`astronaut` and matplotlib's `grace_hopper.jpg` (both public domain). They are cut out as preparation does, 224 pixels
wide. All distances are in distances of the eyes' middles. `--crops` writes the crops, uint8 (faces, 224, 224, 3), for
another program; `--against` reads its points of them, (faces, 68, 2) in pixels, NaN where it has none.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from common import machine, table
from PIL import Image, ImageFilter

from mmadfer.data.faces import detection
from mmadfer.data.faces.landmarks import Landmarks, find_landmarks
from mmadfer.data.faces.landmarks68 import GROUPS, MIRROR

SIDE = 224
NOTHING = (
    "brick", "cat", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Pictures of scikit-image without a human face."""
MTCNN_POINTS = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))
"""Landmarks whose mean is each of MTCNN's five points: eyes, tip of the nose, corners of the mouth."""

Change = Callable[[Image.Image], tuple[Image.Image, Callable[[np.ndarray], np.ndarray]]]
"""A crop to a changed one, and points of the changed one to where they were."""


def photographs(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """uint8 RGB, at most 640 pixels wide and high."""
    for path in paths or _own():
        image = Image.open(path).convert("RGB")
        image.thumbnail((640, 640))
        yield np.asarray(image)


def _own() -> list[Path]:
    import matplotlib
    import skimage.data

    sample = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return [Path(skimage.data.__file__).parent / "astronaut.png", sample]


def faces(paths: Sequence[Path]) -> tuple[list[np.ndarray], np.ndarray]:
    """Crops uint8 (SIDE, SIDE, 3), and MTCNN's five points in them (faces, 5, 2)."""
    from facenet_pytorch import MTCNN

    mtcnn, crops, points = MTCNN(keep_all=True), list[np.ndarray](), list[np.ndarray]()
    for image in photographs(paths):
        size = np.array(image.shape[1::-1])
        (found,) = detection.detect([image])
        for box in found[found[:, 4] >= 0.9, :4]:
            x0, y0, x1, y1 = box * np.tile(size, 2)
            half = max(x1 - x0, y1 - y0) * 1.2 / 2
            corner = np.array([(x0 + x1) / 2 - half, (y0 + y1) / 2 - half])
            crops.append(detection.crop(image, box, SIDE, 0.2))
            points.append((_nearest(mtcnn, image, (box[:2] + box[2:]) / 2 * size) - corner) * SIDE / (2 * half))
    return crops, np.stack(points)


def _nearest(mtcnn: object, image: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Five points of the face whose box is around this place."""
    boxes, _, points = mtcnn.detect(image, landmarks=True)  # type: ignore[attr-defined]
    centres = (boxes[:, :2] + boxes[:, 2:]).astype(float) / 2
    return np.asarray(points[np.linalg.norm(centres - middle, axis=1).argmin()], np.float64)


def eyes_apart(points: np.ndarray) -> float:
    """Pixels between the middles of the eyes, of (68, 2)."""
    left, right = (points[[*GROUPS[name]]].mean(axis=0) for name in ("left_eye", "right_eye"))
    return float(np.linalg.norm(right - left))


def _placed(matrix: np.ndarray, offset: np.ndarray) -> Change:
    """Each pixel of the changed crop is read at matrix @ (x, y) + offset."""

    def change(image: Image.Image) -> tuple[Image.Image, Callable[[np.ndarray], np.ndarray]]:
        (a, b), (d, e) = matrix
        around = Image.fromarray(np.pad(np.asarray(image), ((SIDE, SIDE), (SIDE, SIDE), (0, 0)), mode="edge"))
        data = (a, b, offset[0] + SIDE, d, e, offset[1] + SIDE)
        seen = around.transform((SIDE, SIDE), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        return seen, lambda points: points @ matrix.T + offset

    return change


def _around_centre(matrix: np.ndarray) -> Change:
    centre = np.full(2, SIDE / 2)
    return _placed(matrix, centre - matrix @ centre)


def _turned(degrees: float) -> Change:
    a = np.deg2rad(degrees)
    return _around_centre(np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]))


def _same_place(change: Callable[[Image.Image], Image.Image]) -> Change:
    return lambda image: (change(image), lambda points: points)


def _mirrored(image: Image.Image) -> tuple[Image.Image, Callable[[np.ndarray], np.ndarray]]:
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return flipped, lambda points: points[[*MIRROR]] * (-1, 1) + (SIDE, 0)


def _compressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return _same_place(change)


def _noisy(deviation: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        noise = np.random.default_rng(0).normal(0, deviation, (SIDE, SIDE, 3))
        return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))

    return _same_place(change)


def _small(side: int) -> Change:
    shrunk, grown = Image.Resampling.BOX, Image.Resampling.BICUBIC
    return _same_place(lambda image: image.resize((side, side), shrunk).resize((SIDE, SIDE), grown))


def _dark(factor: float) -> Change:
    return _same_place(lambda image: image.point(lambda value: round(factor * value)))


CHANGES: dict[str, Change] = {
    "mirrored": _mirrored,
    "turned by 10 degrees": _turned(10),
    "turned by 30 degrees": _turned(30),
    "crop 20 % wider": _around_centre(1.2 * np.eye(2)),
    "crop 20 % narrower": _around_centre(0.8 * np.eye(2)),
    "moved by 10 % of the crop": _placed(np.eye(2), np.array([0.1 * SIDE, 0.1 * SIDE])),
    "noise, deviation 10 of 255": _noisy(10),
    "noise, deviation 25 of 255": _noisy(25),
    "JPEG quality 50": _compressed(50),
    "JPEG quality 15": _compressed(15),
    "of 64 pixels": _small(64),
    "of 32 pixels": _small(32),
    "blurred, deviation 3 pixels": _same_place(lambda image: image.filter(ImageFilter.GaussianBlur(3))),
    "a quarter of the light": _dark(0.25),
}


def consistency(crops: Sequence[np.ndarray], found: Sequence[Landmarks]) -> Iterator[list[str]]:
    """One row for each change: how far points move, and how many faces still have reliable landmarks."""
    for name, change in CHANGES.items():
        moved, kept = list[float](), 0
        for crop, before in zip(crops, found, strict=True):
            image, back = change(Image.fromarray(crop))
            after = find_landmarks(np.asarray(image))
            kept += after.reliable
            apart = np.linalg.norm(back(after.points) - before.points, axis=1).mean() / eyes_apart(before.points)
            moved += [float(apart)] if after.reliable else []
        yield [name, *_spread(moved), f"{kept}/{len(crops)}"]


def distances(found: Sequence[Landmarks], mtcnn: np.ndarray, against: dict[str, np.ndarray]) -> Iterator[list[str]]:
    """One row for each other source of points and part of the face."""
    ours = np.stack([one.points for one in found]).astype(np.float64)
    apart = np.array([eyes_apart(one) for one in ours])[:, None]
    for k, name in enumerate(("left eye", "right eye", "tip of the nose", "left corner", "right corner")):
        at = ours[:, slice(*MTCNN_POINTS[k])].mean(axis=1)
        yield [f"MTCNN, {name}", *_spread((np.linalg.norm(at - mtcnn[:, k], axis=1) / apart[:, 0]).tolist()), ""]
    for source, theirs in against.items():
        there = np.isfinite(theirs).all(axis=(1, 2))
        away = np.linalg.norm(ours - theirs, axis=2)[there] / apart[there]
        parts = {"all": range(68), "all but the jaw": range(17, 68), **GROUPS}
        for part, group in parts.items():
            name = f"{source}, {part.replace('_', ' ')}"
            yield [name, *_spread(away[:, [*group]].mean(axis=1).tolist()), f"{there.sum()}/{len(ours)}"]


def _spread(values: Sequence[float]) -> list[str]:
    some = np.array(values or [np.nan])
    return [f"{value:.3f}" for value in (some.mean(), np.median(some), np.quantile(some, 0.95))]


def nothing(count: int) -> list[Landmarks]:
    """Of squares of pictures without a face."""
    import skimage.data

    rng, found = np.random.default_rng(0), list[Landmarks]()
    for k in range(count):
        image = np.asarray(Image.fromarray(getattr(skimage.data, NOTHING[k % len(NOTHING)])()).convert("RGB"))
        side = int(rng.integers(50, min(image.shape[:2])))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        part = Image.fromarray(image[y : y + side, x : x + side]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        found.append(find_landmarks(np.asarray(part)))
    return found


def run() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="*")
    parser.add_argument("--nothing", type=int, default=400)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--against", nargs="*", default=[], metavar="NAME=FILE.npy")
    given = parser.parse_args()
    print(machine())
    crops, mtcnn = faces(given.photographs)
    if given.crops:
        np.save(given.crops, np.stack(crops))
    find_landmarks(crops[0])  # loads the network
    start = time.process_time()
    found = [find_landmarks(crop) for crop in crops]
    each = 1000 * (time.process_time() - start) / len(crops)
    reliable, lowest = sum(one.reliable for one in found), min(one.score for one in found)
    print(f"{len(crops)} faces, {reliable} reliable, {each:.0f} ms of CPU time each; lowest score {lowest:.4f}")
    heads = ("mean", "median", "95 %")
    against = {name: np.load(file) for name, _, file in (text.partition("=") for text in given.against)}
    print(table(["distance from", *heads, "faces"], distances(found, mtcnn, against)))
    print(table(["moved by", *heads, "reliable"], consistency(crops, found)))
    taken = [one for one in nothing(given.nothing) if one.reliable]
    print(f"{len(taken)} of {given.nothing} squares without a face have reliable landmarks")


if __name__ == "__main__":
    run()
