"""The command line: `mmadfer prepare | train | evaluate | predict | serve | explain | report | launch | …`.

Only the wiring is here; each command calls the module that does the work, and imports it when it is used.
"""

import io
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmadfer.cli.doctor import doctor
from mmadfer.cli.evaluate import Adjust, Calibrated, Clips, Flips, evaluate
from mmadfer.cli.launch_options import Set
from mmadfer.cli.prepare import prepare
from mmadfer.cli.serve import serve
from mmadfer.cli.video_options import Cropped, Hop, Sound, Verify, Window
from mmadfer.errors import MmadferError, RunError
from mmadfer.utils import cores, logs, terminal
from mmadfer.utils.garbage import collect_less_often
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import say

app = typer.Typer(
    help="Audio-visual emotion recognition: from a data set to an engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last complete checkpoint.")]


app.command()(prepare)


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
    from mmadfer.run.lease import left_to_later_start

    settings = training_files.from_store(identity.absolute(configs.load(config, overrides or ())))
    where = run or Path("runs") / settings.name
    training_files.check_files(settings, [fold], run=where)
    from mmadfer.train.loop import train as start  # seconds, which a wrong word need not wait for

    folder = runs.open_fold(where, settings, fold, resume)
    with left_to_later_start(folder):
        result = start(settings, fold, folder, resume=resume, profile=profile)
        if not result.finished:
            raise RunError(f"fold {fold} was stopped at {folder}; the same command with --resume goes on from there")


app.command()(evaluate)
app.command()(serve)


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="Videos, folders of images, or folders of these.")],
    model: Annotated[
        Path, typer.Option(help="Run directory, .safetensors, .pth, .onnx, .engine, or hub:USER/NAME@REVISION.")
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option(help="Write predictions as .json or .csv, or of one video as captions, .vtt or .srt (repeat)."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Threads reading videos.")] = min(256, cores.granted()),
    window: Window = None,
    hop: Hop = None,
    faces: Annotated[str, typer.Option(help="Whose faces: largest, all, or the number of people.")] = "largest",
    sound: Sound = None,
    cropped: Cropped = False,
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
    calibrated: Calibrated = False,
    transcripts: Annotated[
        Path | None, typer.Option(help="What is said, for models of sentences: as for `textualise`.")
    ] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="Sentences about the videos, .jsonl of `textualise`, in place of measured cues.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each video over time; of one video also a file, .png or .svg."),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Folder for each video with boxes, labels and a timeline; of one video also a file, .mp4."),
    ] = None,
    verify: Verify = None,
) -> None:
    """Recognise the emotion in video files."""
    from mmadfer.cli.predict import predict_files

    asked = (out or (), device, jobs, batch, window, hop, sound, cropped, fps, plot)
    looks: dict[str, Any] = {"adjust": adjust, "clips": clips, "flips": flips}
    looks |= {"calibrated": calibrated, "verify": verify}
    code = predict_files(videos, model, backend, fold, *asked, transcripts, sentences, faces, overlay, **looks)
    raise typer.Exit(code)


@app.command()
def adapt(
    model: Annotated[Path, typer.Argument(help="Run directory, fold directory or .safetensors.")],
    videos: Annotated[list[Path], typer.Option(help="The person's videos, or a folder of them (repeat for more).")],
    out: Annotated[Path, typer.Option(help="The model to write (.safetensors).")],
    name: Annotated[
        str | None, typer.Option(help="Of the person (default: the name of the first folder or video).")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Store of labelled clips (default: the run's own).")] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    window: Window = None,
    hop: Hop = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Threads reading videos.")] = min(256, cores.granted()),
    overrides: Set = None,
) -> None:
    """Adapt a trained model to one person from their own videos, without labels."""
    need("torch", extra="train")
    from mmadfer.cli.adapt import Asked, adapt_files

    first = videos[0].resolve()
    who = name or (first.name if first.is_dir() else first.stem)
    adapt_files(model, Asked(videos, out, who, data, fold, window, hop, jobs, overrides or ()))


@app.command()
def explain(
    paths: Annotated[
        list[Path],
        typer.Argument(help="With --model, videos as for `predict`; without, a run, whose test clips are explained."),
    ],
    method: Annotated[
        Literal["attention", "gradcam", "rollout"], typer.Option(help="How importance is computed.")
    ] = "attention",
    model: Annotated[Path | None, typer.Option(help="Run directory, .safetensors or .pth.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write (default, of a run: RUN/explain/METHOD).")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer of the model, from 0 (default: the last).")] = None,
    label: Annotated[str | None, typer.Option(help="Class to explain (default: the most probable).")] = None,
    value: Annotated[str | None, typer.Option(help="Value to explain, of a model that gives values.")] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Of a run: so many of the hardest clips, and of the surest.")] = 3,
    clip: Annotated[list[str] | None, typer.Option(help="Of a run: the id of a clip in their place (repeat).")] = None,
    data: Annotated[Path | None, typer.Option(help="Of a run: the store (default: its own).")] = None,
    window: Window = None,
    hop: Hop = None,
    sound: Sound = None,
    cropped: Cropped = False,
    fps: Annotated[float | None, typer.Option(max=1000, help="Images per second of folders of images.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 (default: cpu).")] = None,
    curves: Annotated[bool, typer.Option(help="Compute deletion and insertion, which takes longest.")] = True,
) -> None:
    """Show what a model looks at and listens to, and measure how far the pictures can be believed."""
    need("torch", extra="explain")
    from mmadfer.cli import explain as command
    from mmadfer.explain.explainer import Asked

    asked = Asked(method, layer, label, value, fold, device, curves)
    of_videos = command.VideoOptions(window, hop, sound, cropped, fps)
    of_run = command.RunOptions(data, clip or (), clips)
    if model is not None:
        command.refuse("clips of a run", of_run)
        raise typer.Exit(command.explain_videos(paths, model, asked, out, of_videos))
    command.refuse("videos, which need --model", of_videos)
    raise typer.Exit(command.explain_run(command.only_run(paths), asked, out, of_run))


@app.command()
def textualise(
    paths: Annotated[list[Path], typer.Argument(help="A store; or videos, and folders of videos.")],
    out: Annotated[Path, typer.Option(help="The file to write, .jsonl: cues and a sentence for each clip.")],
    transcripts: Annotated[
        Path | None, typer.Option(help="What is said: .csv with clip,text, or subtitles of the film (.srt, .vtt).")
    ] = None,
    cues: Annotated[
        Path | None, typer.Option(help="What other programs detect: a row of id and cues for each clip (.jsonl).")
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option(help="Part of the sentence: text, face or voice (repeat; default: all that there can be)."),
    ] = None,
    calm_face: Annotated[
        Literal["own", "program"] | None,
        typer.Option(help="A face at rest is told as such (default), or as none, as by the published program."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Of videos: a model that is to read them, and says how they are made.")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
    sound: Sound = None,
    cropped: Cropped = False,
    fps: Annotated[float | None, typer.Option(max=1000, help="Images per second of folders of images.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Clips read at once.")] = min(256, cores.granted()),
) -> None:
    """Put face, voice and words of clips into sentences, for a model of text."""
    from mmadfer.cli.textualise import SentenceOptions, VideoOptions, textualise_files

    how, of_videos = SentenceOptions(use or (), calm_face, cues), VideoOptions(model, fold, sound, cropped, fps)
    raise typer.Exit(textualise_files(paths, out, transcripts, how, of_videos, jobs))


@app.command()
def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="Run directory, and others side by side; with --table, that of a sweep (two for table 1)."),
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
    from mmadfer.report import report_of

    report_of(folders, dict(_named(text) for text in beside or ()))


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


app.command()(doctor)


def _add_groups() -> None:
    from mmadfer.cli.export import app as export_app
    from mmadfer.cli.launch import app as launch_app
    from mmadfer.cli.sharing import add_commands

    app.add_typer(export_app, name="export")
    app.add_typer(launch_app, name="launch")
    add_commands(app)


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
    collect_less_often()
    warnings.formatwarning, sys.excepthook = terminal.warning, terminal.fault
    sys.exit(run(app))
