"""One call from any file or folder with weights to a model that is ready to use."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import encoder_hash, load_weights, weights_hash
from mmadfer.model.weights.published import load_fold
from mmadfer.run import directory
from mmadfer.share.source import model_path

WEIGHTS = "weights.safetensors"


def load(
    path: Path | str,
    fold: int | None = None,
    labels: Sequence[str] | None = None,
    *,
    verify: Path | str | None = None,
) -> MMADFER:
    """Load a model in eval mode; its `contract` tells labels, sizes and preprocessing.

    path: a run directory (`fold` chooses; by default its first fold), a fold's directory or one of its checkpoints (the
    latest complete one), a .safetensors file, or a published checkpoint (.pth, .pt; nothing in it is executed);
    or a model on the hub, `hub:USER/NAME@REVISION`, of which the safetensors file is fetched.
    labels: the classes that the caller expects, in order.
    verify: a public key or certificates (PEM), by which the model's signature is checked before it is loaded.

    Warns where the model has epochs left to train.

    Raises:
        WeightsError: nothing there, not a model, damaged, or made for other classes than `labels`.
        HubError: no such model on the hub, or no network.
        SignatureError: the signature is missing, of another key, or not of these files.
    """
    file = _find_weights(model_path(path, verify, ("weights",)), fold)
    if file.suffix == ".safetensors":
        model, _ = load_weights(file)
    else:
        model = load_fold(file)
        hashes = {"encoder_hash": encoder_hash(model), "weights_hash": weights_hash(model)}
        model.contract = model.contract and model.contract.model_copy(update=hashes)
    if model.contract and model.contract.unfinished:
        told = f"{file} is not fully trained: {model.contract.epoch} of {model.contract.epochs} epochs are done"
        warnings.warn(told, stacklevel=2)
    if labels is not None and model.contract and tuple(labels) != model.contract.labels:
        raise WeightsError(
            f"{file} tells {len(model.contract.labels)} classes ({', '.join(model.contract.labels)}), but here are "
            f"{len(labels)} ({', '.join(labels)}): give a model of these classes, or set data.labels to its own"
        )
    return model.eval()


def _find_weights(path: Path | str, fold: int | None = None) -> Path:
    """The weights file that `path` means; that of a model on the hub is fetched.

    Raises:
        WeightsError: there is none; says what was looked for.
        HubError: no such model on the hub, or no network.
    """
    path = model_path(path, forms=("weights",))
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"no file or folder {path}: give a run directory, a .safetensors or a published .pth")
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    folder = path if (path / "checkpoints").is_dir() else _fold(path, fold)
    checkpoint = directory.latest_checkpoint(folder)
    if checkpoint is None or not (checkpoint / WEIGHTS).is_file():
        raise WeightsError(f"{folder} has no complete checkpoint yet: train this fold first, or resume it")
    return checkpoint / WEIGHTS


def _fold(folder: Path, fold: int | None) -> Path:
    folds = directory.folds(folder)
    if not folds:
        raise WeightsError(f"{folder} is no run directory: it has neither fold-1, fold-2, ... nor {WEIGHTS}")
    if fold is not None and fold not in folds:
        raise WeightsError(f"{folder} has no fold {fold}: it has {', '.join(map(str, folds))}")
    return directory.fold_dir(folder, folds[0] if fold is None else fold)
