"""Optional dependencies: imported when they are needed, with a plain word when they are missing."""

from importlib import import_module
from typing import Any

from mmadfer.errors import MissingDependencyError


def install(extra: str) -> str:
    """The command that brings an extra. mmadfer is on no package index: its name there could be anybody's."""
    return f"pip install '.[{extra}]' in mmadfer's folder, or 'FILE.whl[{extra}]' with its wheel"


def need(module: str, extra: str | None, hint: str = "") -> Any:
    """Import `module`, or say which extra brings it.

    Raises:
        MissingDependencyError: the module is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        command = hint or install(str(extra))
        raise MissingDependencyError(
            f"this needs {module.partition('.')[0]}, which is not installed: {command}"
        ) from error
