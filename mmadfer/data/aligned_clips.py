"""Which clips `task.align` can draw attention in: those with landmarks whose label has action units.

Nothing here imports torch, so that a launcher can ask.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mmadfer.config.schema import Config
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.fold_clips import labels_of, training_clips
from mmadfer.data.store.record import Clip
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError
from mmadfer.tasks.codebook import EXPRESSIONS, NONE, expression_of


class Aligned(NamedTuple):
    """Numbers of training clips of a fold."""

    clips: int
    without_units: int
    """Their label has no action units."""
    without_landmarks: int
    """Their label has, but the store has no reliable landmarks of them."""

    def __str__(self) -> str:
        left = self.clips - self.without_units - self.without_landmarks
        return (
            f"task.align draws attention in {left} of {self.clips} training clips; of the others, {self.without_units} "
            f"have a label without action units, and {self.without_landmarks} have no reliable landmarks"
        )


def check_alignment(config: Config, store: Store, folds: Iterable[int]) -> None:
    """Refuse `task.align` where it could draw no attention in a fold.

    Raises:
        ConfigError: no label has action units.
        DataError: no clip has landmarks.
    """
    if config.task.align is None:
        return
    labels = labels_of(config, store)
    if labels and all(expression_of(label) == NONE for label in labels):
        raise ConfigError(
            f"task.align: none of the labels {', '.join(labels)} has action units, which "
            f"{', '.join(name.lower() for name in EXPRESSIONS)} have: leave task.align out, or name the labels so"
        )
    for fold in folds:
        found = aligned(config, store, fold)
        if found.clips == found.without_units + found.without_landmarks:
            raise DataError(
                f"{store.path} has no reliable landmarks of the clips that fold {fold} trains on, and task.align needs "
                "them: prepare a store with them (`mmadfer prepare … --set prepare.landmarks=face_mesh_v2`, or files "
                f"of the tensor {TENSOR!r}), or leave task.align out"
            )


def aligned(config: Config, store: Store, fold: int) -> Aligned:
    """The clips that a fold trains on. That single frames of them have no landmarks is only seen when they are read."""
    clips = training_clips(config, store, fold)
    known = [clip for clip in clips if expression_of(clip.label) != NONE]
    return Aligned(len(clips), len(clips) - len(known), sum(not _has_landmarks(store, clip) for clip in known))


def _has_landmarks(store: Store, clip: Clip) -> bool:
    """Whether there are any; where preparation has looked for them, some of a frame that can be relied on."""
    looked = store.header.landmarks and clip.tensors.get(TENSOR) == ""
    return clip.landmarked > 0 if looked else TENSOR in clip.tensors
