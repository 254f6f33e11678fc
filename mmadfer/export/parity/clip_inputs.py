"""The clips of a comparison: which they are, and what becomes of each on the three ways from its file to arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.faces.mtcnn_networks import WITHOUT_TORCH
from mmadfer.data.media.frames import NumberedCrops
from mmadfer.data.sentences import SUFFIX, ClipTokens, check_facts, read_sentences
from mmadfer.data.store.splits import FOLDS
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
from mmadfer.runtime.arrays import Inputs, from_clip, from_record
from mmadfer.runtime.inputs import Video, read_whole
from mmadfer.runtime.recogniser import Recogniser

Hearing = tuple[str, int | None]
"""What a model hears: its contract's `input` and `waveform_rate`."""


@dataclass(frozen=True)
class ClipInputs:
    """What models are fed with for one clip."""

    own: Inputs
    """As PyTorch's `Recogniser` reads the file."""
    served: dict[Hearing, Inputs]
    """As an install without PyTorch reads it, where exported models serve: ONNX Runtime finds the faces."""
    stored: Inputs
    """From the clip's record in the store."""


class Tokens:
    """The tokens of clips of a store, of the sentences that lie beside it; none for a model that reads none.

    Raises:
        DataError: the sentences cannot be used, or were made otherwise than those of the training.
    """

    def __init__(self, model: Recogniser, store: Store) -> None:
        self._tokens: ClipTokens | None = None
        if model.sentences is not None:
            self._tokens = ClipTokens(read_sentences(store.path.with_suffix(SUFFIX)), model.sentences.tokenizer)
            check_facts(model.contract.text, self._tokens.facts)

    def __call__(self, name: str) -> Inputs:
        """int64 (1, L) of a clip, or nothing."""
        return () if self._tokens is None else (self._tokens.of([name]),)


def read(
    store: Store, name: str, reference: Contract, contracts: Iterable[Contract], tokens: Inputs = ()
) -> ClipInputs:
    """Read a clip for PyTorch's model and for exported ones; each decodes the file and finds the face on its own.

    `tokens` are those of its sentence, for models that read it.

    Raises:
        DataError: the file cannot be read, or lacks what the model needs.
    """
    contracts = (reference, *contracts)
    if not reference.model.modalities:
        return ClipInputs(tokens, {hearing(one): tokens for one in contracts}, tokens)
    found = _video(store, name)
    clip = read_whole(found, reference, WITHOUT_TORCH)
    return ClipInputs(
        (*from_clip(read_whole(found, reference), reference), *tokens),
        {hearing(one): (*from_clip(clip, one), *tokens) for one in contracts},
        (*from_record(store.read(name), reference, store.clips[name]), *tokens),
    )


def hearing(contract: Contract) -> Hearing:
    """Models with the same one are fed with the same arrays."""
    return contract.input, contract.waveform_rate


def equal(one: Inputs, other: Inputs) -> bool:
    """Whether the arrays are the same to the last bit."""
    return all(map(np.array_equal, one, other))


def input_difference(one: Inputs, other: Inputs) -> tuple[float, float]:
    """Mean absolute difference of the frames, of 255, and of the filter bank; 0 of what the model does not take."""
    found = {"frames": 0.0, "fbank": 0.0}
    for a, b in zip(one, other, strict=True):
        kind = "frames" if a.dtype == np.uint8 else "fbank"
        found[kind] = max(found[kind], float(np.abs(a.astype(np.float64) - b).mean()))  # tokens are always the same
    return found["frames"], found["fbank"]


def _video(store: Store, name: str) -> Video:
    clip, media = store.clips[name], store.media(name)
    sound = store.root / clip.sound if clip.sound else None
    crops = NumberedCrops(media, sound, store.prepare.max_seconds) if clip.numbered and sound else None
    return Video(media, sound, clip.cropped, crops)


def check_media(store: Store, ids: Sequence[str]) -> None:
    """Whether the clips' files are there.

    Raises:
        DataError: some are not.
    """
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
    split, folds = (contracts[0].split, contracts[0].folds or 0) if contracts else (FOLDS, 0)
    ids = store.fold(fold, split, folds) if fold is not None else list(store.clips)
    ids = [name for name in ids if rates <= {store.clips[name].rate} or not store.clips[name].rate]
    if not ids:
        told = " and ".join(f"{rate} Hz" for rate in sorted(filter(None, rates)))
        raise DataError(f"{store.path} has no test clip whose sound all models hear: they were exported for {told}")
    if clips is None or clips >= len(ids):
        return ids
    return [ids[i * len(ids) // clips] for i in range(clips)]
