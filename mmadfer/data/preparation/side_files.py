"""What preparation writes beside a store, which is whole without it: the dates of its files, and the report."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mmadfer.data.preparation.summary import Summary, report_of, write_report
from mmadfer.errors import DataError, FileError
from mmadfer.utils.files import read_object, write_json

_MAX_BYTES = 1 << 30
"""Bytes of `OUT.files.json`, which has a line for each clip."""


def files_of(out: Path) -> Path:
    """Where the stamps of a store's files are; can be deleted."""
    return out.with_name(out.name + ".files.json")


def read_stamps(out: Path) -> dict[str, str]:
    """Clip id -> stamp of its files when they were last known to be the same; without one they are read again."""
    try:
        return read_object(files_of(out), _MAX_BYTES)
    except (OSError, FileError):
        return {}


def write_stamps(out: Path, stamps: Mapping[str, str]) -> None:
    """Write `OUT.files.json`, where the disk takes it: it only saves time."""
    with suppress(OSError):
        write_json(files_of(out), stamps)


def write_beside(summary: Summary, stamps: Mapping[str, str]) -> None:
    """Write the report and `OUT.files.json` of a store that has just been written.

    Raises:
        DataError: the report cannot be written; says that the store is whole.
    """
    if summary.kept:
        write_stamps(summary.out, stamps)
    with _told(summary):
        write_report(summary)


@contextmanager
def _told(summary: Summary) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        whole = f"the store {summary.out} is whole" if summary.kept else "no clip can be used, so there is no store"
        raise DataError(
            f"{report_of(summary.out)} could not be written: {os.strerror(error.errno or 0)}; {whole}. Mend that, and "
            "run the same command again, which writes the report"
        ) from error
