"""How fast videos are prepared: our way against the published one, on the same files, on one core each.

    python bench/prepare.py [--clips 3] [--sizes 640x360 1280x720] [--jobs 1 2]

The published way is written down plainly below: every frame is decoded, MTCNN looks for faces in it at full size, one
frame at a time, the square around all of them is cut out and saved as a JPEG file of its own, and the sound is written
as a WAV file. Ours makes a store, with the filter banks in it. A core-second is one core busy for a second; it is what
to compare by where other programs use the machine too.
"""

import argparse
import cProfile
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from common import by_step, machine, on_cores, table
from facenet_pytorch import MTCNN
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import detection
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.sets.toy import write_clip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ

FPS, FRAMES = 25, 65
SETTINGS = PrepareConfig()
AGAIN = 4
"""How often each file is in the table that several processes share, so that all of them have work."""
STEPS = {
    "find the face (MTCNN)": ("mtcnn.py", "detect"),
    "decode H.264, two passes": ("decode.py", "video_frames"),
    "YUV to RGB": ("decode.py", "rgb"),
    "crop and resize": ("detection.py", "crop"),
    "JPEG": ("image.py", "encode_jpeg"),
    "decode AAC": ("audio.py", "beginning"),
    "filter bank": ("fbank.py", "fbank"),
}
"""As `by_step` takes them."""


@dataclass(frozen=True)
class Time:
    """What a piece of work took."""

    seconds: float
    core_seconds: float


# ---------------------------------------------------------------- the files


def make_videos(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """MP4 files, H.264 and AAC, of 2.6 s: a photograph of a person under a camera that moves."""
    from skimage.data import astronaut

    width, height = size
    wide = Image.fromarray(astronaut()).crop((0, 0, 512, 288)).resize((width * 6 // 5, height * 6 // 5))
    picture, paths = np.asarray(wide), []
    for number in range(count):
        rng = np.random.default_rng([number])
        phase = np.linspace(0, 2, FRAMES) + 10 * rng.random()
        x = ((0.5 + 0.5 * np.sin(phase)) * width / 5).astype(int)
        y = ((0.5 + 0.5 * np.cos(2 * phase)) * height / 5).astype(int)
        video = np.stack([picture[b : b + height, a : a + width] for a, b in zip(x, y, strict=True)])
        sound = 0.1 * rng.standard_normal(FRAMES * VOICE_RATE_HZ // FPS).astype(np.float32)
        paths.append(folder / f"{width}x{height}-{number}.mp4")
        write_clip(paths[-1], video, sound, FPS)
    return paths


# ---------------------------------------------------------------- the published way


def published(paths: Sequence[Path], out: Path, mtcnn: Any) -> list[np.ndarray | None]:
    """Videos to folders of JPEG files and WAV files; gives the box around all faces of every frame."""
    boxes = list[np.ndarray | None]()
    for path in paths:
        folder = out / path.stem
        folder.mkdir(parents=True)
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                image = frame.to_ndarray(format="rgb24")
                found, _ = mtcnn.detect(Image.fromarray(image))
                boxes.append(None if found is None else _around(found.astype(np.float64)))
                x0, y0, x1, y1 = _square(boxes[-1], *image.shape[:2])
                Image.fromarray(image[y0:y1, x0:x1]).save(folder / f"{number}.jpg", quality=95)
        _write_wav(path, out / f"{path.stem}.wav")
    return boxes


def _around(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _square(box: np.ndarray | None, height: int, width: int) -> tuple[int, int, int, int]:
    if box is None:
        half = min(height // 2, width // 2) // 2
        return width // 2 - half, height // 2 - half, width // 2 + half, height // 2 + half
    x0, y0, x1, y1 = (int(value) for value in box.round())
    x0, y0 = max(x0, 0), max(y0, 0)
    wider, higher = max(y1 - y0 - x1 + x0, 0) // 2, max(x1 - x0 - y1 + y0, 0) // 2
    return max(x0 - wider, 0), max(y0 - higher, 0), min(x1 + wider, width), min(y1 + higher, height)


def _write_wav(path: Path, out: Path) -> None:
    resampler = av.AudioResampler(format="s16")
    with av.open(str(path)) as container, wave.open(str(out), "wb") as file:
        stream = container.streams.audio[0]
        file.setnchannels(stream.channels)
        file.setsampwidth(2)
        file.setframerate(stream.rate)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                file.writeframes(part.to_ndarray().tobytes())


# ---------------------------------------------------------------- measuring


def timed(work: Callable[[], object]) -> Time:
    """Run it, and say how long that took on the clock and on this process's cores."""
    begin, cores = time.perf_counter(), time.process_time()
    work()
    return Time(time.perf_counter() - begin, time.process_time() - cores)


def clips(paths: Sequence[Path], again: int = 1) -> ClipTable:
    """A table of these videos, each `again` times."""
    sources = [SourceClip(f"{k}-{path.stem}", path, "a", 1) for k in range(again) for path in paths]
    return ClipTable("bench", ("a",), sources)


def compare(paths: Sequence[Path], work: Path, name: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Rows of both ways on one core, and where our time goes."""
    mtcnn, theirs = MTCNN(keep_all=True), list[np.ndarray | None]()
    with on_cores(1):
        ours = timed(lambda: prepare(clips(paths), work / f"{name}.store", SETTINGS))
        plain = timed(lambda: theirs.extend(published(paths, work / name, mtcnn)))
        boxes, steps = profile(paths, work / f"{name}-profiled.store")
    frames = len(paths) * FRAMES
    ratio = plain.core_seconds / ours.core_seconds
    rows = [_row(name, way, frames, spent) for way, spent in (("published", plain), ("ours", ours))]
    same = overlap(boxes, theirs)
    return [(*rows[0], "1.0", ""), (*rows[1], f"{ratio:.1f}", f"{same:.3f}")], steps


def _row(name: str, way: str, frames: int, spent: Time) -> tuple[object, ...]:
    return name, way, frames, f"{frames / spent.seconds:.1f}", f"{frames / spent.core_seconds:.1f}"


def profile(paths: Sequence[Path], out: Path) -> tuple[list[np.ndarray], list[tuple[object, ...]]]:
    """The boxes that our way cuts, without margin, and the core-milliseconds per frame of each step."""
    profiler = cProfile.Profile(time.process_time)  # other programs do not count
    with noted_boxes() as boxes:
        profiler.runcall(prepare, clips(paths), out, SETTINGS)
    spent = by_step(profiler, STEPS)
    per_frame = 1000 / (len(paths) * FRAMES)
    return boxes, [
        (step, f"{seconds * per_frame:.2f}", f"{seconds / sum(spent.values()):.0%}") for step, seconds in spent.items()
    ]


@contextmanager
def noted_boxes() -> Iterator[list[np.ndarray]]:
    """Collect the boxes, in pixels, that faces are cut out by."""
    boxes, crop = list[np.ndarray](), detection.crop

    def noting(image: np.ndarray, box: np.ndarray, size: int, margin: float) -> np.ndarray:
        boxes.append(box * [*image.shape[1::-1], *image.shape[1::-1]])
        return crop(image, box, size, margin)

    detection.crop = noting
    try:
        yield boxes
    finally:
        detection.crop = crop


def overlap(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray | None]) -> float:
    """Mean intersection over union of the boxes of all frames; 0 where one way found none."""
    return float(np.mean([0.0 if b is None else _iou(a, b) for a, b in zip(ours, theirs, strict=True)]))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    common = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


def scale(paths: Sequence[Path], work: Path, jobs: Sequence[int]) -> list[tuple[object, ...]]:
    """Frames per second with so many processes, on as many cores."""
    prepare(clips(paths), work / "warm.store", SETTINGS, 2)  # starts the server that workers are forked from
    rows, first = [], 0.0
    for number in jobs:
        with on_cores(number):
            spent = timed(partial(prepare, clips(paths, AGAIN), work / f"{number}.store", SETTINGS, number))
        rate = len(paths) * AGAIN * FRAMES / spent.seconds
        first = first or rate
        rows.append((number, f"{rate:.1f}", f"{rate / first:.2f}"))
    return rows


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clips", type=int, default=3)
    arguments.add_argument("--sizes", nargs="+", default=["640x360", "1280x720"])
    arguments.add_argument("--jobs", nargs="+", type=int, default=[1, 2])
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        videos = {size: make_videos(work, _size(size), given.clips) for size in given.sizes}
        detection.detector()  # loaded before the clock runs
        found = {size: compare(paths, work, size) for size, paths in videos.items()}
        scaled = scale(videos[given.sizes[0]], work, given.jobs)
    heads = ("size", "way", "frames", "frames/s", "per core-second", "ratio", "IoU of boxes")
    print("\none core\n" + table(heads, [row for rows, _ in found.values() for row in rows]))
    for size, (_, steps) in found.items():
        print(f"\nours at {size}, by cProfile\n" + table(("step", "core-ms per frame", "share"), steps))
    print(f"\nprocesses, at {given.sizes[0]}\n" + table(("jobs", "frames/s", "speed-up"), scaled))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
