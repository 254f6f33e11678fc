"""Cards beside exported models, and the gate before the work: may the parts of this model be in a product?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.contract.parts import parts_of, refuse_non_commercial
from mmadfer.report.cards.model import CardSource
from mmadfer.report.cards.writing import card_path, run_of, same_run, write_cards
from mmadfer.runtime.backends.engines import ENGINE_SUFFIX, read_sidecar
from mmadfer.utils.files import read_object
from mmadfer.utils.terminal import say


@dataclass(frozen=True)
class Terms:
    """Under what terms a model is exported."""

    commercial: bool = False
    """Refuse a model with a part that no product may have."""
    stated: Mapping[str, str] = field(default_factory=dict)
    """Licences that the exporter states, by part."""


NO_TERMS = Terms()


def check_terms(path: Path | str, fold: int | None, terms: Terms) -> None:
    """Before any work: whether the model may be exported under these terms.

    Args:
        path: run or fold directory, checkpoint, .safetensors, published .pth, .onnx or .engine.
        fold: which fold of a run directory.
        terms: what is asked.

    Raises:
        LicenceError: `commercial`, and a part does not allow it; names all of them.
        ConfigError: a licence is stated of what is no part of the model.
        WeightsError: there is no such model.
    """
    if not terms.commercial and not terms.stated:
        return
    parts = parts_of(contract_of(Path(path), fold), terms.stated)
    if terms.commercial:
        refuse_non_commercial(parts, str(path))


def contract_of(path: Path, fold: int | None = None) -> Contract:
    """The contract of a model in any form.

    Raises:
        WeightsError: there is no such model, or it has none.
    """
    if path.suffix.lower() == ".onnx":
        from mmadfer.export.graph.protos import read_contract

        return read_contract(path)
    if path.suffix.lower() == ENGINE_SUFFIX:
        return read_sidecar(path).contract
    from mmadfer.model.weights.build import read_contract as read_weights
    from mmadfer.model.weights.load import _find_weights, load
    from mmadfer.runtime.backends.torch_backend import promised

    file = _find_weights(path, fold)
    return read_weights(file) if file.suffix == ".safetensors" else promised(load(file).contract, file)


def proof_path(out: Path) -> Path:
    """Where the proof of an exported model lies: `mine.parity.json` beside `mine.onnx`."""
    return out.with_suffix(".parity.json")


def proofs_of(out: Path) -> list[dict[str, Any]]:
    """What was found when a model was compared with PyTorch, if that lies beside it."""
    proof = proof_path(out)
    return [read_object(proof)] if proof.is_file() else []


def write_export_cards(
    path: Path | str,
    out: Path,
    contract: Contract,
    terms: Terms,
    *,
    data: Path | str | None = None,
    card: Path | None = None,
) -> list[Path]:
    """Write the cards of an exported model, and say where.

    Args:
        path: what was exported; of a run, the scores of all folds are told.
        out: the exported model.
        contract: the exported model's.
        terms: with the licences that are stated.
        data: a store whose card is written where the run's own is not there, if the model was trained on it.
        card: where the card lies; by default `OUT.card.md`.

    Raises:
        OSError: a full disk, a missing right.
    """
    report = same_run(run_of(Path(path)), contract)
    parity = proofs_of(out)
    source = CardSource(out.stem, contract, report, parity, terms.stated)
    written = write_cards(card or card_path(out), source, None if data is None else Path(data))
    say(f"card    {', '.join(map(str, written))}")
    return written
