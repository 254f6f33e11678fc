"""Numbers as they stand in tables of a report."""


def percent(value: float | None) -> str:
    """A fraction in percent with two digits."""
    return "-" if value is None else f"{100 * value:.2f}"


def gain(difference: float | None) -> str:
    """A difference of fractions in percent, with its sign."""
    return "-" if difference is None else f"{100 * difference:+.2f}"


def deviation(std: float | None) -> str:
    """A standard deviation behind its mean; nothing for a single fold."""
    return "" if std is None else f" ± {percent(std)}"


def span(ends: tuple[float, float] | None) -> str:
    """An interval of fractions in percent."""
    return "-" if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"


def likely(p: float | None) -> str:
    """A p-value with four digits."""
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
