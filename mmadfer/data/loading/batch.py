"""A batch of clips, and how the device makes the model's input of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmadfer.data.loading.memory_pool import Blocks

Move = Callable[[Tensor], Tensor]
_blocks = Blocks(2)


@dataclass(frozen=True)
class Mix:
    """The clips that those of a batch are blended with; `mmadfer.data.loading.mixup` makes it."""

    frames: Tensor
    """uint8 (B, T, 3, S, S), as the batch's own."""
    brightness: Tensor
    """float32 (B,)."""
    share: Tensor
    """float32 (B,) in [0, 1]: how much of the blend is the batch's own clip."""

    def moved(self, move: Move) -> "Mix":
        """With all tensors moved."""
        return Mix(move(self.frames), move(self.brightness), move(self.share))


@dataclass(frozen=True)
class Batch:
    """B clips on the loader's device."""

    frames: Tensor
    """uint8 (B, T, 3, S, S), RGB, without brightness; see `preprocess`. T is 0 where nobody has a use for them
    (`model.branches: audio`, without a teacher): then none is read."""
    fbank: Tensor
    """float32 (B, 1, 512, 128), time first, normalised; already blended, where there is a `mix`."""
    targets: dict[str, Tensor]
    """By name. `label`: int64 (B,), places in the loader's labels, or of a `mix` float32 (B, classes), the shares of
    both clips' labels, each row adding up to 1. Without any, a task computes no loss."""
    ids: list[str]
    brightness: Tensor
    """float32 (B,): factors; 1 in evaluation."""
    drop_path: Tensor | None
    """float32 (B, T + 1, depth, 2) uniform draws in [0, 1); None in evaluation."""
    mix: Mix | None = None
    """Of `data.augment.mixup`; None without it, and in evaluation."""
    landmarks: Tensor | None = None
    """float32 (B, T, 68, 2): x and y in pixels of `frames`, cropped, resized and mirrored as these are; NaN where a
    frame has none, or is not shown. None without `task.align`."""
    tokens: Tensor | None = None
    """int64 (B, L): of the clips' sentences. None without `model.text`."""
    expressions: Tensor | None = None
    """int64 (B,): what each label is in the codebook of action units (`mmadfer.tasks.codebook`). None, too."""
    adapted: Tensor | None = None
    """bool (B,): which clips are of those that are adapted to. Their `label` is a pseudo-label, or
    `mmadfer.data.loading.samplers.WITHHELD`, and they have no other target. None where none of the batch is."""
    joint: Tensor | None = None
    """(B, T, W): what the model makes of the clips before its temporal part, where that is known
    (`mmadfer.train.features`); then there are no frames and no sound. None: it is computed of them."""
    subjects: Tensor | None = None
    """int64 (B,): the place of each clip's subject among all of the store, sorted; -1 for none. None
    without `task.subjects`."""

    def moved(self, move: Move) -> "Batch":
        """With all tensors moved."""
        return replace(
            self,
            frames=move(self.frames),
            fbank=move(self.fbank),
            targets={name: move(target) for name, target in self.targets.items()},
            brightness=move(self.brightness),
            drop_path=None if self.drop_path is None else move(self.drop_path),
            mix=None if self.mix is None else self.mix.moved(move),
            tokens=None if self.tokens is None else move(self.tokens),
            landmarks=None if self.landmarks is None else move(self.landmarks),
            expressions=None if self.expressions is None else move(self.expressions),
            adapted=None if self.adapted is None else move(self.adapted),
            joint=None if self.joint is None else move(self.joint),
            subjects=None if self.subjects is None else move(self.subjects),
        )


def preprocess(batch: Batch) -> Tensor:
    """The frames as the model takes them: float32 (B, T, 3, S, S) in [0, 1], with the drawn brightness, and blended.

    The published program multiplies and clamps the bytes before it crops and resizes. All but the clamp is linear, so
    the order only matters beside pixels that saturate: it clamps before the interpolation, this does after it.
    """
    frames = _bright(batch.frames, batch.brightness)
    if batch.mix is None:
        return frames
    other = _bright(batch.mix.frames, batch.mix.brightness)
    return other.lerp_(frames, batch.mix.share.view(-1, 1, 1, 1, 1))


def _bright(frames: Tensor, brightness: Tensor) -> Tensor:
    if frames.is_cuda:
        scaled = frames / 255
    else:  # the same numbers; to convert and divide at once is slower
        scaled = _blocks.take(tuple(frames.shape), torch.float32).copy_(frames).div_(255)
    return scaled.mul_(brightness.view(-1, 1, 1, 1, 1)).clamp_(max=1)
