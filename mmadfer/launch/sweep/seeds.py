"""The seeds of a sweep's rows taken together: what a row gives over all its seeds and folds."""

from statistics import fmean, stdev
from typing import Any

from mmadfer.config.sweep import Table

BOTH = ("uar", "war")
SPREAD = "sample standard deviation over all seeds x folds (n - 1)"
SPREAD_SEEDS = "sample standard deviation of the seeds' means over folds (n - 1)"


def together(table: Table, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each row with seeds: mean, both deviations, and how many of its folds count; scores are fractions.

    Only folds count that every seed has which has any: folds differ more than seeds.

    Args:
        table: of the sweep.
        rows: row -> `each_fold` (fold, uar and war of each finished fold) and `folds_expected`.
    """
    return {name: _of([rows[row] for row in seeds], seeds) for name, seeds in table.groups.items()}


def _of(rows: list[dict[str, Any]], seeds: dict[str, int]) -> dict[str, Any]:
    begun = [{fold["fold"]: fold for fold in row["each_fold"]} for row in rows if row["each_fold"]]
    common = sorted(set.intersection(*map(set, begun))) if begun else []
    folds = [found[fold] for found in begun for fold in common]
    means = {score: [fmean(found[fold][score] for fold in common) for found in begun if common] for score in BOTH}
    expected = [row["folds_expected"] for row in rows]
    return {
        "seeds": list(seeds.values()),
        "rows": list(seeds),
        "folds": common,
        "runs": len(folds),
        "runs_expected": None if None in expected else sum(expected),
        "mean": {score: fmean(fold[score] for fold in folds) if folds else None for score in BOTH},
        "std": {**{score: _std([fold[score] for fold in folds]) for score in BOTH}, "kind": SPREAD},
        "std_of_seeds": {**{score: _std(means[score]) for score in BOTH}, "kind": SPREAD_SEEDS},
    }


def _std(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def page(found: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown, in percent; none without seeds."""
    if not found:
        return []
    return [
        "",
        "Over seeds: mean over seeds x folds ± sample standard deviation over all of these (of the seeds' means over "
        "folds), on the folds that all seeds have that have any.",
        "",
        "| row | seeds | runs of a fold | UAR | WAR |",
        "|---|---|---|---|---|",
        *(_line(name, numbers) for name, numbers in found.items()),
    ]


def _line(name: str, numbers: dict[str, Any]) -> str:
    from mmadfer.report.terminal import percent, spread

    used, expected, seeds = numbers["runs"], numbers["runs_expected"], ", ".join(map(str, numbers["seeds"]))
    scores = [
        f"{percent(numbers['mean'][score])}{spread(numbers['std'][score])} ({percent(numbers['std_of_seeds'][score])})"
        for score in BOTH
    ]
    return f"| {name} | {seeds} | {used}{f' of {expected}' if expected else ''} | {' | '.join(scores)} |"
