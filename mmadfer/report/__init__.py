"""The report on a run: a table, `report/report.json` and one page, `report/report.html`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmadfer.errors import RunError
from mmadfer.report.summary import RunReport, summarise_run
from mmadfer.tracking import Trackers
from mmadfer.tracking.tracker import tracked
from mmadfer.utils.console import Console
from mmadfer.utils.files import own_folder, write_json, write_text
from mmadfer.utils.memory import first_line

__all__ = ["RunReport", "report", "report_of"]


def report_of(runs: Sequence[Path], beside: Mapping[str, Path], console: Console | None = None) -> RunReport:
    """`report` on the first of these runs, with the others and `beside` side by side.

    Raises:
        RunError: there is no run, or one is given twice; or as `report`.
    """
    from mmadfer.report.beside import named

    if not runs:
        raise RunError("no run directory: give one, and others to set beside it; or --table N with a sweep's")
    others = named(runs[1:])
    if twice := next(
        (path for k, path in enumerate(runs) if path.resolve() in {one.resolve() for one in runs[:k]}), None
    ):
        raise RunError(f"{twice} is given twice: give each run once")
    if both := others.keys() & beside.keys():
        raise RunError(f"two runs are called {both.pop()}: give the one of --beside another name")
    return report(runs[0], {**others, **beside}, console)


def report(run: Path, beside: Mapping[str, Path], console: Console | None = None) -> RunReport:
    """Print the report on `run` and write it to `run/report`; `beside` are other runs by name, to compare with.

    A fold that is missing, unfinished, failed or damaged is left out of every number, and said.

    Raises:
        RunError: there is no run, or none of its folds is finished.
        MissingDependencyError: matplotlib is not installed.
    """
    from mmadfer.report import page, terminal

    console = console or Console()
    made = summarise_run(Path(run), beside)
    own_folder(made.run / "report")
    write_json(made.run / "report" / "report.json", made.to_dict())
    write_text(made.run / "report" / "report.html", page.render_report(made))
    terminal.show_report(made, console)
    console.print(f"report {made.run / 'report' / 'report.html'}", soft_wrap=True, highlight=False, markup=False)
    _track(made, console)
    return made


def _track(made: RunReport, console: Console) -> None:
    """Give the page for others and the means to the trackers of the run; what goes wrong is told, and ends nothing."""
    if not made.config.train.trackers:
        return

    def warn(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    try:
        _send(made, warn)
    except Exception as error:  # whatever a service's client may raise: the report is written
        what = f"{type(error).__name__}: {first_line(error)}"
        warn(f"WARNING: the trackers are not told of the report ({what}); it is written in {made.run / 'report'}")


def _send(made: RunReport, warn: Callable[[str], None]) -> None:
    from mmadfer.report.page import render_report

    trackers = Trackers(made.config.train.trackers, tracked(made.run, made.config, "report"), warn)
    means = {f"mean/{name}": made.mean(name) for name in made.spec.names}
    trackers.scalars(made.config.train.epochs, {name: value for name, value in means.items() if value is not None})
    folder = made.run / "report" / "for_trackers"
    own_folder(folder)
    write_text(folder / "report.html", render_report(made, private=False))
    trackers.file(folder / "report.html")
    trackers.close("finished" if made.complete else "stopped")
