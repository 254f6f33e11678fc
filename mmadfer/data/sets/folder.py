"""Any folder of `<label>/<clip>.mp4`: labels are the folders' names in alphabetical order."""

import os
from collections import Counter
from pathlib import Path

from mmadfer.data import folds as fold
from mmadfer.data.sets import Source, Table, layout
from mmadfer.data.sets.layout import FILMS
from mmadfer.data.store import check_id
from mmadfer.errors import DataError

LAYOUT = f"<label>/<clip>.mp4, with at least two labels; also {', '.join(FILMS[1:])}"


def table(root: Path, folds: int = 5) -> Table:
    """The clips of a folder; ids are `<label>/<clip>`, with the ending where two files differ only in it.

    Hidden files are passed over; other files, and clips in deeper folders, are counted in the table's notes.

    Raises:
        DataError: no such folder, no clips, a single label, or fewer clips than folds.
    """
    root = Path(root).absolute()
    files = [path for label in _folders(root) for path in _files(label)]
    media = [path for path in files if path.suffix.lower() in FILMS]
    labels = tuple(sorted({path.parent.name for path in media}))
    if len(labels) < 2:
        raise DataError(f"{root} has {_found(root, labels, len(files), len(media))}; expected {LAYOUT}")
    ids = {check_id(clip): path for clip, path in zip(layout.ids(root, media), media, strict=True)}
    fold_of = fold.assign({clip: path.parent.name for clip, path in ids.items()}, folds)
    clips = [Source(clip, path, path.parent.name, fold_of[clip]) for clip, path in sorted(ids.items())]
    return Table(root.name or "folder", labels, clips, _notes(root, files, media, folds))


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of {LAYOUT}")
    return [path for path in _files(root) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {os.strerror(error.errno or 0)}") from error


def _found(root: Path, labels: tuple[str, ...], files: int, media: int) -> str:
    if media:
        return f"a single label, {labels[0]!r}, with {media} clips"
    loose = sum(path.suffix.lower() in FILMS for path in _files(root))
    if loose:
        return f"{loose} clips outside of label folders"
    return f"no clips: {len(_folders(root))} folders, with {files} files that are not video" if files else "no clips"


def _notes(root: Path, files: list[Path], media: list[Path], folds: int) -> tuple[str, ...]:
    notes = []
    others = Counter(path.suffix.lower() or path.name for path in {*files} - {*media} if path.is_file())
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        notes.append(f"{others.total()} files under {root} are not video and were passed over: {kinds}")
    deeper = [path.relative_to(root).as_posix() for path in files if path.is_dir()]
    if deeper:
        notes.append(f"{len(deeper)} folders below the labels were passed over: {', '.join(deeper[:3])}")
    few = [label for label, count in Counter(path.parent.name for path in media).items() if count < folds]
    if few:
        notes.append(f"fewer clips than folds, so some folds have none of them: {', '.join(few)}")
    return tuple(notes)
