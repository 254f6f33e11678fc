"""MAFW (Liu et al. 2022): 9,172 clips with one of 11 labels, 8,996 with one of 43, each in five official folds."""

from pathlib import Path

from mmadfer.config import label_orders
from mmadfer.data.sets import ClipTable, layout, listing, official
from mmadfer.data.sets.official import Official, SetPlaces
from mmadfer.utils.folders import Folders

LABELS = label_orders.MAFW
COMPOUND = (
    *LABELS,
    *("fear_surprise", "anger_surprise", "anger_sadness", "disgust_contempt", "anxiety_helplessness", "fear_anxiety"),
    *("disgust_anxiety", "anger_disgust_contempt", "fear_sadness", "sadness_disappointment", "happiness_contempt"),
    *("sadness_helplessness_disappointment", "disgust_anxiety_helplessness", "disgust_disappointment"),
    *("surprise_anxiety", "anger_disgust", "anger_disgust_anxiety", "fear_surprise_anxiety", "sadness_anxiety"),
    *("disgust_surprise", "sadness_anxiety_helplessness", "disgust_sadness", "anxiety_helplessness_disappointment"),
    *("disgust_helplessness_disappointment", "happiness_surprise", "sadness_surprise", "anger_helplessness"),
    *("fear_sadness_anxiety", "anger_anxiety", "sadness_helplessness", "helplessness_disappointment"),
    "disgust_helplessness",
)
"""The names in MAFW's own compound lists. Nobody has published an order, so this one is ours, the 11 first."""
TOTAL_CLIPS = {"single": 9_172, "compound": 8_996}
_SPLIT_FOLDER = "Train & Test Set"
_LAYOUT = f"{_SPLIT_FOLDER}/{{single,compound}}/no_caption/set_1 to set_5/{{train,test}}.txt, and data/clips/00001.mp4"
_SOUND_FOLDERS = ("clips_wav", "wav", "audio")
"""Folders for the sound of frames; MAFW brings none, and the published program's read-me makes `clips_wav`."""


def table(root: Path, folds: int = official.FOLDS) -> ClipTable:
    """The clips of MAFW with a single label; ids are the names, `00025`.

    Of the films in `data/clips` and the frames in `data/frames/00025/`, those are used of which more listed clips are
    there, the films where it is the same. The sound of frames is in `data/clips_wav/00025.wav`.

    Raises:
        DataError: as `official.table`.
    """
    return official.table(_kind("mafw", "single", LABELS), root, folds)


def compound(root: Path, folds: int = official.FOLDS) -> ClipTable:
    """The clips of MAFW with one of 43 single or compound labels; otherwise like `table`."""
    return official.table(_kind("mafw_compound", "compound", COMPOUND), root, folds)


def _kind(name: str, kind: str, labels: tuple[str, ...]) -> Official:
    lists = f"{kind}/no_caption/set_{{fold}}/{{part}}.txt"
    return Official(
        name, f"MAFW ({kind})", labels, TOTAL_CLIPS[kind], _SPLIT_FOLDER, lists, _LAYOUT, _parser(labels), _found
    )


def _parser(labels: tuple[str, ...]) -> listing.Parse:
    def parse(line: str) -> tuple[str, str]:
        name, *label = line.split(maxsplit=1)
        if len(label) != 1 or label[0] not in labels:
            raise ValueError(f"is not `00025.mp4 label` with one of the labels {', '.join(labels)}")
        return name.removesuffix(".mp4"), label[0]

    return parse


def _found(home: Path, ids: list[str], folders: Folders) -> SetPlaces:
    clips, stills = layout.locate(home, "data/clips"), layout.locate(home, "data/frames")
    films = {i: (clips or home / "data/clips") / f"{i}.mp4" for i in ids}
    frames = {i: stills / i for i in ids} if stills else {}
    held, framed = (sum(map(folders.has, media.values())) for media in (films, frames))
    other = f"of {len(ids):,} listed clips, {held:,} are films and {framed:,} are frames"
    if stills is None or held >= framed:
        both = (other,) if held and stills else ()
        return SetPlaces(films, (f"films are used: {films[ids[0]].parent}", *both))
    places = [*sound_places(stills), *(home / name for name in _SOUND_FOLDERS)]
    sounds = {i: layout.sound_file((f"{i}.wav",), places, folders) for i in ids}
    return SetPlaces(frames, (f"frames are used: {stills}", *((other,) if clips else ())), sounds)


def sound_places(frames: Path) -> tuple[Path, ...]:
    """Folders for the sound of the clips in the folder `frames`."""
    return tuple(frames.with_name(name) for name in _SOUND_FOLDERS)
