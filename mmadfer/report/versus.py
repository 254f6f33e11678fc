"""A comparison of two runs for a terminal."""

from statistics import fmean

from rich.table import Table

from mmadfer.evaluation.bootstrap import Estimate, mcnemar
from mmadfer.evaluation.compare import ONE_SEED, P_VALUE, SEVERAL, RunComparison
from mmadfer.evaluation.compared_runs import ComparedRun
from mmadfer.evaluation.subjects import OVER_SUBJECTS
from mmadfer.report.cells import likely
from mmadfer.report.subjects import gain_cells, subject_list
from mmadfer.tasks.spec import Score
from mmadfer.utils.console import Console


def show_comparison(found: RunComparison, console: Console | None = None) -> None:
    """Print scores and differences, B minus A, and what the interval covers."""
    console = console or Console()
    for letter, side in (("A", found.a), ("B", found.b)):
        seeds = ", ".join(str(one.seed) for one in side.members)
        console.print(f"{letter}  {side.name}  (train.seed {seeds})", markup=False, highlight=False, soft_wrap=True)
    console.print(_overall(found))
    console.print(_each(found))
    for table in _subjects(found):
        console.print(table)
    for line in _words(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _overall(found: RunComparison) -> Table:
    table = Table(title=f"Means over folds and seeds,{found.spec.unit}".removesuffix(","), title_justify="left")
    for heading in ("", "A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for score in found.spec.scores:
        one = found.overall[score.name]
        sides = [_mean(side, score, found.numbers) for side in (found.a, found.b)]
        told = score.signed(one.value), _interval(one, score), likely(one.p)
        table.add_row(score.title, *sides, *told, style="bold")
    return table


def _mean(side: ComparedRun, score: Score, folds: list[int]) -> str:
    """With the standard deviation of the seeds' means, where there are several."""
    mean = fmean(one.mean(score.name, folds) for one in side.members)
    return score.number(mean) + score.spread(side.seeds_std(score.name, folds))


def _interval(one: Estimate, score: Score) -> str:
    return f"{score.signed(one.low)} to {score.signed(one.high)}"


def _each(found: RunComparison) -> Table:
    table = Table(title="Each fold, B - A", title_justify="left")
    scores = found.spec.scores
    for heading in ("fold", "clips", *(word for title in found.spec.titles for word in (title, "95 % interval"))):
        table.add_column(heading, justify="right")
    for one, each in zip(found.folds, found.each, strict=True):
        told = [(score, each[score.name]) for score in scores]
        cells = [text for score, value in told for text in (score.signed(value.value), _interval(value, score))]
        table.add_row(str(one.fold), str(len(one.truth)), *cells)
    return table


def _subjects(found: RunComparison) -> list[Table]:
    """The mean over subjects with its test, and the subjects; nothing where the store knows fewer than two."""
    told = found.subjects
    if told is None or len(told.names) < 2:
        return []
    title = f"Means over {len(told.names)} subjects,{found.spec.unit}".removesuffix(",")
    over = Table(title=title, title_justify="left")
    for heading in ("", "A", "B", "B - A", "95 % interval", "p", "better / equal / worse"):
        over.add_column(heading, justify="right")
    for score in found.spec.scores:
        means = [score.number(told.mean(side, score.name)) for side in told.columns]
        over.add_row(score.title, *means, *gain_cells(score, found.over_subjects[score.name]), style="bold")
    return [over, subject_list(told)]


def _words(found: RunComparison) -> list[str]:
    """What the numbers are."""
    lines = []
    if counts := found.counts:
        p = mcnemar(counts["only_a"], counts["only_b"])
        lines.append(
            f"Clips that both have right: {counts['both']}, only A: {counts['only_a']}, only B: {counts['only_b']}, "
            f"none: {counts['none']}; exact McNemar test of the two in the middle: p {likely(p)}"
        )
    elif not found.one_seed:
        lines.append("± is the sample standard deviation of the seeds' means over folds (n - 1).")
    lines.append(f"{found.resamples:,} paired resamples from seed {found.seed}. p: {P_VALUE}.")
    lines.append(ONE_SEED if found.one_seed else SEVERAL)
    lines += [OVER_SUBJECTS] if found.over_subjects else []
    if found.subjects_note:
        lines.append(f"No table of subjects: {found.subjects_note}")
    if found.clips_left_out:
        clips = sum(len(one.truth) for one in found.folds)
        lines.append(
            f"On the {clips} clips that all have tested; {found.clips_left_out} that one was adapted to are left out."
        )
    if found.left_out:
        lines.append(f"Left out, as not all runs have them: fold {', '.join(map(str, found.left_out))}.")
    differs = ", ".join(f"{key} ({a!r}, {b!r})" for key, (a, b) in found.differs.items())
    return [*lines, f"Configurations differ in: {differs or 'nothing'}."]
