"""Which training clips come in an epoch, how often, in which order, and which window of each.

A sampler is a class with the methods of `Sampler`; it knows the run's seed and the fold's training clips. What it does
is a function of these, of the epoch, and of what it has observed, so that every rank and every resumed run picks the
same. `mmadfer.config.samplers` has the table of names, which installed packages add to.
Nothing here imports torch.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.schema import Config
from mmadfer.data.draws import DrawKey, digest, shuffled
from mmadfer.data.fold_clips import training_clips
from mmadfer.data.frame_windows import Window
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError, DataError

WITHHELD = -1
"""In the place of a label: there is none."""


class Pick(NamedTuple):
    """A clip's appearance in an epoch."""

    clip: str
    turn: int = 0
    """How often the clip has come in this epoch before: each time it is seen in another form."""
    partner: str | None = None
    """The clip that it is blended with, of all picks of a batch or of none; see `mmadfer.data.loading.mixup`."""
    beside: str | None = None
    """The clip that this one is blended into, where it comes as a partner."""
    window: Window | None = None
    """The frames that are looked at, whose sound alone is heard; None: the whole clip."""
    given: int | None = None
    """Of a clip that is adapted to: the label that it is given, as a place among them, or `WITHHELD`. Its own is then
    not looked at."""

    @property
    def key(self) -> DrawKey:
        """What tells this appearance from the clip's others, for `mmadfer.data.draws.draw_view`."""
        if self.beside is not None:
            return (self.turn, self.beside)
        return (self.turn,) if self.turn else ()

    @property
    def loses_with(self) -> tuple[str, DrawKey]:
        """Whose draw decides whether it loses a modality: a partner loses what the clip beside it does."""
        first = self if self.beside is None else Pick(self.beside, self.turn)
        return first.clip, first.key

    @property
    def names(self) -> list[str]:
        """All clips that are looked at."""
        return [self.clip] if self.partner is None else [self.clip, self.partner]


class Sampler:
    """Every clip once in each epoch, in an order of its own.

    Args:
        seed: of the run.
        clips: what is trained on, in any order.
    """

    observes = False
    """Whether it is told of each clip; that costs one small exchange between the ranks in each step."""
    observed: Literal["loss", "score"] = "loss"
    """What it is told: a clip's loss, or the logit of its own class."""
    windowed = False
    """Whether it chooses windows: it needs `data.window`, and is made with `span`, the frames that a window spans."""
    even = False
    """Whether all labels come equally often."""

    def __init__(self, seed: int, clips: Sequence[Clip]) -> None:
        self.seed, self.clips = seed, clips

    def epoch(self, k: int) -> list[Pick]:
        """The picks of epoch `k`, from 0, in their order; as many in each epoch as there are clips.

        What it has observed is of the epochs before. It must not change by being asked.
        """
        return [Pick(clip) for clip in shuffled(self.seed, k, (clip.id for clip in self.clips))]

    def observe(self, picks: Sequence[Pick], told: np.ndarray) -> None:
        """Called after each epoch where `observes` is set.

        Args:
            picks: of the epoch, those that filled its batches, in their order.
            told: float32 (len(picks),): `observed` of each while it was trained on; NaN where it was not finite.
        """

    def state_dict(self) -> dict[str, Any]:
        """What it has learnt, as JSON types; checkpoints keep it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


class Balanced(Sampler):
    """As many picks as clips, and as many of each class; what cannot be divided goes to other classes in each epoch.

    Of a class with more clips than its share, a part comes, by a hash of seed, epoch and clip; of one with fewer, all
    come, and a part of them once more. (Kang et al. 2020 draw with replacement; here no clip comes twice before all of
    its class have come once.)
    """

    even = True

    def epoch(self, k: int) -> list[Pick]:
        """As `Sampler.epoch`."""
        classes: dict[str, list[str]] = {}
        for clip in self.clips:
            classes.setdefault(clip.label, []).append(clip.id)
        share, rest = divmod(len(self.clips), len(classes))
        picks: list[Pick] = []
        for place, label in enumerate(sorted(classes)):
            ids = sorted(classes[label], key=lambda clip: (digest(self.seed, k, clip, "chosen"), clip))
            extra = (place - k * rest) % len(classes) < rest
            picks += [Pick(ids[n % len(ids)], n // len(ids)) for n in range(share + extra)]
        return sorted(picks, key=lambda pick: (digest(self.seed, k, pick.clip, "order", *pick.key), pick.clip))


class BySubject(Sampler):
    """Every clip once in each epoch, in runs of one person's clips: a batch has few people, and several clips of each.

    Args:
        seed: of the run.
        clips: what is trained on.
        run: the most clips of a run. What cannot be divided makes a shorter one.

    Raises:
        DataError: a clip has no subject.
        ValueError: `run` is no whole number from 1 on.
    """

    def __init__(self, seed: int, clips: Sequence[Clip], run: int = 4) -> None:
        super().__init__(seed, clips)
        if type(run) is not int or run < 1:
            raise ValueError(f"run is {run!r}, and it is a whole number from 1 on")
        if nameless := next((clip.id for clip in clips if not clip.subject), None):
            raise DataError(
                f"clip {nameless!r} has no subject, and data.sampler by_subject needs one of each: take shuffle"
            )
        self.run = run

    def epoch(self, k: int) -> list[Pick]:
        """As `Sampler.epoch`."""
        people: dict[str | None, list[str]] = {}
        for clip in self.clips:
            people.setdefault(clip.subject, []).append(clip.id)
        own = [shuffled(self.seed, k, ids) for ids in people.values()]
        runs = [ids[n : n + self.run] for ids in own for n in range(0, len(ids), self.run)]
        ordered = sorted(runs, key=lambda run: (digest(self.seed, k, run[0], "run"), run[0]))
        return [Pick(clip) for run in ordered for clip in run]


def sampler_of(config: Config, store: Store, fold: int) -> Sampler:
    """The sampler of `data.sampler` for the training clips of a fold, which has observed nothing yet.

    Raises:
        ConfigError: it does not take `data.sampler_options`, or needs something else than this configuration.
        DataError: the store has no such split or fold.
    """
    made, options = SAMPLERS.load(config.data.sampler), config.data.sampler_options
    clips = training_clips(config, store, fold)
    _check_needs(made, config)
    spans = {"span": config.data.window.span(config.model.frames)} if config.data.window and made.windowed else {}
    try:
        found: Sampler = made(config.train.seed, clips, **options, **spans)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.sampler {config.data.sampler} does not take {options}: {error}") from error
    return found


def _check_needs(made: type[Sampler], config: Config) -> None:
    name = config.data.sampler
    if made.windowed and config.data.window is None:
        raise ConfigError(f"data.sampler {name} draws windows, and data.window is not set: say what a window is there")
    if not made.observes or made.observed != "score":
        return
    if config.data.augment.mixup:
        raise ConfigError(
            f"data.sampler {name} goes by the score of each clip's own class, and with mixup (data.augment.mixup "
            f"{config.data.augment.mixup:g}) a clip has two: set 0"
        )
    if config.task.spec.output != "classes":
        raise ConfigError(
            f"data.sampler {name} goes by the score of each clip's class, and task {config.task.name} gives values: "
            "take shuffle"
        )
