"""A CSV file of `path,label[,fold][,subject][,sound]`: any clips, wherever they lie."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmadfer.data import folds as fold
from mmadfer.data.sets import Source, Table, layout
from mmadfer.errors import DataError

COLUMNS = ("path", "label", "fold", "subject", "sound")
"""The first two are needed."""
LAYOUT = f"a header with path,label and, where they are known, {', '.join(COLUMNS[2:])}; paths relative to the file"


@dataclass(frozen=True)
class _Row:
    where: str
    media: Path
    label: str
    fold: int | None
    subject: str | None
    sound: Path | None


def table(root: Path, folds: int = 5) -> Table:
    """The clips of a CSV file, or of the only one in a folder; labels in alphabetical order.

    Paths are relative to the file, or absolute; a path may also be a folder with one image for each frame. Ids are the
    paths without ending where that is unique. Without a column `fold`, folds are assigned, by subject where that is
    given.

    Raises:
        DataError: the file cannot be understood (the line is named), no clip or none of the files in `sound` is
            there, or the folds are not 1 to `folds`.
    """
    file = _file(root)
    rows = list(_rows(file))
    labels = tuple(sorted({row.label for row in rows}))
    if len(labels) < 2:
        raise DataError(
            f"{file} has {len(rows)} clips of {len(labels)} labels; at least two labels are needed: {LAYOUT}"
        )
    ids = _ids(file, rows)
    fold_of, notes = _folds(file, ids, folds)
    clips = [Source(i, r.media, r.label, fold_of[i], r.subject, r.sound) for i, r in sorted(ids.items())]
    folders, sounds = layout.Folders(), [row.sound for row in rows if row.sound]
    gone = layout.missing([row.media for row in rows], folders, f"paths relative to {file.parent}, or absolute ones")
    heard, unheard = layout.sound_notes(sounds, folders)
    notes = (*notes, *layout.label_notes(labels), *_shared(sounds), *heard, *gone)
    return Table(file.stem, labels, clips, notes, (*unheard, *_mute(rows)))


def _mute(rows: list[_Row]) -> tuple[str, ...]:
    """By the names alone: a question per clip would be slow."""
    mute = [row.media for row in rows if row.sound is None and row.media.suffix.lower() not in layout.FILMS]
    told = f"{len(mute):,} of {len(rows):,} clips are no films by their names and have no `sound`: {layout.some(mute)}"
    return (told,) if len(mute) > layout.FEW * len(rows) else ()


def _shared(sounds: list[Path]) -> tuple[str, ...]:
    often = [sound for sound, count in Counter(sounds).items() if count > 1]
    return (f"{len(often)} files with sound are those of several clips: {layout.some(often)}",) if often else ()


def _file(root: Path) -> Path:
    if not root.is_dir():
        return root
    found = [Path(entry.path) for entry in layout.scan(root) if entry.name.lower().endswith(".csv")]
    if len(found) != 1:
        names = f": {layout.some([path.name for path in found])}" if found else ""
        raise DataError(f"{root} has {len(found)} CSV files{names}; give the file itself as --root")
    return found[0]


def _rows(file: Path) -> Iterator[_Row]:
    """The rows, checked one by one."""
    first = dict[Path, str]()
    for where, cells in _cells(file):
        row = _row(where, cells, file.parent)
        if row.media in first:
            raise DataError(f"{where}: {row.media} is already in {first[row.media]}; list every clip once")
        first[row.media] = f"line {where.rpartition(' ')[2]}"
        yield row


def _cells(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where it is, and column -> text of each row that is not blank."""
    try:
        layout.no_pipe(file)
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, restkey="", restval="", strict=True)
            try:
                reader.fieldnames = _header(f"{file}, line 1", reader.fieldnames or [])
                yield from ((f"{file}, line {reader.reader.line_num}", row) for row in reader if any(row.values()))
            except csv.Error as error:
                where = f"{file}, line {reader.reader.line_num}"
                raise DataError(f"{where}: {error}; quote a field with commas as a whole") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); --root must be a CSV file in UTF-8 with {LAYOUT}") from error


def _header(where: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    wrong = [name for name in header if name not in COLUMNS]
    if wrong or len({*header}) < len(header) or not {*COLUMNS[:2]} <= {*header}:
        raise DataError(f"{where} is {','.join(cells)[:120]!r}; expected {LAYOUT}, each once, separated by commas")
    return header


def _row(where: str, row: dict[str, str], folder: Path) -> _Row:
    if "" in row:
        raise DataError(f"{where} has more fields than the header; quote a field with commas as a whole")
    cells = {name: text.strip() for name, text in row.items()}
    path, label, number = cells["path"], cells["label"], cells.get("fold")
    if not path or not label:
        raise DataError(f"{where} has no {'label' if path else 'path'}; every clip needs both")
    if not "".join(cells.values()).isprintable():
        raise DataError(f"{where} has control characters, such as a line break in a path; remove them")
    if number is not None and not re.fullmatch("[1-9][0-9]{0,5}", number):
        raise DataError(f"{where} has fold {number!r}; it must be a number from 1, in every line")
    sound = _path(folder, cells["sound"]) if cells.get("sound") else None
    return _Row(where, _path(folder, path), label, int(number) if number else None, cells.get("subject") or None, sound)


def _path(folder: Path, text: str) -> Path:
    """The path without '..', with which one clip could have two names; links stay as they are written.

    After a link, '..' is the folder above what it leads to.
    """
    path = Path()
    for part in (folder / text).parts:
        path = (Path(os.path.realpath(path)) if os.path.islink(path) else path).parent if part == ".." else path / part
    return path


def _ids(file: Path, rows: list[_Row]) -> dict[str, _Row]:
    named = dict(zip(layout.ids(_base(file, rows), [row.media for row in rows]), rows, strict=True))
    return {layout.checked(clip, row.where): row for clip, row in named.items()}


def _base(file: Path, rows: list[_Row]) -> Path:
    """The folder that ids are relative to: the file's own where all clips lie in it, else the deepest of them all."""
    if all(row.media.is_relative_to(file.parent) for row in rows):
        return file.parent
    return Path(os.path.commonpath([row.media.parent for row in rows]))


def _folds(file: Path, ids: dict[str, _Row], folds: int) -> tuple[dict[str, int], tuple[str, ...]]:
    given = {clip: row.fold for clip, row in ids.items() if row.fold is not None}
    if given:
        _check_folds(file, {*given.values()}, folds)
        return given, _subject_notes(ids)
    subjects = {clip: row.subject for clip, row in ids.items() if row.subject}
    if 0 < len(subjects) < len(ids):
        without = next(row for row in ids.values() if not row.subject)
        raise DataError(f"{without.where} has no subject; give all clips one or none, or give folds")
    labels = {clip: row.label for clip, row in ids.items()}
    return fold.assign(labels, folds, subjects=subjects or None), ("folds were assigned",)


def _check_folds(file: Path, there: set[int], folds: int) -> None:
    empty = next((k for k in range(1, max(there)) if k not in there), None)
    if empty:
        raise DataError(f"{file} has clips in fold {max(there)} and none in fold {empty}; number folds without gaps")
    fold.need(folds, max(there), str(file))


def _subject_notes(ids: dict[str, _Row]) -> tuple[str, ...]:
    places = {(row.subject, row.fold) for row in ids.values() if row.subject}
    twice = sorted(name for name, count in Counter(subject for subject, _ in places).items() if name and count > 1)
    return (f"{len(twice)} subjects are in several folds: {layout.some(twice)}",) if twice else ()
