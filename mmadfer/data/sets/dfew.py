"""DFEW (Jiang et al. 2020): 11,697 clips with a single label, in five official folds."""

from pathlib import Path

from mmadfer.config import label_orders
from mmadfer.data.sets import ClipTable, layout, official
from mmadfer.data.sets.official import Official, SetPlaces
from mmadfer.errors import DataError
from mmadfer.utils.folders import Folders, Known, entries

LABELS = label_orders.DFEW
TOTAL_CLIPS = 11_697
_SPLIT_FOLDER = "EmoLabel_DataSplit"
_LAYOUT = (
    f"{_SPLIT_FOLDER}/{{train,test}}(single-labeled)/set_1.csv to set_5.csv, and Clip/clip_224x224/00001/*.jpg "
    "(or Clip/clip_224x224_16f, or Clip/original/part_*/1.mp4)"
)


def table(root: Path, folds: int = official.FOLDS) -> ClipTable:
    """The clips of DFEW as its owners distribute it; ids are five digits, `00001`.

    Frames of cropped faces are used where `clip_224x224` (or only `clip_224x224_16f`) is there, else the films. The
    sound of frames is the first there is of `raw_wav/1.wav`, `1.wav` beside `00001/`, and `original/part_*/1.mp4`.

    Raises:
        DataError: as `official.table`, and where two films have one number.
    """
    return official.table(_DFEW, root, folds)


def _parse(line: str) -> tuple[str, str] | None:
    """A line `video_name,label`: the name as a number, with or without leading zeros and ending."""
    name, _, label = (part.strip().strip('"') for part in line.partition(","))
    if (name, label) == ("video_name", "label"):
        return None
    stem = name.partition(".")[0]
    if not stem.isdecimal() or not label.isdecimal() or not 1 <= int(label) <= len(LABELS):
        raise ValueError(f"is not `video_name,label` with a number and a label from 1 to {len(LABELS)}")
    return f"{int(stem):05d}", LABELS[int(label) - 1]


def _found(home: Path, ids: list[str], folders: Folders) -> SetPlaces:
    films = _films(home)
    frames = layout.locate(home, "Clip/clip_224x224", "Clip/clip_224x224_16f")
    if frames is None:
        nowhere = (layout.locate(home, "Clip/original") or home / "Clip/original") / "part_1"
        return SetPlaces({i: films.get(int(i), nowhere / f"{int(i)}.mp4") for i in ids}, ("films are used",))
    notes = [f"frames are used: {frames}"]
    if frames.name.endswith("_16f"):
        notes.append("clip_224x224 is not there: every clip has 16 frames only, which leaves training little to draw")
    places = [*sound_places(frames), home / "raw_wav"]
    sounds = {i: layout.sound_file(sound_names(i), places, folders, films.get(int(i))) for i in ids}
    return SetPlaces({i: frames / i for i in ids}, tuple(notes), sounds, cropped=True)


def _films(home: Path) -> dict[int, Path]:
    """Number -> film."""
    original = layout.locate(home, "Clip/original")
    parts = Known(original).inside(entries(original)) if original else []
    films = dict[int, Path]()
    for film in (Path(entry.path) for part in parts for entry in entries(part)):
        if film.suffix == ".mp4" and film.stem.isdecimal() and films.setdefault(int(film.stem), film) != film:
            raise DataError(f"{films[int(film.stem)]} and {film} are films of one number; remove the wrong one")
    return films


def sound_places(frames: Path) -> tuple[Path, ...]:
    """Folders for the sound of the clips in the folder `frames`."""
    return frames.with_name("raw_wav"), frames


def sound_names(clip: str) -> tuple[str, ...]:
    """Names of a clip's file with sound: the number, and with leading zeros."""
    return (f"{int(clip)}.wav", f"{int(clip):05d}.wav") if clip.isdecimal() else (f"{clip}.wav",)


_DFEW = Official(
    *("dfew", "DFEW", LABELS, TOTAL_CLIPS, _SPLIT_FOLDER, "{part}(single-labeled)/set_{fold}.csv"),
    _LAYOUT,
    _parse,
    _found,
)
