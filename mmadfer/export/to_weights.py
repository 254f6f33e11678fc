"""One .safetensors file that needs no other: `python export/to_weights.py RUN --fold 1 --out model.safetensors`.

Checkpoints of a run hold the trained part and the paths of the encoders' files. This file holds the encoders too, so it
loads on any machine: `mmadfer.load`, `mmadfer predict`, `mmadfer evaluate`, `mmadfer export onnx`.
"""

import os
from pathlib import Path

from torch import Tensor

from mmadfer.contract import Contract
from mmadfer.data.tokens import deliver_tokenizer
from mmadfer.errors import WeightsError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, contract_of, write_export_cards
from mmadfer.export.graph.to_onnx import carried, load_finished
from mmadfer.model.weights.build import own_tensors, save_weights
from mmadfer.model.weights.load import _find_weights
from mmadfer.runtime.backends.torch_backend import promised
from mmadfer.tasks.tables import TASKS, spec_of
from mmadfer.utils.files import check_place, sync
from mmadfer.utils.temporary_folders import workplace
from mmadfer.utils.terminal import say

_SUFFIX = ".safetensors"


def to_weights(path: Path | str, out: Path | str, fold: int | None = None) -> Path:
    """Write a trained model with its encoders, float32; `out` is replaced in one step or left as it was.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the file to write.
        fold: which fold of a run directory.

    Returns:
        `out`.

    Raises:
        WeightsError: no such model, one that has epochs left to train, or a name that would not load again.
    """
    out = Path(out)
    if out.suffix != _SUFFIX:
        raise WeightsError(f"{out} must end in {_SUFFIX}: by this mmadfer knows the file when it loads it")
    model = load_finished(path, fold)
    check_place(out)
    with workplace(out) as folder:
        trained = promised(model.contract, path)
        contract = carried(model, trained)
        save_weights(folder / out.name, model, contract, frozen=True, more=_own(path, fold, contract))
        deliver_tokenizer(Path(path), trained, out)
        os.replace(folder / out.name, out)
        sync(out.parent)
    return out


def _own(path: Path | str, fold: int | None, contract: Contract) -> dict[str, Tensor]:
    """The tensors of the task's own modules, where it says that they belong to the model."""
    file = _find_weights(path, fold)
    if file.suffix != _SUFFIX or contract.task not in TASKS.names() or not spec_of(contract.task).step().exported:
        return {}
    return own_tensors(file)


def export_weights(path: Path | str, out: Path | str, fold: int | None = None, terms: Terms = NO_TERMS) -> Path:
    """`to_weights` with its cards beside it, and say what was written.

    Raises:
        WeightsError: as `to_weights`.
        LicenceError: `terms` ask for commercial use, which a part does not allow.
    """
    check_terms(path, fold, terms)
    written = to_weights(path, out, fold)
    say(f"model   {written}: {written.stat().st_size / 2**20:.1f} MiB, encoders included")
    write_export_cards(path, written, contract_of(written), terms)
    return written
