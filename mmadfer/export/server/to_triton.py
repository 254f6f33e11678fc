"""A Triton model repository: `python export/to_triton.py model.onnx|model.engine --out repo/`.

    repo/NAME          a file's bytes -> probabilities, label, notes   (ensemble)
    repo/NAME_frames   decoded pictures and sound -> the same          (ensemble)
    repo/NAME_read     files or pictures -> the model's inputs         (Python backend, mmadfer.runtime.triton)
    repo/NAME_model    the ONNX file or engine
    repo/NAME_label    logits -> probabilities, label                  (Python backend)
    repo/client.py     asks the server

`mmadfer export triton` is the same command.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from mmadfer.contract import BATCH_RANGE, Contract, refuse_text
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, contract_of, write_export_cards
from mmadfer.export.graph import external
from mmadfer.export.graph.protos import read_contract
from mmadfer.export.server.configs import LABELS_FILE, Serving, TritonBackend, config_text, configs
from mmadfer.runtime.backends import engines
from mmadfer.runtime.triton import CONTRACT
from mmadfer.utils.files import check_place, sync
from mmadfer.utils.temporary_folders import workplace
from mmadfer.utils.terminal import say

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Of models: what is a folder on every system, and a word in every address."""
CLASSES = {"read": "Reader", "model": "Model", "label": "Namer"}
"""Step -> class of mmadfer.runtime.triton."""
MODEL_PY = '"""Written by mmadfer."""\n\nfrom mmadfer.runtime.triton import {} as TritonPythonModel  # noqa: F401\n'
_MIN_TRITON_VERSION = "26.07"
"""Triton's first release without known ways in for those who may send it a request."""
MENDED = (
    "CVE-2025-23319, -23320, -23334, mended in 25.07; CVE-2026-24207, in 26.03; NVIDIA's bulletins up to 5875, in 26.07"
)
LOOPBACK = "--http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1"
"""Triton listens to every network unless it is told otherwise, and asks nobody who they are."""
CARD = "card.md"
"""The model's card, in the repository's folder, which Triton does not read."""
CLIENT = Path(__file__).with_name("client.py")
_MAX_PROCESSES = 4096
"""Processes or copies; a larger number is a slip."""
_MAX_LIMIT_SECONDS = 3600
"""Seconds, for `limit`."""


def to_triton(
    source: Path | str,
    out: Path | str,
    *,
    name: str = "mmadfer",
    backend: TritonBackend | None = None,
    device: str | None = None,
    instances: int = 1,
    readers: int = 4,
    delay: float = 5.0,
    limit: float = 120.0,
) -> Path:
    """Write a model repository, whole or not at all.

    Args:
        source: an ONNX file or an engine that mmadfer wrote.
        out: the repository's folder; must not exist, or be empty.
        name: of the ensemble; the other models' begin with it.
        backend: what computes the model: Triton's `onnxruntime` or `tensorrt`, or `python`, which is mmadfer's own
            runtime. By default Triton's, but for engines of TensorRT-RTX, which it cannot load.
        device: `cpu` or `cuda`; by default `cpu` for ONNX files.
        instances: copies of the model, on each GPU or on the CPU.
        readers: processes that read videos.
        delay: milliseconds that a clip waits for others to share its batch.
        limit: seconds after which a video that waits is given up, and one that is being read.

    Returns:
        `out`.

    Raises:
        WeightsError: no such model, one that Triton cannot serve, or one with program code that nobody has allowed.
        ConfigError: options that do not go together, or something lies at `out`.
        MissingDependencyError: tritonclient is not installed.
    """
    source, out = Path(source), Path(out)
    _check_options(name, instances, readers, delay, limit)
    _check_out(out)
    check_place(out, folder=True)
    contract, files = _described(source)
    refuse_text(contract, "Triton")
    _check_windows(source, contract)
    served = Serving(
        backend=_backend(source, backend),
        batch=contract.batch or BATCH_RANGE,
        device=_device(source, device),
        instances=instances,
        readers=readers,
        delay=delay / 1000,
        limit=limit,
    )
    _check_batch(source, served)
    _check_kernels(source, contract, served)
    with _folder(out) as folder:
        for model, config in configs(name, contract, served).items():
            _write_model(folder / model, config_text(config), model.removeprefix(name).lstrip("_"), contract, served)
        _copy(source, files, folder / f"{name}_model" / "1", served.backend)
        _write(
            folder / "client.py", CLIENT.read_text(encoding="utf-8").replace('MODEL = "mmadfer"', f'MODEL = "{name}"')
        )
    return out


def _check_options(name: str, instances: int, readers: int, delay: float, limit: float) -> None:
    if not _MODEL_NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: give at most 64 letters, digits, '_', '.' and '-', a letter or digit first"
        )
    for option, value in (("instances", instances), ("readers", readers)):
        if not 1 <= value <= _MAX_PROCESSES:
            raise ConfigError(f"--{option} {value}: give a number from 1 to {_MAX_PROCESSES}")
    if not 0 <= delay <= 1000:
        raise ConfigError(f"--delay {delay:g}: give milliseconds from 0 to 1000")
    if not 1 <= limit <= _MAX_LIMIT_SECONDS:
        raise ConfigError(f"--limit {limit:g}: give seconds from 1 to {_MAX_LIMIT_SECONDS}")


def _check_windows(source: Path, contract: Contract) -> None:
    if contract.window is not None and contract.pooled_windows is None and not contract.per_step:
        raise WeightsError(
            f"{source} takes one window of a clip at a time, and a server answers one clip a request: export the model "
            "with --windows K, which takes K windows together"
        )


def _check_out(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ConfigError(f"{out} is there already, and may be in use by a server: give another --out, or remove it")


def _described(source: Path) -> tuple[Contract, list[Path]]:
    """The contract, and the files that belong to the model."""
    if source.suffix.lower() == ".onnx":
        return read_contract(source), external.weight_files(source)
    if source.suffix.lower() == engines.ENGINE_SUFFIX:
        sidecar = engines.read_sidecar(source)
        engines.check_engine_files(source, sidecar)
        engines.check_trust(source, sidecar)
        return sidecar.contract, [engines.sidecar_path(source)]
    raise WeightsError(
        f"{source} is neither an ONNX file nor an engine: `mmadfer export onnx` and `mmadfer export engine` write them"
    )


def _backend(source: Path, wanted: str | None) -> TritonBackend:
    onnx = source.suffix.lower() == ".onnx"
    natural: TritonBackend = "onnxruntime" if onnx else "tensorrt"
    if wanted not in (None, *get_args(TritonBackend)):
        raise ConfigError(f"--backend {wanted}: give one of {', '.join(get_args(TritonBackend))}")
    if wanted not in (None, natural, "python"):
        raise ConfigError(f"--backend {wanted} cannot load {source}: leave it out, or give python")
    portable = not onnx and engines.read_sidecar(source).flavour != "tensorrt"
    if portable and wanted == "tensorrt":
        raise ConfigError(f"{source} is of TensorRT-RTX, which Triton cannot load: leave --backend out, or give python")
    return "python" if portable or wanted == "python" else natural


def _device(source: Path, wanted: str | None) -> Any:
    engine = source.suffix.lower() == engines.ENGINE_SUFFIX
    if wanted not in (None, "cpu", "cuda") or (engine and wanted == "cpu"):
        raise ConfigError(f"--device {wanted}: {source} runs on {'cuda' if engine else 'cpu or cuda'}")
    return wanted or ("cuda" if engine else "cpu")


def _check_batch(source: Path, served: Serving) -> None:
    if served.backend == "tensorrt" and served.batch[0] > 1:
        _, usual, most = served.batch
        raise ConfigError(
            f"{source} takes {served.batch[0]} clips at least, but a server may have a single one: build it with "
            f"--batch 1 {usual} {most}, or give --backend python, which fills up"
        )


def _check_kernels(source: Path, contract: Contract, served: Serving) -> None:
    """Refuse what fails when the server starts. Triton hands no option to ONNX Runtime that fp8 needs, and the images'
    versions do not know bf16's opset."""
    kind = contract.arithmetic
    if kind == "bf16" and served.device == "cpu":
        raise ConfigError(f"{source} is in bf16, for which ONNX Runtime has no kernels on a CPU: give --device cuda")
    if kind in ("bf16", "fp8") and served.backend == "onnxruntime":
        raise ConfigError(
            f"{source} is in {kind}, which Triton's onnxruntime backend does not serve: give --backend python, with "
            "which mmadfer computes it in the server"
        )


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` if the block succeeds."""
    with workplace(out) as place:
        folder = place / "repository"
        folder.mkdir()
        yield folder
        try:
            os.rename(folder, out)  # takes the place of an empty folder, and of nothing else
        except OSError as error:
            _check_out(out)
            raise ConfigError(f"{out} cannot be written ({error.strerror}): give another --out") from error
    sync(out.parent)


def _write_model(folder: Path, config: str, step: str, contract: Contract, served: Serving) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    _write(folder / "config.pbtxt", config)
    if step in ("read", "label") or (step == "model" and served.backend == "python"):
        _write(version / "model.py", MODEL_PY.format(CLASSES[step]))
        _write(version / CONTRACT, contract.model_dump_json(indent=2) + "\n")
    elif step != "model":
        _write(version / ".keep", "")  # some copies leave out empty folders, and an ensemble has nothing else here
    if step not in ("read", "model"):
        _write(folder / LABELS_FILE, "".join(f"{name}\n" for name in contract.names))


def _copy(source: Path, files: list[Path], version: Path, backend: TritonBackend) -> None:
    name = "model.plan" if backend == "tensorrt" else f"model{source.suffix.lower()}"
    _copied(source, version / name)
    for file in files if name != "model.plan" else ():
        sidecar = file.name == engines.sidecar_path(source).name
        _copied(file, version / (engines.sidecar_path(Path(name)).name if sidecar else file.name))


def _copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    sync(target)


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    sync(path)


def export_triton(source: Path, out: Path, terms: Terms = NO_TERMS, **options: Any) -> Path:
    """`to_triton` with a card in it, and say how to serve it.

    Raises:
        MmadferError: as `to_triton`.
        LicenceError: `terms` ask for commercial use, which a part does not allow.
    """
    check_terms(source, None, terms)
    written = to_triton(source, out, **options)
    say(f"repository  {written}: {', '.join(sorted(one.name for one in written.iterdir() if one.is_dir()))}")
    say(f"serve       {_command(written, source)}")
    say(f"needs       Triton {_MIN_TRITON_VERSION} or later: others can take over earlier ones ({MENDED})")
    say(f"ask         python {written / 'client.py'} clip.mp4")
    write_export_cards(source, source, contract_of(source), terms, card=written / CARD)
    return written


def _command(written: Path, source: Path) -> str:
    serve = f"tritonserver --model-repository={shlex.quote(str(written.absolute()))} {LOOPBACK}"
    if source.suffix.lower() != engines.ENGINE_SUFFIX or not engines.read_sidecar(source).version_compatible:
        return serve
    plan = next(written.glob("*_model/1/model.plan"), None)
    return f"{serve} --backend-config=tensorrt,version-compatible=true" if plan else f"{engines.TRUST}=1 {serve}"
