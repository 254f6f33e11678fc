"""Clips for training and evaluation: read from the store and decoded in threads, brightened on the device.

    store -> JPEG bytes of the T drawn frames -> [decode -> crop -> resize -> mirror] -> uint8 (B, T, 3, S, S)

Decoding only executes the numbers of `mmadfer.data.draws`; nothing is drawn there. Brightness and scaling follow in
torch, on the device (`preprocess`): in DALI they cost a millisecond a frame on the CPU.

While a batch is being used, the next one is decoded, and `data.read_ahead` more are read. So a rank holds, whatever the
size of the data set, for batches of B clips with frames of H x W and J bytes of JPEG each in the store, in bytes:

    read        B (T J + 4 x 512 x 128) for each of read_ahead + 2 batches
    decoded     3 B T S S for each of 3 batches: in use, waiting, being made; and 3 B T H W inside of DALI
    preprocess  12 B T S S for each result in use, on the CPU

With 8 clips of 16 frames of 224 pixels and 16 kB, and 2 batches read ahead: 17, 77 and 77 MB, and about 80 MB besides
for what DALI and the memory allocator keep (measured). Results of `preprocess` that were used at the same time, up to
two, leave their memory for later ones; so do frames, on the CPU. A batch of less than half the size has it freed.
With mixup, B is twice the clips of a batch in all of this.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmadfer.config.schema import Config
from mmadfer.data.draws import Draw, draw_view, test_draw
from mmadfer.data.fold_clips import check_labels, steps_per_epoch
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.dali import Decoder, Frames
from mmadfer.data.loading.mixup import mixed, paired, seconds
from mmadfer.data.loading.samplers import Pick, Sampler, sampler_of
from mmadfer.data.loading.specaugment import masked
from mmadfer.data.loading.windows import window_sound
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.store.record import LATER
from mmadfer.data.store.store import ClipRecord, Store
from mmadfer.data.store.targets import LABEL, at_frames, encoded
from mmadfer.errors import ConfigError, DataError
from mmadfer.utils import cores
from mmadfer.utils.prefetch import lookahead

How = Callable[[Pick], Draw]
Read = tuple[Draw, ClipRecord]


def epoch_picks(config: Config, store: Store, fold: int, epoch: int, sampler: Sampler) -> list[Pick]:
    """The picks of an epoch that fill its batches, in order.

    Raises:
        ConfigError: the sampler does not give as many as there are clips; or the clips do not fill a batch.
    """
    end = steps_per_epoch(config, store, fold) * config.train.batch_size
    picks = sampler.epoch(epoch)
    if len(picks) < end:
        raise ConfigError(f"data.sampler {config.data.sampler} gives {len(picks)} clips for an epoch of {end}")
    return picks[:end]


def batches(
    config: Config,
    store: Store,
    fold: int,
    epoch: int,
    *,
    rank: int = 0,
    world: int = 1,
    start_step: int = 0,
    sampler: Sampler | None = None,
) -> list[list[Pick]]:
    """The clips of every micro-batch that a rank trains on in an epoch, in order.

    An optimizer step takes `train.accumulate` of them. The clips of a step, over all ranks, are the same for any
    number of ranks; each rank takes its part of every micro-batch, in order.

    Args:
        config: `data.sampler`, `data.validation`, `train.batch_size`, `.accumulate` and `.seed`.
        store: its clips outside `fold`, and outside validation, are trained on.
        fold: the test fold, from 1.
        epoch: from 0.
        rank: from 0.
        world: number of ranks.
        start_step: optimizer steps of this epoch that are done already.
        sampler: that has observed the epochs before; by default a new one.

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
    sampler = sampler or sampler_of(config, store, fold)
    picks = epoch_picks(config, store, fold, epoch, sampler)
    if config.data.augment.mixup:
        picks = paired(train.seed, epoch, picks)
    starts = range(start_step * train.batch_size + rank * part, len(picks), world * part)
    return [picks[start : start + part] for start in starts]


class Loader:
    """Turns clip ids into batches; one for the whole of a run.

    Args:
        store: the prepared clips.
        config: `data`, `model` (frames, image_size, depth) and `train.seed`.
        labels: class names in class order.
        device: `cpu`, or the number of the GPU that decodes and gets the batches.

    `threads` is what `data.threads` came to here.

    Raises:
        ConfigError: a label of the store is not in `labels`, or one is there twice.
        MissingDependencyError: DALI is not installed.
    """

    def __init__(
        self, store: Store, config: Config, labels: Sequence[str], device: Literal["cpu"] | int = "cpu"
    ) -> None:
        self.store, self.config, self.labels = store, config, tuple(labels)
        self.device = torch.device(device if isinstance(device, str) else f"cuda:{device}")
        check_labels(store, self.labels)
        asked = config.data.threads
        self.threads = cores.of_a_rank() if asked == "auto" else asked
        self._decoder = Decoder(config.model.image_size, self.threads, self.device)
        self._readers = ThreadPoolExecutor(self.threads, thread_name_prefix="reader")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def train(self, epoch: int, picked: Iterable[list[Pick]]) -> Iterator[Batch]:
        """The batches of clips (see `batches`) with this epoch's frames and augmentation.

        Raises:
            DataError: a clip that cannot be read or decoded.
        """
        data, model, size = self.config.data, self.config.model, self.store.size

        def how(pick: Pick) -> Draw:
            first, count = self._span(pick)
            drawn = draw_view(
                self.config.train.seed,
                epoch,
                pick.clip,
                count,
                size=size,
                augment=data.augment,
                frames=model.frames,
                depth=model.depth,
                key=pick.key,
                loses_with=pick.loses_with,
            )
            return replace(drawn, indexes=first + drawn.indexes)

        return self._run([[*picks, *seconds(picks)] for picks in picked], how)

    def test(self, ids: Sequence[str], batch_size: int, clip: int = 0, flip: bool = False) -> Iterator[Batch]:
        """All clips in this order, with test preprocessing; the last batch may be smaller.

        Args:
            ids: clips.
            batch_size: the most clips in a batch.
            clip: which of the `data.test_clips` index sets to take frames from.
            flip: mirror every frame.

        Raises:
            DataError: a clip that cannot be read or decoded.
        """

        def how(pick: Pick) -> Draw:
            n, clips = self.store.clips[pick.clip].frames, self.config.data.test_clips
            return test_draw(n, self.store.size, self.config.model.frames, clip, clips, flip)

        picks = [Pick(name) for name in ids]
        return self._run([picks[start : start + batch_size] for start in range(0, len(ids), batch_size)], how)

    def close(self) -> None:
        """Stop the threads and free the decoder's memory."""
        for pool in (self._readers, self._decoding):
            pool.shutdown(wait=True, cancel_futures=True)
        self._decoder.close()

    def _run(self, requests: list[list[Pick]], how: How) -> Iterator[Batch]:
        # What an abandoned loop has begun ends by itself; the one decoding thread keeps loops apart.
        reading = ((picks, [self._readers.submit(self._read, pick, how) for pick in picks]) for picks in requests)
        ready = lookahead(reading, self.config.data.read_ahead)
        for decoded in lookahead((self._decoding.submit(self._decode, *clips) for clips in ready), 1):
            yield self._finish(decoded.result())

    def _span(self, pick: Pick) -> tuple[int, int]:
        """The first frame that a pick looks at, and how many."""
        there = self.store.clips[pick.clip].frames
        first, count = pick.window or (0, there)
        if first < 0 or count < 1 or first + count > there:
            raise DataError(f"clip {pick.clip!r} has {there} frames, so no window of {count} from {first} on")
        return first, count

    def _read(self, pick: Pick, how: How) -> Read:
        drawn = how(pick)
        wanted = [] if self.config.data.modalities == "audio" else drawn.indexes.tolist()
        steps = [name for name, target in self.store.header.targets.items() if target.kind == "steps"]
        record = self.store.read(pick.clip, wanted, [*steps, *([LATER] if pick.window else [])])
        if pick.window:
            record = replace(record, fbank=window_sound(record, self.store.clips[pick.clip], pick.window))
        return drawn, record

    def _decode(self, picks: list[Pick], reading: list[Future[Read]]) -> Batch:
        """The batch, with its frames on the device and all else on the CPU."""
        ids = [pick.clip for pick in picks]
        draws, records = zip(*(clip.result() for clip in reading), strict=True)
        fbank = np.stack([self._sound(*clip) for clip in zip(draws, records, strict=True)])[:, None]
        drop_path = [drawn.drop_path for drawn in draws if drawn.drop_path is not None]
        both = Batch(
            frames=self._frames(ids, draws, records),
            fbank=torch.from_numpy(fbank),
            targets=self._targets(picks, draws, records),
            ids=ids,
            brightness=torch.tensor([drawn.brightness for drawn in draws], dtype=torch.float32),
            drop_path=torch.from_numpy(np.stack(drop_path)) if drop_path else None,
        )
        shares = [drawn.share for pick, drawn in zip(picks, draws, strict=True) if pick.beside is None]
        return both if len(shares) == len(picks) else mixed(both, shares, self._classes())

    def _targets(self, picks: list[Pick], draws: Sequence[Draw], records: Sequence[ClipRecord]) -> dict[str, Tensor]:
        """All targets of the store by name."""
        clips = [self.store.clips[pick.clip] for pick in picks]
        made = {LABEL: torch.tensor([self.labels.index(clip.label) for clip in clips])} if self.labels else {}
        for name, target in self.store.header.targets.items():
            if target.kind == "steps":
                rows = [
                    at_frames(record.tensors.get(name), len(target.names), drawn.indexes, clip.frames)
                    for clip, drawn, record in zip(clips, draws, records, strict=True)
                ]
            else:
                rows = [encoded(target, clip.targets.get(name)) for clip in clips]
            made[name] = torch.from_numpy(np.stack(rows))
        return made

    def _classes(self) -> dict[str, int]:
        """Classes of each target that is one label."""
        own = {name: len(target.names) for name, target in self.store.targets.items() if target.kind == LABEL}
        return own | ({LABEL: len(self.labels)} if self.labels else {})

    def _sound(self, drawn: Draw, record: ClipRecord) -> np.ndarray:
        augment = self.config.data.augment
        if drawn.silent or self.config.data.modalities == "vision":
            return np.full_like(record.fbank, SILENCE)
        if drawn.spec is None:
            return record.fbank
        return masked(record.fbank, augment.spec_time, augment.spec_mels, drawn.spec)

    def _frames(self, ids: list[str], draws: Sequence[Draw], records: Sequence[ClipRecord]) -> Tensor:
        if self.config.data.modalities == "audio":
            side = self.config.model.image_size
            return torch.zeros((len(ids), self.config.model.frames, 3, side, side), dtype=torch.uint8)
        frames = Frames(
            jpegs=[np.frombuffer(jpeg, np.uint8) for record in records for jpeg in record.jpegs],
            crops=np.array([drawn.crop for drawn in draws], np.int32),
            flips=np.array([drawn.flip for drawn in draws]),
        )
        try:
            return self._decoder.decode(frames)
        except DataError as error:
            bad = self._undecodable(ids, frames) or ids
            raise DataError(
                f"{self.store.path} has frames that cannot be decoded, of {', '.join(bad)}: "
                f"delete the store and run `mmadfer prepare` again ({error})"
            ) from error

    def _undecodable(self, ids: list[str], frames: Frames) -> list[str]:
        """Which of the clips they are, each tried by itself."""
        bad, each = list[str](), len(frames.jpegs) // len(ids)
        for k, name in enumerate(ids):
            jpegs = frames.jpegs[k * each : (k + 1) * each]
            try:
                self._decoder.decode(Frames(jpegs, frames.crops[k : k + 1], frames.flips[k : k + 1]))
            except DataError:
                bad.append(name)
        return bad

    def _finish(self, batch: Batch) -> Batch:
        if self.device.type == "cpu":
            return batch
        if batch.frames.is_cuda:  # made on the decoder's stream
            batch.frames.record_stream(torch.cuda.current_stream(self.device))
        return batch.moved(self._place)

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.is_cuda else tensor.pin_memory().to(self.device, non_blocking=True)
