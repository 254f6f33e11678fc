"""The seeds of a sweep's rows taken together: what a row gives over all its seeds and folds."""

from statistics import fmean, stdev
from typing import Any

from mmadfer.config.sweep import SweepTable
from mmadfer.tasks.spec import TaskSpec

_STD_OVER_SEEDS = "sample standard deviation over all seeds x folds (n - 1)"
SPREAD_SEEDS = "sample standard deviation of the seeds' means over folds (n - 1)"


def join_seeds(table: SweepTable, rows: dict[str, dict[str, Any]], spec: TaskSpec) -> dict[str, dict[str, Any]]:
    """Each row with seeds: mean, both deviations, and how many of its folds count; scores are fractions.

    Only folds count that every seed has which has any: folds differ more than seeds.

    Args:
        table: of the sweep.
        rows: row -> `each_fold` (fold and scores of each finished fold) and `folds_expected`.
        spec: the task.
    """
    return {name: _of([rows[row] for row in seeds], seeds, spec.names) for name, seeds in table.groups.items()}


def _of(rows: list[dict[str, Any]], seeds: dict[str, int], names: list[str]) -> dict[str, Any]:
    begun = [{fold["fold"]: fold for fold in row["each_fold"]} for row in rows if row["each_fold"]]
    common = sorted(set.intersection(*map(set, begun))) if begun else []
    folds = [found[fold] for found in begun for fold in common]
    means = {score: [fmean(found[fold][score] for fold in common) for found in begun if common] for score in names}
    expected = [row["folds_expected"] for row in rows]
    return {
        "seeds": list(seeds.values()),
        "rows": list(seeds),
        "folds": common,
        "runs": len(folds),
        "runs_expected": None if None in expected else sum(expected),
        "mean": {score: fmean(fold[score] for fold in folds) if folds else None for score in names},
        "std": {**{score: _std([fold[score] for fold in folds]) for score in names}, "kind": _STD_OVER_SEEDS},
        "std_of_seeds": {**{score: _std(means[score]) for score in names}, "kind": SPREAD_SEEDS},
    }


def _std(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def seed_lines(found: dict[str, dict[str, Any]], spec: TaskSpec) -> list[str]:
    """Lines of Markdown; none without seeds."""
    if not found:
        return []
    return [
        "",
        "Over seeds: mean over seeds x folds ± sample standard deviation over all of these (of the seeds' means over "
        "folds), on the folds that all seeds have that have any.",
        "",
        f"| row | seeds | runs of a fold | {' | '.join(spec.titles)} |",
        "|---|---|---" + "|---" * len(spec.scores) + "|",
        *(_line(name, numbers, spec) for name, numbers in found.items()),
    ]


def _line(name: str, numbers: dict[str, Any], spec: TaskSpec) -> str:
    used, expected, seeds = numbers["runs"], numbers["runs_expected"], ", ".join(map(str, numbers["seeds"]))
    mean, std, std_of_seeds = (numbers[kind] for kind in ("mean", "std", "std_of_seeds"))
    scores = [
        f"{one.number(mean[one.name])}{one.spread(std[one.name])} ({one.number(std_of_seeds[one.name])})"
        for one in spec.scores
    ]
    return f"| {name} | {seeds} | {used}{f' of {expected}' if expected else ''} | {' | '.join(scores)} |"
