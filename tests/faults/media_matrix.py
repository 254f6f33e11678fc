"""Print what mmadfer reads unlike ffmpeg of the matrix of media: media_matrix.py FOLDER [part of a name ...].

The files stay in the folder; with MMADFER_MATRIX=all it is the larger matrix.
"""

import os
import sys
from pathlib import Path

import av
import media_check as check
import media_sources as sources
import media_table as table
from media_kinds import Kind


def main(folder: Path, parts: list[str]) -> int:
    """Make the files, and print a line for each that differs; returns how many do."""
    (folder / "sources").mkdir(parents=True, exist_ok=True)
    sources.make(folder / "sources")
    wrong = 0
    for kind in table.kinds(os.environ.get("MMADFER_MATRIX") == "all"):
        if not parts or any(part in kind.name for part in parts):
            found = _differences(kind, folder)
            wrong += bool(found)
            if found:
                print(kind.name, kind.make if isinstance(kind.make, str) else "", *found, sep="\n    ", flush=True)
    return wrong


def _differences(kind: Kind, folder: Path) -> list[str]:
    try:
        return check.differences(kind, kind.write(folder / "sources", folder))
    except (RuntimeError, av.error.FFmpegError, ValueError) as error:
        if not kind.may_lack:
            raise
        print(kind.name, "cannot be made:", str(error)[-200:])
        return []


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]), sys.argv[2:])))
