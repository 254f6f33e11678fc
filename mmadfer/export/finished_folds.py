"""Every finished fold of a run as ONNX: RUN/export/fold-K.onnx, and its proof of parity in fold-K.parity.json."""

from pathlib import Path

from mmadfer.errors import ConfigError, MmadferError, RunError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, contract_of, proof_path, write_export_cards
from mmadfer.report.cards.writing import card_path
from mmadfer.run import checkpoint_state
from mmadfer.run import directory as runs
from mmadfer.utils.files import own_folder, read_object, sha256
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

PARITY_CLIPS = 100
"""Test clips of a fold, evenly spread, that prove parity."""
ARITHMETIC = "fp32"
"""That of a run's exports."""


def export_run(run: Path, clips: int = PARITY_CLIPS, terms: Terms = NO_TERMS) -> list[int]:
    """Export the finished folds; one that cannot be exported does not keep the others. Returns what is exported.

    Raises:
        RunError: no fold is finished, or some could not be exported: it says which, and why.
        LicenceError: `terms` ask for commercial use, which a part does not allow.
    """
    config = runs.read(run).config
    store, folds = config.data.store, range(1, config.data.folds + 1)
    if store is None:
        raise ConfigError(f"{run / 'config.yaml'} names no store (data.store), whose clips prove parity")
    ready = [fold for fold in folds if runs.result(runs.fold_dir(run, fold)) is not None]
    if not ready:
        raise RunError(f"no fold of {run} is finished: there is nothing to export yet")
    check_terms(run, ready[0], terms)
    for fold in sorted(set(folds) - set(ready)):
        LOGGER.info(f"fold {fold} is not finished: left out")
    failed = {fold: reason for fold in ready if (reason := _export(run, fold, store, clips, terms))}
    if failed:
        lines = "\n".join(f"  fold {fold}: {reason}" for fold, reason in failed.items())
        raise RunError(f"{len(failed)} of {len(ready)} finished folds could not be exported:\n{lines}")
    return ready


def exported(run: Path) -> list[int]:
    """Folds that have been exported with their proof, by what lies on disk."""
    return [k for k in runs.folds(run) if all(path.is_file() for path in _places(run, k))]


def proven_export(run: Path, fold: int | None, clips: int) -> Path | None:
    """The ONNX file of a run's fold, where it is whole, of the fold's last weights, and proven on enough clips."""
    if fold is None or not run.is_dir() or not _current(run, fold, clips):
        return None
    return _places(run, fold)[0]


def _places(run: Path, fold: int) -> tuple[Path, Path]:
    model = run / "export" / f"fold-{fold}.onnx"
    return model, proof_path(model)


def _export(run: Path, fold: int, store: Path, clips: int, terms: Terms) -> str | None:
    """Export one fold unless that is done; what went wrong, if anything did."""
    from mmadfer.export.parity import parity

    model, _ = _places(run, fold)
    if _current(run, fold, clips):
        LOGGER.info(f"fold {fold}: {model} is there")
        if not card_path(model).is_file():
            write_export_cards(run, model, contract_of(model), terms, data=store)
        return None
    try:
        own_folder(run / "export")
        parity.export_onnx(run, model, store, fold, clips, terms, precision=ARITHMETIC)
    except (MmadferError, OSError) as error:
        return str(error)
    return None


def _current(run: Path, fold: int, clips: int) -> bool:
    """Whether the export is whole, of the fold's last weights, in the run's arithmetic, and proven on enough clips."""
    model, proof = _places(run, fold)
    try:
        proven = read_object(proof)
        form, checkpoint = proven["forms"][0], runs.latest_checkpoint(runs.fold_dir(run, fold))
        return (
            proven["passed"] is True
            and proven["clips"] >= min(clips, proven["of"])
            and (form["arithmetic"], form["input"]) == (ARITHMETIC, "fbank")
            and checkpoint is not None
            and proven["reference"]["weights_hash"] == checkpoint_state.read(checkpoint).weights_hash
            and form["sha256"] == sha256(model)
        )
    except (OSError, MmadferError, LookupError, TypeError):
        return False
