"""What some tests need and not every machine has: packages, a cluster, a server.

Without it they are skipped, with the reason; MMADFER_NEED=1, as in CI, makes that a failure, so that they cannot go
unnoticed.
"""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import pytest

FLAG = "MMADFER_NEED"


def asked() -> bool:
    """Whether all that tests need must be here."""
    return os.environ.get(FLAG) == "1"


def missing(why: str) -> NoReturn:
    """Skip the test, or the module that is being imported; or fail."""
    if asked():
        pytest.fail(f"{why}, and {FLAG}=1 asks for it")
    pytest.skip(why, allow_module_level=True)


def needed(module: str) -> Any:
    """A module that belongs to an extra."""
    try:
        return import_module(module)
    except ImportError as error:  # also of a library behind it
        missing(f"no {module} ({error})")


def installed(*packages: str) -> None:
    """As `needed` for packages that only other processes import.

    They are not even looked for as modules: with pip found before setuptools, setuptools cannot be imported any more.
    """
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            missing(f"no {package}")
