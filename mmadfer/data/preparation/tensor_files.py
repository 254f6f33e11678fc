"""Named tensors from files that a data set brings: .npy (numbers of any shape), .csv (a table of them), .txt (text)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmadfer.data.store.record import DTYPES
from mmadfer.data.store.targets import Target
from mmadfer.errors import ClipError

_LARGEST = 64 * 2**20
"""Bytes of a file."""
ENDINGS = (".npy", ".csv", ".txt")


def read_tensors(files: Mapping[str, Path], targets: Mapping[str, Target]) -> dict[str, np.ndarray | str]:
    """Name -> what its file holds; a target of kind `steps` is float32 (steps, names).

    Raises:
        ClipError: `unreadable`: a file is not there, too large, of another ending, or does not hold such numbers.
    """
    return {name: _read(name, path, targets.get(name)) for name, path in files.items()}


def _read(name: str, path: Path, target: Target | None) -> np.ndarray | str:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST >> 20} MB")
        found = _content(path)
        return found if target is None else _steps(found, target)
    except (OSError, ValueError, EOFError) as error:
        raise ClipError(f"{name}: {path} cannot be read: {str(error)[:200]}") from error


def _content(path: Path) -> np.ndarray | str:
    ending = path.suffix.lower()
    if ending == ".txt":
        return path.read_text("utf-8")
    if ending == ".csv":
        return np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
    if ending != ".npy":
        raise ValueError(f"its name must end in {', '.join(ENDINGS)}")
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.dtype.name not in DTYPES:
        raise ValueError(f"it holds no {', '.join(DTYPES[:-1])}")
    return found


def _steps(found: np.ndarray | str, target: Target) -> np.ndarray:
    wide = len(target.names)
    if isinstance(found, str):
        raise ValueError("values for each step of time are numbers (.csv or .npy), not text")
    table = found[:, None] if found.ndim == 1 and wide == 1 else found
    if table.ndim != 2 or table.shape[1] != wide or not len(table):
        raise ValueError(f"it has the shape {found.shape}, not (steps, {wide})")
    return table.astype(np.float32)
