"""CREMA-D (Cao et al. 2014, ODbL and DbCL): 7,442 clips of 91 actors; folds by actor."""

import re
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout
from mmadfer.errors import DataError
from mmadfer.utils.files import is_clutter
from mmadfer.utils.folders import Folders, some

CODES = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
"""Emotion in the names -> label; names as in CREMA-D's read-me."""
_LABELS = tuple(CODES.values())
_TOTAL_CLIPS = 7_442
_LAYOUT = "VideoFlash/1001_DFA_ANG_XX.flv and AudioWAV/1001_DFA_ANG_XX.wav"
_FILE_NAME = re.compile(rf"(?P<actor>\d{{4}})_[A-Z]{{3}}_(?P<emotion>{'|'.join(CODES)})_[A-Z]{{1,2}}")
"""Actor, sentence, emotion and level; one clip's level has a single letter, `1040_ITH_SAD_X`."""
POINTER = b"version https://git-lfs"


def table(root: Path, folds: int = 5) -> ClipTable:
    """The clips of CREMA-D; ids are the files' names without ending, subjects the actors' numbers.

    Pictures are from `VideoFlash`, sound from `AudioWAV` (16 kHz); a clip with only one of the two is listed as well.

    Raises:
        DataError: a folder is missing, no film or no sound is there, the files are Git LFS pointers, or too few actors.
    """
    videos = layout.need_folder(root, "VideoFlash", _LAYOUT)
    sounds = videos.with_name("AudioWAV")
    if not sounds.is_dir():
        raise DataError(f"{videos.parent} has no folder 'AudioWAV' beside VideoFlash; expected {_LAYOUT}")
    folders = Folders()
    named, others = _named(folders, {videos: ".flv", sounds: ".wav"})
    media = {clip: videos / f"{clip}.flv" for clip in sorted(named)}
    gone = layout.missing([*media.values()], folders, _LAYOUT)
    heard, unheard = layout.sound_notes([sounds / f"{i}.wav" for i in media], folders)
    _check_content([path for path in media.values() if folders.has(path)])
    fold_of = fold.assign(
        {i: named[i]["emotion"] for i in media}, folds, subjects={i: named[i]["actor"] for i in media}
    )
    clips = [
        SourceClip(i, path, CODES[named[i]["emotion"]], fold_of[i], named[i]["actor"], sounds / f"{i}.wav")
        for i, path in media.items()
    ]
    notes = (*layout.size_notes(len(clips), _TOTAL_CLIPS, "CREMA-D"), *others, *heard, *gone)
    return ClipTable("crema_d", _LABELS, clips, notes, unheard)


def _named(folders: Folders, endings: dict[Path, str]) -> tuple[dict[str, re.Match[str]], tuple[str, ...]]:
    """The clips that have a file in either folder, and a note on other files."""
    named, others = dict[str, re.Match[str]](), list[str]()
    for folder, ending in endings.items():
        for name in sorted(folders.names(folder)):
            stem, match = name.removesuffix(ending), _FILE_NAME.fullmatch(name.removesuffix(ending))
            if match and stem != name:
                named[stem] = match
            elif not is_clutter(name):
                others.append(name)
    if not named:
        raise DataError(f"{' and '.join(map(str, endings))} have no clip of CREMA-D; expected {_LAYOUT}")
    return named, (f"{len(others)} other files were passed over: {some(others)}",) if others else ()


def _check_content(films: list[Path]) -> None:
    """Tell at once where nothing but pointers was fetched; single broken films are told by preparation."""
    if all(_is_pointer(film) for film in (films[0], films[len(films) // 2], films[-1])):
        raise DataError(f"{films[0].parent} holds Git LFS pointers, not films: run `git lfs pull` in the repository")


def _is_pointer(film: Path) -> bool:
    if not film.is_file():  # a named pipe would be waited for
        return False
    try:
        with film.open("rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False  # preparation names it
