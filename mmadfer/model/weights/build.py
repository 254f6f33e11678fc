"""Models with weights: built new, hashed, saved and read back as safetensors."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmadfer import contract as contracts
from mmadfer.config import plug_ins
from mmadfer.config.model import EncoderConfig, ModelConfig
from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.model.initializers import fill_constants
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.weights.check_shapes import explain
from mmadfer.model.weights.encoders import check_finite, load_encoder
from mmadfer.model.weights.init import draw_encoder, draw_learned, draw_text
from mmadfer.model.weights.text import WEIGHTS as TEXT_WEIGHTS
from mmadfer.model.weights.text import check_folder, load_text
from mmadfer.tasks.base import OWN
from mmadfer.utils import compat
from mmadfer.utils.files import atomic
from mmadfer.utils.memory import first_line

SELF_CONTAINED = (
    "write one file with everything where it was trained: `mmadfer export weights RUN --fold K --out model.safetensors`"
)

DRAWN = 1 << 29
"""Numbers of an encoder that a file has drawn at random: more than a ViT-L has."""


def build_model(config: ModelConfig, classes: int, seed: int = 1) -> MMADFER:
    """Make a new model on the CPU in float32; the global random state is neither read nor changed.

    The encoders come from `config.vision.weights`, `config.audio.weights` and `config.text.folder`, or are drawn from
    their own seeds; the trainable part is drawn from `seed`.

    Raises:
        WeightsError: an encoder file that is missing, damaged or of another model.
        ConfigError: a tensor of a part that does not say how it is drawn; or a text encoder of another kind, or of
            other sizes, than `config.text`.
    """
    if config.text is not None and config.text.folder is not None:
        check_folder(config.text, config.text.folder)
    model: MMADFER = compat.allocate(empty_model(config, classes))
    _fill_encoders(model)
    draw_learned(model, seed)
    return model


def _fill_encoders(model: MMADFER) -> None:
    for name in model.encoders:
        _fill_encoder(model, name)
    text = model.config.text
    if text is not None and text.folder is not None:
        load_text(model.text, text.folder)
    elif text is not None:
        draw_text(model, text.seed)


def _fill_encoder(model: MMADFER, name: str) -> None:
    config: EncoderConfig = getattr(model.config, name)
    if config.weights is None:
        draw_encoder(model, name, config.seed)
    else:
        load_encoder(model, name, config.weights)


def encoder_hash(model: MMADFER) -> str:
    """SHA-256 of the frozen tensors."""
    return tensors_hash(dict(model.frozen()))


def weights_hash(model: MMADFER) -> str:
    """SHA-256 of the tensors that training changes: trainable ones, and buffers that are saved."""
    return tensors_hash(model.learned())


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of each tensor, floats in float32, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = _plain(tensors[name])
        digest.update(f"{name} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, floats in float32; integers of buffers as they are."""
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kind).contiguous()


def save_weights(
    path: Path | str, model: MMADFER, contract: Contract, frozen: bool, more: Mapping[str, Tensor] | None = None
) -> None:
    """Write what training changes (and the encoders, if `frozen`) as float32 safetensors, atomically.

    The contract goes into the metadata with the hashes of what is written; an `encoder_hash` that it already holds is
    kept, because encoders do not change while training. `more` are a task's own tensors, named `task.…`.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    contract = contract.model_copy(
        update={
            "encoder_hash": contract.encoder_hash or encoder_hash(model),
            "weights_hash": weights_hash(model),
            "plug_ins": plug_ins.of_model(model.config),
        }
    )
    tensors = {**model.learned(), **(model.frozen() if frozen else {}), **(more or {})}
    values = {name: _plain(value) for name, value in tensors.items()}
    with atomic(path) as temporary:
        _write(temporary, values, contract)


def _write(path: Path, values: dict[str, Tensor], contract: Contract) -> None:
    """Write the file; what the system says of it comes as OSError, not in words of the library."""
    try:
        save_file(values, path, metadata={contracts.KEY: contract.dumps()})
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def load_weights(path: Path | str) -> tuple[MMADFER, Contract]:
    """Read what `save_weights` wrote; encoders that it left out are built again as the contract says.

    Raises:
        WeightsError: no such file, not one of ours, damaged, or its encoders cannot be had or are other ones.
        MissingDependencyError: a package that brings a part of the model is not installed; names it.
    """
    path = Path(path)
    contract, shapes = _described(path)
    plug_ins.check(contract.plug_ins, path)
    model = planned(path, contract.model, len(contract.names))
    _compare(path, model, shapes)
    included = set(model.frozen()) <= set(shapes)
    if not included:
        _check_origins(path, model)
    tensors = _tensors(path, model)
    for name, value in tensors.items():
        check_finite(path, name, value)
    if included:
        model.load_state_dict(tensors, assign=True)
        fill_constants(model)
    else:
        compat.allocate(model)
        _fill_encoders(model)
        model.load_state_dict(tensors, strict=False)
        fill_constants(model)
    return _verified(path, model, contract, included), contract


def read_contract(path: Path) -> Contract:
    """The contract of a safetensors file that `save_weights` wrote.

    Raises:
        WeightsError: no such file, not one of ours, or damaged.
    """
    return _described(path)[0]


def planned(path: Path | str, config: ModelConfig, classes: int) -> MMADFER:
    """The model of the sizes that a file names, as names and shapes, without memory for weights.

    Raises:
        WeightsError: there is no such model.
    """
    try:
        return empty_model(config, classes)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # of torch, for sizes that cannot be
        raise WeightsError(f"{path} names sizes that no model has ({first_line(error)}): get it again") from error


def _described(path: Path) -> tuple[Contract, dict[str, tuple[int, ...]]]:
    """The contract, and the shapes of the tensors."""
    with _opened(path) as file:
        text = (file.metadata() or {}).get(contracts.KEY)
        if text is None:
            raise WeightsError(f"{path} has no {contracts.KEY} in its metadata: it was not written by mmadfer")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in _names(file)}
        return contracts.loads(text, path), shapes


def _tensors(path: Path, model: MMADFER) -> dict[str, Tensor]:
    """The model's tensors, of its types; floats are float32."""
    wanted = {name: _plain(value.new_empty(0, device="cpu")).dtype for name, value in model.state_dict().items()}
    with _opened(path) as file:
        found = {name: file.get_tensor(name) for name in _names(file)}
    odd = [name for name, value in found.items() if value.dtype != wanted[name]]
    if odd:
        was, kind = (str(one).removeprefix("torch.") for one in (found[odd[0]].dtype, wanted[odd[0]]))
        raise WeightsError(f"{path}: {odd[0]} is {was}: expected {kind}; use another checkpoint")
    return found


def _names(file: Any, own: bool = False) -> list[str]:
    """Of the model's tensors, or of the task's own."""
    return [name for name in file.keys() if name.startswith(OWN) == own]  # noqa: SIM118


def own_tensors(path: Path) -> dict[str, Tensor]:
    """Those of a task's own modules in a weights file, named `task.…`; none in other files.

    Raises:
        WeightsError: no such file, or it is damaged.
    """
    with _opened(path) as file:
        found = {name: file.get_tensor(name) for name in _names(file, own=True)}
    for name, value in found.items():
        check_finite(path, name, value)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: give a run directory, a .safetensors or a published .pth")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}): use another checkpoint") from error


def _compare(path: Path, model: MMADFER, shapes: dict[str, tuple[int, ...]]) -> None:
    wanted = {**model.learned(), **(model.frozen() if set(shapes) & set(model.frozen()) else {})}
    explain(str(path), {k: tuple(v.shape) for k, v in wanted.items()}, shapes)


def _verified(path: Path, model: MMADFER, contract: Contract, included: bool) -> MMADFER:
    if contract.weights_hash != weights_hash(model):
        raise WeightsError(
            f"{path} is damaged: its weights do not have the hash in its contract; use another checkpoint"
        )
    if contract.encoder_hash != encoder_hash(model):
        origin = "the encoders inside" if included else f"the encoders built from {_origins(contract.model)}"
        cure = "use another copy of it" if included else f"put the files of the training there, or {SELF_CONTAINED}"
        raise WeightsError(f"{path}: {origin} are not those it was trained with (another hash): {cure}")
    model.contract = contract
    return model


def _check_origins(path: Path, model: MMADFER) -> None:
    """Whether the encoders can be had again, before there is memory for them."""
    files = {name: getattr(model.config, name).weights for name in model.encoders}
    parts: dict[str, nn.Module] = {**model.encoders}
    if model.config.text is not None:
        folder = model.config.text.folder
        files["text"], parts["text"] = folder and folder / TEXT_WEIGHTS, model.text
    missing = [str(file) for file in files.values() if file is not None and not file.is_file()]
    if missing:
        raise WeightsError(
            f"{path} holds the trained part only, and there is no weights file at {' and '.join(missing)} for its "
            f"encoders: put the files of the training there, or {SELF_CONTAINED}"
        )
    for name, encoder in parts.items():
        count, file = sum(p.numel() for p in encoder.parameters()), files[name]
        if count > (DRAWN if file is None else file.stat().st_size):
            raise WeightsError(
                f"{path} asks for a {name} encoder of {count} numbers, more than {file or 'one drawn at random'} may "
                "have: get it again"
            )


def _origins(config: ModelConfig) -> str:
    named: list[tuple[str, Path | None, int]] = [
        (name, one.weights, one.seed) for name in config.modalities for one in (getattr(config, name),)
    ]
    if config.text is not None:
        named.append(("text", config.text.folder, config.text.seed))
    return " and ".join(f"{name} {file or f'seed {seed}'}" for name, file, seed in named)
