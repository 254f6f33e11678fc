"""How often Python looks for objects that only refer to each other."""

import gc

_NEW_OBJECTS = 10_000
"""After so many it looks through these; Python's own 700 is for programs of few objects."""


def collect_less_often() -> None:
    """For processes that import torch: it makes 600,000 objects to stay, and looking at them is a tenth of a start."""
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
