"""The labelled clips that a model is adapted beside: those that it was trained on, or of another store."""

from pathlib import Path

from mmadfer.config.base import validated
from mmadfer.config.schema import Config
from mmadfer.contract import Contract
from mmadfer.data.compatibility import check_prepared
from mmadfer.data.fold_clips import training_clips, used_clips
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import DataError
from mmadfer.run import directory as runs


def run_of(model: Path) -> runs.Run | None:
    """The run that a model lies in: a run, a fold, or a checkpoint; None of a file."""
    places = (model, *model.absolute().parents[:3]) if model.is_dir() else ()
    return next((runs.read(place) for place in places if (place / "config.yaml").is_file()), None)


def sources_of(contract: Contract, run: runs.Run | None, store: Store, name: str) -> list[Clip]:
    """The labelled clips: what the model's fold was trained on, or of another store all with labels that it knows.

    Raises:
        DataError: it was prepared otherwise, clips have no subjects, or one of them is the person.
    """
    check_prepared(contract, store)
    own = contract.store and contract.store == store.header.fingerprint
    config = run.config if run and own else _config(contract, bool(own))
    fold = contract.fold
    clips = training_clips(config, store, fold) if own and fold else used_clips(config, store)
    clips = [clip for clip in clips if clip.label in contract.labels]
    if bare := [clip.id for clip in clips if not clip.subject]:
        raise DataError(
            f"{store.path} has {len(bare)} clips without a subject ({', '.join(bare[:3])}), and adaptation is between "
            "people: give a store with subjects (a CSV has a column `subject`)"
        )
    if name in {clip.subject for clip in clips}:
        raise DataError(
            f"{store.path} has labelled clips of {name!r}, who is adapted to without labels: choose another --name"
        )
    if not clips:
        raise DataError(f"{store.path} has no clip with a label of the model ({', '.join(contract.labels)})")
    return clips


def _config(contract: Contract, own: bool) -> Config:
    """As far as it says which clips were trained on."""
    data = {"split": contract.split, **({"folds": contract.folds} if contract.folds else {})} if own else {}
    tree = {"name": "sources", "model": contract.model, "prepare": contract.prepare, "data": data}
    return validated(Config, tree, "the contract")
