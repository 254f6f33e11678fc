"""The same real clips through PyTorch and exported models, from file to label.

`python export/parity.py RUN --backends torch,ort,trt --data STORE` (also `mmadfer export parity`) reads the media files
that the store names as what is deployed reads them: decoding, faces, sampling, resizing and the filter bank are the
code that predicts, and faces are found by ONNX Runtime, as in an install without PyTorch, where exported models serve.
Each form computes these arrays in batches of one clip, of the usual number and, on a GPU, of the most, in turn.

The reference is PyTorch's own `Recogniser`: its own reading of the file, faces by PyTorch, clip by clip. Two things
lie between the two, and each has a bound of its own (mmadfer.export.parity.tolerance), since no one number can
hold both:

- the form, against PyTorch on the very same arrays: the tolerance of the numbers that it computes in;
- the reading, PyTorch on these arrays against PyTorch on its own. Two engines of one detector give boxes 1e-5 pixels
  apart, thus other bytes in nearly every clip, and logits that differ by more than float32 does.

The clip's record in the store is a third reading, with the same bound: a store of another machine may differ a little.
Where something is beyond its tolerance, the message says which part it is: the frames, the filter bank, the graph, or
the batch. For each clip the file is decoded twice, and PyTorch computes up to three times, 2 s each for a full-size
model on two cores of a CPU.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, RunError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, proof_path, write_export_cards
from mmadfer.export.graph.external import deliver
from mmadfer.export.graph.quantisation import EIGHTS
from mmadfer.export.graph.to_onnx import CALIBRATED, to_onnx
from mmadfer.export.parity import exported_models, picture
from mmadfer.export.parity.clip_inputs import choose_clips
from mmadfer.export.parity.comparison import ParityComparison, check_parity
from mmadfer.export.parity.exported_models import Candidate
from mmadfer.export.parity.logits import compare_models
from mmadfer.export.parity.tables import show_parity
from mmadfer.run import directory as runs
from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.utils.files import write_json
from mmadfer.utils.temporary_folders import workplace
from mmadfer.utils.terminal import say

REPORT = "parity.json"
"""The name of a comparison's report, beside the models; one that a single model is delivered with has the model's."""


def export_onnx(
    path: Path | str,
    out: Path | str,
    data: Path | str | None = None,
    fold: int | None = None,
    clips: int | None = None,
    terms: Terms = NO_TERMS,
    **options: Any,
) -> Path:
    """Export to ONNX, prove it on real clips, and only then deliver it as `out`.

    Beside it come `OUT.parity.json` and `OUT.parity.svg`, which say how near it is to PyTorch, and the cards.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the ONNX file to write.
        data: prepared store whose media files are used; by default the run's own.
        fold: which fold of a run directory; its test clips are used.
        clips: how many clips; by default all test clips of the fold.
        terms: under which it is exported; what they refuse is not begun.
        options: what else `to_onnx` takes; it calibrates on training clips of `data`.

    Raises:
        ParityError: the exported model is beyond the tolerance of its precision; what was at `out` stays.
        LicenceError: `terms` ask for commercial use, which a part does not allow.
        ConfigError: options that do not go together, or no store is known.
        WeightsError, DataError: the model, the store or a clip cannot be used.
        MissingDependencyError: a package of extra `export_onnx` is missing.
    """
    check_terms(path, fold, terms)
    out, data = Path(out), own_store(path) if data is None else data
    comparison, contract = deliver_proven(path, out, data, fold, clips, **options)
    report = proof_path(out)
    say(f"model   {out}\nparity  {report}, {report.with_suffix('.svg')}")
    write_export_cards(path, out, contract, terms, data=data)
    if not comparison.passed:
        again = exported_models.proving(path, out, contract.fold, data)
        say(f"not proven: {out.name} did not run here. Where it runs: {again}")
    return out


def deliver_proven(
    path: Path | str, out: Path, data: Path | str, fold: int | None, clips: int | None, **options: Any
) -> tuple[ParityComparison, Contract]:
    """`export_onnx` without its cards and its words: the proof, and the exported model's contract."""
    picture.check_matplotlib()
    reference = Recogniser(path, "torch", fold)
    if _calibrates(options.get("precision", "fp32"), reference.contract):
        options["data"] = data
    with workplace(out) as folder:
        model = to_onnx(path, folder / out.name, fold, **options)
        candidates, _ = exported_models.load_models([model], "cpu", [model])
        comparison = _parity(reference, candidates, data, fold, clips)
        show_parity(comparison)
        check_parity(comparison)
        proof_path(out).unlink(missing_ok=True)  # at no time does one lie beside another model
        deliver(model, out)
        _write(comparison, proof_path(out))
    return comparison, candidates[0].contract


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
) -> ParityComparison:
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
        WeightsError, DataError: as in `compare_models`; or there is no such model.
        MissingDependencyError: a backend that was asked for does not run here.
        ConfigError: options that do not go together.
    """
    named, asked = exported_models.parse_backends(backends), [Path(model) for model in models]
    data = own_store(path) if data is None else data
    reference = Recogniser(path, "torch", fold, parse_device(device).torch)
    files, unusable = exported_models.choose_models(Path(path), asked, named, reference.contract)
    candidates, left = exported_models.load_models(files, device, files if named else asked)
    comparison = _parity(reference, candidates, data, fold, clips)
    return replace(comparison, not_run=left.not_run, unusable=unusable | left.unusable)


def _parity(
    reference: Recogniser, candidates: Sequence[Candidate], data: Path | str, fold: int | None, clips: int | None
) -> ParityComparison:
    fold = fold if fold is not None else reference.contract.fold
    with Store(data) as store:
        contracts = [candidate.contract for candidate in candidates]
        found = compare_models(reference, candidates, store, choose_clips(store, fold, clips, contracts))
        return replace(found, facts={**found.facts, "of": len(choose_clips(store, fold, None, contracts))})


def _write(comparison: ParityComparison, report: Path) -> None:
    picture.draw_picture(comparison, report.with_suffix(".svg"))
    write_json(report, comparison.to_dict())


def main(path: Path, out: Path | None, **options: Any) -> None:
    """`parity`, with its report as `out` (.json) and beside it the picture, also where it fails.

    Raises:
        ParityError: as `check_parity`.
        MmadferError: as `parity`.
    """
    picture.check_matplotlib()
    models = options.get("models") or ()
    report = out or (models[0].parent if models else exported_models.folder(path)) / REPORT
    if report.suffix != ".json":
        raise ConfigError(f"--out {report}: the report is a .json, and the picture gets its name with .svg")
    comparison = parity(path, **options)
    show_parity(comparison)
    _write(comparison, report)
    say(f"report  {report}\npicture {report.with_suffix('.svg')}")
    check_parity(comparison)
