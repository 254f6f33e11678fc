"""`mmadfer explain`: pictures of what a model looks at, for videos or for the clips of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from mmadfer.config.schema import Config
from mmadfer.data.compatibility import check_store
from mmadfer.data.store.store import Store
from mmadfer.data.video_windows import windows_of
from mmadfer.errors import ConfigError, DataError, RunError
from mmadfer.explain.choice import choose
from mmadfer.explain.explainer import Asked, Explainer
from mmadfer.explain.explaining import Explained, check_out, explain_clips
from mmadfer.explain.sources import check_clips, of_clips, of_videos
from mmadfer.run import directory as runs
from mmadfer.runtime.find_videos import videos
from mmadfer.tasks.codebook import Disgust
from mmadfer.utils.console import Console
from mmadfer.utils.files import own_folder
from mmadfer.utils.terminal import say, shown


class VideoOptions(NamedTuple):
    """How videos are read; fields as the options of `mmadfer predict`."""

    window: float | None = None
    hop: float | None = None
    sound: Path | None = None
    cropped: bool = False
    fps: float | None = None


class RunOptions(NamedTuple):
    """Which clips of a run are explained."""

    data: Path | None = None
    """The store; by default the run's own."""
    clip: Sequence[str] = ()
    """Ids; by default the hardest and the surest."""
    clips: int = 3
    """How many of either."""


def refuse(what: str, options: VideoOptions | RunOptions) -> None:
    """Raise a ConfigError where an option is given that is for something else."""
    given = [f"--{name}" for name, value in options._asdict().items() if value != options._field_defaults[name]]
    if given:
        raise ConfigError(f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for {what}: leave it out")


def only_run(paths: Sequence[Path]) -> Path:
    """The run directory that is the one path.

    Raises:
        RunError: there are several paths, or it is a file.
    """
    if len(paths) != 1 or paths[0].is_file():
        raise RunError("without --model, give one run directory; videos are explained with --model RUN")
    return paths[0]


def explain_videos(paths: Sequence[Path], model: Path, asked: Asked, out: Path | None, how: VideoOptions) -> int:
    """Explain videos.

    Returns:
        The exit code: 0, or 2 when a video could not be read, and the others are explained all the same, or none was
        explained.

    Raises:
        MmadferError: a wrong option, or no such model.
    """
    if out is None:
        raise ConfigError("no folder to write to: give one with --out")
    found = videos(paths, how.sound, how.cropped, how.fps)
    windows = windows_of(how.window, how.hop)
    check_out(out)
    explainer = Explainer(model, asked)
    return _show(explain_clips(of_videos(found, explainer.contract, windows), explainer, out), out)


def explain_run(run: Path, asked: Asked, out: Path | None, which: RunOptions) -> int:
    """Explain test clips of a run.

    Returns:
        The exit code, as of `explain_videos`.

    Raises:
        MmadferError: a wrong option, no finished fold, or a store that is not there.
    """
    opened = runs.read(run)
    fold = asked.fold or next(iter(runs.folds(opened.path)), 1)
    chosen = choose(opened.path, opened.config, fold, which.clips, which.clip)
    disgust = disgust_of(opened.config)
    with Store(which.data or str(opened.config.data.store)) as store:
        check_clips(store, chosen)
        out = out or own_folder(opened.path / runs.EXPLANATIONS) / asked.method
        check_out(out)
        explainer = Explainer(run, asked._replace(fold=fold))
        check_store(explainer.contract, store)
        sources = of_clips(store, chosen, explainer.contract, disgust)
        return _show(explain_clips(sources, explainer, out, {"disgust": disgust}), out)


def disgust_of(config: Config) -> Disgust:
    """The units of Disgust that a run was trained with, or those of the published program."""
    align = config.task.align
    return align.disgust if align else "program"


def _show(explained: Explained, out: Path) -> int:
    """A table of the measures, what could not be read, and where it lies."""
    console = Console()
    if measures := explained.measures():
        console.print(_table(measures))
    for name, error in explained.failures:
        console.print(f"[red]{escape(shown(f'{name}: {error}'))}", soft_wrap=True, highlight=False)
    if not explained.clips:
        say(f"no clip was explained: nothing is written to {out}", err=True)
    for clip in explained.clips:
        said = ", ".join(dict.fromkeys(part["label"] for part in clip["parts"] if "label" in part))
        say(f"{clip['name']}{f': {said}' if said else ''}: {out / clip['folder']}")
    return 0 if explained.clips and not explained.failures else DataError.exit_code


HEADS = {
    "deletion": "deletion",
    "deletion_random": "(random)",
    "insertion": "insertion",
    "insertion_random": "(random)",
    "pointing": "pointing",
    "pointing_random": "(random)",
    "cosine": "cosine",
}


def _table(measures: dict[str, dict[str, dict[str, float]]]) -> Table:
    names = [name for name in HEADS if any(name in row for row in measures.values())]
    caption = "Mean ± deviation over clips. Low deletion and high insertion are good, against places in random order."
    table = Table("", "clips", *(HEADS[name] for name in names), caption=caption, caption_justify="left")
    for modality, row in measures.items():
        clips = max(int(one["clips"]) for one in row.values())
        table.add_row(modality, str(clips), *(_told(row.get(name)) for name in names))
    return table


def _told(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['mean']:.3f}" + f" ± {found['std']:.3f}" * (found["clips"] > 1)
