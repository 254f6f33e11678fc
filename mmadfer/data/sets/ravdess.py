"""RAVDESS (Livingstone and Russo 2018, CC BY-NC-SA 4.0): 1,440 clips of speech by 24 actors; folds by actor."""

import re
from collections import Counter
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout
from mmadfer.errors import DataError
from mmadfer.utils.folders import entries

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the numbers 01 to 08 in the names, as RAVDESS's own page gives them."""
_TOTAL_CLIPS = 1_440
_LAYOUT = "Actor_01 to Actor_24, with names of seven parts: Actor_01/01-01-03-01-01-01-01.mp4"
_FILE_NAME = re.compile(r"(?P<form>\d\d)-(?P<voice>\d\d)-(?P<emotion>0[1-8])-\d\d-\d\d-\d\d-(?P<actor>\d\d)\.mp4")


def table(root: Path, folds: int = 5) -> ClipTable:
    """The clips of RAVDESS with picture and sound (part 1 is 01) that are spoken (part 2 is 01), by name.

    The actors' folders may lie up to two levels deeper, as the archives unpack. All other files are passed over and
    counted in the notes. Ids are the files' names without ending, subjects the actors' numbers.

    Raises:
        DataError: no such clip, one clip in two folders, or fewer actors than folds.
    """
    actors = [folder for folder in layout.below(root, 3) if re.fullmatch(r"Actor_\d\d", folder.name)]
    files = [Path(entry.path) for folder in actors for entry in entries(folder)]
    names = {file: match for file in files if (match := _FILE_NAME.fullmatch(file.name)) and _what(match) == SPEECH}
    if not names:
        raise DataError(f"{root} has no clip of RAVDESS in {len(actors)} folders of actors; expected {_LAYOUT}")
    layout.check_once(names)
    label = {file.stem: LABELS[int(match["emotion"]) - 1] for file, match in names.items()}
    actor = {file.stem: match["actor"] for file, match in names.items()}
    fold_of = fold.assign(label, folds, subjects=actor)
    clips = [SourceClip(f.stem, f, label[f.stem], fold_of[f.stem], actor[f.stem]) for f in sorted(names, key=_stem)]
    return ClipTable(
        "ravdess", LABELS, clips, (*layout.size_notes(len(clips), _TOTAL_CLIPS, "RAVDESS (speech)"), *_others(files))
    )


def _stem(file: Path) -> str:
    return file.stem


SPEECH = "speech"


def _what(match: re.Match[str] | None) -> str:
    if match is None:
        return "of other names"
    if match["form"] != "01":
        return {"02": "pictures without sound", "03": "sound without pictures"}.get(match["form"], "of other forms")
    return {"01": SPEECH, "02": "songs"}.get(match["voice"], "of other forms")


def _others(files: list[Path]) -> tuple[str, ...]:
    kinds = Counter(_what(_FILE_NAME.fullmatch(file.name)) for file in files)
    del kinds[SPEECH]
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return (f"{kinds.total()} files were passed over: {told}",) if told else ()
