"""Which training clips come in an epoch, how often and in which order: pure functions of (seed, epoch, clips).

`SAMPLERS` is a table of names, so that another way to sample is one more function.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mmadfer.data.draws import Key, digest, order
from mmadfer.data.store.store import Clip


class Pick(NamedTuple):
    """A clip's appearance in an epoch."""

    clip: str
    turn: int = 0
    """How often the clip has come in this epoch before: each time it is seen in another form."""
    partner: str | None = None
    """The clip that it is blended with, of all picks of a batch or of none; see `mmadfer.data.loading.mixup`."""
    beside: str | None = None
    """The clip that this one is blended into, where it comes as a partner."""

    @property
    def key(self) -> Key:
        """What tells this appearance from the clip's others, for `mmadfer.data.draws.draw`."""
        if self.beside is not None:
            return (self.turn, self.beside)
        return (self.turn,) if self.turn else ()

    @property
    def loses_with(self) -> tuple[str, Key]:
        """Whose draw decides whether it loses a modality: a partner loses what the clip beside it does."""
        first = self if self.beside is None else Pick(self.beside, self.turn)
        return first.clip, first.key

    @property
    def names(self) -> list[str]:
        """All clips that are looked at."""
        return [self.clip] if self.partner is None else [self.clip, self.partner]


Sampler = Callable[[int, int, Sequence[Clip]], list[Pick]]
"""From seed, epoch (from 0) and the training clips, in any order, to those of the epoch, in its order."""


def shuffle(seed: int, epoch: int, clips: Sequence[Clip]) -> list[Pick]:
    """Every clip once."""
    return [Pick(clip) for clip in order(seed, epoch, (clip.id for clip in clips))]


def balanced(seed: int, epoch: int, clips: Sequence[Clip]) -> list[Pick]:
    """As many picks as clips, and as many of each class; what cannot be divided goes to other classes in each epoch.

    Of a class with more clips than its share, a part comes, by a hash of seed, epoch and clip; of one with fewer, all
    come, and a part of them once more. (Kang et al. 2020 draw with replacement; here no clip comes twice before all of
    its class have come once.)
    """
    classes: dict[str, list[str]] = {}
    for clip in clips:
        classes.setdefault(clip.label, []).append(clip.id)
    share, rest = divmod(len(clips), len(classes))
    picks: list[Pick] = []
    for k, label in enumerate(sorted(classes)):
        ids = sorted(classes[label], key=lambda clip: (digest(seed, epoch, clip, "chosen"), clip))
        extra = (k - epoch * rest) % len(classes) < rest
        picks += [Pick(ids[n % len(ids)], n // len(ids)) for n in range(share + extra)]
    return sorted(picks, key=lambda pick: (digest(seed, epoch, pick.clip, "order", *pick.key), pick))


SAMPLERS: dict[str, Sampler] = {"shuffle": shuffle, "balanced": balanced}
"""By the name in `data.sampler`."""
