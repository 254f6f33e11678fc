"""DFEW (Jiang et al. 2020): 11,697 clips with a single label, in five official folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmadfer.data import folds as fold
from mmadfer.data.sets import Source, Table, layout

LABELS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""In the order of the numbers 1 to 7 in DFEW's own lists, as its read-me says; the published program's 0 to 6."""
FOLDS = 5
CLIPS = 11_697
SPLITS = "EmoLabel_DataSplit"
LAYOUT = (
    f"{SPLITS}/{{train,test}}(single-labeled)/set_1.csv to set_5.csv, and Clip/clip_224x224/00001/*.jpg "
    "(or Clip/clip_224x224_16f, or Clip/original/part_*/1.mp4)"
)


def table(root: Path, folds: int = FOLDS) -> Table:
    """The clips of DFEW as its owners distribute it; ids are five digits, `00001`.

    Frames of cropped faces are used where `clip_224x224` (or only `clip_224x224_16f`) is there, else the films. The
    sound of frames is the first there is of `raw_wav/1.wav`, `1.wav` beside `00001/`, and `original/part_*/1.mp4`.

    Raises:
        DataError: lists are missing or contradict each other, no listed clip is there, or other than five folds.
    """
    fold.need(folds, FOLDS, "DFEW")
    splits = layout.need_folder(root, SPLITS, LAYOUT)
    tests, trains = (
        layout.read_lists({k: splits / f"{part}(single-labeled)" / f"set_{k}.csv" for k in range(1, FOLDS + 1)}, _parse)
        for part in ("test", "train")
    )
    fold_of, folders = fold.official(tests, trains), layout.Folders()
    labels = layout.labels_of([*tests.values(), *trains.values()])
    found, notes = _found(root, sorted(fold_of), folders)
    clips = [Source(i, media, labels[i], fold_of[i], None, sound, cropped) for i, media, sound, cropped in found]
    gone = layout.missing([clip.media for clip in clips], folders, LAYOUT)
    return Table("dfew", LABELS, clips, (*layout.fewer(len(clips), CLIPS, "DFEW"), *notes, *gone))


def _parse(line: str) -> tuple[str, str] | None:
    """A line `video_name,label`: the name as a number, with or without leading zeros and ending."""
    name, _, label = (part.strip().strip('"') for part in line.partition(","))
    if (name, label) == ("video_name", "label"):
        return None
    stem = name.partition(".")[0]
    if not stem.isdecimal() or not label.isdecimal() or not 1 <= int(label) <= len(LABELS):
        raise ValueError(f"is not `video_name,label` with a number and a label from 1 to {len(LABELS)}")
    return f"{int(stem):05d}", LABELS[int(label) - 1]


Found = list[tuple[str, Path, Path | None, bool]]
"""Id, media, sound, and whether the frames are cropped."""


def _found(root: Path, ids: list[str], folders: layout.Folders) -> tuple[Found, tuple[str, ...]]:
    films = _films(root)
    frames = layout.locate(root, "clip_224x224", "clip_224x224_16f")
    if frames is None:
        nowhere = (layout.locate(root, "original") or root / "Clip/original") / "part_1"
        return [(i, films.get(int(i), nowhere / f"{int(i)}.mp4"), None, False) for i in ids], ("films are used",)
    notes = [f"frames are used: {frames}"]
    if frames.name.endswith("_16f"):
        notes.append("clip_224x224 is not there: every clip has 16 frames only, which leaves training little to draw")
    places = [folder for folder in (layout.locate(root, "raw_wav"), frames) if folder]
    sounds = {i: sound(int(i), places, films, folders) for i in ids}
    return [(i, frames / i, sounds[i], True) for i in ids], (*notes, *layout.sound_notes(sounds.values(), folders))


def _films(root: Path) -> dict[int, Path]:
    """Number -> film."""
    original = layout.locate(root, "original")
    parts = [Path(part.path) for part in layout.scan(original)] if original else []
    films = [Path(film.path) for part in parts for film in layout.scan(part) if film.name.endswith(".mp4")]
    return {int(film.stem): film for film in films if film.stem.isdecimal()}


def sound(number: int, places: Sequence[Path], films: Mapping[int, Path], folders: layout.Folders) -> Path:
    """The file with a clip's sound: in the first folder that has it, else the film; else where it should have been.

    Files are named by the number, `1.wav` beside `00001/`; with leading zeros they are taken as well.
    """
    files = [place / name for place in places for name in (f"{number}.wav", f"{number:05d}.wav")]
    return next((file for file in files if folders.has(file)), films.get(number, files[0]))
