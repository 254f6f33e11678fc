"""The command line: `mmadfer prepare | train | evaluate | predict | report | compare | launch | export | doctor`.

Only the wiring is here; each command calls the module that does the work, and imports it when it is used.
"""

import io
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmadfer.errors import ConfigError, MmadferError, RunError
from mmadfer.utils import cores, logs, terminal
from mmadfer.utils.terminal import say

app = typer.Typer(
    help="Audio-visual emotion recognition: from a data set to an engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a configuration key: train.lr=3e-4.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last complete checkpoint.")]

Clips = Annotated[int, typer.Option(min=1, max=16, help="Index sets averaged per clip.")]
Flips = Annotated[bool, typer.Option("--flips", help="Average each of them with its mirror image.")]
Adjust = Annotated[
    float,
    typer.Option(min=0, help="Tau of logit adjustment: 0 as trained (accuracy), 1 for the mean recall of classes."),
]

CONFIG_OF = {
    "mafw": "mafw_224",
    "mafw_compound": "mafw_compound_224",
    "crema_d": "crema_d",
    "ravdess": "ravdess",
    "dfew": "dfew_160",
}
"""Data set -> configuration that it is prepared with by default; one's own clips have own_160."""
DEFAULTS = f"Default: the set's own, {', '.join(CONFIG_OF.values())}; own_160 for all others."


@app.command()
def prepare(
    data_set: Annotated[
        str, typer.Argument(help="Layout: dfew, mafw, mafw_compound, crema_d, ravdess, folder, csv or toy.")
    ],
    root: Annotated[Path, typer.Option(help="The data set's folder, or the CSV file (toy: where it is made).")],
    out: Annotated[Path, typer.Option(help="The store to write.")],
    config: Annotated[str | None, typer.Option(help=f"Configuration with the `prepare` section. {DEFAULTS}")] = None,
    overrides: Set = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = cores.granted(),
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where faces are looked for.")] = "cpu",
    lists: Annotated[
        Path | None, typer.Option(help="dfew, mafw: folder of the published program's lists (folder count label).")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="The start of the lists' paths that --root replaces.")] = None,
    preview: Annotated[Path | None, typer.Option(help="Write 50 random clips as one page (.html).")] = None,
) -> None:
    """Turn media files into one checksummed store of faces, sound and folds."""
    from mmadfer.config import schema as configs
    from mmadfer.data import sets
    from mmadfer.data.preparation.prepare import prepare as run
    from mmadfer.data.preparation.prepare import print_summary

    if preview:
        from mmadfer.data.preparation.preview import check_page

        check_page(preview, out)
    config = config or CONFIG_OF.get(data_set, "own_160")
    settings = configs.load(config, overrides or ())
    say(f"configuration {config}")
    table = sets.table(data_set, root, settings.data.folds, lists, prefix)
    print_summary(run(table, out, settings.prepare, jobs, device))
    if preview:
        from mmadfer.data.preparation.preview import write_preview

        write_preview(out, preview)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="Configuration file, or the name of a shipped one.")],
    fold: Annotated[int, typer.Option(min=1, help="The fold to test on.")] = 1,
    run: Annotated[Path | None, typer.Option(help="Run directory (default: runs/NAME).")] = None,
    overrides: Set = None,
    resume: Resume = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Record steps 4 to 8 in the fold's trace.json.gz, for ui.perfetto.dev.")
    ] = False,
) -> None:
    """Train one fold in this process; under torchrun or srun, as one of its ranks."""
    from mmadfer.config import identity
    from mmadfer.config import schema as configs
    from mmadfer.data import training_files
    from mmadfer.run import directory as runs
    from mmadfer.train.loop import train as start

    settings = training_files.from_store(identity.absolute(configs.load(config, overrides or ())))
    training_files.check_files(settings, [fold])
    folder = runs.open_fold(run or Path("runs") / settings.name, settings, fold, resume)
    result = start(settings, fold, folder, resume=resume, profile=profile)
    if not result.finished:
        raise RunError(f"fold {fold} was stopped at {folder}; the same command with --resume goes on from there")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="The prepared store.")],
    path: Annotated[
        Path | None, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth (or --published).")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=1, help="Fold of a run directory (default: the first), or of a published .pth.")
    ] = None,
    clips: Clips = 1,
    flips: Flips = False,
    adjust: Adjust = 0.0,
    published: Annotated[
        Path | None, typer.Option(help="In place of PATH: a published .pth, tested as published, beside the paper.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Predictions per clip as CSV.")] = None,
) -> None:
    """Test a model on one fold of a store."""
    from mmadfer.utils.files import check_place

    if out is not None:
        check_place(out)
    if published is not None:
        from mmadfer.evaluation.published_folds import print_reproduced, reproduce

        if path or flips or adjust:
            raise ConfigError(
                "--published takes no PATH, --flips or --adjust: the published evaluation has none of them"
            )
        return print_reproduced(reproduce(published, data, fold, clips, out))
    if path is None:
        raise ConfigError("no model: give a run, a .safetensors or a .pth, or --published FOLD.pth")
    from mmadfer.evaluation.evaluate import evaluate_path, print_result

    return print_result(evaluate_path(path, data, fold, clips, out, flips, adjust), adjust)


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Videos, folders of images, or folders of these.")],
    model: Annotated[Path, typer.Option(help="Run directory, .safetensors, .pth, .onnx or .engine.")],
    out: Annotated[
        list[Path] | None, typer.Option(help="Write predictions as .json or .csv (repeat for both).")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Threads reading videos.")] = min(256, cores.granted()),
    window: Annotated[float | None, typer.Option(help="Cut videos into windows of so many seconds.")] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between the starts of two windows (default: --window).")
    ] = None,
    sound: Annotated[
        Path | None, typer.Option(help="The clip's sound, or a folder with a file of its name for each clip.")
    ] = None,
    cropped: Annotated[bool, typer.Option("--cropped", help="The frames show nothing but the face.")] = False,
    fps: Annotated[
        float | None,
        typer.Option(max=1000, help="Images per second of folders of images (default: the model's prepare.fps, 25)."),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="torch, onnxruntime or tensorrt (default: by the file).")] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where the model computes: cpu, cuda, cuda:1, tensorrt (.onnx on a GPU) (default: cpu; engines: cuda)."
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips computed together (default: 1 on a CPU, the model's own on a GPU).")
    ] = None,
    clips: Clips = 1,
    flips: Flips = False,
    adjust: Adjust = 0.0,
) -> None:
    """Recognise the emotion in video files."""
    from mmadfer.cli.predict import predict_files

    asked = (out or (), device, jobs, batch, window, hop, sound, cropped, adjust, clips, flips, fps)
    code = predict_files(videos, model, backend, fold, *asked)
    raise typer.Exit(code)


@app.command()
def report(
    run: Annotated[
        list[Path] | None, typer.Argument(help="Run directory; with --table, that of a sweep (two for table 1).")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(help="Another run for comparison: NAME=RUN (repeat for more).")
    ] = None,
    table: Annotated[
        int | None, typer.Option(min=1, max=7, help="Print this table of the paper, and the sweep's numbers beside.")
    ] = None,
) -> None:
    """Five folds as a table, JSON and one HTML page; or a table of the paper."""
    folders = run or []
    if table is not None:
        from mmadfer.report import tables

        if beside:
            raise RunError("--beside compares runs: leave it out with --table")
        say(tables.paper_table(table, folders), end="")
        return
    if len(folders) != 1:
        raise RunError(f"{len(folders)} run directories: give one (others with --beside), or --table N with a sweep's")
    from mmadfer.report import report as build

    build(folders[0], dict(_named(text) for text in beside or ()))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run directory, or SWEEP/ROW of a sweep with seeds.")],
    run_b: Annotated[Path, typer.Argument(help="The one whose gain over the first is told.")],
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of its draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write it as .json.")] = None,
) -> None:
    """The difference of two runs on the same test clips, with a 95 % interval."""
    from mmadfer.evaluation.compare import compare as measure
    from mmadfer.report.versus import show_comparison
    from mmadfer.utils.files import check_place

    if out is not None:
        check_place(out)
    show_comparison(measure(run_a, run_b, resamples, seed, out))


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise RunError(f"--beside {text!r} must read NAME=RUN, for example --beside 'vision only=runs/vision'")
    return name, Path(path)


@app.command()
def doctor(
    store: Annotated[Path | None, typer.Argument(help="A store to verify.")] = None,
    media: Annotated[bool, typer.Option("--media", help="Also compare its media files with what they were.")] = False,
) -> None:
    """Say what this machine can do, or verify every record of a store."""
    from mmadfer.cli import doctor as examine

    if store is None:
        examine.machine()
    else:
        examine.store(store, media)


def _add_groups() -> None:
    from mmadfer.cli.export import app as export_app
    from mmadfer.cli.launch import app as launch_app

    app.add_typer(export_app, name="export")
    app.add_typer(launch_app, name="launch")


_add_groups()


def run(application: typer.Typer, arguments: list[str] | None = None) -> int:
    """Run a typer application; user errors become one plain message and their exit code."""
    terminal.take_all_signs()
    try:
        logs.set_level()
        code = application(arguments, standalone_mode=False, prog_name="mmadfer")
    except MmadferError as error:
        say(f"error: {error}", err=True)
        return error.exit_code
    except OSError as error:  # a full disk, a missing right: the message names the file
        say(f"error: {error}", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        say("stopped", err=True)
        return 130
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show(words := io.StringIO())  # a wrong option, told by the option parser
        say(words.getvalue(), err=True, end="")
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the `mmadfer` command."""
    warnings.formatwarning, sys.excepthook = terminal.warning, terminal.fault
    sys.exit(run(app))
