"""BioVid Heat Pain, part A (Walter et al. 2013, on request): 8,700 clips of 87 people, five levels; folds by person."""

import re
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout
from mmadfer.errors import DataError
from mmadfer.utils.files import is_clutter
from mmadfer.utils.folders import entries, some

LABELS = ("BL1", "PA1", "PA2", "PA3", "PA4")
"""No pain, and four levels of heat, as in the names."""
_TOTAL_CLIPS = 8_700
_LAYOUT = "folders of people with names such as video/071309_w_21/071309_w_21-PA4-038.mp4"
_PERSON = r"\d{6}_[mw]_\d{2}"
_FILE_NAME = re.compile(rf"(?P<person>{_PERSON})-(?P<level>{'|'.join(LABELS)})-\d{{3}}\.(mp4|avi)")


def table(root: Path, folds: int = 5) -> ClipTable:
    """The clips of part A; ids are the files' names without ending, subjects the people's names in them.

    The people's folders may lie up to two levels deeper, as in `PartA/video`. Folders of biosignals hold no films and
    are passed over.

    Raises:
        DataError: no such clip, a clip in another person's folder or in two places, or fewer people than folds.
    """
    people = [folder for folder in layout.below(root, 3) if re.fullmatch(_PERSON, folder.name)]
    found = {folder: [Path(entry.path) for entry in entries(folder)] for folder in people}
    names = {file: match for files in found.values() for file in files if (match := _FILE_NAME.fullmatch(file.name))}
    if not names:
        raise DataError(f"{root} has no clip of BioVid in {len(people)} folders of people; expected {_LAYOUT}")
    _check_places(names)
    layout.check_once(names)
    label = {file.stem: match["level"] for file, match in names.items()}
    person = {file.stem: match["person"] for file, match in names.items()}
    fold_of = fold.assign(label, folds, subjects=person)
    clips = [
        SourceClip(file.stem, file, label[file.stem], fold_of[file.stem], person[file.stem])
        for file in sorted(names, key=lambda file: file.stem)
    ]
    films = {file.parent for file in names}
    others = [file for folder in films for file in found[folder] if file not in names and not is_clutter(file.name)]
    told = (f"{len(others)} other files were passed over: {some(sorted(others))}",) if others else ()
    return ClipTable("biovid", LABELS, clips, (*layout.size_notes(len(clips), _TOTAL_CLIPS, "BioVid, part A,"), *told))


def _check_places(files: "dict[Path, re.Match[str]]") -> None:
    for file, match in files.items():
        if file.parent.name != match["person"]:
            raise DataError(f"{file} is of {match['person']}, but lies in the folder of {file.parent.name}")
