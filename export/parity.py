"""The same real clips through PyTorch and exported models, from file to label.

`python export/parity.py RUN --backends torch,ort,trt --data STORE` (also `mmadfer export parity`) reads the media files
that the store names, decodes each once, and feeds every form of the model with it: decoding, faces, sampling, resizing
and the filter bank are the code that predicts, run once for all forms, with faces found by PyTorch. What differs by the
detector's engine (an install without PyTorch uses ONNX Runtime) or by the size of a batch is not seen here. It also
predicts from the stored record, to show how far file and store are apart; that has no bound. Each form has the
tolerance of the numbers that it computes in (mmadfer.export.tolerance).
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mmadfer import run as runs
from mmadfer.contract import Contract
from mmadfer.data.agreement import check_store
from mmadfer.data.clip import ClipData, read_clip
from mmadfer.data.store import Store
from mmadfer.errors import ConfigError, DataError, RunError, WeightsError
from mmadfer.export import forms, picture
from mmadfer.export.comparison import Comparison, Form, check, show
from mmadfer.export.external import deliver
from mmadfer.export.forms import Candidate
from mmadfer.export.quantisation import EIGHTS
from mmadfer.export.to_onnx import CALIBRATED, to_onnx
from mmadfer.files import write_json
from mmadfer.runtime.device import parse
from mmadfer.runtime.inputs import Inputs, from_clip, from_record, seen_frames
from mmadfer.runtime.recogniser import Recogniser

REPORT = "parity.json"
"""The name of a comparison's report, beside the models; one that a single model is delivered with has the model's."""


def compare(reference: Recogniser, candidates: Sequence[Candidate], store: Store, ids: Sequence[str]) -> Comparison:
    """Predict the clips `ids` with all, from their media files; memory holds one clip at a time.

    Raises:
        WeightsError: models that do not belong together.
        DataError: the store was prepared otherwise than the model asks for, or a media file cannot be read.
    """
    for candidate in candidates:
        _check_same(reference, candidate.recogniser)
    check_store(reference.contract, store)
    _check_media(store, ids)
    rows = [_row(reference, candidates, store, name) for name in track(ids, "From file to label", transient=True)]
    told, stored, *found = (np.stack(logits) for logits in zip(*rows, strict=True))
    labels = reference.labels
    return Comparison(
        labels=labels,
        ids=list(ids),
        media=[store.clips[name].media for name in ids],
        truth=[labels.index(store.clips[name].label) for name in ids],
        reference=Form("torch", told, facts={**reference.facts(), "recorded": reference.contract.metrics}),
        forms=[_form(candidate, logits) for candidate, logits in zip(candidates, found, strict=True)],
        stored=stored,
        facts={"store": store.path.name, "fold": reference.contract.fold},
    )


def _form(candidate: Candidate, logits: np.ndarray) -> Form:
    return Form(candidate.path.name, logits, candidate.contract.arithmetic, candidate.facts(), candidate.note)


def _row(reference: Recogniser, candidates: Sequence[Candidate], store: Store, name: str) -> list[np.ndarray]:
    """Logits (classes,) of the reference, of the reference from the store, and of each candidate."""
    clip = _read(store, name, reference.contract)
    inputs = {_hears(reference.contract): from_clip(clip, reference.contract)}
    told = reference.backend.logits(*inputs["fbank", None])[0]
    stored = from_record(store.read(name), reference.contract)
    same = all(map(np.array_equal, stored, inputs["fbank", None]))
    found = [told, told if same else reference.backend.logits(*stored)[0]]
    for candidate in candidates:
        found.append(candidate.recogniser.backend.logits(*_fed(candidate.contract, clip, inputs))[0])
    return found


def _read(store: Store, name: str, contract: Contract) -> ClipData:
    stored = store.clips[name]
    sound = store.root / stored.sound if stored.sound else None
    keep = seen_frames(contract)
    return read_clip(store.media(name), store.prepare, sound=sound, cropped=stored.cropped, keep=keep)


def _hears(contract: Contract) -> tuple[str, int | None]:
    return contract.input, contract.waveform_rate


def _fed(contract: Contract, clip: ClipData, inputs: dict[tuple[str, int | None], Inputs]) -> Inputs:
    """What a form is fed with; those that hear the same share it."""
    if _hears(contract) not in inputs:
        inputs[_hears(contract)] = from_clip(clip, contract)
    return inputs[_hears(contract)]


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


def choose_clips(store: Store, fold: int | None, clips: int | None, contracts: Sequence[Contract] = ()) -> list[str]:
    """Ids of the test clips of a fold (all clips without one); `clips` of them, evenly spread, if given.

    Clips whose sound one of the models in `contracts` cannot hear, since it was exported for samples at another rate,
    are not among them.

    Raises:
        DataError: there are none.
    """
    rates = {contract.waveform_rate for contract in contracts if contract.modalities != "vision"} - {None}
    ids = store.fold(fold) if fold is not None else list(store.clips)
    ids = [name for name in ids if rates <= {store.clips[name].rate} or not store.clips[name].rate]
    if not ids:
        told = " and ".join(f"{rate} Hz" for rate in sorted(filter(None, rates)))
        raise DataError(f"{store.path} has no test clip whose sound all models hear: they were exported for {told}")
    if clips is None or clips >= len(ids):
        return ids
    return [ids[i * len(ids) // clips] for i in range(clips)]


def export(
    path: Path | str,
    out: Path | str,
    data: Path | str | None = None,
    fold: int | None = None,
    clips: int | None = None,
    **options: Any,
) -> Path:
    """Export to ONNX, prove it on real clips, and only then deliver it as `out`.

    Beside it come `OUT.parity.json` and `OUT.parity.svg`, which say how near it is to PyTorch.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the ONNX file to write.
        data: prepared store whose media files are used; by default the run's own.
        fold: which fold of a run directory; its test clips are used.
        clips: how many clips; by default all test clips of the fold.
        options: what else `to_onnx` takes; it calibrates on training clips of `data`.

    Raises:
        ParityError: the exported model is beyond the tolerance of its precision; what was at `out` stays.
        ConfigError: options that do not go together, or no store is known.
        WeightsError, DataError: the model, the store or a clip cannot be used.
        MissingDependencyError: a package of extra `export` is missing.
    """
    picture.ready()
    out, data = Path(out), own_store(path) if data is None else data
    reference = Recogniser(path, "torch", fold)
    out.parent.mkdir(parents=True, exist_ok=True)
    if _calibrates(options.get("precision", "fp32"), reference.contract):
        options["data"] = data
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        model = to_onnx(path, Path(folder) / out.name, fold, **options)
        candidates, _ = forms.load([model], "cpu", [model])
        comparison = _parity(reference, candidates, data, fold, clips)
        show(comparison)
        check(comparison)
        report = out.with_suffix(".parity.json")
        report.unlink(missing_ok=True)  # at no time does one lie beside another model
        deliver(model, out)
        _write(comparison, report)
    print(f"model   {out}\nparity  {report}, {report.with_suffix('.svg')}")
    return out


def _calibrates(precision: str, contract: Contract) -> bool:
    """Whether training clips are looked at; fp16 can do without where it is not known which these are."""
    return precision in EIGHTS or (precision in CALIBRATED and contract.fold is not None)


def own_store(path: Path | str) -> Path:
    """The store that a run was trained on.

    Raises:
        ConfigError: `path` is no run, or its configuration names none.
    """
    path = Path(path)
    for folder in (path, path.parent):
        try:
            store = runs.read(folder).config.data.store
        except RunError:
            continue
        if store is not None:
            return store
    raise ConfigError(f"{path} does not say on which store it was trained: give one with --data")


def parity(
    path: Path | str,
    models: Sequence[Path | str] = (),
    data: Path | str | None = None,
    fold: int | None = None,
    clips: int | None = None,
    *,
    backends: str | None = None,
    device: str = "cpu",
) -> Comparison:
    """Compare exported models with the one at `path` on test clips of `fold`.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        models: ONNX files and engines; by default all of the fold in RUN/export, as far as they run here.
        data: prepared store whose media files are used; by default the run's own.
        fold: which fold of a run directory.
        clips: how many clips; by default all test clips of the fold.
        backends: some of `torch,ort,trt`; those named here must run.
        device: of PyTorch and ONNX Runtime; engines are always on a GPU.

    Raises:
        WeightsError, DataError: as in `compare`; or there is no such model.
        MissingDependencyError: a backend that was asked for does not run here.
        ConfigError: options that do not go together.
    """
    named, asked = forms.parse(backends), [Path(model) for model in models]
    data = own_store(path) if data is None else data
    reference = _reference(path, fold, device)
    files, unread = forms.choose(Path(path), asked, named, reference.contract)
    candidates, failed = forms.load(files, device, files if named else asked)
    comparison = _parity(reference, candidates, data, fold, clips)
    comparison.not_run.update(unread | failed)
    return comparison


def _reference(path: Path | str, fold: int | None, device: str) -> Recogniser:
    """PyTorch's model, which computes in float32 in full: on a GPU, convolutions else lose digits."""
    where = parse(device)
    reference = Recogniser(path, "torch", fold, where.torch)
    if where.gpu:
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return reference


def _parity(
    reference: Recogniser, candidates: Sequence[Candidate], data: Path | str, fold: int | None, clips: int | None
) -> Comparison:
    fold = fold if fold is not None else reference.contract.fold
    with Store(data) as store:
        ids = choose_clips(store, fold, clips, [candidate.contract for candidate in candidates])
        return compare(reference, candidates, store, ids)


def _write(comparison: Comparison, report: Path) -> None:
    picture.draw(comparison, report.with_suffix(".svg"))
    write_json(report, comparison.to_dict())


def main(path: Path, out: Path | None, **options: Any) -> None:
    """`parity`, with its report as `out` (.json) and beside it the picture, also where it fails.

    Raises:
        ParityError: a form is beyond its tolerance.
        MmadferError: as `parity`.
    """
    picture.ready()
    models = options.get("models") or ()
    report = out or (models[0].parent if models else forms.folder(path)) / REPORT
    if report.suffix != ".json":
        raise ConfigError(f"--out {report}: the report is a .json, and the picture gets its name with .svg")
    comparison = parity(path, **options)
    show(comparison)
    _write(comparison, report)
    print(f"report  {report}\npicture {report.with_suffix('.svg')}")
    check(comparison)


if __name__ == "__main__":
    from mmadfer.cli import app, run

    sys.exit(run(app, ["export", "parity", *sys.argv[1:]]))
