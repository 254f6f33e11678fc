"""The report for a terminal."""

from rich.box import SIMPLE
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.report.summary import RESULT, SPREAD, Report
from mmadfer.utils.console import Console


def show(report: Report, console: Console) -> None:
    """Print the folds, the classes and the comparison; loudly what is not there."""
    if not report.complete:
        console.print(_banner(report))
    console.print(_folds(report))
    console.print(f"Result: {RESULT}. ± is the {SPREAD}.", style="dim", highlight=False)
    console.print(_classes(report))
    if report.beside:
        console.print(_beside(report))


def percent(value: float | None) -> str:
    """A fraction in percent with two digits."""
    return "-" if value is None else f"{100 * value:.2f}"


def spread(std: float | None) -> str:
    """A standard deviation behind its mean; nothing for a single fold."""
    return "" if std is None else f" ± {percent(std)}"


def score(report: Report, value: str) -> str:
    """The mean of `uar` or `war` over the folds, with its deviation."""
    return f"{percent(report.mean(value))}{spread(report.std(value))}"


def beside(report: Report) -> list[str]:
    """Headings of what stands beside the result, and is none: scores on validation clips, and the best epoch."""
    return [*(["validation: UAR / WAR"] if report.validated else []), "best epoch: UAR / WAR *"]


def beside_of(report: Report, fold: FoldResult) -> list[str]:
    """The cells of a fold under `beside`."""
    kept = [pair(fold.validation.get("uar"), fold.validation.get("war"))] if report.validated else []
    return [*kept, f"{fold.best['epoch']}: {pair(fold.best['uar'], fold.best['war'])}" if fold.best else ""]


def beside_mean(report: Report) -> list[str]:
    """The cells of the mean under `beside`."""
    kept = [pair(report.validation("uar"), report.validation("war"))] if report.validated else []
    return [*kept, pair(report.best("uar"), report.best("war"))]


def pair(uar: float | None, war: float | None) -> str:
    """Both scores in percent."""
    return f"{percent(uar)} / {percent(war)}"


def _banner(report: Report) -> Panel:
    lines = [f"{len(report.usable)} of {len(report.folds)} folds count; the mean is not the result of the whole run."]
    return Panel("\n".join(escape(line) for line in [*lines, *report.problems]), title="INCOMPLETE", style="bold red")


def _folds(report: Report) -> Table:
    table = Table(title=escape(f"{report.about.get('name')}: UAR and WAR in percent"), title_justify="left")
    for heading in ("fold", "clips", "epoch", "UAR", "WAR"):
        table.add_column(heading, justify="right")
    for heading in beside(report):
        table.add_column(heading, justify="right", style="dim")
    for fold in report.folds:
        if not fold.usable:
            table.add_row(str(fold.fold), "", f"{fold.epoch}/{fold.epochs}", fold.state, style="red")
            continue
        clips = "" if fold.confusion is None else str(fold.confusion.sum())
        scores = percent(fold.uar), percent(fold.war)
        table.add_row(str(fold.fold), clips, f"{fold.epoch}/{fold.epochs}", *scores, *beside_of(report, fold))
    table.add_section()
    mean = [str(int(report.confusion.sum())), "", score(report, "uar"), score(report, "war")]
    table.add_row("mean", *mean, *beside_mean(report), style="bold")
    table.caption = f"* {report.picked}"
    table.caption_justify = "left"
    return table


def _classes(report: Report) -> Table:
    """Columns are numbered as the rows, so that eleven classes fit on a narrow terminal."""
    table = Table(title="Confusion over all test folds (rows: truth)", title_justify="left", box=SIMPLE, min_width=44)
    table.add_column("class", no_wrap=True)
    for number in range(1, len(report.labels) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    table.add_column("recall", justify="right", style="bold", no_wrap=True)
    lines = zip(report.labels, report.confusion, report.recall, strict=True)
    for number, (label, row, recall) in enumerate(lines, 1):
        table.add_row(f"{number} {escape(label)}", *map(str, row), percent(recall))
    return table


def _beside(report: Report) -> Table:
    table = Table(title="Beside other runs, on the folds that all have", title_justify="left", min_width=48)
    for heading in ("run", "folds", "UAR", "WAR", "differs in"):
        table.add_column(heading, justify="right" if heading in ("UAR", "WAR") else "left")
    for row in report.beside:
        differs = row.note or ", ".join(f"{key}={value}" for key, value in row.differs.items())
        folds = ", ".join(map(str, row.folds))
        table.add_row(escape(row.name), folds, percent(row.uar), percent(row.war), escape(differs))
    return table
