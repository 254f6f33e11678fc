"""How fast clips are fed: our loader against the published way, on the same files with the same draws.

    python bench/loader.py [--sizes 160 224] [--cores 1 2] [--device cuda] [--step-ms 50]

The published way is written down plainly below: a torch DataLoader whose workers open 16 JPEG files of a folder one
after the other with PIL, and decode the sound and compute its filter bank each time. Ours reads a prepared store. Both
are timed until the model's input is there, in float32: ours with `preprocess`, which the training step runs. Each pass
is repeated; the fastest of each counts. A core-second is one core busy for a second, workers and threads included: on
a machine that others use too, it is the figure to go by.
"""

import argparse
import io
import math
import multiprocessing
import os
import tempfile
import time
import wave
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from common import machine, on_cores, table
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchaudio.compliance import kaldi
from torchvision.transforms import functional as vision

from mmadfer.config.schema import Config, parse
from mmadfer.data import draws
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.media.fbank import fbank
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store

SIDE, FRAMES, BATCH, RATE, SECONDS, TARGET = 224, 16, 8, 44100, 2.6, 16_000
LABELS = ("a", "b")
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One measurement, in a process of its own."""

    root: Path
    size: int
    cores: int
    repeats: int
    device: str
    step_ms: float


@dataclass(frozen=True)
class Time:
    """Of a pass over all clips."""

    seconds: float
    core_seconds: float

    @staticmethod
    def best(times: list["Time"]) -> "Time":
        """The least of each: what disturbs a measurement only ever adds to it."""
        return Time(min(t.seconds for t in times), min(t.core_seconds for t in times))


# ---------------------------------------------------------------- the files


def make_files(root: Path, clips: int) -> None:
    """Folders of JPEGs with a WAV beside each, and the store of exactly these."""
    from skimage import data

    photographs = [Image.fromarray(picture()) for picture in (data.astronaut, data.coffee, data.chelsea, data.rocket)]
    records = [_clip(root, number, photographs[number % 4]) for number in range(clips)]
    write_store(root / "bench.store", Header("bench", LABELS, _config(SIDE, 1).prepare), records)


def _clip(root: Path, number: int, photograph: Image.Image) -> tuple[Clip, ClipRecord]:
    rng, name = np.random.default_rng(number), f"{number:05}"
    jpegs = [_jpeg(_view(photograph, phase)) for phase in rng.random() + np.linspace(0, 0.3, rng.integers(50, 81))]
    folder = root / name
    folder.mkdir()
    for k, jpeg in enumerate(jpegs):
        (folder / f"{k:05}.jpg").write_bytes(jpeg)
    sound = (rng.standard_normal((2, round(SECONDS * RATE))) * 3000).astype(np.int16)
    with wave.open(str(root / f"{name}.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.T.tobytes())
    bands = fbank((sound / 32768).astype(np.float32), RATE, _config(SIDE, 1).prepare.sound)
    return Clip(name, LABELS[number % 2], 1, name, len(jpegs)), ClipRecord(jpegs, bands)


def _view(photograph: Image.Image, phase: float) -> Image.Image:
    """A part of the photograph that moves and grows a little with the phase."""
    side = min(photograph.size) * (0.7 + 0.15 * math.sin(2 * math.pi * phase))
    x = (photograph.width - side) * (0.5 + 0.4 * math.sin(5 * phase))
    y = (photograph.height - side) * (0.5 + 0.4 * math.cos(5 * phase))
    return photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))


def _jpeg(image: Image.Image, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


# ---------------------------------------------------------------- the published way


class Published(Dataset):
    """Clips as the published program reads them; a key is (epoch, clip), without an epoch for evaluation."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root, self.config = root, config

    def __getitem__(self, key: tuple[int | None, str]) -> tuple[Tensor, Tensor, int]:
        epoch, clip = key
        paths = sorted((self.root / clip).glob("*.jpg"))
        drawn = _draw(self.config, epoch, clip, len(paths))
        images = [Image.open(paths[k]).convert("RGB") for k in drawn.indexes]
        if epoch is not None:
            images = [vision.adjust_brightness(image, drawn.brightness) for image in images]
            x, y, w, h = drawn.crop
            images = [image.crop((x, y, x + w, y + h)) for image in images]
        size = self.config.model.image_size
        images = [image.resize((size, size), Image.Resampling.BILINEAR) for image in images]
        if drawn.flip:
            images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
        frames = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return frames.permute(0, 3, 1, 2).float() / 255, self._sound(clip), int(clip) % 2

    def _sound(self, clip: str) -> Tensor:
        with wave.open(str(self.root / f"{clip}.wav"), "rb") as file:
            data = bytearray(file.readframes(file.getnframes()))
        samples = torch.frombuffer(data, dtype=torch.int16).view(-1, 2).T / 32768
        bands = kaldi.fbank(
            samples - samples.mean(),
            htk_compat=True,
            sample_frequency=RATE,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
            frame_shift=10,
        )
        padded = torch.nn.functional.pad(bands[:512], (0, 0, 0, max(0, 512 - len(bands))))
        return ((padded + 4.2677393) / (2 * 4.5689974))[None]


def _draw(config: Config, epoch: int | None, clip: str, n: int) -> draws.Draw:
    if epoch is None:
        return draws.test_draw(n, (SIDE, SIDE), FRAMES)
    augment, depth = config.data.augment, config.model.vision.depth
    return draws.draw_view(1, epoch, clip, n, size=(SIDE, SIDE), augment=augment, frames=FRAMES, depth=depth)


# ---------------------------------------------------------------- measuring


def measure(job: Job) -> list[tuple[object, ...]]:
    """Rows of the table: a training and an evaluation pass with these cores."""
    with on_cores(job.cores):
        torch.set_num_threads(1)  # a model's threads are no part of this; both ways have workers of their own
        config = _config(job.size, job.cores)
        with Store(job.root / "bench.store") as store:
            ids = list(store.clips)
            keys: list[list[tuple[int | None, str]]] = []
            workers = DataLoader(
                Published(job.root, config), batch_sampler=keys, num_workers=job.cores, persistent_workers=True
            )
            loader = Loader(store, config, LABELS, "cpu" if job.device == "cpu" else 0)

            def published(epoch: int | None) -> Iterator[Tensor]:
                keys[:] = [[(epoch, clip) for clip in part] for part in _parts(ids)]
                yield from (frames for frames, *_ in workers)

            def ours(epoch: int | None) -> Iterator[Batch]:
                return loader.test(ids, BATCH) if epoch is None else loader.train(epoch, _parts(list(map(Pick, ids))))

            try:
                published_first = next(published(0))  # the workers start before our threads: forks copy no threads
                difference = (published_first - preprocess(next(ours(0))).cpu()).abs().mean().item() * 255
                assert difference < 1.5, f"the pixels differ by {difference:.2f} of 255 on average"
                return [_compare(job, epoch, len(ids), published, ours) for epoch in (0, None)]
            finally:
                loader.close()


def _compare(job: Job, epoch: int | None, clips: int, published: Any, ours: Any) -> tuple[object, ...]:
    times: dict[Any, list[Time]] = {published: [], ours: []}
    waits = []
    for _ in range(job.repeats):
        times[published].append(_time(published(epoch)))
        times[ours].append(_time(map(preprocess, ours(epoch))))
        waits.append(_waiting(ours(epoch), job.step_ms / 1000) if job.step_ms else 0.0)
    theirs, mine = Time.best(times[published]), Time.best(times[ours])
    frames = clips * FRAMES
    return (
        f"{job.size} px, {'evaluation' if epoch is None else 'training'}, {job.cores} core{'s' * (job.cores > 1)}",
        *(f"{frames / t:,.0f}" for t in (theirs.seconds, mine.seconds, theirs.core_seconds, mine.core_seconds)),
        f"{theirs.seconds / mine.seconds:.2f}",
        f"{theirs.core_seconds / mine.core_seconds:.2f}",
        f"{min(waits):.1%}" if job.step_ms else "-",
    )


def _time(batches: Iterable[Tensor]) -> Time:
    start, busy = time.perf_counter(), _busy()
    for frames in batches:
        assert frames.dtype == torch.float32
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Time(time.perf_counter() - start, _busy() - busy)


def _waiting(batches: Iterator[Batch], step: float) -> float:
    """The share of its time for which a trainer whose step takes `step` seconds waits, the first batch left out."""
    next(batches)
    start = time.perf_counter()
    time.sleep(step)
    waited = 0.0
    while True:
        asked = time.perf_counter()
        if next(batches, None) is None:
            return waited / (asked - start)
        waited += time.perf_counter() - asked
        time.sleep(step)


def _busy() -> float:
    """Seconds of a core that this process and its living workers have used."""
    fields = [
        Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        for child in multiprocessing.active_children()
    ]
    return time.process_time() + sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def _parts(ids: list[T]) -> list[list[T]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


def _config(size: int, threads: int) -> Config:
    tree = {"name": "bench", "data": {"threads": threads}, "model": {"image_size": size}}
    return parse(tree, where="bench/loader.py")


def main() -> None:
    """Make the files, measure, and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--clips", type=int, default=64)
    options.add_argument("--sizes", type=int, nargs="+", default=[160, 224])
    options.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where our loader decodes")
    options.add_argument("--step-ms", type=float, default=0, help="pretend that a training step takes as long")
    given = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_files(root, given.clips)
        jpegs = [path.stat().st_size for path in root.glob("*/*.jpg")]
        print(
            f"{given.clips} clips of {len(jpegs) / given.clips:.0f} frames of {SIDE} px, "
            f"{np.mean(jpegs) / 1000:.1f} kB; {SECONDS} s of {RATE} Hz stereo; "
            f"batches of {BATCH}; frames per second, fastest of {given.repeats}"
        )
        rows = []
        for size in given.sizes:
            for cores in given.cores:
                job = Job(root, size, cores, given.repeats, given.device, given.step_ms)
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                    rows += fresh.submit(measure, job).result()
    heads = ["", "published /s", "ours /s", "published /core-s", "ours /core-s", "ratio /s", "ratio /core-s", "waiting"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
