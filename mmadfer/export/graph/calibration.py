"""What flows through a graph on real clips: from this, numbers of fewer bits get their scales and limits.

The clips are of the folds that the model was trained on, never of its test fold, so that its test score stays honest.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mmadfer.contract import Contract
from mmadfer.data.compatibility import check_store
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError, WeightsError
from mmadfer.runtime.arrays import Inputs, from_record
from mmadfer.runtime.backends import ports
from mmadfer.utils.console import Console
from mmadfer.utils.optional import need

CALIBRATION_CLIPS = 64
"""How many clips are looked at; more change little."""
BINS = 2048
"""Of a histogram of absolute values."""


@dataclass(frozen=True)
class _StoreClips:
    """Clips of a store, read again whenever they are iterated, so that memory holds one at a time."""

    store: Path
    ids: tuple[str, ...]
    contract: Contract

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of one clip after the other, by input name."""
        with Store(self.store) as store:
            for name in track(self.ids, "Calibration", console=Console(), transient=True):
                yield dict(zip(ports.inputs(self.contract), self._row(store, name), strict=True))

    def _row(self, store: Store, name: str) -> Inputs:
        return from_record(store.read(name), self.contract, store.clips[name])


def calibration_clips(
    data: Path | str, contract: Contract, count: int = CALIBRATION_CLIPS, seed: int = 0
) -> _StoreClips:
    """Clips of the folds that the model was trained on, drawn at random from (seed, fold) alone.

    Args:
        data: a prepared store.
        contract: of the model.
        count: at most how many.
        seed: of the draw.

    Raises:
        WeightsError: the model does not say which fold it was tested on.
        DataError: no store, one of another kind, or one without clips of other folds.
    """
    if contract.fold is None:
        raise WeightsError(
            "the model does not say on which fold it was tested, so no clips can be chosen that it was trained on: "
            "export it from its run directory, with --fold"
        )
    with Store(data) as store:
        check_store(contract, store)
        ids = store.split(contract.split, contract.folds or 0).rest(contract.fold)
    if not ids:
        raise DataError(f"{data} has clips of the test fold {contract.fold} only; those of other folds are needed")
    drawn = np.random.default_rng([seed, contract.fold]).choice(len(ids), min(count, len(ids)), replace=False)
    heard = contract.model_copy(update={"input": "fbank", "waveform_rate": None})
    return _StoreClips(Path(data), tuple(ids[i] for i in sorted(drawn)), heard)


def made_up(contract: Contract, count: int = 2) -> list[dict[str, np.ndarray]]:
    """Noise in the shape of clips, one after the other: for graphs of which only the largest values matter."""
    rng = np.random.default_rng(0)
    wanted = ports.inputs(contract.model_copy(update={"input": "fbank", "waveform_rate": None}))

    def noise(kind: str, shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8) if kind == "uint8" else rng.standard_normal(shape, np.float32)

    return [{name: noise(kind, (1, *shape)) for name, (kind, shape) in wanted.items()} for _ in range(count)]


def peaks(proto: Any, clips: Iterable[dict[str, np.ndarray]], names: Sequence[str]) -> dict[str, float]:
    """The largest absolute value that each tensor takes over all clips; not finite where one is not.

    Args:
        proto: an `onnx.ModelProto` in float32; left as it is.
        clips: arrays by input name.
        names: float tensors of the graph.
    """
    onnx = need("onnx", extra="export")
    probed, ends = _copy(proto), [f"{name}:peak" for name in names]
    # Inside the graph, and the last tensor first: in this order ONNX Runtime holds one at a time (all: 8 GB for ViT-B).
    for name, end in zip(reversed(names), reversed(ends), strict=True):
        absolute = onnx.helper.make_node("Abs", [name], [f"{name}:absolute"])
        largest = onnx.helper.make_node("ReduceMax", [f"{name}:absolute"], [end], keepdims=0)
        probed.graph.node.extend([absolute, largest])
    rows = [np.stack(row) for row in _outputs(probed, clips, ends)]
    return dict(zip(names, np.max(rows, axis=0).tolist(), strict=True))


def histograms(proto: Any, clips: Iterable[dict[str, np.ndarray]], tops: dict[str, float]) -> dict[str, np.ndarray]:
    """How often each tensor takes which absolute value: counts int64 (BINS,) from 0 to its value in `tops`.

    Args:
        proto: an `onnx.ModelProto` in float32; left as it is.
        clips: arrays by input name.
        tops: float tensors of the graph, and the largest absolute value of each.
    """
    counts = {name: np.zeros(BINS, np.int64) for name in tops}
    for row in _outputs(_copy(proto), clips, list(tops)):
        for (name, top), values in zip(tops.items(), row, strict=True):
            counts[name] += np.histogram(np.abs(values), BINS, (0, top or 1.0))[0]
    return counts


def _copy(proto: Any) -> Any:
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy


def _outputs(proto: Any, clips: Iterable[dict[str, np.ndarray]], names: Sequence[str]) -> Iterator[list[np.ndarray]]:
    """Values of tensors of the graph, which become its outputs, for one clip after the other."""
    onnx, ort = need("onnx", extra="export"), need("onnxruntime", extra="export")
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for clip in clips:
        yield session.run(list(names), clip)
