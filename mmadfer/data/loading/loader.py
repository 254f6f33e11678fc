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
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmadfer.config.schema import Config
from mmadfer.contract import used
from mmadfer.data.draws import Draw, draw_view, test_draw
from mmadfer.data.faces.landmarks68 import TENSOR as LANDMARKS
from mmadfer.data.fold_clips import check_labels, steps_per_epoch
from mmadfer.data.frame_windows import drawn_window, window_indexes
from mmadfer.data.loading.adaptation import fold_sampler
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.dali import Decoder, Frames
from mmadfer.data.loading.landmarks import in_view
from mmadfer.data.loading.mixup import mixed, paired, seconds
from mmadfer.data.loading.samplers import Pick, Sampler
from mmadfer.data.loading.specaugment import masked
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.sentences import ClipTokens, check_sentences
from mmadfer.data.source_subjects import subjects_of
from mmadfer.data.store.landmark_tensors import landmark_rows
from mmadfer.data.store.store import ClipRecord, Rows, Store
from mmadfer.data.store.targets import LABEL, encoded, step_rows
from mmadfer.data.window_sound import read_window
from mmadfer.errors import ConfigError, DataError
from mmadfer.tasks.codebook import expression_of
from mmadfer.utils import cores
from mmadfer.utils.prefetch import lookahead

How = Callable[[Pick], Draw]
Read = tuple[Draw, ClipRecord]


def place(device: torch.device) -> Literal["cpu"] | int:
    """A device as a `Loader` takes it."""
    return "cpu" if device.type == "cpu" else device.index or 0


class Inputs(NamedTuple):
    """What somebody looks at of the frames: the model that is trained, or the teacher of `stages.teacher`."""

    decoded: bool
    """Whether they are read; else they are black."""
    frames: int
    """Of each clip; 0 where nobody looks at any."""

    @classmethod
    def of(cls, config: Config, taught: bool) -> "Inputs":
        """Of the batches of a configuration; where they are `taught` from, a teacher sees them, too."""
        seen = taught or "vision" in config.model.modalities
        fed = config.data.modalities if taught else used(config)
        return cls(seen and fed != "audio", config.model.frames if seen else 0)


def epoch_picks(config: Config, store: Store, fold: int, epoch: int, sampler: Sampler) -> list[Pick]:
    """The picks of an epoch that fill its batches, in order.

    Raises:
        ConfigError: the sampler does not give as many as there are clips; or the clips do not fill a batch.
    """
    clips = len(sampler.clips) if config.adapt else None
    end = steps_per_epoch(config, store, fold, clips) * config.train.batch_size
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
    if config.adapt and part % 2:
        raise ConfigError(
            f"train.batch_size {train.batch_size} gives each of {world} ranks {part} clips of a micro-batch, and under "
            "adapt half of them are of who is adapted to: change it, so that they are even"
        )
    sampler = sampler or fold_sampler(config, store, fold)
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
        tokens: of the clips' sentences, for a model that reads them; by default those of the configuration.

    `threads` is what `data.threads` came to here.

    Raises:
        ConfigError: a label of the store is not in `labels`, or one is there twice.
        MissingDependencyError: DALI is not installed.
        ConfigError, DataError, WeightsError: as `check_sentences`, without `tokens`.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        labels: Sequence[str],
        device: Literal["cpu"] | int = "cpu",
        tokens: ClipTokens | None = None,
    ) -> None:
        self.store, self.config, self.labels = store, config, tuple(labels)
        self.device = torch.device(device if isinstance(device, str) else f"cuda:{device}")
        check_labels(store, self.labels)
        self._tokens = tokens or check_sentences(config, store)
        self._subjects = {subject: k for k, subject in enumerate(subjects_of(store.clips.values()))}
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
            _, count = self._span(pick)
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
            return replace(drawn, indexes=self._within(pick, drawn.indexes))

        appearing = ([*picks, *seconds(picks)] for picks in picked)
        windowed = ([self._windowed(epoch, pick) for pick in picks] for picks in appearing)
        return self._run(windowed, how, taught=self.config.taught)

    def test(self, rows: Sequence[str | Pick], batch_size: int, clip: int = 0, flip: bool = False) -> Iterator[Batch]:
        """All clips, or windows of them, in this order, with test preprocessing; the last batch may be smaller.

        Args:
            rows: whole clips by their ids, or picks with windows.
            batch_size: the most clips in a batch.
            clip: which of the `data.test_clips` index sets to take frames from.
            flip: mirror every frame.

        Raises:
            DataError: a clip that cannot be read or decoded.
        """

        def how(pick: Pick) -> Draw:
            _, count = self._span(pick)
            drawn = test_draw(count, self.store.size, self.config.model.frames, clip, self.config.data.test_clips, flip)
            return replace(drawn, indexes=self._within(pick, drawn.indexes))

        picks = [row if isinstance(row, Pick) else Pick(row) for row in rows]
        return self._run((picks[start : start + batch_size] for start in range(0, len(picks), batch_size)), how)

    def close(self) -> None:
        """Stop the threads and free the decoder's memory."""
        for pool in (self._readers, self._decoding):
            pool.shutdown(wait=True, cancel_futures=True)
        self._decoder.close()

    def _run(self, requests: Iterable[list[Pick]], how: How, taught: bool = False) -> Iterator[Batch]:
        """`taught`: a teacher looks at the batches, too."""
        # What an abandoned loop has begun ends by itself; the one decoding thread keeps loops apart.
        inputs = Inputs.of(self.config, taught)
        reading = (
            (picks, [self._readers.submit(self._read, pick, how, inputs) for pick in picks]) for picks in requests
        )
        ready = lookahead(reading, self.config.data.read_ahead)
        for decoded in lookahead((self._decoding.submit(self._decode, *clips, inputs) for clips in ready), 1):
            yield self._finish(decoded.result())

    def _windowed(self, epoch: int, pick: Pick) -> Pick:
        """With a window, where training looks at windows and the sampler has not chosen this one."""
        window, n = self.config.data.window, self.store.clips[pick.clip].frames
        if window is None or pick.window is not None:
            return pick
        span = window.span(self.config.model.frames)
        return pick._replace(window=drawn_window(self.config.train.seed, epoch, pick.clip, n, span, pick.key))

    def _within(self, pick: Pick, drawn: np.ndarray) -> np.ndarray:
        """The frames of a pick in its clip: those drawn within it, or under `data.window` every `stride`-th."""
        window = self.config.data.window
        if window is None or pick.window is None:
            return self._span(pick)[0] + drawn
        return window_indexes(pick.window, self.config.model.frames, window.stride)

    def _span(self, pick: Pick) -> tuple[int, int]:
        """The first frame that a pick looks at, and how many."""
        there = self.store.clips[pick.clip].frames
        first, count = pick.window or (0, there)
        if first < 0 or count < 1 or first + count > there:
            raise DataError(f"clip {pick.clip!r} has {there} frames, so no window of {count} from {first} on")
        return first, count

    def _read(self, pick: Pick, how: How, inputs: Inputs) -> Read:
        drawn = how(pick)
        wanted = drawn.indexes.tolist() if inputs.decoded else []
        names = [name for name, target in self.store.header.targets.items() if target.kind == "steps"]
        steps: dict[str, Rows] = dict.fromkeys(names, lambda times, count: step_rows(drawn.indexes, len(times), count))
        if self.config.task.align:
            steps[LANDMARKS] = partial(landmark_rows, pick.clip, drawn.indexes)
        if pick.window is None:
            return drawn, self.store.read(pick.clip, wanted, rows=steps)
        return drawn, read_window(self.store, pick.clip, pick.window, wanted, steps)

    def _decode(self, picks: list[Pick], reading: list[Future[Read]], inputs: Inputs) -> Batch:
        """The batch, with its frames on the device and all else on the CPU."""
        ids = [pick.clip for pick in picks]
        draws, records = zip(*(clip.result() for clip in reading), strict=True)
        fbank = np.stack([self._sound(*clip) for clip in zip(draws, records, strict=True)])[:, None]
        drop_path = [drawn.drop_path for drawn in draws if drawn.drop_path is not None]
        given = any(pick.given is not None for pick in picks)
        both = Batch(
            frames=self._frames(ids, draws, records, inputs),
            fbank=torch.from_numpy(fbank),
            targets=self._labels(picks) if given else self._targets(picks, draws, records),
            ids=ids,
            brightness=torch.tensor([drawn.brightness for drawn in draws], dtype=torch.float32),
            drop_path=torch.from_numpy(np.stack(drop_path)) if drop_path else None,
            adapted=torch.tensor([pick.given is not None for pick in picks]) if given else None,
        )
        if self.config.task.align:
            both = self._with_landmarks(both, draws, records)
        if self._tokens is not None:
            both = replace(both, tokens=torch.from_numpy(self._tokens.of(ids)))
        if self.config.task.subjects:
            both = replace(both, subjects=torch.tensor([self._subject(name) for name in ids]))
        shares = [drawn.share for pick, drawn in zip(picks, draws, strict=True) if pick.beside is None]
        return both if len(shares) == len(picks) else mixed(both, shares, self._classes())

    def _targets(self, picks: list[Pick], draws: Sequence[Draw], records: Sequence[ClipRecord]) -> dict[str, Tensor]:
        """All targets of the store by name; the task's own has the values that it learns, in their order."""
        task = self.config.task
        clips, made = [self.store.clips[pick.clip] for pick in picks], self._labels(picks)
        for name, target in self.store.header.targets.items():
            if target.kind == "steps":
                none = np.full((len(draws[0].indexes), len(target.names)), np.nan, np.float32)
                rows = [np.asarray(record.tensors.get(name, none)) for record in records]
            else:
                rows = [encoded(target, clip.targets.get(name)) for clip in clips]
            made[name] = torch.from_numpy(np.stack(rows))
            if name == task.compared and task.values:
                made[name] = made[name][..., target.places(task.values)]
        return made

    def _labels(self, picks: list[Pick]) -> dict[str, Tensor]:
        """The target `label`, where the store has one: a clip's own, or what is given in its place."""
        if not self.labels:
            return {}
        own = (self.labels.index(self.store.clips[one.clip].label) if one.given is None else one.given for one in picks)
        return {LABEL: torch.tensor([*own])}

    def _with_landmarks(self, batch: Batch, draws: Sequence[Draw], records: Sequence[ClipRecord]) -> Batch:
        """With what `task.align` looks at."""
        rows = zip((record.tensors.get(LANDMARKS) for record in records), batch.ids, draws, strict=True)
        points = [in_view(*row, self.config.model.image_size) for row in rows]
        expressions = torch.tensor([expression_of(self.store.clips[name].label) for name in batch.ids])
        return replace(batch, landmarks=torch.from_numpy(np.stack(points)), expressions=expressions)

    def _subject(self, clip: str) -> int:
        """Its place; -1 for none, which only clips of a test may have."""
        return self._subjects.get(self.store.clips[clip].subject or "", -1)

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

    def _frames(self, ids: list[str], draws: Sequence[Draw], records: Sequence[ClipRecord], inputs: Inputs) -> Tensor:
        if not inputs.decoded:
            side = self.config.model.image_size
            return torch.zeros((len(ids), inputs.frames, 3, side, side), dtype=torch.uint8)
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
