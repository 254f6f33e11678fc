"""How long after the last picture of a live window its prediction is there.

    OMP_NUM_THREADS=1 python bench/live.py [--seconds 30] [--full] [--width 640] [--height 480]

A source gives pictures and sound at their own times: the pictures of toy videos, 25 in a second, one video after the
other, and their sound in pieces of 20 ms. Each window of 5 s every second is predicted by a model of random weights
exported to ONNX: the tests' tiny one, and with --full MMA-DFER as published, at 160 pixels. Told are seconds from the
last picture of a window, as it was given, until the prediction is there; a window is over with the first item behind
it. Windows that are left out have no delay. With --full also in int8, calibrated on other toy videos.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _forms import Missing, made, run, toy_store
from common import machine, table
from PIL import Image

from mmadfer.data.media.decode import SoundTrack, video_frames
from mmadfer.data.sets import toy
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import read_contract
from mmadfer.runtime import LiveFrame, LiveSound, Recogniser

FPS, PIECE = 25, 0.02
"""Pictures per second, and seconds of a piece of sound."""
WINDOW, HOP = 5.0, 1.0
PRECISIONS = {"float32": "fp32", "int8": "int8"}
CALIBRATING = 8
"""Toy clips that int8 is calibrated with."""


def main() -> None:
    """Make, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--full", action="store_true", help="also the model of the paper's size")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    given = parser.parse_args()
    print(
        machine(), f"{torch.get_num_threads()} threads, pictures {given.width} x {given.height}", sep="\n", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="bench-live-") as name:
        work = Path(name)
        images, sound, rate = media(work, (given.width, given.height))
        models = {"tiny, float32": (True, "fp32")}
        if given.full:
            models |= {f"MMA-DFER, 160 px, {name}": (False, kind) for name, kind in PRECISIONS.items()}
        rows = list[list[str]]()
        for model, (small, precision) in models.items():
            found = exported(work / f"{len(rows)}", small, precision)
            rows.append([model, *told(*measured(found, images, sound, rate, given.seconds))])
            print(*rows[-1], file=sys.stderr, flush=True)
        print(table(["", "windows", "left out", "s, median", "longest"], rows))


def media(work: Path, size: tuple[int, int]) -> tuple[list[np.ndarray], np.ndarray, int]:
    """The pictures of toy videos, and their sound float32 (1, n) with its rate."""
    toy.make(work / "toy", clips_per_class=1)
    paths = [clip.media for clip in toy.table(work / "toy").clips]
    images = [np.asarray(Image.fromarray(one.rgb()).resize(size)) for path in paths for one in video_frames(path)]
    pieces = [piece for path in paths for piece in SoundTrack(path)]
    return images, np.concatenate([piece.waveform[:1] for piece in pieces], axis=1), pieces[0].rate


def exported(folder: Path, small: bool, precision: str) -> Recogniser:
    """A model with random weights, exported in a process of its own, which takes several times the model's memory."""
    folder.mkdir()
    weights, missing, given = made(folder, small), Missing(), dict[str, Any]()
    if precision != "fp32":
        contract = read_contract(weights)
        given = {"precision": precision, "data": toy_store(folder, contract, CALIBRATING), "fold": contract.fold}
    work = {precision: partial(to_onnx, weights, folder / "model.onnx", **given)}
    if not (files := run(work, True, missing)):
        sys.exit(f"bench/live.py: {missing}")
    return Recogniser(files[precision]).warm()


def items(images: list[np.ndarray], sound: np.ndarray, rate: int) -> Iterator[LiveFrame | LiveSound]:
    """Pictures and sound over and over, in order of time."""
    each = round(PIECE * rate)
    starts = itertools.cycle(range(0, sound.shape[1] - each, each))
    for tick in itertools.count():
        if tick % 2 == 0:
            yield LiveFrame(tick / 2 / FPS, images[tick // 2 % len(images)])
        start = next(starts)
        yield LiveSound(tick * each / rate, sound[:, start : start + each], rate)


def measured(
    recogniser: Recogniser, images: list[np.ndarray], sound: np.ndarray, rate: int, seconds: float
) -> tuple[list[float], int]:
    """The delay of each window in seconds, and how many were left out."""
    given = dict[float, float]()
    begin = time.perf_counter()

    def paced() -> Iterator[LiveFrame | LiveSound]:
        for item in itertools.takewhile(lambda one: one.time < seconds, items(images, sound, rate)):
            time.sleep(max(0.0, begin + item.time - time.perf_counter()))
            if isinstance(item, LiveFrame):
                given[round(item.time, 3)] = time.perf_counter()
            yield item

    delays = list[float]()
    with recogniser.stream(paced(), window=WINDOW, hop=HOP) as stream:
        for one in stream:
            last = round(one.segments[0]["end"] - 1 / FPS, 3)
            delays.append(time.perf_counter() - given[last])
    return delays, stream.left_out


def told(delays: list[float], left_out: int) -> list[str]:
    """The cells of a row."""
    return [str(len(delays)), str(left_out), f"{median(delays):.2f}", f"{max(delays):.2f}"]


if __name__ == "__main__":
    main()
