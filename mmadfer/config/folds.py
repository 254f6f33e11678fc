"""Folds as a person names them."""

import re

from mmadfer.config.schema import Config
from mmadfer.errors import RunError


def parse_folds(text: str | None, config: Config) -> list[int]:
    """`1-5`, `1,3` or both mixed; every fold of the configuration by default.

    Raises:
        RunError: not of this form, or a fold that the configuration does not have.
    """
    count = config.data.folds
    chosen: set[int] = set()
    for part in (text or f"1-{count}").split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise RunError(f"--folds {text!r} must look like 1-{count} or 1,3")
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high <= count:
            raise RunError(f"--folds {text!r}: the configuration has folds 1 to {count} (data.folds)")
        chosen.update(range(low, high + 1))
    return sorted(chosen)
