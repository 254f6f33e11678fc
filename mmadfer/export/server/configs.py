"""What Triton is told about each model of a repository: `config.pbtxt`, made through NVIDIA's own schema."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmadfer.contract import Contract
from mmadfer.errors import ConfigError
from mmadfer.runtime import triton
from mmadfer.runtime.backends import ports
from mmadfer.utils.optional import need

TritonBackend = Literal["onnxruntime", "tensorrt", "python"]
LABELS_FILE = "labels.txt"
_TRITON_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "int64": "TYPE_INT64"}
SECOND = 1_000_000
"""Microseconds."""
WAITING = 128
"""Requests that may wait for one step, each with its data in memory; more are refused at once."""
_Config = dict[str, Any]
"""A `ModelConfig` message as JSON has it."""


@dataclass(frozen=True)
class Serving:
    """How a model is served."""

    backend: TritonBackend
    """What computes it: a backend of Triton, or mmadfer inside the Python backend."""
    batch: tuple[int, int, int]
    """Fewest, usual and most clips at once."""
    device: Literal["cpu", "cuda"] = "cpu"
    instances: int = 1
    """Copies of the model, on each GPU or on the CPU."""
    readers: int = 4
    """Processes that read videos."""
    delay: float = 0.005
    """Seconds that a clip waits for others to share its batch."""
    limit: float = 120.0
    """Seconds after which a video that waits is given up, and one that is being read."""


def configs(name: str, contract: Contract, serving: Serving) -> dict[str, _Config]:
    """The models of a repository: folder -> configuration.

    `NAME` takes files and `NAME_frames` decoded pictures; both are ensembles of `NAME_read`, `NAME_model` and
    `NAME_label`.
    """
    steps = {
        f"{name}_read": _reader(contract, serving),
        f"{name}_model": _model(contract, serving),
        f"{name}_label": _namer(contract),
    }
    whole = {name: [_file()], f"{name}_frames": _pictures(contract)}
    found = steps | {folder: _ensemble(name, contract, given) for folder, given in whole.items()}
    return {folder: {"name": folder, "max_batch_size": serving.batch[2]} | config for folder, config in found.items()}


def _reader(contract: Contract, serving: Serving) -> _Config:
    given = [one | {"optional": True} for one in (_file(), *_pictures(contract))]
    return {
        "backend": "python",
        "input": given,
        "output": [*_inputs(contract), *_seconds(contract), _notes()],
        "dynamic_batching": {"preferred_batch_size": [1]} | _queue(serving),  # each reader takes one request at a time
        "parameters": {triton.LIMIT_PARAMETER: {"string_value": f"{serving.limit:g}"}},
        **_on_cpu(serving.readers),
    }


def _model(contract: Contract, serving: Serving) -> _Config:
    kind = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}[serving.device]
    given = _inputs(contract, bare=serving.backend != "python")
    usual = sorted({size for size in serving.batch[1:] if size > 1})
    wait = {"preferred_batch_size": usual, "max_queue_delay_microseconds": round(serving.delay * SECOND)}
    return {
        "backend": serving.backend,
        "input": given,
        "output": [_logits(contract)],
        "instance_group": [{"kind": kind, "count": serving.instances}],
        "dynamic_batching": (wait if usual else {}) | _queue(serving),
        "model_warmup": [_warmup(given, size) for size in sorted({1, serving.batch[1]})],
    }


def _queue(serving: Serving) -> _Config:
    """How long requests wait, and how many; a client may ask for less time, so that nobody reads what it gave up."""
    limits = {"default_timeout_microseconds": round(serving.limit * SECOND), "max_queue_size": WAITING}
    return {"default_queue_policy": limits | {"timeout_action": "REJECT", "allow_timeout_override": True}}


def _warmup(given: list[_Config], size: int) -> _Config:
    """A batch of empty clips, before the model is ready: a first one takes many times as long as others."""
    zeros = {one["name"]: {"data_type": one["data_type"], "dims": one["dims"], "zero_data": True} for one in given}
    return {"name": f"empty-{size}", "batch_size": size, "inputs": zeros}


def _namer(contract: Contract) -> _Config:
    return {"backend": "python", "input": [_logits(contract)], "output": _answer(contract), **_on_cpu(1)}


def _ensemble(name: str, contract: Contract, given: list[_Config]) -> _Config:
    taken, made = _names(given), _names(_inputs(contract))
    return {
        "platform": "ensemble",
        "input": given,
        "output": [*_answer(contract), *_seconds(contract), _notes()],
        **({"parameters": {triton.VALUES: {"string_value": json.dumps(contract.names)}}} if contract.per_step else {}),
        "ensemble_scheduling": {
            "step": [
                _step(f"{name}_read", taken, [*made, *_names(_seconds(contract)), triton.NOTES]),
                _step(f"{name}_model", made, [ports.OUTPUT]),
                _step(f"{name}_label", [ports.OUTPUT], _names(_answer(contract))),
            ]
        },
    }


def _step(model: str, given: Sequence[str], made: Sequence[str]) -> _Config:
    maps = {"input_map": {one: one for one in given}, "output_map": {one: one for one in made}}
    return {"model_name": model, "model_version": -1, **maps}


def _on_cpu(count: int) -> _Config:
    return {"instance_group": [{"kind": "KIND_CPU", "count": count}]}


def _names(tensors: Sequence[_Config]) -> list[str]:
    return [tensor["name"] for tensor in tensors]


def _tensor(name: str, kind: str, *sizes: int | None) -> _Config:
    return {"name": name, "data_type": kind, "dims": [-1 if size is None else size for size in sizes]}


def _inputs(contract: Contract, bare: bool = False) -> list[_Config]:
    """Of the model. Triton knows no tensor without a dimension, so `bare` ones are reshaped into one."""
    found = list[_Config]()
    for name, (kind, shape) in ports.inputs(contract).items():
        found.append(
            _tensor(name, _TRITON_TYPES[kind], *(shape or (1,))) | ({"reshape": {}} if bare and not shape else {})
        )
    return found


def _file() -> _Config:
    return _tensor(triton.VIDEO, "TYPE_STRING", 1)


def _pictures(contract: Contract) -> list[_Config]:
    """Decoded pictures and sound, as far as the model takes them."""
    seen = [_tensor(triton.IMAGES_INPUT, "TYPE_UINT8", None, None, None, 3)], [_tensor(triton.CROPPED, "TYPE_BOOL", 1)]
    heard = [_tensor(triton.SAMPLES, "TYPE_FP32", None), _tensor(triton.RATE_INPUT, "TYPE_INT32", 1)]
    if "vision" not in contract.model.modalities:
        return heard
    return [*seen[0], *(heard if "audio" in contract.model.modalities else ()), *seen[1]]


def _logits(contract: Contract) -> _Config:
    return _tensor(ports.OUTPUT, "TYPE_FP32", *_sizes(contract))


def _sizes(contract: Contract) -> tuple[int, ...]:
    return ports.outputs(contract)[ports.OUTPUT][1]


def _answer(contract: Contract) -> list[_Config]:
    """Probabilities and a label, or values; Triton knows the names of both, but for values of each step."""
    kind = triton.VALUES if contract.output == "values" else triton.PROBABILITIES
    named = _tensor(kind, "TYPE_FP32", *_sizes(contract))
    named |= {} if contract.per_step else {"label_filename": LABELS_FILE}
    return [named] if contract.output == "values" else [named, _label()]


def _label() -> _Config:
    return _tensor(triton.LABEL, "TYPE_STRING", 1)


def _seconds(contract: Contract) -> list[_Config]:
    """When the steps are, of a model that gives values of each."""
    return [_tensor(triton.SECONDS, "TYPE_FP64", contract.model.steps)] if contract.per_step else []


def _notes() -> _Config:
    return _tensor(triton.NOTES, "TYPE_STRING", 1)


def config_text(config: _Config) -> str:
    """`config.pbtxt`.

    Raises:
        ConfigError: Triton's schema has no such field, or it holds another type.
        MissingDependencyError: tritonclient is not installed.
    """
    schema = need("tritonclient.grpc.model_config_pb2", extra="triton")
    json_format, text_format = (need(f"google.protobuf.{name}", "triton") for name in ("json_format", "text_format"))
    try:
        written: str = text_format.MessageToString(json_format.ParseDict(config, schema.ModelConfig()))
        return written
    except json_format.ParseError as error:
        raise ConfigError(f"{config['name']}: Triton's schema does not take this configuration: {error}") from error
