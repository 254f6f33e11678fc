"""Testing: logits of every clip of a fold, as published; over several ranks, each takes its share."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmadfer.config.base import validated
from mmadfer.config.schema import Config, DataConfig, Precision, TaskConfig, TrainConfig
from mmadfer.contract import Contract, other_looks, temperature_of
from mmadfer.data.compatibility import check_store, other_crops
from mmadfer.data.fold_clips import test_clips
from mmadfer.data.frame_windows import check_windows
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.data.loading.loader import Loader, place
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.sentences import ClipTokens, check_same_sentences, check_sentences
from mmadfer.data.store.store import Store
from mmadfer.data.task_targets import check_targets
from mmadfer.data.tokens import tokenizer_beside
from mmadfer.distributed.ranks import Ranks
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.evaluation.clip_windows import by_clip, looks, rows_of
from mmadfer.evaluation.predictions import Predictions, Scored, Traces, Values, combined, write_csv
from mmadfer.evaluation.traces import traces_of
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.precision import apply, autocast
from mmadfer.tasks import logit_adjustment as adjustment
from mmadfer.tasks import metrics
from mmadfer.tasks.calibration import bins
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

_MAX_SHOWN = 5
"""Clips that a message names."""
Forward = Callable[[Batch], Tensor]


def evaluate(
    model: MMADFER,
    store: Store,
    config: Config,
    labels: Sequence[str],
    ids: Sequence[str],
    tokens: ClipTokens | None = None,
) -> Scored:
    """Test a model on clips of a store, on the device that it is on and with the arithmetic of `train.precision`.

    bf16 rounds the operands of matrix products as training did; the sums may differ by the order of addition.

    Args:
        model: as `mmadfer.load` gives it.
        store: holds the clips.
        config: `data.test_clips`, `data.test_flips`, `data.modalities`, `data.threads`, `model`, `train.batch_size`,
            `train.precision`.
        labels: class names in the model's order.
        ids: the clips.
        tokens: as for `Loader`.

    Raises:
        DataError: a clip that cannot be read.
        ConfigError: a label of the store that the model does not know.
    """
    device = next(model.parameters()).device

    def forward(batch: Batch) -> Tensor:
        with autocast(config.train.precision, device):
            return model(preprocess(batch), batch.fbank, tokens=batch.tokens)

    with closing(Loader(store, config, labels, place(device), tokens)) as loader:
        predictions = run_test(forward, loader, ids, Ranks(device=device))
    assert predictions is not None
    return predictions


@torch.no_grad()
def run_test(
    forward: Forward, loader: Loader, ids: Sequence[str], ranks: Ranks, stop: Callable[[], bool] | None = None
) -> Scored | None:
    """Outputs of all clips on every rank, each having run its share; None if any rank was asked to stop.

    Under `data.window`, the windows of all clips are shared out, and put together clip by clip when all are there.
    """
    size = loader.config.train.batch_size
    rows, window = rows_of(loader.config, loader.store, ids), loader.config.data.window
    share, rounds = share_of(rows, size, ranks)
    sets, task = [], loader.config.task
    for clip, flip in looks(loader.config.data):
        outputs, targets = [], []
        for batch in loader.test(share, size, clip, flip):
            outputs.append(forward(batch).float())
            targets.append(batch.targets[task.compared])
            if stop is not None and ranks.any(stop()):
                return None
        sets.append(torch.cat(outputs)[:rounds])
    if loader.config.model.head.per == "step":
        said = of_all(ranks, torch.stack(sets, 1), len(rows))
        refuse_no_numbers([row.clip for row in rows], said)
        return Traces(list(ids), traces_of(loader.config, loader.store, rows, said), tuple(task.values), task.spec)
    found = combined(torch.stack(sets), task.spec) if window is None else torch.stack(sets, 1)
    output, truth = (of_all(ranks, mine, len(rows)) for mine in (found, torch.cat(targets)[:rounds]))
    if window is not None:
        output, truth = by_clip(rows, output, truth, window, task.spec)
    refuse_no_numbers(ids, output)
    if task.spec.output == "values":
        return Values(list(ids), truth.numpy(), output.numpy(), tuple(task.values), task.spec)
    return Predictions(list(ids), truth.numpy(), output.numpy(), loader.labels, task.spec)


def share_of(rows: Sequence[Pick], size: int, ranks: Ranks) -> tuple[list[Pick], int]:
    """Every `world`-th row, for this rank, filled up with the last one; and how many of them count.

    Shares are as long as each other, because ranks must do as many batches; and so are the batches of more than one, of
    `size` rows, because a compiled model is compiled for each size.
    """
    rounds = -(-len(rows) // ranks.world)
    share = [*rows, *[rows[-1]] * (rounds * ranks.world - len(rows))][ranks.rank :: ranks.world]
    return share + [rows[-1]] * (-rounds % size if rounds > size else 0), rounds


def of_all(ranks: Ranks, mine: Tensor, count: int) -> Tensor:
    """The rows (count, ...) of all ranks in their order, of which each has every `world`-th; on the CPU."""
    return ranks.gather_tensor(mine).transpose(0, 1).flatten(0, 1)[:count].cpu()


def refuse_no_numbers(ids: Sequence[str], logits: Tensor) -> None:
    """Raise a WeightsError that names clips where rows of `logits` (N, ...) hold no finite number.

    `ids` has the clip of each row; one with windows comes several times.
    """
    whole = logits.isfinite().flatten(1).all(1).tolist()
    if odd := [*dict.fromkeys(clip for clip, right in zip(ids, whole, strict=True) if not right)]:
        more = f" and {len(odd) - _MAX_SHOWN} more" if len(odd) > _MAX_SHOWN else ""
        raise WeightsError(
            f"the model's answers to {len(odd)} of {len({*ids})} clips are no finite numbers "
            f"({', '.join(odd[:_MAX_SHOWN])}{more}), so nothing can be counted. "
            "Where it is all clips, look for such a number in the encoder files "
            "or the trained weights; where it is some, in the store (`mmadfer doctor STORE`)"
        )


def evaluate_path(
    path: Path,
    data: Path,
    fold: int | None = None,
    clips: int = 1,
    out: Path | None = None,
    flips: bool = False,
    adjust: float = 0.0,
    sentences: Path | None = None,
    calibrated: bool = False,
) -> Scored:
    """Test a trained model on its own test fold of the store `data`; writes the predictions to `out` as CSV.

    Args:
        path: as for `mmadfer.load`; of a run directory, `fold` chooses the model too (by default its first).
        data: the store.
        fold: only needed where the model does not say which fold it was not trained on, as published ones.
        clips: index sets averaged per clip, 1 to 16.
        out: the CSV file.
        flips: average each of them with its mirror image.
        adjust: tau of `mmadfer.tasks.logit_adjustment`; a model that does not know the labels that it was
            trained on takes those of the other folds of its own store.
        sentences: of the clips, for a model that reads any; by default the file beside the store.
        calibrated: divide logits by the temperature that the model carries.

    Raises:
        ConfigError: both `adjust` and `calibrated`.
        WeightsError: no such model, or one that was trained on the clips of `fold`, or does not say and `fold` is None;
            or logits cannot be adjusted or calibrated.
        DataError: no such store or fold, or one of other classes, or prepared otherwise than the model's.
    """
    from mmadfer.model.weights.load import load

    adjustment.check_tau(adjust)
    model, store = load(path, fold=fold), Store(data)
    contract = model.contract
    assert contract is not None
    check_store(contract, store)
    fold = _test_fold(contract, fold, path)
    priors = _priors(contract, store, fold) if adjust else ()
    temperature = temperature_of(contract, path, adjust) if calibrated else None
    _warn_of_other_folds(contract, store)
    if told := other_crops(contract, store):
        LOGGER.warning(f"WARNING: {told}")
    predictions = score_model(model, store, fold, clips, flips, text=TextSource(path, sentences))
    if isinstance(predictions, Predictions) and adjust:
        predictions = predictions.adjusted(priors, adjust)
    if temperature and (told := other_looks(contract, clips, flips)):
        LOGGER.warning(f"WARNING: {told}")
    if isinstance(predictions, Predictions) and temperature:
        predictions = predictions.calibrated(temperature)
    if out is not None:
        write_csv(predictions, out)
    return predictions


class TextSource(NamedTuple):
    """What a test of a model that reads sentences needs beside it; others look at none of it."""

    model: Path
    """Where the model was loaded from: its tokenizer may lie beside it."""
    sentences: Path | None = None
    """The file; by default the one beside the store."""

    def tokens(self, contract: Contract, config: Config, store: Store) -> ClipTokens | None:
        """Of the store's clips, for a model with this contract; None for one that reads none.

        Raises:
            ConfigError, DataError, WeightsError: as `tokenizer_beside`, `check_sentences` and `check_same_sentences`.
        """
        if contract.model.text is None:
            return None
        wanted = contract.text.tokenizer if contract.text else None
        found = check_sentences(config, store, tokenizer_beside(self.model, contract.model.text, wanted))
        check_same_sentences(contract, store, found.facts if found else None)
        return found


def score_model(
    model: MMADFER,
    store: Store,
    fold: int,
    clips: int,
    flips: bool,
    ids: Sequence[str] | None = None,
    text: TextSource | None = None,
) -> Scored:
    """Test a loaded model on a fold of a store that fits it, on the GPU where there is one, as its contract says.

    Tested are the clips of the fold, or `ids`; `text` is needed for a model that reads sentences.

    Raises:
        DataError: no such fold, or a clip that cannot be read.
        ConfigError: `clips` is not 1 to 16, or not 1 for a model that has learnt windows.
    """
    contract = model.contract
    assert contract is not None
    if clips > 1 and contract.window is not None:
        raise ConfigError(f"clips is {clips}, but the model has learnt windows (data.window), which have one set: 1")
    asked = {
        "test_clips": clips,
        "test_flips": flips,
        "modalities": contract.modalities,
        "labels": contract.labels or None,
        "window": contract.window,
        "text": text.sentences if text and contract.model.text else None,
        **({"folds": contract.folds} if contract.folds else {}),
    }
    sections = {
        "prepare": contract.prepare,
        "model": contract.model,
        "data": validated(DataConfig, {"store": store.path, "split": contract.split, **asked}, "evaluation"),
        "train": TrainConfig(precision=contract.precision),
        "task": _task(contract),
    }
    config = validated(Config, {"name": "evaluation", **sections}, "evaluation")
    check_targets(config, store, [fold], trained=False)
    check_windows(config, store)
    tokens = None if text is None else text.tokens(contract, config, store)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _compute_as(contract.precision, model.to(device), device)
    same = contract.store == store.header.fingerprint
    share = contract.adapted.share if contract.adapted and same else None
    tested = test_clips(config, store, fold, share) if ids is None else ids
    if tokens and (long := tokens.cut(tested)):
        LOGGER.warning(f"WARNING: {long}")
    return evaluate(model, store, config, contract.labels or store.labels, tested, tokens)


def _task(contract: Contract) -> TaskConfig:
    """The model's own."""
    return validated(
        TaskConfig, {"name": contract.task, "values": contract.values, "target": contract.target}, "the contract"
    )


def _compute_as(precision: Precision, model: MMADFER, device: torch.device) -> None:
    """As training did; in bfloat16 where it was in 8 bits and this device has none."""
    try:
        apply(model, precision, device)
    except ConfigError as error:
        LOGGER.warning(f"WARNING: trained with fp8, tested with bf16: {error}")
        apply(model, "bf16", device)


def print_result(predictions: Scored, adjust: float = 0.0, calibrated: bool = False) -> None:
    """The scores, and how well each class or value is told, for a person; the rest as for `evaluate_path`."""
    from mmadfer.utils.console import Console

    found, console = predictions.scores(), Console()
    scores = "  ".join(f"{score.title} {score.shown(found[score.name])}" for score in predictions.spec.scores)
    console.print(predictions.table())
    if isinstance(predictions, Predictions):
        scores += f"  weighted F1 {metrics.weighted_f1(predictions.confusion):.2%}"
    console.print(f"{len(predictions.ids)} clips  {scores}", highlight=False)
    if adjust:
        console.print(f"logits adjusted by the training clips' shares of labels (tau {adjust:g})", highlight=False)
    if calibrated and isinstance(predictions, Predictions):
        error = bins(predictions.probabilities.max(1), predictions.predicted == predictions.labels).error
        console.print(f"probabilities calibrated by the model's temperature: ECE {error:.2%}", highlight=False)


def _test_fold(contract: Contract, fold: int | None, path: Path) -> int:
    """The fold that the model has not seen."""
    known = contract.fold if fold is None else fold
    if known is None:
        raise WeightsError(f"{path} does not say which fold it was not trained on: give it with --fold")
    if contract.fold not in (None, known):
        raise WeightsError(
            f"{path} holds the model whose test fold is {contract.fold}; it was trained on the clips of fold {known}. "
            f"Leave --fold out, or give the run directory or the model of fold {known}"
        )
    return known


def _priors(contract: Contract, store: Store, fold: int) -> tuple[float, ...]:
    """The model's own, or those of the clips that it was trained on, in the store that they are from."""
    if contract.priors:
        return contract.priors
    if contract.store not in ("", store.header.fingerprint) or contract.data_set != store.data_set:
        raise WeightsError(
            "the model does not know the labels that it was trained on, and the store is not the one that it was "
            "trained on: leave --adjust out, or train it anew"
        )
    trained = store.split(contract.split, contract.folds or 0).rest(fold)
    return adjustment.shares(contract.labels, (store.clips[name].label for name in trained))


def _warn_of_other_folds(contract: Contract, store: Store) -> None:
    now = store.header.fingerprint
    if contract.store and now and contract.store != now and contract.data_set == store.data_set:
        LOGGER.warning(
            f"WARNING: {store.path} was prepared anew since this model was trained (fingerprint {now[:12]}, then "
            f"{contract.store[:12]}); its folds may differ, and the model may have seen these clips."
        )
