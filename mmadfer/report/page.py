"""The report as one self-contained HTML page."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmadfer.config.schema import TrainConfig
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.report.plots import curve
from mmadfer.report.summary import RESULT, SPREAD, Report
from mmadfer.report.terminal import beside, beside_mean, beside_of, means, percent
from mmadfer.tasks.tables import VALIDATION, of_events
from mmadfer.utils.html_page import document, section, table
from mmadfer.utils.html_page import text as _text

FAINT = ' class="dim"'
EPOCH = ("event", "epoch", "step", "loss", "lr", "seconds", "clips_per_second")
"""What every epoch's event holds."""


def render(report: Report) -> str:
    """The whole page."""
    title = f"{report.about.get('name')}: {len(report.usable)} of {len(report.folds)} folds"
    parts = [
        _head(report),
        _alarm(report),
        _figures(report),
        section("Folds", _folds(report)),
        section("Confusion and recall", _matrix(report, report.confusion)) if report.confusion is not None else "",
        section("Curves", _curves(report)),
        section("Beside other runs", _beside(report)) if report.beside else "",
        section("Where it comes from", _origin(report)),
    ]
    return document(title, "".join(parts))


def _head(report: Report) -> str:
    data = report.origin["data_set"] or report.config.data.store
    what = f"MMA-DFER on {data}: {len(report.usable)} of {len(report.folds)} folds. {report.made[:10]}."
    return f'<header><h1>{_text(report.about.get("name"))}</h1><p class="dim">{_text(what)}</p></header>\n'


def _alarm(report: Report) -> str:
    if report.complete:
        return ""
    items = "".join(f"<li>{_text(problem)}</li>" for problem in report.problems)
    what = f"{len(report.usable)} of {len(report.folds)} folds count; the mean is not the result of the whole run."
    return f'<div class="alarm" role="alert"><strong>Incomplete.</strong> {what}<ul>{items}</ul></div>\n'


def _figures(report: Report) -> str:
    figures = "".join(
        f'<div class="figure">{_text(f"{score.title}, {score.meaning}")}'
        f"<b>{score.number(report.mean(score.name))}{' %' if score.percent else ''}</b>"
        f'<span class="dim small">{score.spread(report.std(score.name)) or "one fold"}</span></div>'
        for score in report.spec.scores
    )
    return f'<div class="figures">{figures}</div>\n<p class="dim small">Result: {RESULT}. ± is the {SPREAD}.</p>\n'


def _folds(report: Report) -> str:
    heads = ("Fold", *_headings(report), "Test clips", "Epochs", "Minutes", "State")
    faint = [f"{name[0].upper()}{name[1:]}" for name in beside(report)]
    head = "".join([*(f"<th>{name}</th>" for name in heads), *(f"<th{FAINT}>{name}</th>" for name in faint)])
    body = "".join(_fold(report, fold) for fold in report.folds)
    foot = ["Mean", *means(report), report.clips, "", "", ""]
    return table(head, body, _cells(foot, beside_mean(report)), f"* {report.picked}.")


def _fold(report: Report, fold: FoldResult) -> str:
    if not fold.usable:
        row = [fold.fold, *[""] * len(report.spec.scores), "", f"{fold.epoch}/{fold.epochs}", "", fold.state]
        return f'<tr class="bad">{_cells(row, [""] * len(beside(report)))}</tr>'
    minutes = "" if fold.seconds is None else f"{fold.seconds / 60:.1f}"
    scores = [score.number(fold.scores[score.name]) for score in report.spec.scores]
    row = [fold.fold, *scores, fold.clips, f"{fold.epoch}/{fold.epochs}", minutes, fold.state]
    return f"<tr>{_cells(row, beside_of(report, fold))}</tr>"


def _cells(values: Iterable[Any], faint: Iterable[str]) -> str:
    """Table cells of the folds: the first one a heading, the last ones faint."""
    first, *middle = (_text(value) for value in values)
    cells = "".join(f"<td>{value}</td>" for value in middle)
    return f'<th scope="row">{first}</th>{cells}' + "".join(f"<td{FAINT}>{_text(value)}</td>" for value in faint)


def _matrix(report: Report, confusion: np.ndarray) -> str:
    heads = ("truth \\ predicted", *report.labels, "Recall %")
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    lines = zip(report.labels, confusion, report.recall, strict=True)
    rows = "".join(_matrix_row(label, row, recall) for label, row, recall in lines)
    caption = "Clips, and percent of the row, summed over the test folds. Recall is of this sum: its mean may differ"
    return table(head, rows, "", f"{caption} from the mean {report.spec.primary.title} of the folds.", "matrix")


def _matrix_row(label: str, row: Any, recall: float | None) -> str:
    total = max(1, int(row.sum()))
    cells = "".join(
        f'<td style="background: rgba(var(--hue), {0.9 * count / total:.3f})">'
        f"<span>{count}</span><span>{percent(count / total)}</span></td>"
        for count in row.tolist()
    )
    return f'<tr><th scope="row">{_text(label)}</th>{cells}<td class="side"><b>{percent(recall)}</b></td></tr>'


def _curves(report: Report) -> str:
    kind, where = (VALIDATION, "validation clips") if report.validated else ("", "the test fold")
    scores = [(score, ", %" if score.percent else "", 100 if score.percent else 1) for score in report.spec.scores]
    plots = (
        curve(report.folds, "loss", "Training loss"),
        *(curve(report.folds, name, f"Training {name}") for name in _parts(report)),
        *(curve(report.folds, kind + score.name, f"{score.title} on {where}{unit}", by) for score, unit, by in scores),
    )
    drawn = "".join(f"<div>{plot}</div>" for plot in plots if plot)
    return f'<div class="plots">{drawn}</div>\n' if drawn else '<p class="dim">No epoch was recorded.</p>\n'


def _parts(report: Report) -> list[str]:
    """Other numbers of training's epochs that the task named."""
    told = {key for key, _, _ in of_events(report.spec)} | {*EPOCH}
    return list(
        dict.fromkeys(name for fold in report.folds for event in fold.curves for name in event if name not in told)
    )


def _headings(report: Report) -> list[str]:
    return [score.heading for score in report.spec.scores]


def _beside(report: Report) -> str:
    scores = "".join(f"<th>{_text(name)}</th>" for name in _headings(report))
    head = f'<th>Run</th><th>Folds</th>{scores}<th class="text">Differs in</th>'
    body = ""
    for row in report.beside:
        differs = row.note or ", ".join(f"{key} = {value}" for key, value in row.differs.items())
        numbers = [score.number(row.scores[score.name]) for score in report.spec.scores]
        cells = (", ".join(map(str, row.folds)), *numbers)
        middle = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f'<tr><th scope="row">{_text(row.name)}</th>{middle}<td class="text">{_text(differs)}</td></tr>'
    return table(head, body, "", "Means over the folds that all these runs have.")


def _origin(report: Report) -> str:
    about, config, git = report.about, report.config, report.about.get("git")
    model, train, vision = config.model, config.train, config.model.vision
    facts = {
        "Data set": report.origin["data_set"] or "not recorded",
        "Store": config.data.store,
        "Model": f"{model.image_size} px, {model.frames} frames, encoders {vision.width} wide, {vision.depth} deep",
        "Modalities": config.data.modalities,
        "Encoder weights": _weights(vision.weights, model.audio.weights),
        "Encoder hash": report.origin["encoder_hash"] or "not recorded",
        "Training": f"{train.epochs} epochs, batch {train.batch_size}, lr {_lr(train)}, weight decay "
        f"{train.weight_decay:g}, seed {train.seed}, {train.precision}",
        "Code": f"mmadfer {about.get('version')}, {_commit(git)}",
        "Packages": ", ".join(f"{name} {found}" for name, found in (about.get("packages") or {}).items() if found),
        "Run": f"{report.run}, begun {about.get('created')}",
        "Licences": ", ".join(f"{name}: {licence}" for name, licence in report.origin["licences"].items()),
    }
    pairs = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    whole = f"<details><summary>The whole configuration</summary><pre>{_text(config.to_yaml())}</pre></details>"
    return f"<dl>{pairs}</dl>\n{whole}\n"


def _lr(train: TrainConfig) -> str:
    scaled = train.scaled_lr != train.lr
    return f"{train.scaled_lr:g} ({train.lr:g} by lr_scaling {train.lr_scaling})" if scaled else f"{train.lr:g}"


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return "not from a git checkout"
    return f"commit {git.get('commit')}{' with changes (git.diff)' if git.get('dirty') else ''}"


def _weights(*paths: Any) -> str:
    given = [str(path) for path in paths if path]
    return ", ".join(given) or "none: drawn at random"
