"""A TensorRT engine: `python export/to_trt.py model.onnx|CHECKPOINT --out model.engine` (also `mmadfer export engine`).

TensorRT 10, TensorRT 11 and TensorRT-RTX. The engine computes as the graph says: precision is chosen when the ONNX file
is written (`--precision` there, or here for a checkpoint). `model.engine.json` beside the engine holds the contract,
and what the engine was built from, by and for; without it the engine is of no use.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

from mmadfer.contract import BATCH_RANGE, BatchRange, Contract, check_batch, refuse_text
from mmadfer.errors import ConfigError
from mmadfer.export.cards import NO_TERMS, Terms, check_terms, write_export_cards
from mmadfer.export.engine.builder import EngineOptions, Shapes, build_engine
from mmadfer.export.graph import external
from mmadfer.export.graph.protos import read_contract
from mmadfer.export.parity.exported_models import proving
from mmadfer.runtime.backends import engines, ports
from mmadfer.runtime.backends.cuda import call, gpu
from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.backends.engines import ENGINE_SUFFIX, Gpu, Option, Sidecar, sidecar_path
from mmadfer.utils.files import atomic, check_place, sha256, sync
from mmadfer.utils.temporary_folders import workplace
from mmadfer.utils.terminal import say


@dataclass(frozen=True)
class Graph:
    """What is asked of the graph; None leaves it to what the source says."""

    fold: int | None = None
    precision: str | None = None
    data: Path | None = None
    batch: BatchRange | None = None

    def given(self) -> dict[str, Any]:
        """By name, without what is left open."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def to_engine(
    source: Path | str,
    out: Path | str,
    *,
    fold: int | None = None,
    precision: str | None = None,
    data: Path | None = None,
    batch: BatchRange | None = None,
    workspace: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    timing_cache: Path | None = None,
    tf32: bool = False,
    flavour: str | None = None,
    device: str | None = None,
) -> Path:
    """Build an engine, put it in place, then its sidecar; both are left as they were where it cannot be built.

    What is stopped between the two is no engine to use: its hash is not the one in the sidecar, which is looked at.

    Args:
        source: an ONNX file that mmadfer wrote, or what `to_onnx` takes: run, checkpoint, .safetensors, published .pth.
        out: the engine to write, `*.engine`.
        fold: which fold of a run directory.
        precision: of the graph that is written for a checkpoint; an ONNX file has its own.
        data: store for its calibration, as `to_onnx` takes it.
        batch: fewest, usual and most clips at once; by default what the ONNX file was written for.
        workspace: MiB of GPU memory that one layer may use.
        version_compatible: later versions of TensorRT can load it.
        hardware_compatible: every GPU from compute capability 8.0 on runs it.
        timing_cache: a file that makes the next build fast.
        tf32: let products of float32 lose precision.
        flavour: `tensorrt` or `rtx`; by default what is installed.
        device: the GPU that it is built on and for, `cuda:1` for the second of several; not for `rtx`.

    Returns:
        `out`.

    Raises:
        WeightsError: the source is no model, or TensorRT cannot build it.
        ConfigError: options that do not go together, or a file that cannot be written.
        MissingDependencyError: TensorRT is not installed, or has no GPU to build for.
    """
    source, out = Path(source), Path(out)
    options = EngineOptions(workspace, version_compatible, hardware_compatible, timing_cache, tf32)
    if out.suffix != ENGINE_SUFFIX:
        raise ConfigError(f"{out} must end in {ENGINE_SUFFIX}: by this mmadfer knows the file when it loads it")
    name, trt = engines.flavour(flavour)
    _check_flavour(name, options, device)
    here = None if name == "rtx" else _chosen(device)
    for path in (out, timing_cache) if timing_cache else (out,):
        check_place(path)
    graph = Graph(fold, precision, data, batch)
    with _onnx(source, out, graph) as onnx:
        engine, sidecar = _built(name, trt, onnx, graph, options)
    facts = {"gpu": here, "source": relpath(source, out.parent), "options": _words(out, graph, options)}
    _deliver(out, engine, sidecar.model_copy(update=facts))
    return out


def _chosen(device: str | None) -> Gpu:
    """The GPU to build on; before the long work, so that one that is missing is told at once."""
    where = parse_device(device, ("cuda",))
    here = gpu(where.index)
    call("cudaSetDevice", where.index)
    return here


def _built(name: str, trt: Any, onnx: Path, graph: Graph, options: EngineOptions) -> tuple[Any, Sidecar]:
    contract = read_contract(onnx)
    refuse_text(contract, "TensorRT")
    batch = graph.batch or contract.batch or BATCH_RANGE
    ranges, start = shapes(contract, batch), time.perf_counter()
    engine = build_engine(trt, onnx, ranges, options)
    sidecar = Sidecar(
        flavour=name,
        version=trt.__version__,
        precision=contract.arithmetic,
        batch=batch,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        capabilities=_capabilities(trt) if name == "rtx" else (),
        onnx_sha256=sha256(onnx),
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        seconds=round(time.perf_counter() - start, 1),
        contract=contract.model_copy(update={"batch": batch}),
    )
    return engine, sidecar


def _deliver(out: Path, engine: Any, sidecar: Sidecar) -> None:
    with workplace(out) as folder:
        with atomic(folder / "sidecar") as told, atomic(folder / "engine") as temporary:
            temporary.write_bytes(engine)
            told.write_text(sidecar.dumps(), encoding="utf-8")
        os.replace(folder / "engine", out)  # the engine is put in place first
        os.replace(folder / "sidecar", sidecar_path(out))
        sync(out.parent)


def _capabilities(trt: Any) -> tuple[tuple[int, int], ...]:
    """What TensorRT-RTX builds for if it is not told: all that it names but 7.5, which has to be asked for."""
    names = (name for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
    found = (divmod(int(name.removeprefix("SM")), 10) for name in names)
    return tuple(one for one in found if one >= (8, 0))


def shapes(contract: Contract, batch: BatchRange) -> Shapes:
    """The smallest, usual and largest shape of each input.

    Raises:
        ConfigError: a batch that is no range.
    """
    check_batch(batch)
    least, usual, most = batch
    clip = ports.inputs(contract).items()
    return {name: ((least, *shape), (usual, *shape), (most, *shape)) for name, (_, shape) in clip}


def _check_flavour(name: str, options: EngineOptions, device: str | None) -> None:
    given = {"device": device, **asdict(options)} if name == "rtx" else {}
    for key in ("version_compatible", "hardware_compatible", "timing_cache", "device"):
        if given.get(key):
            raise ConfigError(
                f"--{key.replace('_', '-')} is for TensorRT. TensorRT-RTX measures nothing while it builds, and its "
                "engines run on every GPU that it knows, and on its own version only: leave the option out"
            )


@contextmanager
def _onnx(source: Path, out: Path, graph: Graph) -> Iterator[Path]:
    """The source, if it is ONNX; else a graph that is written for the time of the build."""
    if source.suffix.lower() == ".onnx":
        _check_graph(source, graph)
        yield source
        return
    from mmadfer.export.graph.to_onnx import to_onnx

    with workplace(out) as folder:
        yield to_onnx(source, folder / "model.onnx", **graph.given())


def _check_graph(source: Path, graph: Graph) -> None:
    external.weight_files(source)  # TensorRT's parser would follow a link, and take weights of another build
    for name in graph.given().keys() - {"batch"}:
        raise ConfigError(
            f"--{name} is for checkpoints; {source} has its precision and fold already. Leave it out, or write another "
            "with `mmadfer export onnx`"
        )


def _words(out: Path, graph: Graph, options: EngineOptions) -> dict[Option, Any]:
    """The options of the command that does it again. A timing cache is of one GPU and version, so it is not among them.

    Paths are seen from the engine's folder, so that the command is right wherever it is run.
    """
    words: dict[Option, Any] = {
        "--fold": graph.fold,
        "--precision": graph.precision,
        "--data": graph.data and relpath(graph.data, out.parent),
        "--workspace": options.workspace,
        "--tf32": options.tf32 or None,
    }
    return {name: value for name, value in words.items() if value is not None}


def export_engine(source: Path, out: Path, terms: Terms = NO_TERMS, **options: Any) -> Path:
    """`to_engine` with its cards beside it, and say what was written.

    Raises:
        MmadferError: as `to_engine`.
        LicenceError: `terms` ask for commercial use, which a part does not allow.
    """
    check_terms(source, options.get("fold"), terms)
    written = to_engine(source, out, **options)
    sidecar = engines.read_sidecar(written)
    say(
        f"engine   {written}: {written.stat().st_size / 2**20:.1f} MiB, {sidecar.precision}, {sidecar.seconds} s, "
        f"{engines.FLAVOURS[sidecar.flavour].name} {sidecar.version}, {sidecar.gpu or engines.PORTABLE}\n"
        f"sidecar  {sidecar_path(written)}\nnot proven yet ({_proving(source, written, sidecar, options.get('data'))})"
    )
    write_export_cards(source, written, sidecar.contract, terms, data=options.get("data"))
    return written


def _proving(source: Path, engine: Path, sidecar: Sidecar, data: Path | None) -> str:
    if source.suffix.lower() == ".onnx":
        return proving("RUN", engine, sidecar.contract.fold, data)
    store = data or (None if source.is_dir() else "STORE")  # a run names its own
    return proving(source, engine, sidecar.contract.fold, store)
