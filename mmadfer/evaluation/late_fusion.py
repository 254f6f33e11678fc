"""Two models of one task together: the weighted mean of their log-probabilities, the weight chosen on validation clips.

The test fold is never looked at for the weight: where a run was trained without clips for validation, there is none.
Clips of it that one of the runs was adapted on (`adapt`) are not tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mmadfer.config.schema import Config
from mmadfer.data.compatibility import check_store
from mmadfer.data.fold_clips import validation_clips
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.evaluation.evaluate import TextSource, print_result, score_model
from mmadfer.evaluation.predictions import Predictions, write_csv
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.load import load
from mmadfer.run import directory as runs

STEPS = 20
"""Weights that are tried: 0, 1/20, ... 1."""


@dataclass(frozen=True)
class LateFusion:
    """What two runs say together of a test fold."""

    predictions: Predictions
    weight: float
    """Of the first run's log-probabilities; the other's have the rest."""
    validated: int
    """Clips that the weight was chosen on."""
    adapted: int = 0
    """Clips of the test fold that are left out, since one of the runs was adapted on them."""


def fused(one: Predictions, other: Predictions, weight: float) -> Predictions:
    """The first's log-probabilities times `weight`, and the other's times the rest, of the same clips.

    Raises:
        ValueError: they are of other clips or labels.
    """
    if (one.ids, one.names) != (other.ids, other.names):
        raise ValueError("predictions of other clips or labels cannot be put together")
    logs = [torch.from_numpy(part.logits).log_softmax(1).numpy() for part in (one, other)]
    mixed = weight * logs[0] + (1 - weight) * logs[1]
    return replace(one, logits=mixed.astype(np.float32))


def chosen_weight(one: Predictions, other: Predictions) -> float:
    """The weight with the best primary score on these clips; of several, the one nearest to equal shares."""
    primary = one.spec.primary
    tried = sorted((k / STEPS for k in range(STEPS + 1)), key=lambda weight: (abs(weight - 0.5), weight))
    best, found = tried[0], fused(one, other, tried[0]).scores()[primary.name]
    for weight in tried[1:]:
        score = fused(one, other, weight).scores()[primary.name]
        if primary.better(score, found):
            best, found = weight, score
    return best


def late_fusion(one: Path, other: Path, data: Path, fold: int | None = None, out: Path | None = None) -> LateFusion:
    """Test two runs of the same clips together on a fold of the store `data`; writes the predictions to `out` as CSV.

    Raises:
        ConfigError: the runs have other clips for validation, or none.
        WeightsError: they give values, or tell other labels; or a fold is not trained.
        RunError: one is no run directory.
        DataError: the store is another one.
    """
    configs = [runs.read(run).config for run in (one, other)]
    models = [load(run, fold) for run in (one, other)]
    tested = _fold(one, other, models)
    with Store(data) as store:
        for model in models:
            assert model.contract is not None
            check_store(model.contract, store)
        ids = _validation(one, other, configs, store, tested)
        texts = [TextSource(run, config.data.text) for run, config in zip((one, other), configs, strict=True)]
        pairs = [*zip(models, texts, strict=True)]
        weight = chosen_weight(*(_said(*pair, store, tested, ids) for pair in pairs))
        first, second = (_said(*pair, store, tested) for pair in pairs)
    both = {*first.ids} & {*second.ids}
    found = fused(first.of(both), second.of(both), weight)
    if out is not None:
        write_csv(found, out)
    return LateFusion(found, weight, len(ids), len({*first.ids} ^ {*second.ids}))


def print_fused(found: LateFusion) -> None:
    """The scores and the weight, for a person."""
    from mmadfer.utils.console import Console

    print_result(found.predictions)
    told = f"weight {found.weight:g} of the first run, chosen on {found.validated} clips for validation"
    console = Console()
    console.print(told, highlight=False)
    if found.adapted:
        console.print(f"{found.adapted} clips are left out: one of the runs was adapted on them", highlight=False)


def _fold(one: Path, other: Path, models: Sequence[MMADFER]) -> int:
    contracts = [model.contract for model in models if model.contract is not None]
    if any(contract.output != "classes" for contract in contracts):
        raise WeightsError(f"{one} or {other} gives values: log-probabilities are of classes")
    told = [(contract.labels, contract.split, contract.folds, contract.fold) for contract in contracts]
    if told[0] != told[1] or told[0][-1] is None:
        raise WeightsError(f"{one} and {other} tell other labels, or were tested on other folds: {told[0]}, {told[1]}")
    return told[0][-1]


def _validation(one: Path, other: Path, configs: Sequence[Config], store: Store, fold: int) -> list[str]:
    ids = [validation_clips(config, store, fold) for config in configs]
    if not ids[0] or ids[0] != ids[1]:
        raise ConfigError(
            f"{one} has {len(ids[0])} clips for validation and {other} has {len(ids[1])}: the weight is chosen on the "
            "same clips, which neither was trained on; train both with one data.validation"
        )
    return ids[0]


def _said(model: MMADFER, text: TextSource, store: Store, fold: int, ids: Sequence[str] | None = None) -> Predictions:
    found = score_model(model, store, fold, 1, flips=False, ids=ids, text=text)
    assert isinstance(found, Predictions)
    return found
