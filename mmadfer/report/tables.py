"""One of the paper's tables in its own form, with our sweeps' numbers beside."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from mmadfer.config import sweep
from mmadfer.config.folds import parse_folds
from mmadfer.config.schema import Config
from mmadfer.errors import MmadferError, RunError
from mmadfer.evaluation.compare import differs
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.paper_tables import TABLES, PaperTable, Row
from mmadfer.report import order
from mmadfer.report.cells import deviation, percent
from mmadfer.report.summary import STD_OVER_FOLDS, RunReport, gather
from mmadfer.run import launch_record as records
from mmadfer.utils.files import write_text


@dataclass(frozen=True)
class Ours:
    """The rows of one sweep."""

    folder: Path | None
    """None where nothing was trained."""
    configs: dict[str, Config]
    """Of the rows that are there; of the shipped sweep where nothing was trained."""
    reports: dict[str, RunReport]
    """Of the rows that have finished folds."""
    problems: tuple[str, ...] = ()
    """What is missing, unfinished or not the paper's row."""
    basis: str = ""
    """The base of the rows, and what `--set` changed in all."""
    seeds: tuple[int, ...] = ()
    """That every row was trained with; none for the base's own alone."""
    recipe: tuple[str, ...] = ()
    """Keys in which a row is not what the shipped sweep makes of it, without the data's and the encoders' files."""


_NOT_RECIPE_KEYS = (
    "model.image_size",
    "data.store",
    "data.labels",
    "data.folds",
    "train.seed",
    "model.vision.weights",
    "model.audio.weights",
)
"""Keys that are no part of the recipe, or of which other words tell."""


def paper_table(number: int, sweeps: Sequence[Path] = ()) -> str:
    """Table `number` of the paper as Markdown, which is also written to SWEEP/report/tableN.md of each sweep.

    Args:
        number: 1 to 7.
        sweeps: folders of sweeps with the table's rows; of table 1 up to two, one for each data set.

    Raises:
        RunError: no sweep, one of another table, or two of one name.
    """
    paper = TABLES[number - 1]
    folders = _by_name(paper, sweeps)
    ours = {name: _read(folders[name]) if name in folders else _shipped(name) for name in paper.sweeps}
    text = "\n".join([*_heading(paper), "", *_lines(paper, list(ours.values())), "", *_told(paper, ours), ""])
    for folder in folders.values():
        write_text(folder / "report" / f"table{number}.md", text)
    return text


def _by_name(paper: PaperTable, sweeps: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in sweeps:
        name = sweep.table_of(folder).name
        if name not in paper.sweeps:
            raise RunError(
                f"{folder} is a sweep of {name}, and table {paper.number} is made by {' and '.join(paper.sweeps)}: "
                f"`mmadfer launch sweep {paper.sweeps[0]}`"
            )
        if name in found:
            raise RunError(f"{folder} and {found[name]} are both sweeps of {name}: give one of them")
        found[name] = folder
    return found


def _shipped(name: str) -> Ours:
    return Ours(None, sweep.read(sweep.find_table(name))[1], {})


def _read(folder: Path) -> Ours:
    asked = sweep.table_of(folder)
    shipped, wanted = sweep.read(sweep.find_table(asked.name))
    found: dict[str, RunReport] = {}
    problems = []
    for row in shipped.rows:
        try:
            each = _row(folder, asked, shipped, row)
            found[row] = _over_seeds(list(each.values()))
            lacking = [(name, problem) for name, report in each.items() for problem in _lacking(folder, report)]
            problems += [f"{name}: {' '.join(problem.split())}" for name, problem in lacking]
        except (MmadferError, OSError) as error:
            problems.append(f"{row}: {' '.join(str(error).split())}")
    configs = {row: report.config for row, report in found.items()}
    usable = {row: report for row, report in found.items() if report.usable}
    seeds = tuple(sorted({seed for row in asked.groups.values() for seed in row.values()}))
    return Ours(folder, configs, usable, tuple(problems), _basis(asked, shipped), seeds, _recipe(configs, wanted))


def _basis(asked: sweep.SweepTable, shipped: sweep.SweepTable) -> str:
    common = {key: value for key, value in asked.common.items() if key not in (*_NOT_RECIPE_KEYS, *_varied(shipped))}
    return f"base {Path(asked.base).stem}{f' with {sweep.keys_in_words(common)}' if common else ''}"


def _recipe(ours: dict[str, Config], shipped: dict[str, Config]) -> tuple[str, ...]:
    keys = [key for row, config in ours.items() for key in differs(shipped[row], config)]
    return tuple(key for key in dict.fromkeys(keys) if key not in _NOT_RECIPE_KEYS)


def _varied(shipped: sweep.SweepTable) -> set[str]:
    """The keys that the paper's rows differ in."""
    return {key for keys in shipped.rows.values() for key in keys}


def _row(folder: Path, asked: sweep.SweepTable, shipped: sweep.SweepTable, row: str) -> dict[str, RunReport]:
    """A row's report, or that of each of its seeds; RunError where it was not trained, or is not the paper's row."""
    names = [row] if row in asked.rows else list(asked.groups.get(row, ()))
    if not names:
        raise RunError("the sweep has no such row")
    wanted, other = shipped.rows[row], {sweep.SEED, *asked.common} - _varied(shipped)
    for name in names:  # a key that all rows have in common may be one that the paper's rows differ in
        if (own := {key: value for key, value in asked.rows[name].items() if key not in other}) != wanted:
            told = [sweep.keys_in_words(keys) or "nothing" for keys in (own, wanted)]
            raise RunError(f"it differs from the base in {told[0]}, and the paper's in {told[1]}")
    return {name: gather(folder / name) for name in names}


def _over_seeds(reports: list[RunReport]) -> RunReport:
    """One report, each fold of which has the means over seeds; a fold counts where all of them have it."""
    folds = tuple(_fold_over_seeds(each) for each in zip(*(report.folds for report in reports), strict=True))
    return replace(reports[0], folds=folds)


def _fold_over_seeds(each: tuple[FoldResult, ...]) -> FoldResult:
    if bad := [fold for fold in each if not fold.usable]:
        return bad[0]
    return replace(each[0], scores={name: fmean(fold.scores[name] for fold in each) for name in each[0].scores})


def _lacking(folder: Path, report: RunReport) -> list[str]:
    """The problems of the folds that the sweep was asked to train."""
    left = records.read(folder)
    asked = parse_folds(left.options.folds if left else None, report.config)
    bad = [fold.fold for fold in report.folds if not fold.usable]
    return [problem for fold, problem in zip(bad, report.problems, strict=True) if fold in asked]


def _heading(paper: PaperTable) -> list[str]:
    sets = " and ".join(name.upper() for name in paper.data_sets)
    size = f"at {paper.size} px" if paper.size else "at the sizes below"
    return [
        f"# Table {paper.number}: {paper.title}",
        "",
        f"Paper: section {paper.section}; {sets}, {_folds(paper.folds)}, {size}, encoders MAE-Face and AudioMAE. UAR "
        "and WAR in percent.",
    ]


def _folds(folds: Iterable[int]) -> str:
    """`fold 1`, `folds 1, 2`."""
    numbers = list(map(str, folds))
    return f"fold{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}"


def _lines(paper: PaperTable, ours: list[Ours]) -> list[str]:
    extra = [name for one in ours for name in one.reports if name not in {row.name for row in paper.rows}]
    blank = ("",) * (len(paper.columns) - 1)
    rows = [*paper.rows, *(Row(name, (f"{name} (not in the paper's)", *blank), ()) for name in extra)]
    cells = [_headings(paper, ours), *(_cells(paper, ours, row) for row in rows)]
    shown = [f"| {' | '.join(line)} |" for line in cells]
    return [shown[0], "|---" * len(cells[0]) + "|", *shown[1:]]


def _headings(paper: PaperTable, ours: list[Ours]) -> list[str]:
    both = [
        f"{name.upper()} {score}" if len(ours) > 1 else score for name in paper.data_sets for score in ("UAR", "WAR")
    ]
    trained = [heading for place, heading in enumerate(both) if ours[place // 2].folder]
    counts = ["Params (M)", "Params (M), ours"] if paper.counted else []
    return [*paper.columns, *both, *(f"{heading}, ours" for heading in trained), *counts]


def _cells(paper: PaperTable, ours: list[Ours], row: Row) -> list[str]:
    printed = [f"{value:.2f}" for score in row.scores for value in score] or ["-"] * 2 * len(ours)
    measured = [cell for one in ours if one.folder for cell in _scores(one.reports.get(row.name))]
    counts = [row.parameters or "-", _count(paper, ours[0].configs.get(row.name))] if paper.counted else []
    return [*row.cells, *printed, *measured, *counts]


def _scores(report: RunReport | None) -> list[str]:
    if report is None:
        return ["-", "-"]
    return [f"{percent(report.mean(score))}{deviation(report.std(score))}" for score in ("uar", "war")]


def _count(paper: PaperTable, config: Config | None) -> str:
    """Counted from the configuration, in millions: of the paper's seven classes, where it names none."""
    from mmadfer.model.mma_dfer import empty_model

    if config is None:
        return "-"
    learns = empty_model(config.model, len(config.data.labels or range(7))).trainable()
    over_time = [p.numel() for name, p in learns.items() if name.startswith("temporal.") or ".adapter." in name]
    count = sum(over_time) if paper.counted == "temporal" else sum(p.numel() for p in learns.values())
    return f"{count / 1e6:.2f}"


def _told(paper: PaperTable, ours: dict[str, Ours]) -> Iterator[str]:
    """Below the table: on what ours were run, whether they can be compared, the order, and what is missing."""
    for name, data_set, one in zip(ours, paper.data_sets, ours.values(), strict=True):
        if one.folder is None:
            yield f"Not run ({data_set.upper()}): {_how(paper, name)}"
            continue
        if one.reports:
            yield _ours(paper, data_set, one)
            yield ""
            place = paper.data_sets.index(data_set)
            known = [(row.scores[place][0], one.reports[row.name]) for row in paper.rows if row.name in one.reports]
            yield order.order_in_words(known)
        if one.problems:
            yield from [""] * bool(one.reports)
            yield from ("Not in these numbers:", "", *(f"- {problem}" for problem in one.problems))
    if any(not row.name for row in paper.rows):
        yield ""
        yield (
            "* Two test clips, which need no training of their own: `mmadfer evaluate SWEEP/ROW --data STORE --fold K "
            "--clips 2` gives each fold's numbers."
        )


def _how(paper: PaperTable, name: str) -> str:
    folds = f" --folds {paper.folds[0]}" if len(paper.folds) == 1 else ""
    return (
        f"`mmadfer launch sweep {name} --set data.store=STORE --set model.vision.weights=MAE_FACE --set "
        f"model.audio.weights=AUDIOMAE{folds} --run DIR` trains ours, and `mmadfer report DIR --table {paper.number}` "
        "prints them here."
    )


def _ours(paper: PaperTable, data_set: str, ours: Ours) -> str:
    reports = list(ours.reports.values())
    config, folds = reports[0].config, sorted({fold.fold for report in reports for fold in report.usable})
    sets = sorted({str(report.origin["data_set"] or "an unknown data set") for report in reports})
    size = f" at {config.model.image_size} px" if paper.size else ""
    encoders = ", ".join(
        f"{kind} {encoder.width} wide and {encoder.depth} deep, {encoder.weights.name if encoder.weights else 'random'}"
        for kind, encoder in (("vision", config.model.vision), ("audio", config.model.audio))
    )
    run = (
        f"{' and '.join(sets)}{size}, {_folds(folds)}, {config.train.epochs} epochs; {ours.basis}; encoders: {encoders}"
    )
    seeds = f" Each fold is the mean over seeds {', '.join(map(str, ours.seeds))}." if ours.seeds else ""
    deviation = f" {STD_OVER_FOLDS[0].upper()}{STD_OVER_FOLDS[1:]} after ±." if len(folds) > 1 else ""
    return f"Ours: {run}.{seeds}{deviation} {_comparable(paper, data_set, sets, ours, folds)}"


def _comparable(paper: PaperTable, data_set: str, sets: list[str], ours: Ours, folds: list[int]) -> str:
    if sets != [data_set]:
        return (
            f"This is not {data_set.upper()}: the numbers cannot be compared with the paper's, only the order of rows."
        )
    model = next(iter(ours.reports.values())).config.model
    unlike = ["the folds"] if folds != list(paper.folds) else []
    unlike += ["the size"] if paper.size not in (None, model.image_size) else []
    unlike += ["the encoders"] if not (model.vision.weights and model.audio.weights) else []
    unlike += [f"the recipe ({', '.join(ours.recipe)})"] if ours.recipe else []
    like = "Data set, folds, size and recipe are the paper's."
    return f"Unlike the paper's: {', '.join(unlike)}." if unlike else like
