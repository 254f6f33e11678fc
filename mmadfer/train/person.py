"""A trained model adapted to one person from their own videos without labels, by the stage `adapt` as it is.

The person's clips and labelled ones make a store (`mmadfer.train.person_store`) of which the person is the test fold.
Half of the person's clips adapt, and the others, of other videos, are asked whether the model has become worse: nobody
knows their labels, so what is compared is how far the model says the same of a clip and of its mirror image.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import yaml
from torch import Tensor

from mmadfer.config import schema as configs
from mmadfer.config.schema import Config
from mmadfer.contract import Contract, refuse_text
from mmadfer.contract.facts import AdaptedFacts
from mmadfer.data.fold_clips import adapting_clips, test_clips
from mmadfer.data.loading.adaptation import AdaptationSampler
from mmadfer.data.loading.samplers import WITHHELD, Pick
from mmadfer.data.store.store import Store
from mmadfer.distributed.fold_lease import alone
from mmadfer.distributed.ranks import Ranks, connected
from mmadfer.distributed.signals import stop_on_signals
from mmadfer.errors import ConfigError, DataError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.load import load
from mmadfer.run.lease import Held
from mmadfer.train.adaptation import Adaptation
from mmadfer.train.features import computed
from mmadfer.train.loop import Trainer
from mmadfer.train.parents import Parents
from mmadfer.train.person_store import SPLIT
from mmadfer.utils.files import write_text
from mmadfer.utils.logs import logger
from mmadfer.utils.progress import Meter
from mmadfer.version import VERSION

LOGGER = logger(__name__)
LEAST_ADAPTING, LEAST_CHECKED = 8, 4
"""Clips, or windows, below which no model is adapted: to adapt on, and to check on."""
RECIPE = {
    "epochs": 20, "batch_size": 32, "lr": 1e-4, "compile": False, "keep": 1, "save_every": 1_000_000
}  # fmt: skip
"""Of `train`, where nobody says otherwise."""
_SETTABLE = ("adapt.", "train.")


@dataclass(frozen=True)
class Answers:
    """What a model says of N clips and of their mirror images: probabilities, float64 (N, C)."""

    plain: Tensor
    mirrored: Tensor

    @property
    def agreement(self) -> float:
        """Share of clips that have one label, mirrored or not."""
        return float((self.plain.argmax(1) == self.mirrored.argmax(1)).double().mean())

    @property
    def consistency(self) -> float:
        """Mean over clips of the sum of p q: the chance that both views, drawn by their probabilities, agree."""
        return float((self.plain * self.mirrored).sum(1).mean())

    @property
    def confidence(self) -> Tensor:
        """Of each clip, the mean of both views' largest probabilities, by which it gets a pseudo-label."""
        return (self.plain.max(1).values + self.mirrored.max(1).values) / 2

    @property
    def labels(self) -> set[int]:
        """Those that the model tells of any clip."""
        return {*self.plain.argmax(1).tolist()}

    def told(self) -> str:
        """In words."""
        return f"{self.agreement:.1%} agree with their mirror image, consistency {self.consistency:.4f}"


@dataclass(frozen=True)
class Adapted:
    """A model that was adapted, and how it passed its check."""

    model: MMADFER
    """Whose contract says for whom it is, and from which model."""
    chosen: int
    """Clips that had a pseudo-label in the end."""
    before: Answers
    after: Answers

    @property
    def contract(self) -> Contract:
        """Of the adapted model."""
        assert self.model.contract is not None
        return self.model.contract

    def lines(self, out: Path) -> list[str]:
        """What was done, for a person."""
        facts = self.contract.adapted
        assert facts is not None
        return [
            f"model   {out}: for {', '.join(facts.people)}, adapted on {facts.clips} clips, {self.chosen} of them with "
            f"a pseudo-label; from {facts.name} (weights {facts.weights_hash[:12]})",
            f"check   {len(self.after.plain)} held-out clips: before, {self.before.told()}; now, {self.after.told()}",
        ]


def adapt_model(path: Path, fold: int | None, origin: str, name: str, config: Config) -> Adapted | None:
    """Adapt a model to the person whose clips `data.store` holds; None where it was asked to stop.

    Args:
        path: of the model, as `mmadfer.load` takes it.
        fold: of a run.
        origin: what the model is called in the contract of the adapted one.
        name: of the person.
        config: as `person_config` gives it; the folder that `data.store` lies in is written to.

    Raises:
        DataError: there is too little to adapt on, no clip has a pseudo-label, or the adapted model is worse by its
            own check; says the numbers.
    """
    assert config.data.store is not None
    _refuse_too_little(config, config.data.store, name)
    folder = config.data.store.parent / "run" / "fold-1"
    folder.mkdir(parents=True)
    with (
        stop_on_signals() as stop,
        connected() as ranks,
        alone(folder, False, ranks, stop) as held,
        closing(PersonTrainer(config, folder, ranks, held, stop, load(path, fold))) as trainer,
    ):
        before, after = trainer.through()
        learned, sampler = trainer.learned(), trainer.person
    if before is None or after is None:
        return None
    _refuse_worse(before, after, name)
    facts = {"people": (name,), "clips": len(sampler.adapting), "name": origin}
    return Adapted(_with(load(path, fold), learned, facts), len(sampler.given), before, after)


def contract_of(model: MMADFER, path: Path) -> Contract:
    """The contract of a model that can be adapted.

    Raises:
        ConfigError: it is of no kind that the stage adapts.
    """
    contract = model.contract
    if contract is None or contract.output != "classes":
        raise ConfigError(f"{path} does not tell classes, and pseudo-labels are classes: give a model of emotions")
    if contract.unfinished:
        raise ConfigError(f"{path} has epochs left to train: finish it, and adapt it then")
    if contract.adapted is not None:
        raise ConfigError(
            f"{path} is adapted to {', '.join(contract.adapted.people[:3])}, and a second adaptation would hide that: "
            f"give the model that it was adapted from ({contract.adapted.name})"
        )
    refuse_text(contract, "mmadfer adapt")
    if "vision" not in contract.model.modalities:
        raise ConfigError(f"{path} sees no faces, and a clip is compared with its mirror image: give another model")
    return contract


def person_config(contract: Contract, path: Path, store: Path, file: Path, overrides: Sequence[str]) -> Config:
    """The configuration of the stage, and of one person in `store`, which need not be there yet.

    Args:
        contract: of the model.
        path: of the model.
        store: of `write_person_store`.
        file: to write it to.
        overrides: of `adapt` and `train`, as `--set` takes them.

    Raises:
        ConfigError: a key of another section, or a setting that cannot be; or a model that was trained on windows.
    """
    if odd := [one for one in overrides if not one.startswith(_SETTABLE)]:
        raise ConfigError(f"--set {odd[0]}: here {' and '.join(f'{key}*' for key in _SETTABLE)} can be set")
    model, prepare = (part.model_dump(mode="json") for part in (contract.model, contract.prepare))
    data = {"store": str(store), "split": SPLIT, "labels": [*contract.labels], "test_flips": True}
    data |= {"modalities": contract.modalities if contract.model.branches == "both" else "both"}
    sections = {"prepare": {**prepare, "landmarks": "none"}, "data": data, "model": model, "train": RECIPE, "adapt": {}}
    text = yaml.safe_dump({"name": "adapt", **sections, "stages": {"init": str(path.absolute())}})
    write_text(file, text)
    config = configs.load(file, overrides)
    if contract.window is not None:
        raise ConfigError(
            f"{path} was trained on windows (data.window), and adapt takes whole clips: give another model"
        )
    if config.adapt is None or config.adapt.labels == "given":
        raise ConfigError("adapt.labels given learns labels, and nobody knows those of a person's own videos")
    return config


def _refuse_too_little(config: Config, store: Path, name: str) -> None:
    with Store(store) as opened:
        counts = [len(clips(config, opened, 1)) for clips in (adapting_clips, test_clips)]
    if counts[0] < LEAST_ADAPTING or counts[1] < LEAST_CHECKED:
        raise DataError(
            f"{name} has {counts[0]} clips to adapt on and {counts[1]} of other videos to check on, and needs at least "
            f"{LEAST_ADAPTING} and {LEAST_CHECKED}: give more videos, cut them into windows (--window 5 --hop 2), or "
            "divide them otherwise (--set adapt.share=0.6)"
        )


def _refuse_worse(before: Answers, after: Answers, name: str) -> None:
    told = f"on {len(after.plain)} held-out clips of {name}, {before.told()} before and {after.told()} after"
    if after.consistency < before.consistency or after.agreement < before.agreement:
        raise DataError(
            f"the adapted model is worse by its own check, so nothing was written: {told}. The model stays as it is; "
            "more videos of this person, or other settings (--set adapt.threshold=0.95), may do better"
        )
    if len(after.labels) == 1 < len(before.labels):
        raise DataError(
            f"the adapted model tells one label of every held-out clip, so nothing was written: {told}. Pseudo-labels "
            "have led it astray: --set adapt.threshold=0.95 or fewer --set train.epochs=5 may do better"
        )


@torch.no_grad()
def _with(model: MMADFER, learned: Mapping[str, Tensor], facts: dict[str, Any]) -> MMADFER:
    """The model with these weights, and with a contract of whom it is for; scores were of other weights."""
    contract = model.contract
    assert contract is not None
    for key, value in model.learned().items():
        value.copy_(learned[key])
    adapted = AdaptedFacts(**facts, weights_hash=contract.weights_hash)
    update = {"adapted": adapted, "metrics": {}, "temperature": None, "temperature_looks": None, "version": VERSION}
    model.contract = contract.model_copy(update=update)
    return model


class PersonTrainer(Trainer):
    """The fold of one person; what its tests say of labels, which are none, nobody sees."""

    echo = staticmethod(LOGGER.debug)

    def __init__(
        self, config: Config, folder: Path, ranks: Ranks, held: Held, stop: Callable[[], bool], model: MMADFER
    ) -> None:
        self._given, self.meter = model, Meter("adapting", config.train.epochs, goes_on=False)
        self.first: Answers | None = None
        """Of the model as it was given."""
        super().__init__(config, 1, folder, ranks, held, stop)

    def through(self) -> tuple[Answers | None, Answers | None]:
        """Train; what the model says of the held-out clips before and after, None where it was asked to stop."""
        with self.meter:
            if not self.run(False).finished:
                return self.first, None
        return self.first, self.answers(self.checked)

    @property
    def person(self) -> AdaptationSampler:
        """Which knows the clips that adapt, and their pseudo-labels."""
        return cast(AdaptationSampler, self.sampler)

    @property
    def checked(self) -> list[str]:
        """The held-out clips."""
        return test_clips(self.config, self.store, 1)

    def answers(self, clips: Sequence[str]) -> Answers | None:
        """What the model says of clips now; None where it was asked to stop."""
        picks = [Pick(clip, given=WITHHELD) for clip in clips]
        views = [
            computed(self.engine.logits, self.loader, picks, self.ranks, self.stop, flip=flip) for flip in (False, True)
        ]
        plain, mirrored = (None if one is None else one.double().softmax(1) for one in views)
        return None if plain is None or mirrored is None else Answers(plain, mirrored)

    def learned(self) -> dict[str, Tensor]:
        """The weights that training changes, on the CPU in float32."""
        with self.engine.whole() as model:
            return {key: value.detach().float().cpu().clone() for key, value in model.learned().items()}

    def _beginning(self) -> tuple[Parents, MMADFER]:
        return _NoParents(), self._given

    def _begin_adaptation(self, adaptation: Adaptation, found: bool) -> bool:
        if not super()._begin_adaptation(adaptation, found):
            return False
        self.first = self.answers(self.checked)
        return self.first is not None

    def _label(self) -> bool:
        if not super()._label():
            return False
        if self.at.total or self.person.given:
            return True
        said = self.answers(self.person.adapting)
        if said is None:
            self.save()
            return False
        self._refuse_unsure(float(said.confidence.max()))

    def _refuse_unsure(self, surest: float) -> NoReturn:
        assert self.config.adapt is not None
        raise DataError(
            "no clip has a pseudo-label, so nothing was written: the model must be surer of it than "
            f"{self.config.adapt.threshold:g}, and it is {surest:.2f} sure of the surest. Give more videos, or --set "
            "adapt.threshold lower than that"
        )

    def _score(self, scores: dict[str, float]) -> None:
        super()._score(scores)
        self.meter.step()


class _NoParents(Parents):
    """Of a model that is given as it is."""

    def __init__(self) -> None:
        self._sources, self._contracts = {}, {}

    def adapted(self) -> None:
        """Told by the command, which knows the person."""
