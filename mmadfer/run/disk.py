"""The disk: writing says what went wrong and where, reading executes nothing."""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mmadfer.errors import TrainingError, WeightsError
from mmadfer.utils import compat
from mmadfer.utils.files import sync


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a quota or a missing right into a word that names the path.

    Raises:
        TrainingError: in place of OSError.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise TrainingError(
            f"cannot write {path}: {reason}. What was saved before is whole: make room (or raise the quota or the file "
            "size limit) and run the same command with --resume"
        ) from error


def write_pickle(path: Path, value: Any) -> OSError | None:
    """Write one of DeepSpeed's files and sync it; returns what went wrong."""
    buffer = io.BytesIO()  # torch.save to a file does not always survive a full disk
    torch.save(value, buffer)
    try:
        path.write_bytes(buffer.getbuffer())
        sync(path)
    except OSError as error:
        return error
    return None


def read_pickle(path: Path) -> Any:
    """Read one of DeepSpeed's files without executing anything in it.

    Raises:
        WeightsError: it holds more than tensors, plain values and three plain classes of DeepSpeed's, or is damaged.
    """
    try:
        _refuse_packed(path)
        with torch.serialization.safe_globals(compat.checkpoint_classes()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error}): use another checkpoint") from error
    except Exception as error:  # what is no pickle of ours can end in any of them
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"{found[1]}, which could run code" if found else "more than tensors and plain values, or is damaged"
        raise WeightsError(
            f"{path} was refused: it holds {what}. Nothing in it was run; use a checkpoint of your own"
        ) from error


def _refuse_packed(path: Path) -> None:
    """torch writes its archives as they are; of one that is packed, a few kilobytes could become gigabytes.

    Raises:
        ValueError: an entry is packed.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is packed")
