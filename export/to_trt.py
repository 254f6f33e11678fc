"""A TensorRT engine: `python export/to_trt.py model.onnx|CHECKPOINT --out model.engine` (also `mmadfer export engine`).

TensorRT 10, TensorRT 11 and TensorRT-RTX. The engine computes as the graph says: precision is chosen when the ONNX file
is written (`--precision` there, or here for a checkpoint). `model.engine.json` beside the engine holds the contract,
and what the engine was built from, by and for; without it the engine is of no use.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.errors import ConfigError
from mmadfer.export import external
from mmadfer.export.builder import Options, Shapes, build
from mmadfer.export.graphs import read_contract
from mmadfer.files import atomic, sha256
from mmadfer.runtime import engines, ports
from mmadfer.runtime.cuda import gpu
from mmadfer.runtime.engines import SUFFIX, Sidecar, sidecar_path, write_sidecar

BATCH = (1, 8, 32)
"""Clips at once, for a graph that does not say for how many it was written."""
Batch = tuple[int, int, int]


@dataclass(frozen=True)
class Graph:
    """What is asked of the graph; None leaves it to what the source says."""

    fold: int | None = None
    precision: str | None = None
    data: Path | None = None
    batch: Batch | None = None

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
    batch: Batch | None = None,
    workspace: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    timing_cache: Path | None = None,
    tf32: bool = False,
    flavour: str | None = None,
) -> Path:
    """Build an engine and its sidecar; both are replaced, or left as they were.

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

    Returns:
        `out`.

    Raises:
        WeightsError: the source is no model, or TensorRT cannot build it.
        ConfigError: options that do not go together.
        MissingDependencyError: TensorRT is not installed, or has no GPU to build for.
    """
    source, out = Path(source), Path(out)
    options = Options(workspace, version_compatible, hardware_compatible, timing_cache, tf32)
    _check_name(out)
    name, trt = engines.flavour(flavour)
    _check_flavour(name, options)
    here = None if name == "rtx" else gpu()  # before the long work: a GPU that is missing is told at once
    graph = Graph(fold, precision, data, batch)
    with _onnx(source, out, graph) as onnx:
        engine, sidecar = _built(name, trt, onnx, graph, options)
    facts = {"gpu": here, "source": relpath(source, out.parent), "options": _words(name, graph, options)}
    _deliver(out, engine, sidecar.model_copy(update=facts))
    return out


def _built(name: str, trt: Any, onnx: Path, graph: Graph, options: Options) -> tuple[Any, Sidecar]:
    contract = read_contract(onnx)
    batch = graph.batch or contract.batch or BATCH
    ranges, start = shapes(contract, batch), time.perf_counter()
    engine = build(trt, onnx, ranges, options)
    sidecar = Sidecar(
        flavour=name,
        version=trt.__version__,
        precision=contract.arithmetic,
        batch=batch,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        onnx_sha256=sha256(onnx),
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        seconds=round(time.perf_counter() - start, 1),
        contract=contract.model_copy(update={"batch": batch}),
    )
    return engine, sidecar


def _deliver(out: Path, engine: Any, sidecar: Sidecar) -> None:
    with atomic(out) as temporary:
        temporary.write_bytes(engine)
        sidecar_path(out).unlink(missing_ok=True)  # at no time does one lie beside another build's engine
    write_sidecar(out, sidecar)


def shapes(contract: Contract, batch: Batch) -> Shapes:
    """The smallest, usual and largest shape of each input.

    Raises:
        ConfigError: a batch that is no range.
    """
    least, usual, most = batch
    if not 1 <= least <= usual <= most:
        raise ConfigError(f"--batch {least} {usual} {most}: give the fewest, usual and most clips, rising from 1")
    clip = ports.inputs(contract).items()
    return {name: ((least, *shape), (usual, *shape), (most, *shape)) for name, (_, shape) in clip}


def _check_name(out: Path) -> None:
    if out.suffix != SUFFIX:
        raise ConfigError(f"{out} must end in {SUFFIX}: by this mmadfer knows the file when it loads it")


def _check_flavour(name: str, options: Options) -> None:
    for key in ("version_compatible", "hardware_compatible", "timing_cache") if name == "rtx" else ():
        if getattr(options, key):
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
    from mmadfer.export.to_onnx import to_onnx

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        yield to_onnx(source, Path(folder) / "model.onnx", **graph.given())


def _check_graph(source: Path, graph: Graph) -> None:
    external.beside(source)  # TensorRT's parser would follow a link, and take weights of another build
    for name in graph.given().keys() - {"batch"}:
        raise ConfigError(
            f"--{name} is for checkpoints; {source} has its precision and fold already. Leave it out, or write another "
            "with `mmadfer export onnx`"
        )


def _words(flavour: str, graph: Graph, options: Options) -> tuple[str, ...]:
    """The options of the command that does it again, but for the batch."""
    words: list[str] = []
    for name, value in {"flavour": flavour, **graph.given(), **asdict(options)}.items():
        if value not in (None, False) and name != "batch":
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return tuple(words)


def export(source: Path, out: Path, **options: Any) -> Path:
    """`to_engine`, and say what was written.

    Raises:
        MmadferError: as `to_engine`.
    """
    written = to_engine(source, out, **options)
    sidecar = engines.read_sidecar(written)
    print(
        f"engine   {written}: {written.stat().st_size / 2**20:.1f} MiB, {sidecar.precision}, {sidecar.seconds} s, "
        f"{engines.FLAVOURS[sidecar.flavour].name} {sidecar.version}, {sidecar.gpu or engines.PORTABLE}\n"
        f"sidecar  {sidecar_path(written)}\nnot proven yet (python export/parity.py)"
    )
    return written


if __name__ == "__main__":
    from mmadfer.cli import app, run

    sys.exit(run(app, ["export", "engine", *sys.argv[1:]]))
