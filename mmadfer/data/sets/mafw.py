"""MAFW (Liu et al. 2022): 9,172 clips with one of 11 labels, 8,996 with one of 43, each in five official folds."""

from collections.abc import Mapping
from pathlib import Path

from mmadfer.data import folds as fold
from mmadfer.data.sets import Source, Table, layout

LABELS = (
    *("happiness", "sadness", "neutral", "anger", "surprise", "disgust"),
    *("fear", "contempt", "anxiety", "helplessness", "disappointment"),
)
"""In the order of the published program's numbers 0 to 10; other projects have other orders."""
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
FOLDS = 5
CLIPS = {"single": 9_172, "compound": 8_996}
SPLITS = "Train & Test Set"
LAYOUT = f"{SPLITS}/{{single,compound}}/no_caption/set_1 to set_5/{{train,test}}.txt, and data/clips/00001.mp4"
SOUNDS = ("clips_wav", "wav", "audio")
"""Folders for the sound of frames; MAFW brings none, and the published program's read-me makes `clips_wav`."""


def table(root: Path, folds: int = FOLDS) -> Table:
    """The clips of MAFW with a single label; ids are the names, `00025`.

    The films in `data/clips` are used where they are there, else the frames in `data/frames/00025/`, with the sound
    in `data/clips_wav/00025.wav`.

    Raises:
        DataError: lists are missing or contradict each other, no listed clip is there, or other than five folds.
    """
    return _table(root, folds, "single", LABELS)


def compound(root: Path, folds: int = FOLDS) -> Table:
    """The clips of MAFW with one of 43 single or compound labels; otherwise like `table`."""
    return _table(root, folds, "compound", COMPOUND)


def _table(root: Path, folds: int, kind: str, labels: tuple[str, ...]) -> Table:
    fold.need(folds, FOLDS, "MAFW")
    lists = layout.need_folder(root, SPLITS, LAYOUT) / kind / "no_caption"
    tests, trains = (
        layout.read_lists({k: lists / f"set_{k}" / f"{part}.txt" for k in range(1, FOLDS + 1)}, _parser(labels))
        for part in ("test", "train")
    )
    fold_of, folders = fold.official(tests, trains), layout.Folders()
    label_of = layout.labels_of([*tests.values(), *trains.values()])
    media, sounds, notes = _found(root, sorted(fold_of), folders)
    clips = [Source(i, media[i], label_of[i], fold_of[i], None, sounds.get(i)) for i in media]
    gone = layout.missing([*media.values()], folders, LAYOUT)
    name = "mafw" if kind == "single" else "mafw_compound"
    return Table(name, labels, clips, (*layout.fewer(len(clips), CLIPS[kind], f"MAFW ({kind})"), *notes, *gone))


def _parser(labels: tuple[str, ...]) -> layout.Parse:
    def parse(line: str) -> tuple[str, str]:
        name, *label = line.split(maxsplit=1)
        if len(label) != 1 or label[0] not in labels:
            raise ValueError(f"is not `00025.mp4 label` with one of the labels {', '.join(labels)}")
        return name.removesuffix(".mp4"), label[0]

    return parse


def _found(
    root: Path, ids: list[str], folders: layout.Folders
) -> tuple[dict[str, Path], Mapping[str, Path], tuple[str, ...]]:
    """Media and sound of each clip; films have their own sound."""
    films, frames = layout.locate(root, "clips"), layout.locate(root, "frames")
    if frames is None or (films and folders.names(films)):
        films = films or root / "data/clips"
        return {i: films / f"{i}.mp4" for i in ids}, {}, (f"films are used: {films}",)
    place = layout.locate(root, *SOUNDS) or frames.with_name(SOUNDS[0])
    sounds = {i: place / f"{i}.wav" for i in ids}
    notes = (f"frames are used: {frames}", *layout.sound_notes(sounds.values(), folders))
    return {i: frames / i for i in ids}, sounds, notes
