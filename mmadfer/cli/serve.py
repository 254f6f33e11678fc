"""`mmadfer serve`: the options, checked before the model is loaded."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mmadfer.cli.evaluate import Adjust, Calibrated, Clips, Flips
from mmadfer.cli.video_options import Verify
from mmadfer.errors import ConfigError, MissingDependencyError
from mmadfer.utils import cores
from mmadfer.utils.optional import need
from mmadfer.utils.terminable import terminable
from mmadfer.utils.terminal import say


def serve(
    model: Annotated[
        Path, typer.Option(help="Run directory, .safetensors, .pth, .onnx, .engine, or hub:USER/NAME@REVISION.")
    ],
    host: Annotated[str, typer.Option(help="Address; others than this machine's own need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8080,
    token: Annotated[
        str | None, typer.Option(help="That each request must carry (default: MMADFER_TOKEN, which others cannot see).")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Another host name of this server (repeat).")] = None,
    backend: Annotated[str | None, typer.Option(help="torch, onnxruntime or tensorrt (default: by the file).")] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, tensorrt, as for `predict`.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Clips of all jobs computed together (default: 1 on a CPU, the model's own on a GPU)."
        ),
    ] = None,
    clips: Clips = 1,
    flips: Flips = False,
    adjust: Adjust = 0.0,
    calibrated: Calibrated = False,
    verify: Verify = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of an upload.")] = 2 << 30,
    max_seconds: Annotated[float, typer.Option(help="Of a video.")] = 7200.0,
    timeout: Annotated[float, typer.Option(help="Seconds that an upload, and then its job, may take.")] = 3600.0,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Videos read at once.")] = min(256, cores.granted()),
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait; more are told to come again later.")] = 16,
    live: Annotated[int, typer.Option(min=0, help="Live streams at once.")] = 4,
    keep_minutes: Annotated[float, typer.Option(help="After which results are forgotten.")] = 15.0,
) -> None:
    """Serve a model: one page for people, and an HTTP interface for programs."""
    opened = {"backend": backend, "fold": fold, "device": device, "verify": verify}
    looks = {"adjust": adjust, "clips": clips, "flips": flips, "calibrated": calibrated}
    _serve(
        model,
        opened | looks,
        batch,
        host=host,
        port=port,
        token=token,
        names=tuple(one.lower() for one in name or ()),
        max_bytes=max_bytes,
        max_seconds=max_seconds,
        timeout=timeout,
        jobs=jobs,
        queue=queue,
        live=live,
        keep_minutes=keep_minutes,
    )


def _serve(model: Path, options: dict[str, Any], batch: int | None, **limits: object) -> None:
    """Serve a model until SIGINT or SIGTERM.

    Args:
        model: its place.
        options: of `Recogniser`.
        batch: clips of all jobs that are computed together.
        limits: of `mmadfer.serve.limits.Limits`.

    Raises:
        ConfigError: options that cannot be, or a port that is in use.
        WeightsError, HubError, SignatureError: the model cannot be used.
        MissingDependencyError: the extra `page`, the backend or the device is not there, or this is Windows.
    """
    if not hasattr(os, "fork"):
        raise MissingDependencyError(
            "`mmadfer serve` reads each video in a copy of a process, and this system cannot copy one: run it on Linux "
            "or macOS (on Windows in WSL), or use `mmadfer predict`"
        )
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "websockets"):
        need(module, extra="page")
    from mmadfer.runtime.recogniser import Recogniser
    from mmadfer.serve.limits import TOKEN_VARIABLE, Limits
    from mmadfer.serve.server import bound, serve

    limits["token"] = limits["token"] or os.environ.get(TOKEN_VARIABLE) or None
    allowed = Limits(**limits)  # type: ignore[arg-type]  # by the names of the options
    with terminable(), bound(allowed) as listening:
        recogniser = Recogniser(model, **options)
        if recogniser.sentences is not None and recogniser.sentences.needs_words:
            raise ConfigError(f"{model} has learnt from what is said, which no page tells it: serve another model")
        serve(recogniser, allowed, listening, say, batch)
