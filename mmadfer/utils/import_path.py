"""Where this process imports from, for those that it starts."""

import os
import sys
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[2])
"""The folder that holds this package: a checkout, or one that it is installed in."""


def import_path() -> list[str]:
    """`sys.path`, with the folder of this package, and otherwise without the current directory.

    Whoever starts a command in a folder of videos does not mean to run the Python files in it.
    """
    here = os.path.realpath(os.curdir)
    found = {one: os.path.realpath(one) for one in sys.path if one}
    kept = [one for one, place in found.items() if place == _HOME or place != here]
    return kept if _HOME in found.values() else [_HOME, *kept]
