"""A trained model to the Hugging Face hub: safetensors, ONNX with its proof, contract and cards; never a pickle."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.data.tokens import deliver_tokenizer, file_beside
from mmadfer.errors import ConfigError, ParityError, RunError, WeightsError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, contract_of, proof_path, proofs_of
from mmadfer.export.finished_folds import PARITY_CLIPS, proven_export
from mmadfer.report.cards.model import CardSource
from mmadfer.report.cards.writing import data_card_path, run_of, same_run, write_cards
from mmadfer.run import directory as runs
from mmadfer.share import names
from mmadfer.share.address import HubAddress, parse_address
from mmadfer.share.signing import sign_model
from mmadfer.share.upload import check_target, upload
from mmadfer.utils.files import sha256, write_json, write_text
from mmadfer.utils.temporary_folders import scratch
from mmadfer.utils.terminal import say


@dataclass(frozen=True)
class Signer:
    """Who signs what is pushed."""

    key: Path
    certificate: Path | None = None
    chain: Sequence[Path] = ()


@dataclass(frozen=True)
class Push:
    """What is pushed, and how."""

    path: Path
    """Run or fold directory, .safetensors, published .pth, or .onnx."""
    fold: int | None = None
    data: Path | None = None
    """Store whose clips prove the ONNX file; by default the run's own."""
    clips: int = PARITY_CLIPS
    onnx: bool = True
    """Also the ONNX file."""
    private: bool = False
    signer: Signer | None = None
    terms: Terms = NO_TERMS
    with_people: bool = False
    """Also a model that was adapted to people, with their names."""


def push(asked: Push, where: str, dry_run: bool = False) -> str | None:
    """Push a model; says what goes, before it goes.

    Args:
        asked: what is pushed.
        where: `hub:USER/NAME`, or a branch of it, `hub:USER/NAME@BRANCH`.
        dry_run: only say what would go.

    Returns:
        The commit; None of a dry run.

    Raises:
        RunError: the fold is not finished.
        WeightsError, ParityError: no such model, or one that is not proven.
        ConfigError: it was adapted to people, and `with_people` is not set.
        LicenceError: commercial use is asked for, which a part does not allow.
        HubError: the address cannot be, or the hub refuses; nothing of the push is visible then.
        SignatureError: the key cannot sign.
    """
    address = parse_address(where)
    check_target(address)
    fold = _finished(asked.path, asked.fold)
    check_terms(asked.path, fold, asked.terms)
    if not asked.with_people:
        _refuse_people(asked.path, contract_of(asked.path, fold))
    with scratch("push") as folder:
        contract = stage(asked, fold, address, folder / "model")
        _list(folder / "model", address, contract)
        if dry_run:
            say("dry run: nothing was sent")
            return None
        commit = upload(
            folder / "model", address, asked.private, f"mmadfer push: {contract.data_set}, fold {contract.fold}"
        )
    say(f"pushed  {address._replace(revision=commit)}")
    return commit


def _refuse_people(path: Path, contract: Contract) -> None:
    """Raise a ConfigError where a model was adapted to people: it carries their names."""
    if contract.adapted is not None:
        raise ConfigError(
            f"{path} was adapted to {', '.join(contract.adapted.people)}: these names would be in its card, its "
            "contract and its model files, and its weights are personal data. Where they have agreed to that, push it "
            f"with --with-people; or push the model that it was adapted from ({contract.adapted.name})"
        )


def _finished(path: Path, fold: int | None) -> int | None:
    """The fold of a run that is pushed, the first finished one by default.

    Raises:
        RunError: it is not finished.
    """
    if not path.is_dir() or not (folds := runs.folds(path)):
        return fold
    done = [k for k in folds if runs.result(runs.fold_dir(path, k)) is not None]
    if not done or fold not in (None, *done):
        what = f"fold {fold}" if fold is not None else "no fold"
        raise RunError(
            f"{what} of {path} is {'not ' if fold is not None else ''}finished: `mmadfer launch resume {path}` first"
        )
    return done[0] if fold is None else fold


def stage(asked: Push, fold: int | None, address: HubAddress, folder: Path) -> Contract:
    """Put the files of a shared model into a new folder. Returns the model's contract."""
    folder.mkdir()
    if asked.path.suffix.lower() == ".onnx":
        _stage_onnx_file(asked.path, folder)
    else:
        _stage_weights(asked, fold, folder)
    form = names.WEIGHTS if (folder / names.WEIGHTS).is_file() else names.ONNX
    contract = contract_of(folder / form)
    proofs = [public_proof(proof) for proof in proofs_of(folder / names.ONNX)]
    if proofs:
        write_json(folder / names.PARITY, proofs[0])
    write_text(folder / names.CONTRACT, contract.dumps() + "\n")
    _write_cards(asked, address, contract, proofs, folder)
    if asked.signer is not None:
        sign_model(folder, asked.signer.key, asked.signer.certificate, asked.signer.chain)
    return contract


def _stage_weights(asked: Push, fold: int | None, folder: Path) -> None:
    from mmadfer.export.parity.parity import deliver_proven, own_store
    from mmadfer.export.to_weights import to_weights

    to_weights(asked.path, folder / names.WEIGHTS, fold)
    if not asked.onnx:
        return
    there = proven_export(asked.path, fold, asked.clips)
    if there is not None:
        _stage_onnx_file(there, folder)
        return
    data = asked.data or own_store(asked.path)
    deliver_proven(asked.path, folder / names.ONNX, data, fold, asked.clips)


def _stage_onnx_file(file: Path, folder: Path) -> None:
    """An ONNX file that is proven, with its proof and tokenizer.

    Raises:
        ParityError: no proof of this very file lies beside it.
        WeightsError: its weights are in a file of their own, which bears its name.
    """
    from mmadfer.export.graph.external import weight_files

    if not _is_proven(file):
        raise ParityError(
            f"{file} is not proven: no {proof_path(file).name} of this file is beside it. Push the run it is of"
        )
    if weight_files(file):
        raise WeightsError(
            f"{file} keeps its weights in a file of its own: push the run or the .safetensors that it is of"
        )
    shutil.copyfile(file, folder / names.ONNX)
    shutil.copyfile(proof_path(file), proof_path(folder / names.ONNX))
    if file_beside(file).is_file():
        deliver_tokenizer(file, contract_of(file), folder / names.ONNX)


def _is_proven(file: Path) -> bool:
    """Whether a proof of this very file lies beside it; the file, of up to 2 GiB, is read only where there is one."""
    forms = [form for proof in proofs_of(file) if proof.get("passed") is True for form in proof["forms"]]
    return bool(forms) and sha256(file) in (form.get("sha256") for form in forms)


def public_proof(proof: dict[str, Any]) -> dict[str, Any]:
    """A proof of parity without names of clips and of files on this machine."""
    told = (
        "name",
        "arithmetic",
        "sha256",
        "weights_hash",
        "verdict",
        "passed",
        "tolerance",
        "logit_difference",
        "scores",
    )
    forms = [{key: form[key] for key in told if key in form} | {"name": names.ONNX} for form in proof["forms"]]
    return {key: proof.get(key) for key in ("passed", "clips", "of", "remarks")} | {"forms": forms}


def _write_cards(
    asked: Push, address: HubAddress, contract: Contract, proofs: Sequence[dict[str, Any]], folder: Path
) -> None:
    report = same_run(run_of(asked.path), contract)
    name = address.repo.partition("/")[2]
    source = CardSource(name, contract, report, proofs, asked.terms.stated, str(address))
    write_cards(folder / names.CARD, source, asked.data)
    written = data_card_path(folder / names.CARD)
    if written.is_file():
        written.rename(folder / names.DATA_CARD)


def _list(folder: Path, address: HubAddress, contract: Contract) -> None:
    """Say what goes, and what is left here."""
    say(f"to      {address}")
    for name in names.allowed(one.name for one in folder.iterdir()):
        say(f"        {name}  {(folder / name).stat().st_size / 2**20:.2f} MiB")
    if contract.adapted is not None:
        say(f"note    it was adapted to {', '.join(contract.adapted.people)}: its weights are personal data", err=True)
