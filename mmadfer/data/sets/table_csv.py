"""A CSV file of `path,label[,fold][,subject][,sound]` and named columns: any clips, wherever they lie."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, csv_columns, layout, listing, trace_files
from mmadfer.data.sets.csv_columns import Named
from mmadfer.errors import DataError
from mmadfer.utils.folders import Folders, entries, some
from mmadfer.utils.names import alike, is_empty, is_film, one_form

COLUMNS = ("path", "label", "fold", "subject", "sound")
"""The first two are needed, `label` only where there is no other target (`csv_columns`)."""
SEPARATORS = ",;\t"
"""A comma, or what spreadsheets write in its place; the header has it."""
_LAYOUT = f"a header with path,label and, where they are known, {', '.join(COLUMNS[2:])}; paths relative to the file"
"""Named columns are told in the documentation."""


@dataclass(frozen=True)
class _Row:
    where: str
    media: Path
    label: str
    fold: int | None
    subject: str | None
    sound: Path | None
    named: Named = field(default_factory=Named)


def table(root: Path, folds: int = 5) -> ClipTable:
    """The clips of a CSV file, or of the only one in a folder; labels in alphabetical order.

    Paths are relative to the file, or absolute; a path may also be a folder with one image for each frame. Ids are the
    paths without ending where that is unique. Without a column `fold`, folds are assigned, by subject where that is
    given.

    Raises:
        DataError: the file cannot be understood (the line is named), no clip or none of the files in `sound` is
            there, or the folds are not 1 to `folds`.
    """
    file = _file(root)
    folders = Folders()
    header, found = _read(file)
    rows = list(_rows(file, found, folders))
    labels = tuple(sorted({row.label for row in rows if "label" in header}))
    if len(labels) < 2 and "label" in header:
        raise DataError(
            f"{file} has {len(rows)} clips of {len(labels)} labels; at least two labels are needed: {_LAYOUT}"
        )
    ids = _ids(file, rows)
    fold_of, notes = _folds(file, ids, folds)
    clips = [_source(clip, row, fold_of[clip]) for clip, row in sorted(ids.items())]
    sounds = [row.sound for row in rows if row.sound]
    gone = layout.missing([row.media for row in rows], folders, f"paths relative to {file.parent}, or absolute ones")
    heard, unheard = layout.sound_notes(sounds, folders)
    notes = (*notes, *alike(labels, "labels"), *_shared(sounds), *heard, *gone)
    targets = csv_columns.targets(header, [row.named for row in rows])
    ranges = trace_files.value_ranges(trace_files.of_clips(clips, targets), targets)
    trace_files.check_some(ranges)
    return ClipTable(file.stem, labels, clips, notes, (*unheard, *_mute(rows)), targets, ranges)


def _source(clip: str, row: _Row, number: int) -> SourceClip:
    more = row.named
    listed = (clip, row.media, row.label, number, row.subject, row.sound)
    return SourceClip(*listed, targets=more.targets, splits=more.splits, groups=more.groups, tensors=more.tensors)


def _mute(rows: list[_Row]) -> tuple[str, ...]:
    """By the names alone: a question per clip would be slow."""
    mute = [row.media for row in rows if row.sound is None and not is_film(row.media.name)]
    told = f"{len(mute):,} of {len(rows):,} clips are no films by their names and have no `sound`: {some(mute)}"
    return (told,) if len(mute) > layout.FEW * len(rows) else ()


def _shared(sounds: list[Path]) -> tuple[str, ...]:
    often = [sound for sound, count in Counter(sounds).items() if count > 1]
    return (f"{len(often)} files with sound are those of several clips: {some(often)}",) if often else ()


def _file(root: Path) -> Path:
    if not root.is_dir():
        return root
    found = [Path(entry.path) for entry in entries(root) if entry.name.lower().endswith(".csv")]
    if len(found) != 1:
        names = f": {some([path.name for path in found])}" if found else ""
        raise DataError(f"{root} has {len(found)} CSV files{names}; give the file itself as --root")
    return found[0]


def _rows(file: Path, found: Iterable[tuple[str, dict[str, str]]], folders: Folders) -> Iterator[_Row]:
    """The rows, checked one by one."""
    first = dict[Path, str]()
    for where, cells in found:
        row = _row(where, cells, file.parent, folders)
        if row.media in first:
            raise DataError(f"{where}: {row.media} is already in {first[row.media]}; list every clip once")
        first[row.media] = f"line {where.rpartition(' ')[2]}"
        yield row


def _read(file: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The header, and of each row that is not blank where it is, and column -> text."""
    text = _text(file)
    begin = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(SEPARATORS, key=begin.count))
    try:
        header = _header(f"{file}, line 1", next(reader, []))
        rows = [(f"{file}, line {reader.line_num}", cells) for cells in reader if any(cells)]
    except csv.Error as error:
        where = f"{file}, line {reader.line_num}"
        raise DataError(f"{where}: {error}; quote a field with commas as a whole, and close the quotes") from error
    return header, [(where, _named(where, header, cells)) for where, cells in rows]


def _text(file: Path) -> str:
    try:
        return listing.list_text(file)
    except DataError as error:
        raise DataError(f"{error}; --root must be a CSV file with {_LAYOUT}") from error


def _header(where: str, cells: Sequence[str]) -> list[str]:
    header = _used([cell.strip().lower() for cell in cells])
    wrong = [name for name in header if name not in COLUMNS and not csv_columns.is_named(name)]
    labelled = "label" in header or any(name.startswith(("label", "value:", "steps:")) for name in header)
    if wrong or len({*header}) < len(header) or "path" not in header or not labelled:
        raise DataError(f"{where} is {','.join(cells)[:120]!r}; expected {_LAYOUT}, each once, separated by commas")
    csv_columns.check_once(where, header)
    csv_columns.check_steps(where, header)
    return header


def _used(cells: Sequence[str]) -> list[str]:
    """Without empty cells at the end, which spreadsheets write."""
    return list(cells[: max((k for k, cell in enumerate(cells, 1) if cell), default=0)])


def _named(where: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Column -> text."""
    if len(_used(cells)) > len(header):
        raise DataError(f"{where} has more fields than the header; quote a field with commas as a whole")
    return dict.fromkeys(header, "") | dict(zip(header, (cell.strip() for cell in cells), strict=False))


def _row(where: str, cells: dict[str, str], folder: Path, folders: Folders) -> _Row:
    given = {name: one_form(text) for name, text in cells.items() if not is_empty(text)}
    for name in COLUMNS[:2]:
        if name in cells and name not in given:
            said = f" ({cells[name]!r} says that there is none)" if cells[name] else ""
            raise DataError(f"{where} has no {name}{said}; every clip needs both path and label")
    if not "".join(cells.values()).isprintable():
        raise DataError(f"{where} has control characters, or blanks that are no plain ones; remove them")
    number = re.fullmatch(r"([1-9][0-9]{0,5})(\.0)?", cells.get("fold", "1"))  # pandas may write 1.0
    if not number:
        raise DataError(f"{where} has fold {cells['fold']!r}; it must be a number from 1, in every line")
    media = _path(where, cells["path"], folder, folders)
    sound = _path(where, cells["sound"], folder, folders) if "sound" in given else None
    named = csv_columns.named(where, given, lambda text: _path(where, text, folder, folders))
    number_of = int(number[1]) if "fold" in cells else None
    return _Row(where, media, given.get("label", ""), number_of, given.get("subject"), sound, named)


def _path(where: str, text: str, folder: Path, folders: Folders) -> Path:
    """The path without '..', with which one clip could have two names; links stay as they are written.

    After a link, '..' is the folder above what it leads to.
    """
    path = Path()
    for part in (folder / listing.path_of(where, text, folder, folders)).parts:
        path = (Path(os.path.realpath(path)) if os.path.islink(path) else path).parent if part == ".." else path / part
    return folders.named(path)


def _ids(file: Path, rows: list[_Row]) -> dict[str, _Row]:
    named = dict(zip(layout.ids(_base(file, rows), [row.media for row in rows]), rows, strict=True))
    return {listing.checked_id(clip, row.where): row for clip, row in named.items()}


def _base(file: Path, rows: list[_Row]) -> Path:
    """The folder that ids are relative to: the file's own where all clips lie in it, else the deepest of them all."""
    if all(row.media.is_relative_to(file.parent) for row in rows):
        return file.parent
    return Path(os.path.commonpath([row.media.parent for row in rows]))


def _folds(file: Path, ids: dict[str, _Row], folds: int) -> tuple[dict[str, int], tuple[str, ...]]:
    given = {clip: row.fold for clip, row in ids.items() if row.fold is not None}
    if given:
        _check_folds(file, {*given.values()}, folds)
        return given, (*_people(ids), *_torn(ids))
    subjects = {clip: row.subject for clip, row in ids.items() if row.subject}
    if 0 < len(subjects) < len(ids):
        without = next(row for row in ids.values() if not row.subject)
        raise DataError(f"{without.where} has no subject; give all clips one or none, or give folds")
    labels = {clip: row.label for clip, row in ids.items()}
    return fold.assign(labels, folds, subjects=subjects or None), ("folds were assigned", *_people(ids))


def _check_folds(file: Path, there: set[int], folds: int) -> None:
    empty = next((k for k in range(1, max(there)) if k not in there), None)
    if empty:
        raise DataError(f"{file} has clips in fold {max(there)} and none in fold {empty}; number folds without gaps")
    fold.check_fold_count(folds, max(there), str(file))


def _people(ids: dict[str, _Row]) -> tuple[str, ...]:
    return alike(sorted({row.subject for row in ids.values() if row.subject}), "subjects")


def _torn(ids: dict[str, _Row]) -> tuple[str, ...]:
    places = {(row.subject, row.fold) for row in ids.values() if row.subject}
    twice = sorted(name for name, count in Counter(subject for subject, _ in places).items() if name and count > 1)
    return (f"{len(twice)} subjects are in several folds: {some(twice)}",) if twice else ()
