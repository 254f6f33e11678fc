"""Any folder of `<label>/<clip>.mp4`: labels are the folders' names in alphabetical order."""

from collections import Counter
from os import DirEntry
from pathlib import Path

from mmadfer.data import folds as fold
from mmadfer.data.record import check_ids
from mmadfer.data.sets import Source, Table, layout
from mmadfer.data.sets.layout import FILMS
from mmadfer.errors import DataError
from mmadfer.files import is_clutter

LAYOUT = f"<label>/<clip>.mp4, with at least two labels; also {', '.join(FILMS[1:])}"


def table(root: Path, folds: int = 5) -> Table:
    """The clips of a folder; ids are `<label>/<clip>`, with the ending where that is not unique.

    Hidden files are passed over; other files, and clips in deeper folders, are counted in the table's notes.

    Raises:
        DataError: no such folder, no clips, a single label, or fewer clips than folds.
    """
    files = [file for label in _folders(root) for file in _entries(Path(label.path))]
    media = [Path(file.path) for file in files if _is_film(file)]
    labels = tuple(sorted({path.parent.name for path in media}))
    if len(labels) < 2:
        raise DataError(f"{root} has {_found(root, labels, len(files), len(media))}; expected {LAYOUT}")
    ids = dict(zip(layout.ids(root, media), media, strict=True))
    check_ids(ids)
    fold_of = fold.assign({clip: path.parent.name for clip, path in ids.items()}, folds)
    clips = [Source(clip, path, path.parent.name, fold_of[clip]) for clip, path in sorted(ids.items())]
    return Table(root.name or "folder", labels, clips, _notes(root, files, media, folds))


def _folders(root: Path) -> list[DirEntry[str]]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of {LAYOUT}")
    return [entry for entry in _entries(root) if layout.is_folder(entry)]


def _entries(folder: Path) -> list[DirEntry[str]]:
    return [entry for entry in layout.scan(folder) if not is_clutter(entry.name)]


def _is_film(file: DirEntry[str]) -> bool:
    return Path(file.name).suffix.lower() in FILMS


def _found(root: Path, labels: tuple[str, ...], files: int, media: int) -> str:
    if media:
        return f"a single label, {labels[0]!r}, with {media} clips"
    loose = sum(map(_is_film, _entries(root)))
    if loose:
        return f"{loose} clips outside of label folders"
    return f"no clips: {len(_folders(root))} folders, with {files} files that are not video" if files else "no clips"


def _notes(root: Path, files: list[DirEntry[str]], media: list[Path], folds: int) -> tuple[str, ...]:
    labels = sorted({path.parent.name for path in media})
    notes, folders = [*layout.label_notes(labels)], [file for file in files if layout.is_folder(file)]
    others = [Path(file.name) for file in files if not _is_film(file) and not layout.is_folder(file)]
    kinds = Counter(path.suffix.lower() or path.name for path in others)
    if kinds:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        notes.append(f"{kinds.total()} files under {root} are not video and were passed over: {told}")
    if folders:
        deeper = [Path(folder.path).relative_to(root).as_posix() for folder in folders]
        notes.append(f"{len(deeper)} folders below the labels were passed over: {layout.some(deeper)}")
    few = [label for label, count in Counter(path.parent.name for path in media).items() if count < folds]
    if few:
        notes.append(f"fewer clips than folds, so some folds have none of them: {', '.join(few)}")
    return tuple(notes)
