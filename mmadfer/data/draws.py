"""Which frames and which augmentation: pure functions of (seed, epoch, clip id), in numpy only.

Nothing here has a state, so any step of any epoch can be resumed exactly, and one or many ranks, on a CPU or a GPU, see
the same clips in the same form. Each quantity has a stream of its own: to change how one is drawn moves no other.
Only the raw output of Philox is used, because numpy keeps that the same in all its versions, and not its distributions.
As the published program picks them; the paper's section 4.2.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mmadfer.config.schema import AugmentConfig
from mmadfer.errors import DataError

DrawKey = tuple[int | str, ...]
"""Tells the appearances of a clip in an epoch apart; () is the first."""
Box = tuple[int, int, int, int]
"""A crop in pixels of the stored frame: left, top, width, height."""

CROP_TRIES = 10


@dataclass(frozen=True)
class Draw:
    """Everything that is random about a clip in one epoch."""

    indexes: np.ndarray
    """int64 (T,): frames of the stored clip, rising; the last one repeated where the clip is shorter than T."""
    crop: Box
    """The part of every frame that is resized to the model's input."""
    flip: bool = False
    """Whether every frame is mirrored, left to right."""
    brightness: float = 1.0
    """Factor for every pixel, before clamping to [0, 1]; 0 where the clip is shown without faces."""
    silent: bool = False
    """Whether the sound is left out."""
    spec: np.ndarray | None = None
    """float64 (4,) in [0, 1): draws of SpecAugment's masks; None: there are none."""
    share: float = 1.0
    """How much of the clip is left where it is blended with another one."""
    drop_path: np.ndarray | None = None
    """float32 (T + 1, depth, 2) in [0, 1): one draw for each frame, and the sound (row T), in each block's attention
    and MLP branch; a branch is kept where the draw is at least its rate. None: no stochastic depth."""


def shuffled(seed: int, epoch: int, ids: Iterable[str]) -> list[str]:
    """The clips in the order of this epoch: a permutation that does not depend on the order of `ids`.

    Clips are sorted by a hash, so a clip that joins or leaves the set does not shuffle the others.
    """
    return sorted(ids, key=lambda clip: (digest(seed, epoch, clip, "order"), clip))


def draw_view(
    seed: int,
    epoch: int,
    clip_id: str,
    n_frames: int,
    *,
    size: tuple[int, int],
    augment: AugmentConfig,
    frames: int,
    depth: int,
    key: DrawKey = (),
    loses_with: tuple[str, DrawKey] | None = None,
) -> Draw:
    """How a clip is seen in a training epoch.

    Args:
        seed: of the run.
        epoch: from 0.
        clip_id: as in the store.
        n_frames: frames of the stored clip.
        size: height and width of the stored frames in pixels.
        augment: ranges to draw from.
        frames: T, the model's frames.
        depth: blocks of each encoder.
        key: which of the clip's appearances in this epoch.
        loses_with: whose draw decides whether it loses a modality, clip and key; by default its own.
    """

    def drawn(name: str, n: int) -> np.ndarray:
        return uniform(n, seed, epoch, clip_id, name, *key)

    brightness, flip = (drawn(name, 1)[0] for name in ("brightness", "flip"))
    loser, own = loses_with or (clip_id, key)
    (lost,) = uniform(1, seed, epoch, loser, "drop", *own)
    blind = lost < augment.drop_vision
    return Draw(
        indexes=train_indexes(n_frames, frames, drawn("frames", frames)),
        crop=random_crop(size, augment, drawn("crop", 3 * CROP_TRIES + 2)),
        flip=bool(flip < augment.flip),
        brightness=0.0 if blind else _between(augment.brightness, brightness),
        silent=bool(not blind and lost < augment.drop_vision + augment.drop_audio),
        spec=drawn("spec", 4) if augment.spec_time or augment.spec_mels else None,
        share=beta(augment.mixup, *drawn("share", 2)) if augment.mixup else 1.0,
        drop_path=_uniform32((frames + 1, depth, 2), seed, epoch, clip_id, "drop_path", *key),
    )


def test_draw(
    n_frames: int,
    size: tuple[int, int],
    frames: int,
    clip: int = 0,  # noqa: PT028
    clips: int = 1,  # noqa: PT028
    flip: bool = False,  # noqa: PT028
) -> Draw:
    """How a clip is evaluated: the whole frame, index set `clip` of `clips`, as it is or mirrored, nothing random."""
    height, width = size
    return Draw(indexes=test_indexes(n_frames, frames, clips)[clip], crop=(0, 0, width, height), flip=flip)


def train_indexes(n: int, frames: int, draws: np.ndarray) -> np.ndarray:
    """One random frame out of each of `frames` equal parts of `n // frames` frames; int64 (frames,).

    Args:
        n: frames of the stored clip.
        frames: T; with n < T, all frames in order and then the last one again.
        draws: float64 (T,) in [0, 1).

    Raises:
        DataError: n is 0.
    """
    step = n // frames
    if step == 0:
        return _all_and_last(n, frames)
    return step * np.arange(frames) + (draws * step).astype(np.int64)


def test_indexes(n: int, frames: int, clips: int = 1) -> np.ndarray:  # noqa: PT028
    """Evenly spaced frames; int64 (clips, frames).

    The clip is cut into T equal parts (ticks, as long as n / T frames). One index set takes the middle of each tick, as
    published. The paper averages two "uniformly sampled" sets without saying which: here set c of C takes the
    place (c + 1/2) / C in each tick, so two sets take 1/4 and 3/4 of each tick, and together they are one even
    sampling of 2 T frames. A clip of T frames or less has one set only, and gives it C times.

    Raises:
        DataError: n is 0.
    """
    if n <= frames:
        return np.tile(_all_and_last(n, frames), (clips, 1))
    tick = n / frames
    return np.stack([(tick * (c + 0.5) / clips + tick * np.arange(frames)).astype(np.int64) for c in range(clips)])


def random_crop(size: tuple[int, int], augment: AugmentConfig, draws: np.ndarray) -> Box:
    """A random part of a frame, to be resized to the model's square input.

    Up to 10 times: area and width by height uniform in their ranges, width and height swapped half of the time; the
    first box that fits is placed anywhere. Where none fits, the published program resizes the shorter side to the
    input and takes a random square of it: in the stored frame, this is a square as large as the shorter side.

    Args:
        size: height and width of the frame.
        augment: `area` and `ratio`.
        draws: float64 (32,) in [0, 1): three for each try, then two for the place.
    """
    height, width = size
    for area, ratio, swap in draws[:-2].reshape(CROP_TRIES, 3):
        target = _between(augment.area, area) * height * width
        w, h = _sides(target, _between(augment.ratio, ratio), swap < 0.5)
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    x, y = draws[-2:] * (width - w + 1, height - h + 1)
    return int(x), int(y), w, h


def beta(alpha: float, one: float, two: float) -> float:
    """A draw of Beta(alpha, alpha), in [0, 1], from two of [0, 1).

    Bailey 1994 makes Student's t with 2 alpha degrees of freedom of them as he makes a normal draw; t / sqrt(2 alpha +
    t^2) is spread as 2 Beta - 1 (Devroye 1996, "Random variate generation in one line of code"). Nothing is rejected,
    and the draw is the same wherever the C library's power and cosine are.
    """
    power, wave = one ** (1 / alpha), math.cos(2 * math.pi * two)
    square = (1 - power) * wave**2
    return 0.5 + math.copysign(0.5 * math.sqrt(square / (power + square)), wave) if square else 0.5


def _sides(area: float, ratio: float, swap: bool) -> tuple[int, int]:
    w, h = max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))
    return (h, w) if swap else (w, h)


def _all_and_last(n: int, frames: int) -> np.ndarray:
    if n < 1:
        raise DataError("a clip without frames cannot be sampled; run `mmadfer prepare` again")
    return np.minimum(np.arange(frames), n - 1)


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(draw)


def digest(*key: int | str) -> bytes:
    """16 bytes that depend on all of `key` and on nothing else."""
    # Python's own hash() differs from one process to the next.
    return blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()


def _raw(n: int, *key: int | str) -> np.ndarray:
    return np.random.Philox(key=int.from_bytes(digest(*key), "little")).random_raw(n)


def uniform(n: int, *key: int | str) -> np.ndarray:
    """float64 (n,) in [0, 1), by `key`."""
    return (_raw(n, *key) >> np.uint64(11)) * 2.0**-53


def _uniform32(shape: tuple[int, ...], *key: int | str) -> np.ndarray:
    # 24 bits are what float32 holds exactly; a rounded float64 could become 1.0.
    draws = (_raw(int(np.prod(shape)), *key) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return draws.reshape(shape)


def evenly(count: int, most: int) -> list[int]:
    """Places from the first of `count` to the last, evenly spread, each once and at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
