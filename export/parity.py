"""The same real clips through PyTorch and an exported model, from file to label.

`python export/parity.py RUN --model model.onnx --data STORE` reads the media files that the store names, decodes each
once, and feeds every form of the model with the same arrays: decoding, faces, sampling and resizing are shared code, so
what is compared is what can differ. It also predicts from the stored record, to show how far file and store are apart.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from mmadfer.contract import Contract
from mmadfer.data.agreement import check_store
from mmadfer.data.clip import read_clip
from mmadfer.data.store import Store
from mmadfer.errors import DataError, WeightsError
from mmadfer.export.comparison import TOLERANCE, Comparison, check, show
from mmadfer.export.external import deliver
from mmadfer.export.to_onnx import CALIBRATED, to_onnx
from mmadfer.files import sha256, write_json
from mmadfer.runtime.recogniser import Recogniser, from_clip, from_record, seen_frames

REPORT = "parity.json"
"""The report's name, beside the model."""


def compare(
    reference: Recogniser, candidate: Recogniser, store: Store, ids: Sequence[str], tolerance: float = TOLERANCE
) -> Comparison:
    """Predict the clips `ids` with both, from their media files.

    Raises:
        WeightsError: the two do not belong together.
        DataError: the store was prepared otherwise than the model asks for, or a media file cannot be read.
    """
    _check_same(reference, candidate)
    check_store(reference.contract, store)
    _check_media(store, ids)
    rows = [
        _row(reference, candidate, store, name) for name in track(ids, "Parity, from file to label", transient=True)
    ]
    labels = reference.labels
    return Comparison(
        ids=list(ids),
        media=[store.clips[name].media for name in ids],
        truth=[labels.index(store.clips[name].label) for name in ids],
        reference=np.stack([row[0] for row in rows]),
        candidate=np.stack([row[1] for row in rows]),
        stored=np.stack([row[2] for row in rows]),
        tolerance=tolerance,
        facts=_facts(candidate, store),
    )


def _row(reference: Recogniser, candidate: Recogniser, store: Store, name: str) -> tuple[np.ndarray, ...]:
    contract = reference.contract
    stored = store.clips[name]
    sound = store.root / stored.sound if stored.sound else None
    keep = seen_frames(contract)
    clip = read_clip(store.media(name), store.prepare, sound=sound, cropped=stored.cropped, keep=keep)
    from_file = from_clip(clip, contract)
    from_store = from_record(store.read(name), contract)
    return (
        reference.backend.logits(*from_file)[0],
        candidate.backend.logits(*from_clip(clip, candidate.contract))[0],
        reference.backend.logits(*from_store)[0],
    )


def _facts(candidate: Recogniser, store: Store) -> dict[str, Any]:
    made = {"sha256": sha256(candidate.path), "store": store.path.name}
    return {**candidate.facts(), **made, "recorded": candidate.contract.metrics}


def _check_same(reference: Recogniser, candidate: Recogniser) -> None:
    """Same labels, sizes and preparation; whether the weights are the same is for the logits to say."""
    one, other = (_promises(recogniser.contract) for recogniser in (reference, candidate))
    differ = [name for name in one if one[name] != other[name]]
    if differ:
        raise WeightsError(
            f"{candidate.path} was not exported from {reference.path}: their {', '.join(differ)} differ "
            f"({one[differ[0]]} and {other[differ[0]]}). Export it anew, or name the fold that it was exported from."
        )


def _promises(contract: Contract) -> dict[str, Any]:
    return {
        "labels": contract.labels,
        "input sizes": (contract.model.image_size, contract.model.frames),
        "preparation": contract.prepare,
        "modalities": contract.modalities,
        "fold": contract.fold,
    }


def _check_media(store: Store, ids: Sequence[str]) -> None:
    missing = [name for name in ids if not store.media(name).exists()]
    if missing:
        raise DataError(
            f"parity starts from the media files, and {len(missing)} of {len(ids)} are not there; the first is "
            f"{store.media(missing[0])}. Mount the folder that the store was prepared from."
        )


def choose_clips(store: Store, fold: int | None, clips: int | None) -> list[str]:
    """Ids of the test clips of a fold (all clips without one); `clips` of them, evenly spread, if given."""
    ids = store.fold(fold) if fold is not None else list(store.clips)
    if clips is None or clips >= len(ids):
        return ids
    return [ids[i * len(ids) // clips] for i in range(clips)]


def export(
    path: Path | str,
    out: Path | str,
    data: Path | str,
    fold: int | None = None,
    clips: int | None = None,
    *,
    tolerance: float = TOLERANCE,
    **options: Any,
) -> Path:
    """Export to ONNX, prove it on real clips, and only then deliver it as `out`, with `parity.json` beside it.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the ONNX file to write.
        data: prepared store whose media files are used.
        fold: which fold of a run directory; its test clips are used.
        clips: how many clips; by default all test clips of the fold.
        tolerance: largest difference of a logit that is accepted.
        options: what else `to_onnx` takes; it calibrates on training clips of `data`.

    Raises:
        ParityError: the exported model gives another answer; what was at `out` stays.
        WeightsError, DataError: the model, the store or a clip cannot be used.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.get("precision", "fp32") in CALIBRATED:
        options["data"] = data
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        candidate = to_onnx(path, Path(folder) / out.name, fold, **options)
        comparison = parity(path, candidate, data, fold, clips, tolerance=tolerance)
        check(comparison)
        write_json(out.parent / REPORT, comparison.to_dict())
        deliver(candidate, out)
    print(f"model   {out}\nparity  {out.parent / REPORT}")
    return out


def parity(
    path: Path | str,
    model: Path | str,
    data: Path | str,
    fold: int | None = None,
    clips: int | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare an exported model with the one at `path` on test clips of `fold`, and print the result.

    Raises:
        WeightsError, DataError: as in `compare`.
    """
    reference, candidate = Recogniser(path, "torch", fold), Recogniser(model)
    with Store(data) as store:
        ids = choose_clips(store, fold if fold is not None else reference.contract.fold, clips)
        comparison = compare(reference, candidate, store, ids, tolerance)
    show(comparison)
    return comparison


def main(
    path: Annotated[Path, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth.")],
    model: Annotated[Path, typer.Option(help="The exported model.")],
    data: Annotated[Path, typer.Option(help="Prepared store whose media files are used.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="How many clips (default: the fold).")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest accepted difference of a logit.")] = TOLERANCE,
) -> None:
    """Prove that an exported model gives PyTorch's answers, from file to label."""
    comparison = parity(path, model, data, fold, clips, tolerance=tolerance)
    write_json(model.parent / REPORT, comparison.to_dict())
    check(comparison)


if __name__ == "__main__":
    from mmadfer.cli import run

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    sys.exit(run(app))
