"""How long something takes, in words."""


def duration(seconds: float) -> str:
    """Time as people read it, from a minute on as `--time` takes it: 12 ms, 1.25 s, 0:04:10, 26:00:00."""
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
