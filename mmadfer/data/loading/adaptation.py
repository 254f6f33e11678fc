"""Batches under `adapt`: every other clip is a source, with its label, and every other is of who is adapted to.

So any even part of a batch, of a rank or a micro-batch, has as many of both. An epoch is one of the sources; clips that
are adapted to come again, in another order, as often as it takes.
Nothing here imports torch.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain, count, islice

from mmadfer.config.schema import Config
from mmadfer.data.draws import digest
from mmadfer.data.fold_clips import adapting_clips, labels_of, training_clips
from mmadfer.data.loading.samplers import WITHHELD, Pick, Sampler, sampler_of
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError
from mmadfer.tasks.logit_adjustment import shares


class AdaptationSampler(Sampler):
    """The clips of a sampler, each followed by one that is adapted to.

    Args:
        sources: of the clips with labels; it does not observe.
        adapting: ids of the clips that are adapted to.

    Attributes:
        given: their labels, as places; what has none is not in it.
    """

    def __init__(self, sources: Sampler, adapting: Sequence[str]) -> None:
        super().__init__(sources.seed, sources.clips)
        self.adapting, self.even, self._sources = tuple(adapting), sources.even, sources
        self.given: Mapping[str, int] = {}

    def narrow(self, people: Collection[str]) -> None:
        """Take the clips of these people alone as sources."""
        self.clips = [clip for clip in self._sources.clips if clip.subject in people]
        self._sources.clips = self.clips

    def epoch(self, k: int) -> list[Pick]:
        """As many of both, source first."""
        sources = self._sources.epoch(k)
        others = islice(chain.from_iterable(self._turn(k, turn) for turn in count()), len(sources))
        return [pick for pair in zip(sources, others, strict=True) for pick in pair]

    def _turn(self, k: int, turn: int) -> list[Pick]:
        """All clips that are adapted to, in an order of this turn of epoch `k`."""
        order = sorted(self.adapting, key=lambda clip: (digest(self.seed, k, turn, clip, "adapt"), clip))
        return [Pick(clip, turn, given=self.given.get(clip, WITHHELD)) for clip in order]


def fold_sampler(config: Config, store: Store, fold: int) -> Sampler:
    """As `sampler_of`, and under `adapt` with the clips that are adapted to.

    Raises:
        ConfigError: under `adapt`, a sampler that observes, or more people asked for than there are.
        DataError: as `adapting_clips`.
    """
    found = sampler_of(config, store, fold)
    if config.adapt is None:
        return found
    if found.observes:
        raise ConfigError(
            f"data.sampler {config.data.sampler} goes by the loss or score of each clip, and under adapt half of them "
            "have no label: take shuffle or balanced"
        )
    adapting, people = adapting_clips(config, store, fold), {clip.subject for clip in found.clips}
    if config.adapt.sources != "all" and config.adapt.sources.nearest > len(people):
        raise ConfigError(
            f"adapt.sources.nearest is {config.adapt.sources.nearest}, but fold {fold} trains on {len(people)} people: "
            "set fewer, or adapt.sources all"
        )
    return AdaptationSampler(found, adapting)


def label_shares(config: Config, store: Store, fold: int, sampler: Sampler) -> tuple[float, ...]:
    """The share of each label in a fold's training; equal ones where the sampler draws so, none where it has values."""
    if config.task.values:
        return ()
    adapting = isinstance(sampler, AdaptationSampler)
    trained = [clip.label for clip in (sampler.clips if adapting else training_clips(config, store, fold))]
    return shares(labels_of(config, store), set(trained) if sampler.even else trained)
