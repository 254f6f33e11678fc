"""The published evaluation of a published fold, with the paper's numbers beside ours.

What it is: every listed clip of the test fold, one index set of 16 frames (the last one repeated where there are
fewer), whole frames in [0, 1] resized to the model's input, sound at its own rate, silence where there is none. The
model's contract fixes frames, pictures and sound; the rest is asked of the store.
"""

from math import prod
from pathlib import Path
from typing import NamedTuple

from mmadfer.contract import Contract
from mmadfer.data.compatibility import check_store
from mmadfer.data.sets import dfew, mafw
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError, WeightsError
from mmadfer.evaluation.evaluate import print_result, score_model
from mmadfer.evaluation.paper_tables import TABLES, PaperScore
from mmadfer.evaluation.predictions import Predictions, write_csv
from mmadfer.model.weights.load import load
from mmadfer.model.weights.torch_pickle import Lazy, PickledFile

_LISTED_CLIPS = {"dfew": dfew.TOTAL_CLIPS, "mafw": mafw.TOTAL_CLIPS["single"]}
"""Listed clips in all five folds of the data sets that folds were published of."""
COMMANDS = {
    "dfew": "mmadfer prepare dfew --root DFEW --out STORE --config dfew_160, where DFEW has Clip/clip_224x224",
    "mafw": "mmadfer prepare mafw --root MAFW --out STORE --config mafw_224 --set prepare.face_box=union "
    "--set prepare.mafw_frame_order=published",
}
"""Data set -> what makes the store that its folds are tested on."""
FRAMES_16F = 16
"""Frames of every clip in DFEW's `clip_224x224_16f`."""


class Said(NamedTuple):
    """What a published checkpoint says of itself."""

    epoch: float | None
    """Finished epochs; None where it does not say."""
    accuracy: float | None
    """Its `best_acc`, in percent."""


class Reproduced(NamedTuple):
    """A published fold on its test clips."""

    predictions: Predictions
    fold: int
    data_set: str
    size: int
    """Side of the model's pictures in pixels."""
    clips: int
    """Index sets averaged."""
    said: Said
    notes: tuple[str, ...]
    """What keeps the numbers from being comparable."""


def reproduce(path: Path, data: Path, fold: int | None, clips: int = 1, out: Path | None = None) -> Reproduced:
    """Test a published fold as it was published; writes the predictions to `out` as CSV.

    Args:
        path: the checkpoint, .pth.
        data: the store.
        fold: the fold that the checkpoint was not trained on, which it does not say itself.
        clips: index sets averaged: 1, or 2 as in the paper's rows with *.
        out: the CSV file.

    Raises:
        ConfigError: no fold, or more than two index sets.
        WeightsError: not a published fold.
        DataError: no such store or fold, or one that was not prepared as the published clips were.
    """
    if fold is None:
        raise ConfigError(f"{path} does not say which fold it was not trained on: give it with --fold")
    if clips > 2:
        raise ConfigError(f"--clips {clips}: the paper averages one or two index sets; without --published, up to 16")
    said = read_said(path)
    model, store = load(path), Store(data)
    contract = model.contract
    assert contract is not None
    check_published(contract, store, path)
    predictions = score_model(model, store, fold, clips, flips=False)
    assert isinstance(predictions, Predictions)  # published models give classes
    if out is not None:
        write_csv(predictions, out)
    told = _incomplete(store)
    return Reproduced(predictions, fold, contract.data_set, contract.model.image_size, clips, said, told)


def read_said(path: Path) -> Said:
    """Read `epoch` and `best_acc`, numbers or tensors of one number; nothing in the file is executed.

    Raises:
        WeightsError: not a checkpoint.
    """
    file = PickledFile(path)
    tree = file.tree if isinstance(file.tree, dict) else {}
    return Said(*(_number(file, tree.get(name)) for name in ("epoch", "best_acc")))


def _number(file: PickledFile, value: object) -> float | None:
    if isinstance(value, Lazy):
        one = prod(value.shape) == 1 and value.storage.dtype.is_floating_point
        return file.read({"best_acc": value})["best_acc"].item() if one else None
    return float(value) if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53) else None


def check_published(contract: Contract, store: Store, path: Path) -> None:
    """Refuse a store that does not hold the published clips as they were published.

    Raises:
        WeightsError: the model is of no data set of which folds were published.
        DataError: says what differs, and which command makes the store.
    """
    name = contract.data_set
    if name not in _LISTED_CLIPS:
        raise WeightsError(
            f"{path} has {len(contract.labels)} classes: published folds have 7 (DFEW) or 11 (MAFW). Test another "
            "model without --published"
        )
    if store.data_set != name:
        raise DataError(
            f"{store.path} holds {store.data_set}, but {path} was trained on {name}. Make its store: {COMMANDS[name]}"
        )
    try:
        check_store(contract, store)
    except DataError as error:
        raise DataError(f"{error}. The whole command: {COMMANDS[name]}") from error
    if wrong := _wrong(contract, store):
        raise DataError(f"{store.path} {wrong}: the published numbers are of others. Make it with: {COMMANDS[name]}")


def _wrong(contract: Contract, store: Store) -> str:
    """What `check_store` leaves to the user, because it matters for published numbers only; "" if nothing."""
    clips = store.clips.values()
    if contract.prepare.no_sound == "silence" != store.prepare.no_sound:
        return "was prepared without the clips that have no sound (prepare.no_sound leave_out)"
    if contract.cropped and (found := sum(not clip.cropped for clip in clips)):
        return f"has faces found by mmadfer in {found} of {len(clips)} clips, not those of the data set's owners"
    if contract.cropped and len(clips) > 1 and all(clip.frames == FRAMES_16F for clip in clips):
        return f"has clips of {FRAMES_16F} frames only (clip_224x224_16f)"
    return ""


def _incomplete(store: Store) -> tuple[str, ...]:
    wanted = _LISTED_CLIPS[store.data_set]
    if len(store.clips) == wanted:
        return ()
    return (f"the store holds {len(store.clips):,} of {wanted:,} listed clips: {store.path}.report.json names others",)


def mean_of_five(data_set: str, size: int, clips: int) -> PaperScore | None:
    """UAR and WAR in percent that the paper's table 1 has for five folds; None for a size that is not in it."""
    table = TABLES[0]
    if data_set not in table.data_sets:
        return None
    place = table.data_sets.index(data_set)
    rows = (row for row in table.rows if row.cells[1] == str(size) and row.cells[0].endswith("*") == (clips == 2))
    return next((row.scores[place] for row in rows), None)


def first_fold(data_set: str, size: int, clips: int, fold: int) -> PaperScore | None:
    """UAR and WAR in percent that the paper's table 3 has for the whole method on DFEW's first fold at 160 px."""
    if (data_set, size, clips, fold) != ("dfew", 160, 1, 1):
        return None
    return next(row.scores[0] for row in TABLES[2].rows if row.name == "bottleneck")


def print_reproduced(found: Reproduced) -> None:
    """Our numbers, and those of the paper and of the checkpoint below them."""
    from mmadfer.utils.console import Console

    print_result(found.predictions)
    console = Console()
    for line in _result_lines(found):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _result_lines(found: Reproduced) -> list[str]:
    """What is told beside the result: the published numbers, each with what it is of, and what keeps them apart."""
    what = (found.data_set, found.size, found.clips)
    title = f"{found.data_set.upper()} at {found.size} px" + ", two index sets" * (found.clips == 2)
    told = [f"fold {found.fold} alone is not comparable with a mean of five folds"]
    mean, first = mean_of_five(*what), first_fold(*what, found.fold)
    printed = [f"paper, {title}, mean of five folds (table 1): {_percent(mean)}" if mean else f"paper: no {title}"]
    printed += [f"paper, {title}, fold 1 (table 3): {_percent(first)}"] * (first is not None)
    return [*printed, *_checkpoint(found.said), *told, *(f"WARNING: {note}" for note in found.notes)]


def _checkpoint(said: Said) -> list[str]:
    told = [f"epoch {said.epoch:g}"] * (said.epoch is not None)
    told += [f"best_acc {said.accuracy:.2f}"] * (said.accuracy is not None)
    return [f"checkpoint: {', '.join(told)}"] if told else []


def _percent(score: PaperScore | None) -> str:
    return "UAR {:.2f}%  WAR {:.2f}%".format(*score) if score else ""
