"""The report on a run: a table, `report/report.json` and one page, `report/report.html`."""

from collections.abc import Mapping
from pathlib import Path

from mmadfer.report.summary import RunReport, summarise_run
from mmadfer.utils.console import Console
from mmadfer.utils.files import own_folder, write_json, write_text

__all__ = ["Report", "report"]


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
    return made
