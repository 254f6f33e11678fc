"""What PyTorch's model and its exported forms say of the same clips: read, computed in batches, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.compatibility import check_store
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError, WeightsError
from mmadfer.export.graph.merging import merged, updated
from mmadfer.export.graph.to_onnx import carried
from mmadfer.export.parity import clip_inputs
from mmadfer.export.parity.clip_inputs import ClipInputs, hearing
from mmadfer.export.parity.comparison import Form, ParityComparison, Reading, distance
from mmadfer.export.parity.exported_models import Candidate
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.torch_backend import TorchBackend, promised
from mmadfer.runtime.batches import ON_GPU
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.tasks.pooling import clip_logits
from mmadfer.utils.progress import Meter

SERVED, STORED = "torch, as served", "torch, from the store"
CURES = {
    SERVED: "An install without PyTorch would see other clips than the model was tested on: install mmadfer anew, and "
    "if that does not help, report it with these numbers",
    STORED: "What the model learned from is not what its files give now. See whether these have changed (mmadfer "
    "doctor STORE --media), or prepare the store anew with this version",
}


class _Other(NamedTuple):
    """What PyTorch's model says of a clip that is read another way, and how far that reading is from its own."""

    logits: np.ndarray
    frames: float
    sound: float


class _Seen(NamedTuple):
    """What PyTorch's model says of a clip: logits (classes,)."""

    name: str
    own: np.ndarray
    served: _Other
    stored: _Other


def compare_models(
    reference: Recogniser, candidates: Sequence[Candidate], store: Store, ids: Sequence[str]
) -> ParityComparison:
    """Predict the clips `ids` with all, from their media files; memory holds one batch of clips at a time.

    Raises:
        WeightsError: models that do not belong together.
        DataError: the store was prepared otherwise than the model asks for, or no clip can be read.
    """
    delivered, together = _delivered(reference), _together_windows(candidates)
    read_as = reference.contract.model_copy(update={"pooled_windows": together})
    for candidate in candidates:
        _check_same(reference.path, delivered, candidate.recogniser)
    check_store(reference.contract, store)
    clip_inputs.check_media(store, ids)
    unread = dict[str, str]()
    rows = list(_rows(_clips(reference, read_as, candidates, store, ids, unread), candidates))
    if not rows:
        raise DataError(f"no clip of {store.path} can be read: {next(iter(unread.values()))}")
    seen, *found = zip(*rows, strict=True)
    names, labels = [one.name for one in seen], reference.contract.names
    span = max((high - low for low, high in reference.contract.values.values()), default=0.0)
    own = np.stack([one.own for one in seen])
    comparison = ParityComparison(
        labels=labels,
        ids=names,
        media=[store.clips[name].media for name in names],
        truth=[] if span else [labels.index(store.clips[name].label) for name in names],
        reference=Form("torch", own, facts={**reference.facts(), "recorded": reference.contract.metrics}, span=span),
        served=_reading(SERVED, [one.served for one in seen]),
        stored=_reading(STORED, [one.stored for one in seen]),
        forms=[_form(candidate, np.stack(logits)) for candidate, logits in zip(candidates, found, strict=True)],
        facts={"store": store.path.name, "fold": reference.contract.fold},
        unread=unread,
    )
    return _explained(comparison, read_as, candidates, store)


def _together_windows(candidates: Sequence[Candidate]) -> int | None:
    """How many windows enter all of them together; raises WeightsError where they differ."""
    counts = {candidate.contract.pooled_windows for candidate in candidates}
    if len(counts) > 1:
        raise WeightsError(
            "models that take other numbers of windows together (export onnx --windows) are not compared at once: name "
            "those of one number with --model"
        )
    return next(iter(counts), None)


def _rows(clips: Iterator[tuple[_Seen, ClipInputs]], candidates: Sequence[Candidate]) -> Iterator[tuple[Any, ...]]:
    """Each clip with the logits (classes,) of every form; what it was computed from is let go."""
    for size in _sizes(candidates):
        if not (batch := list(islice(clips, size))):
            return
        logits = [_together(candidate, [arrays for _, arrays in batch]) for candidate in candidates]
        yield from zip([seen for seen, _ in batch], *logits, strict=True)


def _sizes(candidates: Sequence[Candidate]) -> Iterator[int]:
    """Of the batches, in turn, so that every size is seen and no clip is computed twice.

    On a GPU three of a size follow each other: the second is recorded as a CUDA graph, and the third only launches it.
    """
    sizes, times = {1}, 1
    for candidate in candidates:
        _, usual, most = candidate.contract.batch or (1, ON_GPU, ON_GPU)
        gpu = candidate.recogniser.backend.device.gpu
        sizes |= {usual, most} if gpu else {usual}
        times = 3 if gpu else times
    return cycle([size for size in sorted(sizes) for _ in range(times)])


def _clips(
    reference: Recogniser,
    read_as: Contract,
    candidates: Sequence[Candidate],
    store: Store,
    ids: Sequence[str],
    unread: dict[str, str],
) -> Iterator[tuple[_Seen, ClipInputs]]:
    """Read the clips and ask PyTorch; those that cannot be read go to `unread`, so that they do not cost the others.

    `read_as` is the reference's contract, with as many windows together as the forms take.
    """
    contracts, tokens = [candidate.contract for candidate in candidates], clip_inputs.Tokens(reference, store)
    with Meter("comparing with PyTorch", len(ids), goes_on=False) as meter:
        for name in ids:
            try:
                arrays = clip_inputs.read(store, name, read_as, contracts, tokens(name))
            except DataError as error:
                unread[name] = str(error)
            else:
                yield _asked(reference, read_as, name, arrays), arrays
            meter.step()


def _asked(reference: Recogniser, read_as: Contract, name: str, arrays: ClipInputs) -> _Seen:
    own = _alone(reference, arrays.own)
    others = [
        _Other(
            own if clip_inputs.equal(other, arrays.own) else _alone(reference, other),
            *clip_inputs.input_difference(other, arrays.own),
        )
        for other in (arrays.served[hearing(read_as)], arrays.stored)
    ]
    return _Seen(name, own, *others)


def _alone(recogniser: Recogniser, inputs: Inputs) -> np.ndarray:
    """Logits (classes,) of one clip; the pool of those of its windows, where the model takes one and there are more."""
    contract = recogniser.contract
    if len(next(iter(ports.inputs(contract).values()))[1]) + 1 == inputs[0].ndim:
        return recogniser.backend.logits(*inputs)[0]
    assert contract.window is not None
    rows = recogniser.backend.logits(*(array[0] for array in inputs))
    return clip_logits(rows, contract.window).astype(np.float32) if contract.labels else rows.mean(axis=0)


def _together(candidate: Candidate, batch: Sequence[ClipInputs]) -> np.ndarray:
    """Logits (clips, classes) of a form for clips that it computes as one batch."""
    return candidate.batches.computed([arrays.served[hearing(candidate.contract)] for arrays in batch], len(batch))


def _reading(name: str, found: Sequence[_Other]) -> Reading:
    logits, frames, sound = map(np.stack, zip(*found, strict=True))
    return Reading(name, logits, frames, sound, CURES[name])


def _form(candidate: Candidate, logits: np.ndarray) -> Form:
    facts, note = candidate.facts(), candidate.note
    span = max((high - low for low, high in candidate.contract.values.values()), default=0.0)
    return Form(
        candidate.path.name,
        logits,
        candidate.contract.arithmetic,
        facts,
        note,
        simulated=candidate.simulated,
        span=span,
    )


def _explained(
    comparison: ParityComparison, read_as: Contract, candidates: Sequence[Candidate], store: Store
) -> ParityComparison:
    """Look whether forms that differ do so without others in the batch, too: by the clip that is furthest apart."""
    told = list[Form]()
    for form, candidate in zip(comparison.forms, candidates, strict=True):
        if not comparison.faults(form):
            told.append(form)
            continue
        worst = comparison.ids.index(comparison.worst(form)[0]["id"])
        tokens = clip_inputs.Tokens(candidate.recogniser, store)(comparison.ids[worst])
        arrays = clip_inputs.read(store, comparison.ids[worst], read_as, [candidate.contract], tokens)
        alone = _alone(candidate.recogniser, arrays.served[hearing(candidate.contract)])
        told.append(replace(form, alone=float(distance(comparison.served.logits[worst], alone).max())))
    return replace(comparison, forms=told)


def _delivered(reference: Recogniser) -> Contract:
    """The contract of what is exported from PyTorch's model: with low-rank updates, other hashes than its own."""
    if not updated(reference.contract.model):
        return reference.contract
    model = merged(cast(TorchBackend, reference.backend).model)
    return carried(model, promised(model.contract, reference.path))


def _check_same(path: Path, wanted: Contract, candidate: Recogniser) -> None:
    """Same labels, sizes, preparation and weights; where hashes are not known, that is for the logits to say."""
    one, other = (_promises(contract) for contract in (wanted, candidate.contract))
    differ = [name for name in one if one[name] != other[name]]
    if differ:
        raise WeightsError(
            f"{candidate.path} was not exported from {path}: their {', '.join(differ)} differ "
            f"({one[differ[0]]} and {other[differ[0]]}). Export it anew, or name the fold that it was exported from."
        )
    for what, kind in (("trained weights", "weights_hash"), ("encoders", "encoder_hash")):
        hashes = [getattr(contract, kind) for contract in (wanted, candidate.contract)]
        if all(hashes) and hashes[0] != hashes[1]:
            raise WeightsError(
                f"{candidate.path} holds other {what} than {path} ({hashes[1][:12]} and {hashes[0][:12]}): "
                "it was exported from another run or epoch. Export it anew, or name the one that it was exported from."
            )


def _promises(contract: Contract) -> dict[str, Any]:
    return {
        "labels": contract.labels,
        "values": contract.values,
        "input sizes": (contract.model.image_size, contract.model.frames),
        "preparation": contract.prepare,
        "modalities": contract.modalities,
        "windows": contract.window,
        "fold": contract.fold,
    }
