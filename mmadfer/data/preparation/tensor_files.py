"""Named tensors from files that a data set brings: .npy (numbers of any shape), .csv (a table of them), .txt (text).

Files of values for each step of time: `mmadfer.data.sets.trace_files`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mmadfer.data.sets.trace_files import LARGEST, read_trace
from mmadfer.data.store.record import DTYPES
from mmadfer.data.store.targets import Target
from mmadfer.errors import ClipError
from mmadfer.utils.numpy_files import read_array

ENDINGS = (".npy", ".csv", ".txt")


def read_tensors(
    files: Mapping[str, Path], targets: Mapping[str, Target], times: np.ndarray, slack: int = 0
) -> dict[str, np.ndarray | str]:
    """Name -> what its file holds; a target of kind `steps` is float32 (frames, names), a row for each frame.

    Args:
        files: of a clip, by name.
        targets: of the data set.
        times: float64 (frames,): when each frame of the clip is shown, in seconds.
        slack: rows by which a trace with one for each frame may be longer or shorter than the clip.

    Raises:
        ClipError: `unreadable`: a file is not there, too large, of another ending, or does not hold numbers or text;
            `trace`: values of steps that cannot be understood, or are of another length than the clip.
    """
    return {name: _read(name, path, targets.get(name), times, slack) for name, path in files.items()}


def few_steps(tensors: Mapping[str, np.ndarray | str], targets: Mapping[str, Target]) -> Iterator[str]:
    """Tell targets of kind `steps` that less than half of the frames of a clip have a value of."""
    for name, steps in tensors.items():
        if name in targets and isinstance(steps, np.ndarray):
            there = int((~np.isnan(steps)).any(axis=1).sum())
            if 2 * there < len(steps):
                yield f"{there} of {len(steps)} frames have values of {name} ({there / len(steps):.0%})"


def _read(name: str, path: Path, target: Target | None, times: np.ndarray, slack: int) -> np.ndarray | str:
    try:
        if target is not None:
            return _steps(path, target, times, slack)
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MB")
        return _content(path)
    except (OSError, ValueError) as error:
        reason = "trace" if target is not None and not isinstance(error, OSError) else "unreadable"
        raise ClipError(f"{name}: {path} cannot be read: {str(error)[:300]}", reason) from error


def _steps(path: Path, target: Target, times: np.ndarray, slack: int) -> np.ndarray:
    if np.any(np.diff(times) < 0):
        raise ValueError("frames are not in the order of time: prepare with prepare.mafw_frame_order=time")
    return read_trace(path, target.names).at_frames(times, slack)


def _content(path: Path) -> np.ndarray | str:
    ending = path.suffix.lower()
    if ending == ".txt":
        return path.read_text("utf-8")
    if ending == ".csv":
        return np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
    if ending != ".npy":
        raise ValueError(f"its name must end in {', '.join(ENDINGS)}")
    found = read_array(path)
    if found.dtype.name not in DTYPES:
        raise ValueError(f"it holds no {', '.join(DTYPES[:-1])}")
    return found
