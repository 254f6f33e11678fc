"""Adaptation of a fold to the people that it tests (`adapt`): whose clips are sources, features, pseudo-labels.

    begin        the nearest people of the sources, if asked for; features, if the temporal part learns alone; the test
                 of the model as it is
    each epoch   before every `adapt.every`-th, pseudo-labels anew

What a checkpoint must remember of it is in adaptation.json: sources, labels, and that first test.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmadfer.config.adaptation import AdaptConfig, chooses, threshold_at
from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import test_clips
from mmadfer.data.loading.adaptation import AdaptationSampler
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import WITHHELD, Pick
from mmadfer.data.store.store import Store
from mmadfer.errors import RunError
from mmadfer.evaluation.clip_windows import looks
from mmadfer.evaluation.evaluate import refuse_no_numbers, run_test
from mmadfer.evaluation.predictions import Scored
from mmadfer.tasks.pseudo_labels import pseudo_labels
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.features import FeatureFile, FeatureLoader, View, computed
from mmadfer.train.log import Log

ADAPTATION = "adaptation.json"
"""In a checkpoint."""
UNADAPTED = "unadapted.csv"
"""In a fold directory: predictions of the model before it was adapted, of the same clips as predictions.csv."""


@dataclass
class Adaptation:
    """Of one fold on one of its ranks; all ranks call the same methods."""

    config: Config
    store: Store
    fold: int
    validation: list[str]
    sampler: AdaptationSampler
    engine: Engine
    loader: Loader
    log: Log
    stop: Callable[[], bool]
    unadapted: dict[str, Any] | None = None
    """Scores and details of the model before it was adapted, on the clips that are tested."""
    first: Scored | None = None
    """That test, where it was made now."""

    @property
    def _settings(self) -> AdaptConfig:
        assert self.config.adapt is not None
        return self.config.adapt

    @property
    def people(self) -> list[str]:
        """Who is adapted to."""
        return sorted({str(self.store.clips[clip].subject) for clip in self.sampler.adapting})

    @property
    def sources(self) -> list[str]:
        """Whose clips are sources."""
        return sorted({str(clip.subject) for clip in self.sampler.clips})

    @property
    def scores(self) -> dict[str, float]:
        """Of the model before it was adapted."""
        return {name: self.unadapted[name] for name in self.config.task.spec.names} if self.unadapted else {}

    def begin(self, state: dict[str, Any] | None, file: FeatureFile) -> bool:
        """Make ready, or go on from the `state` of a checkpoint; False where any rank was asked to stop."""
        if state is not None:
            self.load(state)
        elif not self._choose_sources():
            return False
        if isinstance(self.loader, FeatureLoader):
            self.loader.features = file.features(self._views(), self.engine, self.loader, self.stop)
            if self.loader.features is None:
                return False
        if self._settings.labels == "given":
            self._take_given()
        if self.unadapted is None:
            self.first = run_test(self.engine.logits, self.loader, self._tested, self.engine.ranks, self.stop)
            if self.first is None:
                return False
            self.unadapted = {**self.first.scores(), **self.first.details()}
        return True

    def label(self, epoch: int, total: int) -> bool:
        """Pseudo-labels anew, where it is time before this epoch, from 0; False where any rank was asked to stop."""
        settings = self._settings
        if settings.labels == "given" or not chooses(epoch, settings.every):
            return True
        picks = [Pick(clip, given=WITHHELD) for clip in self.sampler.adapting]
        logits, mirrored = (self._logits(picks, flip) for flip in (False, True))
        if logits is None or mirrored is None:
            return False
        threshold = threshold_at(epoch, settings.threshold, settings.step, settings.every)
        before = torch.tensor([clip in self.sampler.given for clip in self.sampler.adapting])
        among = before if settings.choose == "released" and epoch else None
        found = pseudo_labels(logits, mirrored, threshold, settings.agree, among)
        places = zip(found.chosen.tolist(), found.labels.tolist(), strict=True)
        self.sampler.given = {self.sampler.adapting[place]: label for place, label in places}
        self._tell(epoch, total, threshold)
        return True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON types."""
        sources = None if self._settings.sources == "all" else self.sources
        return {"sources": sources, "given": dict(self.sampler.given), "unadapted": self.unadapted}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            RunError: it is of no such adaptation.
        """
        try:
            sources, given, self.unadapted = state["sources"], dict(state["given"]), state["unadapted"]
            known = {clip.subject for clip in self.sampler.clips}
            if not ({*given} <= {*self.sampler.adapting} and {*given.values()} <= {*range(len(self.loader.labels))}):
                raise ValueError("it has labels of other clips, or other labels")
            if sources is not None and not {*sources} <= known:
                raise ValueError("it has other sources")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"the adaptation cannot go on from its checkpoint: {error!r:.200}") from error
        self.sampler.given = given
        if sources is not None:
            self.sampler.narrow(sources)

    @property
    def _tested(self) -> list[str]:
        return test_clips(self.config, self.store, self.fold)

    def _logits(self, picks: Sequence[Pick], flip: bool) -> Tensor | None:
        found = computed(self.engine.logits, self.loader, picks, self.engine.ranks, self.stop, flip=flip)
        if found is not None:
            refuse_no_numbers([pick.clip for pick in picks], found)
        return found

    def _views(self) -> list[View]:
        """All that training and tests look at."""
        tested = {View(flip, clip) for _, flip in looks(self.config.data) for clip in (*self._tested, *self.validation)}
        adapting = {View(flip, clip) for flip in (False, True) for clip in self.sampler.adapting}
        return sorted({*tested, *adapting, *(View(False, clip.id) for clip in self.sampler.clips)})

    def _take_given(self) -> None:
        """The true labels, which an upper bound learns."""
        places = {label: place for place, label in enumerate(self.loader.labels)}
        own = {clip: self.store.clips[clip].label for clip in self.sampler.adapting}
        self.sampler.given = {clip: places[label] for clip, label in own.items() if label in places}
        self.log.say(f"WARNING: the labels of {', '.join(self.people)} are learnt (adapt.labels given): an upper bound")

    def _choose_sources(self) -> bool:
        """The nearest people, if the settings ask for some; False where any rank was asked to stop.

        The mean features of one person after another are kept, so memory grows with the number of people and their
        width alone.
        """
        if self._settings.sources == "all":
            return True
        nearest, people = self._settings.sources.nearest, self.sources
        means = list[Tensor]()
        for rows in self._rows_by_person(people):
            found = computed(self.engine.pooled, self.loader, rows, self.engine.ranks, self.stop)
            if found is None:
                return False
            means.append(found.double().mean(0))
        apart = (torch.stack(means[1:]) - means[0]).square().sum(1).tolist()
        chosen = sorted(zip(apart, people, strict=True))[:nearest]
        self.sampler.narrow([name for _, name in chosen])
        self.log.say(f"nearest to {', '.join(self.people)}: {', '.join(name for _, name in chosen)}")
        return True

    def _rows_by_person(self, people: Sequence[str]) -> Iterator[list[Pick]]:
        """First of who is adapted to."""
        yield [Pick(clip, given=WITHHELD) for clip in self.sampler.adapting]
        clips: dict[str, list[Pick]] = {name: [] for name in people}
        for clip in self.sampler.clips:
            clips[str(clip.subject)].append(Pick(clip.id))
        yield from clips.values()

    def _tell(self, epoch: int, total: int, threshold: float) -> None:
        chosen, of, who = len(self.sampler.given), len(self.sampler.adapting), ", ".join(self.people)
        self.log.event("labels", epoch=epoch + 1, step=total + 1, threshold=threshold, chosen=chosen, clips=of)
        self.log.say(f"{chosen} of the {of} clips of {who} have a pseudo-label, at a threshold of {threshold:g}")
        if not chosen:
            self.log.say("WARNING: no clip has a pseudo-label: only the discrepancy (adapt.weight) learns of them")
