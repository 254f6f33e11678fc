"""Whether a Triton model repository is as `to_triton` wrote it, without Triton."""

from collections.abc import Iterator
from pathlib import Path

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.export.graph.protos import read_contract
from mmadfer.export.server.to_triton import CLASSES, MODEL_PY
from mmadfer.runtime.backends import engines
from mmadfer.runtime.triton import CONTRACT
from mmadfer.utils.files import read_bytes

_PLAN = "model.plan"
"""An engine for Triton's own backend, which has no sidecar."""


def check_repository(folder: Path) -> str:
    """What a repository serves, in words.

    Raises:
        WeightsError: a part is gone, or is not what mmadfer wrote, or of another model; all of it is named.
    """
    name = _name(folder)
    reader = contracts.loads(read_bytes(folder / f"{name}_read" / "1" / CONTRACT), folder / f"{name}_read")
    wrong = [*_missing(folder, name), *_programs(folder, name), *_contracts(folder, name, reader)]
    if wrong:
        listed = "\n".join(f"  {one}" for one in wrong)
        raise WeightsError(f"{folder} is not as it was written; export it anew:\n{listed}")
    what = f"{name} and {name}_frames, {reader.output}: {', '.join(reader.names)}"
    return f"{what}; data set {reader.data_set or 'not known'}, weights {reader.weights_hash}"


def _name(folder: Path) -> str:
    found = sorted(one.parent.name.removesuffix("_read") for one in folder.glob("*_read/config.pbtxt"))
    if len(found) != 1:
        raise WeightsError(
            f"{folder} holds {len(found)} models of mmadfer (NAME_read), and must hold one: export it anew"
        )
    return found[0]


def _missing(folder: Path, name: str) -> Iterator[str]:
    for one in (name, f"{name}_frames", *(f"{name}_{step}" for step in CLASSES)):
        if not (folder / one / "config.pbtxt").is_file() or not (folder / one / "1").is_dir():
            yield f"{one} is not whole: config.pbtxt or its folder 1 is gone"


def _programs(folder: Path, name: str) -> Iterator[str]:
    """Triton runs model.py, so another one is no small thing."""
    for step, made in CLASSES.items():
        path = folder / f"{name}_{step}" / "1" / "model.py"
        if path.exists() and path.read_bytes() != MODEL_PY.format(made).encode():
            yield f"{path} is another program than mmadfer wrote"


def _contracts(folder: Path, name: str, reader: Contract) -> Iterator[str]:
    places = {step: folder / f"{name}_{step}" / "1" for step in CLASSES}
    if contracts.loads(read_bytes(places["label"] / CONTRACT), places["label"]) != reader:
        yield f"{places['label'] / CONTRACT} is of another model than that of {name}_read"
    found = _model(places["model"])
    if found is not None and found.weights_hash != reader.weights_hash:
        yield f"{places['model']} has the weights {found.weights_hash}, and {name}_read tells of {reader.weights_hash}"


def _model(folder: Path) -> Contract | None:
    """The contract of the model; None of a plan, which has none.

    Raises:
        WeightsError: there is no model, or it is damaged.
    """
    onnx, engine = folder / "model.onnx", folder / "model.engine"
    if onnx.is_file():
        return read_contract(onnx)
    if engine.is_file():
        sidecar = engines.read_sidecar(engine)
        engines.check_engine_files(engine, sidecar)
        return sidecar.contract
    if not (folder / _PLAN).is_file():
        raise WeightsError(f"{folder} has no model ({onnx.name}, {engine.name} or {_PLAN}): export it anew")
    return None
