"""Any folder of `<label>/<clip>.mp4`: labels are the folders' names in alphabetical order.

Or of `<clip>.mp4` with a trace `<clip>.csv` beside each, whose columns are the values (`trace_files`).
"""

from collections import Counter
from os import DirEntry
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout, trace_files
from mmadfer.data.store.record import check_ids
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError
from mmadfer.utils.folders import Known, entries, is_folder, kinds, leads_nowhere, some
from mmadfer.utils.names import VIDEO_SUFFIXES, alike, is_empty, is_film, one_form

TARGET = "values"
"""The target that traces are, which is what regression learns by default."""
_LAYOUT = (
    f"<label>/<clip>.mp4, with at least two labels (also {', '.join(VIDEO_SUFFIXES[1:])}); or <clip>.mp4 and "
    "<clip>.csv, a trace of values"
)


def table(root: Path, folds: int = 5) -> ClipTable:
    """The clips of a folder; ids are `<label>/<clip>`, with the ending where that is not unique.

    A folder with films that have a trace of their name beside them is one of traces, without labels; ids are the names.
    It cannot have label folders as well.

    Links are followed, but each real folder is one label. Hidden files are passed over; what else is no clip, and clips
    in deeper folders, are told in the table's notes.

    Raises:
        DataError: no such folder, no clips, a single label, both labels and traces, two clips of one name, or fewer
            clips than folds.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of {_LAYOUT}")
    known = Known(root)
    files = [file for label in known.inside(entries(root)) for file in entries(label)]
    media = [Path(file.path) for file in files if is_film(file.name)]
    labels = tuple(sorted({*map(_label, media)}))
    if traces := _traces(root):
        _check_one_kind(root, traces, labels)
        return _traced(root, traces, media, folds)
    if len(labels) < 2:
        raise DataError(f"{root} has {_found(root, labels, len(files), len(media))}; expected {_LAYOUT}")
    ids = dict(zip(layout.ids(root, media), media, strict=True))
    check_ids(ids)
    fold_of = fold.assign({clip: _label(path) for clip, path in ids.items()}, folds)
    clips = [SourceClip(clip, path, _label(path), fold_of[clip]) for clip, path in sorted(ids.items())]
    notes = (*_passed(root, known), *_notes(root, files, media, folds))
    return ClipTable(root.name or "folder", labels, clips, notes, _warnings(labels))


def _traces(root: Path) -> dict[Path, Path]:
    """Film -> trace, of those that lie side by side in the folder itself."""
    found = {entry.name: Path(entry.path) for entry in entries(root) if not is_folder(entry)}
    films = [path for name, path in found.items() if is_film(name)]
    return {film: found[f"{film.stem}.csv"] for film in sorted(films) if f"{film.stem}.csv" in found}


def _check_one_kind(root: Path, traces: dict[Path, Path], labels: tuple[str, ...]) -> None:
    """Refuse a folder that may be meant as labelled clips as well as traces: one would be dropped for the other."""
    if len(labels) > 1:
        raise DataError(
            f"{root} has films in label folders ({some(list(labels))}), and films with a .csv of their name beside "
            f"them, as traces have ({some([path.name for path in traces.values()])}): it is either. Move one of the "
            "two to a folder of its own"
        )


def _traced(root: Path, traces: dict[Path, Path], deeper: list[Path], folds: int) -> ClipTable:
    ids = dict(zip(layout.ids(root, [*traces]), traces, strict=True))
    check_ids(ids)
    first = next(iter(traces.values()))
    targets = {TARGET: Target("steps", trace_files.value_names(first))}
    fold_of = fold.assign(dict.fromkeys(ids, ""), folds)
    clips = [SourceClip(clip, film, "", fold_of[clip], tensors={TARGET: traces[film]}) for clip, film in ids.items()]
    ranges = trace_files.value_ranges(trace_files.of_clips(clips, targets), targets)
    trace_files.check_some(ranges)
    bare = [entry.name for entry in entries(root) if is_film(entry.name) and Path(entry.path) not in traces]
    notes = (
        [f"{len(bare)} films have no trace (.csv) of their name, and were passed over: {some(bare)}"] if bare else []
    )
    if deeper:
        notes.append(f"{len(deeper)} films in the folder {deeper[0].parent.name} have no traces, and were passed over")
    return ClipTable(root.name or "folder", (), clips, tuple(notes), (), targets, ranges)


def _label(film: Path) -> str:
    return one_form(film.parent.name)


def _found(root: Path, labels: tuple[str, ...], files: int, media: int) -> str:
    if media:
        return f"a single label, {labels[0]!r}, with {media} clips"
    top = entries(root)
    if loose := sum(is_film(entry.name) for entry in top):
        return f"{loose} clips outside of label folders"
    folders = sum(map(is_folder, top))
    return f"no clips: {folders} folders, with {files} files that are not video" if files else "no clips"


def _notes(root: Path, files: list[DirEntry[str]], media: list[Path], folds: int) -> tuple[str, ...]:
    labels = sorted({*map(_label, media)})
    notes, rest = [*alike(labels, "labels")], [file for file in files if not is_film(file.name)]
    folders, others = [one for one in rest if is_folder(one)], [one.name for one in rest if not is_folder(one)]
    if others:
        notes.append(f"{len(others)} files under {root} are not video and were passed over: {kinds(others)}")
    if folders:
        deeper = [Path(folder.path).relative_to(root).as_posix() for folder in folders]
        notes.append(f"{len(deeper)} folders below the labels were passed over: {some(deeper)}")
    few = [label for label, count in Counter(map(_label, media)).items() if count < folds]
    if few:
        notes.append(f"fewer clips than folds, so some folds have none of them: {', '.join(few)}")
    return tuple(notes)


def _passed(root: Path, known: Known) -> tuple[str, ...]:
    """What lies beside the labels."""
    top = [entry for entry in entries(root) if not is_folder(entry)]
    broken = [f"{entry.path} (a link that leads nowhere)" for entry in top if leads_nowhere(entry)]
    loose = [entry.name for entry in top if is_film(entry.name) and not leads_nowhere(entry)]
    told = [*known.passed, *broken]
    return (
        *([f"passed over: {some(told, 10)}"] if told else []),
        *([f"{len(loose)} clips outside of label folders were passed over: {some(loose)}"] if loose else []),
    )


def _warnings(labels: tuple[str, ...]) -> tuple[str, ...]:
    empty = [label for label in labels if is_empty(label)]
    told = f"a folder's name says that there is no label, and is learnt as one: {', '.join(empty)}; move its clips away"
    return (told,) if empty else ()
