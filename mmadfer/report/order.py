"""Whether rows come in the same order by UAR as the paper's: pairs of rows are counted, as in Kendall's tau."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from mmadfer.report.summary import RunReport

Gaps = list[float]
"""Of a pair of rows, by fold: our UAR of the row that the paper has ahead, less that of the other."""


@dataclass(frozen=True)
class Order:
    """Counts over the pairs of rows that the paper orders."""

    folds: tuple[int, ...]
    """That all rows have; nothing else is counted."""
    gaps: tuple[Gaps, ...]

    @property
    def same(self) -> int:
        """Pairs whose means are in the paper's order."""
        return sum(_mean(gap) > 0 for gap in self.gaps)

    @property
    def ties(self) -> int:
        """Pairs whose means are equal."""
        return sum(_mean(gap) == 0 for gap in self.gaps)

    @property
    def by_fold(self) -> list[tuple[int, int]]:
        """In each fold, pairs in the paper's order, and pairs that are equal."""
        return [
            (sum(gap[place] > 0 for gap in self.gaps), sum(gap[place] == 0 for gap in self.gaps))
            for place in range(len(self.folds))
        ]

    @property
    def clear(self) -> tuple[int, int]:
        """Pairs whose mean difference is beyond its standard deviation over folds: in the paper's order, in all."""
        means = [fmean(gap) for gap in self.gaps if len(gap) > 1 and abs(fmean(gap)) > stdev(gap)]
        return sum(mean > 0 for mean in means), len(means)


def _mean(gap: Gaps) -> float:
    return round(fmean(gap), 9)  # gaps that cancel out are equal


def _count_order(rows: Sequence[tuple[float, RunReport]]) -> Order:
    """Count; each row is the paper's UAR and our report."""
    scores = [(uar, {fold.fold: fold.scores["uar"] for fold in report.usable}) for uar, report in rows]
    folds = sorted(set.intersection(*(set(found) for _, found in scores))) if scores else []
    ranked = sorted(scores, key=lambda row: -row[0])
    pairs = [(one[1], two[1]) for one, two in combinations(ranked, 2) if one[0] > two[0]] if folds else []
    return Order(tuple(folds), tuple([round(one[fold] - two[fold], 9) for fold in folds] for one, two in pairs))


def order_in_words(rows: Sequence[tuple[float, RunReport]]) -> str:
    """The count in one line."""
    found = _count_order(rows)
    if not found.gaps:
        return "Order by UAR: no two of these rows have a fold in common."
    total = len(found.gaps)
    text = f"Order by UAR: {found.same} of {total} pairs of rows are as in the paper"
    text += f", {found.ties} {'is' if found.ties == 1 else 'are'} equal" if found.ties else ""
    if len(found.folds) == 1:
        return f"{text} (fold {found.folds[0]} alone; half of them would be by chance)."
    right, clear = found.clear
    by_fold = ", ".join(f"{same}{f' ({ties} equal)' if ties else ''}" for same, ties in found.by_fold)
    return (
        f"{text}; by fold {by_fold}; half would be by chance. {clear} pairs differ by more than the standard "
        f"deviation of their difference over folds; {right} of these are as in the paper."
    )
