"""`mmadfer export onnx | parity | engine | triton | weights | run`: the wiring; each imports what does the work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmadfer.cli.card import Commercial, Licences, terms_of
from mmadfer.share.source import local_model

app = typer.Typer(help="Write a trained model in the form that a product serves.", no_args_is_help=True)


@app.command("onnx")
def export_onnx(
    path: Annotated[Path, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Prepared store whose media files prove parity (default: the run's own).")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="How many clips prove parity (default: the fold).")] = None,
    input: Annotated[str, typer.Option(help="What the graph hears: fbank or waveform.")] = "fbank",
    rate: Annotated[int | None, typer.Option(help="Hz of the waveform, where the model knows several.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, int8 or fp8.")] = "fp32",
    batch: Annotated[tuple[int, int, int], typer.Option(help="Fewest, usual and most clips at once.")] = (1, 8, 32),
    calibration: Annotated[int, typer.Option(min=1, help="How many training clips are looked at (not fp32).")] = 64,
    windows: Annotated[
        int | None, typer.Option(min=1, help="Windows of a clip that enter together (data.window).")
    ] = None,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """One graph with its contract inside, delivered only when parity from file to label holds."""
    from mmadfer.export.parity.parity import export_onnx

    graph = {"input": input, "rate": rate, "precision": precision, "batch": batch, "calibration": calibration}
    terms = terms_of(commercial, licence)
    export_onnx(local_model(path, "weights"), out, data, fold, clips, terms, **graph, windows=windows)


@app.command("parity")
def export_parity(
    path: Annotated[Path, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth.")],
    model: Annotated[
        list[Path] | None, typer.Option(help="An exported model (repeat for more; default: the fold's in RUN/export).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared store whose media files are used (default: the run's own).")
    ] = None,
    backends: Annotated[
        str | None, typer.Option(help="Some of torch,ort,trt: these must run (default: what is there and runs).")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="How many clips (default: the fold).")] = None,
    device: Annotated[str, typer.Option(help="Of PyTorch and ONNX Runtime: cpu, cuda, or tensorrt.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The report, .json (default: parity.json beside the model).")] = None,
) -> None:
    """Real clips from file to label through PyTorch and exported models; fails where one is beyond its tolerance."""
    from mmadfer.export.parity.parity import main

    main(path, out, models=model or (), data=data, fold=fold, clips=clips, backends=backends, device=device)


@app.command("engine")
def export_engine(
    source: Annotated[Path, typer.Argument(help="An ONNX file, or a run or fold directory, .safetensors, .pth.")],
    out: Annotated[Path, typer.Option(help="The engine to write, *.engine.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    precision: Annotated[str | None, typer.Option(help="For a checkpoint: fp32, fp16, bf16, int8 or fp8.")] = None,
    data: Annotated[Path | None, typer.Option(help="For int8 and fp8 of a checkpoint: store to calibrate on.")] = None,
    batch: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Fewest, usual and most clips at once: 1 8 32.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(min=1, help="MiB of GPU memory for one layer.")] = None,
    version_compatible: Annotated[bool, typer.Option("--version-compatible", help="Later versions load it.")] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Every GPU from compute capability 8.0 on runs it.")
    ] = False,
    timing_cache: Annotated[Path | None, typer.Option(help="Makes the next build fast.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let products of float32 lose precision.")] = False,
    flavour: Annotated[str | None, typer.Option(help="tensorrt or rtx (default: what is installed).")] = None,
    device: Annotated[
        str | None, typer.Option(help="The GPU that it is built on and for: cuda, cuda:1 (not for rtx).")
    ] = None,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """A TensorRT engine, with the sidecar that tells what it is."""
    options = dict(locals())
    from mmadfer.export.engine.to_trt import export_engine

    terms = terms_of(options.pop("commercial"), options.pop("licence"))
    export_engine(local_model(options.pop("source"), "onnx"), options.pop("out"), terms, **options)


@app.command("triton")
def export_triton(
    source: Annotated[Path, typer.Argument(help="An ONNX file or an engine.")],
    out: Annotated[Path, typer.Option(help="The model repository to write, a new folder.")],
    name: Annotated[str, typer.Option(help="Of the model that clients ask for.")] = "mmadfer",
    backend: Annotated[
        str | None,
        typer.Option(help="Triton's onnxruntime or tensorrt, or python: mmadfer's own (default: by the file)."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Where the model computes (default for .onnx: cpu).")
    ] = None,
    instances: Annotated[int, typer.Option(min=1, help="Copies of the model, on each GPU or on the CPU.")] = 1,
    readers: Annotated[int, typer.Option(min=1, help="Processes that read videos.")] = 4,
    delay: Annotated[float, typer.Option(min=0, help="Milliseconds a clip waits for others to share its batch.")] = 5,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that a video may wait, or be read.")] = 120,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """A model repository for Triton: from a video's bytes to probabilities, with a client."""
    options = dict(locals())
    from mmadfer.export.server.to_triton import export_triton

    terms = terms_of(options.pop("commercial"), options.pop("licence"))
    export_triton(local_model(options.pop("source"), "onnx"), options.pop("out"), terms, **options)


@app.command("weights")
def export_weights(
    path: Annotated[Path, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """One file with trained weights, encoders and contract, to load on any machine."""
    from mmadfer.export.to_weights import export_weights

    terms = terms_of(commercial, licence)
    export_weights(local_model(path, "weights"), out, fold, terms)


@app.command("run")
def export_run(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    clips: Annotated[int, typer.Option(min=1, help="Test clips of each fold, evenly spread, that prove parity.")] = 100,
    commercial: Commercial = False,
    licence: Licences = None,
) -> None:
    """Each finished fold to RUN/export/fold-K.onnx, with the proof beside it."""
    from mmadfer.export.finished_folds import export_run

    export_run(run.absolute(), clips, terms_of(commercial, licence))
