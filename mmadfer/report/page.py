"""The report as one self-contained HTML page."""

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from mmadfer.config.schema import DataConfig, TrainConfig
from mmadfer.data.store.splits import FOLDS
from mmadfer.evaluation.subjects import OVER_SUBJECTS, SubjectTable
from mmadfer.report import paste, terminal
from mmadfer.report import subjects as words
from mmadfer.report.beside import rows_of
from mmadfer.report.cells import percent, span
from mmadfer.report.clip_parts import clip_parts
from mmadfer.report.explanations import explanations
from mmadfer.report.for_others import without_folders
from mmadfer.report.plots import curve
from mmadfer.report.provenance import Recipe, cost, recipe
from mmadfer.report.subject_plot import subject_plot
from mmadfer.report.summary import RESULT, STD_OVER_FOLDS, RunReport
from mmadfer.report.value_plots import value_plots
from mmadfer.run.records import Event
from mmadfer.tasks.tables import VALIDATION, of_events
from mmadfer.utils.html_page import read_template, script_hash
from mmadfer.utils.html_page import render_page as rendered
from mmadfer.utils.terminal import shown


def render_report(report: RunReport, private: bool = True) -> str:
    """The whole page.

    Args:
        report: what it tells.
        private: False for others: without pictures, and of files only their names.
    """
    counted = f"{len(report.usable)} of {len(report.folds)} folds"
    script = read_template("copy.js")
    page = rendered(
        "report.html",
        title=f"{report.about.get('name')}: {counted}",
        report=report,
        counted=counted,
        terminal=terminal,
        gain_headings=words.GAIN_HEADINGS,
        over_subjects=OVER_SUBJECTS,
        headings=[score.heading for score in report.spec.scores],
        result=RESULT,
        deviation=STD_OVER_FOLDS,
        matrix=_matrix(report),
        percent=percent,
        beside_rows=rows_of(report.beside, report.labels, report.spec) if report.beside else [],
        pasted=paste.tables(report),
        script=Markup(script),
        script_hash=script_hash(script),
        clips=clip_parts(report, private),
        curves=_curves(report),
        values=_values(report),
        subjects=_subjects(report.subjects),
        explanations=explanations(report.run) if private else [],
        facts=_facts(report),
    )
    return page if private else without_folders(page)


def _matrix(report: RunReport) -> Iterator[tuple[str, float | None, str, list[tuple[int, float]]]]:
    """Rows of the confusion matrix: a label, its recall and interval, and for each prediction clips and their share."""
    if report.confusion is None:
        return
    spans = report.of_clips.intervals.recall if report.of_clips else [None] * len(report.labels)
    for label, row, recall, ends in zip(report.labels, report.confusion, report.recall, spans, strict=True):
        total = max(1, int(row.sum()))
        yield label, recall, span(ends), [(count, count / total) for count in row.tolist()]


def _values(report: RunReport) -> dict[str, Any]:
    """Drawings of a task that gives values; nothing of others."""
    if not report.values:
        return {}
    points, traces, problem = value_plots(report)
    return {"points": points, "traces": traces, "problem": problem}


def _subjects(table: SubjectTable | None) -> dict[str, Any]:
    """The table of subjects, what this run gains over the others, and a picture; nothing where there is no table."""
    if table is None:
        return {}
    return {
        "headings": words.subject_headings(table, table.spec.scores),
        "rows": [words.subject_cells(table, k, table.spec.scores) for k in range(len(table.names))],
        "means": words.mean_cells(table, table.spec.scores),
        "clips": words.left_out_words(table),
        "gains": words.gains(table),
        "plot": subject_plot(table) if len(table.names) > 1 else "",
    }


def _curves(report: RunReport) -> list[str]:
    kind, where = (VALIDATION, "validation clips") if report.validated else ("", "the test fold")
    scores = [(score, ", %" if score.percent else "", 100 if score.percent else 1) for score in report.spec.scores]
    plots = (
        curve(report.folds, "loss", "Training loss"),
        *(curve(report.folds, name, f"Training {name}") for name in _parts(report)),
        *(curve(report.folds, kind + score.name, f"{score.title} on {where}{unit}", by) for score, unit, by in scores),
    )
    return [plot for plot in plots if plot]


def _parts(report: RunReport) -> list[str]:
    """Parts of the loss that the task named, in the order of their names."""
    known = {*Event.model_fields, *(key for key, _, _ in of_events(report.spec))}
    return sorted({name for fold in report.folds for event in fold.curves for name in event} - known)


def _split(data: DataConfig) -> str:
    return "" if data.split == FOLDS else f", split {data.split}"


def _facts(report: RunReport) -> dict[str, Any]:
    about, config, git = report.about, report.config, report.about.get("git")
    model, train, vision = config.model, config.train, config.model.vision
    spent = cost(report)
    return {
        "Data set": (report.origin["data_set"] or "not recorded") + _split(config.data),
        "Store": config.data.store,
        "Model": f"{model.image_size} px, {model.frames} frames, encoders {vision.width} wide, {vision.depth} deep",
        "Modalities": config.data.modalities,
        "Encoder weights": _weights(vision.weights, model.audio.weights),
        "Encoder hash": report.origin["encoder_hash"] or "not recorded",
        "Training": f"{train.epochs} epochs, batch {train.batch_size}, lr {_lr(train)}, weight decay "
        f"{train.weight_decay:g}, seed {train.seed}, {train.precision}",
        **({"Differs from the published recipe": _recipe(recipe(report))} if report.spec.output == "classes" else {}),
        **_parents(about.get("parents", {})),
        "Time": spent.hours(),
        "Energy": spent.energy(),
        "Devices": ", ".join(spent.devices) or "not recorded",
        "Code": f"mmadfer {about.get('version')}, {_commit(git)}",
        "Packages": ", ".join(f"{name} {found}" for name, found in (about.get("packages") or {}).items() if found),
        "Run": f"{report.run}, begun {about.get('created')}",
        "Licences": ", ".join(f"{name}: {licence}" for name, licence in report.origin["licences"].items()),
    }


def _recipe(found: Recipe) -> str:
    told = "; ".join(f"{key} {shown(str(here))} ({there})" for key, here, there in found.differs)
    return f"{found.name}, whose value is in brackets: {told}" if told else f"in nothing ({found.name})"


def _parents(parents: dict[str, Any]) -> dict[str, str]:
    """What the folds began from and learn from, by what it is."""
    found: dict[str, list[str]] = {}
    for fold, by_key in sorted(parents.items(), key=lambda item: int(item[0])):
        for key, one in by_key.items():
            told = f"fold {fold}: {one['run']}, step {one['step']} (weights {one['weights_hash'][:12]})"
            found.setdefault("Begun from" if key == "init" else "Teacher", []).append(told)
    return {what: "; ".join(lines) for what, lines in found.items()}


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
