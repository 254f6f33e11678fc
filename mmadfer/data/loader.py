"""Clips for training and evaluation: read from the store in threads, decoded, cropped and resized by DALI.

    store -> JPEG bytes of the T drawn frames -> [DALI: decode the crop -> resize -> mirror] -> uint8 (B, T, 3, S, S)

DALI only executes the numbers of `mmadfer.data.sampling`; it draws nothing itself. The same graph runs on the CPU, or
on a GPU, which then decodes the JPEGs. Brightness follows in torch, on the device (`preprocess`): in DALI it costs a
millisecond a frame on the CPU. While a batch is being used, the next one is decoded and those after it are read.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmadfer.config import Config
from mmadfer.data.decoder import Decoder, Frames
from mmadfer.data.fbank import SILENCE
from mmadfer.data.sampling import Draw, draw, order, test_draw
from mmadfer.data.store import Store
from mmadfer.errors import ConfigError, DataError

READ_AHEAD = 2  # batches

T = TypeVar("T")
How = Callable[[str], Draw]


@dataclass(frozen=True)
class Batch:
    """B clips on the loader's device."""

    frames: Tensor
    """uint8 (B, T, 3, S, S), RGB, without brightness; see `preprocess`."""
    fbank: Tensor
    """float32 (B, 1, 512, 128), time first, normalised."""
    labels: Tensor
    """int64 (B,): places in the loader's labels."""
    ids: list[str]
    brightness: Tensor
    """float32 (B,): factors; 1 in evaluation."""
    drop_path: Tensor | None
    """float32 (B, T + 1, depth, 2) uniform draws in [0, 1); None in evaluation."""


@dataclass(frozen=True)
class _Clips:
    """What was read for a batch, before decoding."""

    frames: Frames
    fbank: np.ndarray
    draws: list[Draw]
    ids: list[str]


def preprocess(batch: Batch) -> Tensor:
    """The frames as the model takes them: float32 (B, T, 3, S, S) in [0, 1], with the drawn brightness.

    The published program multiplies and clamps the bytes before it crops and resizes. All but the clamp is linear, so
    the order only matters beside pixels that saturate: it clamps before the interpolation, this does after it.
    """
    frames = batch.frames / 255
    return frames.mul_(batch.brightness.view(-1, 1, 1, 1, 1)).clamp_(max=1)


def steps_per_epoch(config: Config, store: Store, fold: int) -> int:
    """Optimizer steps in an epoch of this fold; the last incomplete batch is dropped.

    Raises:
        ConfigError: the training clips of the fold do not fill one batch.
        DataError: the store has no such fold.
    """
    test = len(store.fold(fold))
    clips = len(store.clips) - test
    if clips < config.train.batch_size:
        raise ConfigError(
            f"fold {fold} of {store.path} leaves {clips} training clips, which do not fill one batch: "
            f"set train.batch_size to {clips} or less (it is {config.train.batch_size})"
        )
    return clips // config.train.batch_size


def batches(
    config: Config, store: Store, fold: int, epoch: int, *, rank: int = 0, world: int = 1, start_step: int = 0
) -> list[list[str]]:
    """The clip ids of every micro-batch that a rank trains on in an epoch, in order.

    An optimizer step takes `train.accumulate` of them. The clips of a step, over all ranks, are the same for any
    number of ranks; each rank takes its part of every micro-batch, in order.

    Args:
        config: `train.batch_size`, `.accumulate` and `.seed`.
        store: its clips outside `fold` are trained on.
        fold: the test fold, from 1.
        epoch: from 0.
        rank: from 0.
        world: number of ranks.
        start_step: optimizer steps of this epoch that are done already.

    Raises:
        ConfigError: the ranks do not divide the batch, or the clips do not fill one.
        DataError: the store has no such fold.
    """
    train = config.train
    part, rest = divmod(train.batch_size, world * train.accumulate)
    if rest:
        raise ConfigError(
            f"train.batch_size {train.batch_size} is not a multiple of {world} ranks x {train.accumulate} "
            "micro-batches (train.accumulate): change one of them, so that every rank gets as many clips"
        )
    end = steps_per_epoch(config, store, fold) * train.batch_size
    ids = order(train.seed, epoch, (clip.id for clip in store.clips.values() if clip.fold != fold))
    starts = range(start_step * train.batch_size + rank * part, end, world * part)
    return [ids[start : start + part] for start in starts]


class Loader:
    """Turns clip ids into batches; one for the whole of a run.

    Args:
        store: the prepared clips.
        config: `data`, `model` (frames, image_size, depth) and `train.seed`.
        labels: class names in class order.
        device: `cpu`, or the number of the GPU that decodes and gets the batches.

    Raises:
        ConfigError: a label of the store is not in `labels`, or one is there twice.
        MissingDependencyError: DALI is not installed.
    """

    def __init__(
        self, store: Store, config: Config, labels: Sequence[str], device: Literal["cpu"] | int = "cpu"
    ) -> None:
        self.store, self.config, self.labels = store, config, tuple(labels)
        self.device = torch.device(device if isinstance(device, str) else f"cuda:{device}")
        _check_labels(store, self.labels)
        self._decoder = Decoder(config.model.image_size, config.data.threads, self.device)
        self._readers = ThreadPoolExecutor(config.data.threads, thread_name_prefix="reader")
        self._busy = False

    def train(self, epoch: int, ids_batches: Iterable[list[str]]) -> Iterator[Batch]:
        """The batches of ids (see `batches`) with this epoch's frames and augmentation.

        Raises:
            DataError: a clip that cannot be read or decoded.
        """
        data, model, size = self.config.data, self.config.model, self.store.size

        def how(clip: str) -> Draw:
            n = self.store.clips[clip].frames
            seed, depth = self.config.train.seed, model.vision.depth
            return draw(seed, epoch, clip, n, size=size, augment=data.augment, frames=model.frames, depth=depth)

        return self._run(list(ids_batches), how)

    def test(self, ids: Sequence[str], batch_size: int, clip: int = 0) -> Iterator[Batch]:
        """All clips in this order, with test preprocessing; the last batch may be smaller.

        Args:
            ids: clips.
            batch_size: the most clips in a batch.
            clip: which of the `data.test_clips` index sets to take frames from.

        Raises:
            DataError: a clip that cannot be read or decoded.
        """

        def how(name: str) -> Draw:
            n, clips = self.store.clips[name].frames, self.config.data.test_clips
            return test_draw(n, self.store.size, self.config.model.frames, clip, clips)

        return self._run([list(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)], how)

    def close(self) -> None:
        """Stop the threads and free DALI's memory."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._decoder.close()

    def _run(self, requests: list[list[str]], how: How) -> Iterator[Batch]:
        with self._alone():
            self._decoder.reserve(self.config.model.frames * max(map(len, requests), default=0))
            reading = _ahead((self._readers.submit(self._read, ids, how) for ids in requests), READ_AHEAD)
            decoding = _ahead((self._start(clips.result()) for clips in reading), 1)
            for clips in decoding:
                yield self._finish(clips)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise RuntimeError("this loader is in another loop; finish or close that one first, or make a second one")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._decoder.drain()

    def _read(self, ids: list[str], how: How) -> _Clips:
        draws, records = [how(clip) for clip in ids], [self.store.read(clip) for clip in ids]
        jpegs = [record.jpegs[k] for record, drawn in zip(records, draws, strict=True) for k in drawn.indexes]
        each = len(draws[0].indexes)
        frames = Frames(
            jpegs=[np.frombuffer(jpeg, np.uint8) for jpeg in jpegs],
            crops=np.repeat([drawn.crop for drawn in draws], each, axis=0).astype(np.int32),
            flips=np.repeat([drawn.flip for drawn in draws], each).astype(np.int32),
        )
        return _Clips(frames, np.stack([record.fbank for record in records])[:, None], draws, ids)

    def _start(self, clips: _Clips) -> _Clips:
        if self.config.data.modalities != "audio":
            self._decoder.start(clips.frames)
        return clips

    def _finish(self, clips: _Clips) -> Batch:
        labels = [self.labels.index(self.store.clips[clip].label) for clip in clips.ids]
        fbank = clips.fbank if self.config.data.modalities != "vision" else np.full_like(clips.fbank, SILENCE)
        drop_path = [drawn.drop_path for drawn in clips.draws if drawn.drop_path is not None]
        return Batch(
            frames=self._frames(clips),
            fbank=self._place(torch.from_numpy(fbank)),
            labels=self._place(torch.tensor(labels)),
            ids=clips.ids,
            brightness=self._place(torch.tensor([drawn.brightness for drawn in clips.draws], dtype=torch.float32)),
            drop_path=self._place(torch.from_numpy(np.stack(drop_path))) if drop_path else None,
        )

    def _frames(self, clips: _Clips) -> Tensor:
        side = self.config.model.image_size
        shape = (len(clips.ids), self.config.model.frames, 3, side, side)
        if self.config.data.modalities == "audio":
            return torch.zeros(shape, dtype=torch.uint8, device=self.device)
        try:
            return self._decoder.finish().view(shape)
        except DataError as error:
            raise DataError(
                f"one of the clips {', '.join(clips.ids)} in {self.store.path} is damaged: "
                f"delete the store and run `mmadfer prepare` again ({error})"
            ) from error

    def _place(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def _ahead(items: Iterable[T], n: int) -> Iterator[T]:
    """The items, each made when the one `n` places before it is asked for."""
    queue: deque[T] = deque()
    for item in items:
        queue.append(item)
        if len(queue) > n:
            yield queue.popleft()
    yield from queue


def _check_labels(store: Store, labels: tuple[str, ...]) -> None:
    unknown = sorted({clip.label for clip in store.clips.values()} - set(labels))
    if len(set(labels)) < len(labels):
        raise ConfigError(f"data.labels names a class twice: {', '.join(labels)}")
    if unknown:
        raise ConfigError(
            f"{store.path} has clips labelled {', '.join(unknown)}, which data.labels does not name "
            f"(it has {', '.join(labels)}): add them, or prepare a store without these clips"
        )
