"""Aff-Wild2 (Kollias and Zafeiriou 2019): valence and arousal of each frame of videos in the wild, as for the ABAW
competitions' task of valence and arousal.

The owners give annotations of a training and a validation set, the videos, and crops of the faces in their frames. The
annotations of the test set are not public: the split `official` trains on the first and tests on the second.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from os import DirEntry
from pathlib import Path

import numpy as np

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, ValueRanges, layout, trace_files
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError
from mmadfer.utils.folders import entries, is_folder, some
from mmadfer.utils.names import is_film

TARGET, NAMES = "values", ("valence", "arousal")
TARGETS = {TARGET: Target("steps", NAMES)}
RANGES = dict.fromkeys(NAMES, (-1.0, 1.0))
PARTS = {"Train_Set": "train", "Validation_Set": "test"}
"""Folder of annotations -> part of the split `official`."""
_TASK, _CROPS = "VA_Estimation_Challenge", "cropped_aligned"
_LAYOUT = (
    f"{_TASK}/Train_Set/NAME.txt, {_TASK}/Validation_Set/NAME.txt, {_CROPS}/NAME/00001.jpg and the videos NAME.mp4 or "
    "NAME.avi"
)
_PERSON = re.compile(r"(?P<video>.+)_(left|right)")
"""Of two annotated people in one video."""
SLACK = 0.01
"""Share of a video's frames by which its annotations may be longer or shorter; decoders do not agree on the last."""


def table(root: Path, folds: int = 5) -> ClipTable:
    """The annotated people of Aff-Wild2, each a clip as long as its video; ids are the names of the annotations.

    Frames are the owners' crops where these are there, else faces are searched for in the video; sound is the video's.
    `NAME_left` and `NAME_right` are people in the video NAME. Nobody tells who is in several videos: subjects are the
    names of videos, which folds keep whole.

    Raises:
        DataError: annotations are missing or wrong (the file and line are named), no video is there, one of a name is
            there twice or has people in both parts, or fewer videos than folds.
    """
    task = layout.need_folder(root, _TASK, _LAYOUT)
    traces, notes, ranges = _annotated({part: _texts(task / name) for name, part in PARTS.items()})
    videos, crops = _videos(root, {_video_name(name) for name in traces} | {*traces}), _crops(root, {*traces})
    if not videos:
        raise DataError(f"{root} has none of the videos of {len(traces)} annotations; expected {_LAYOUT}")
    _check_apart({name: part for name, (_, part) in traces.items()}, videos)
    fold_of = fold.assign(dict.fromkeys(traces, ""), folds, subjects={name: _video_name(name) for name in traces})
    clips = [
        _clip(name, path, part, fold_of[name], videos.get(name, videos.get(_video_name(name))), crops.get(name), root)
        for name, (path, part) in traces.items()
    ]
    return ClipTable("affwild2", (), clips, (*notes, *_missing(clips, videos, crops)), (), TARGETS, ranges)


def _clip(
    name: str, trace: Path, part: str, number: int, video: Path | None, crops: Path | None, root: Path
) -> SourceClip:
    film = video or root / f"{_video_name(name)}.mp4"
    media, sound = (film, None) if crops is None else (crops, film)
    if crops is None and _PERSON.fullmatch(name):  # which of the faces it is, only the crops say
        media, sound = root / _CROPS / name, film
    given = media is not film
    how = (given, given, SLACK)  # cropped, numbered, trace_slack
    more = {TARGET: trace}
    return SourceClip(name, media, "", number, _video_name(name), sound, *how, splits={"official": part}, tensors=more)


def _texts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder.parent} has no folder {folder.name!r}; expected {_LAYOUT}")
    found = sorted(Path(entry.path) for entry in entries(folder) if entry.name.lower().endswith(".txt"))
    if not found:
        raise DataError(f"{folder} holds no annotations (.txt); expected {_LAYOUT}")
    return found


def _annotated(
    files: Mapping[str, list[Path]],
) -> tuple[dict[str, tuple[Path, str]], tuple[str, ...], ValueRanges]:
    """Name -> its annotations and the part that it is in, without those of no frame at all; notes; ranges of values."""
    found = {path.stem: (path, part) for part, paths in files.items() for path in paths}
    if len(found) < sum(map(len, files.values())):
        twice = {path.stem for path in files["train"]} & {path.stem for path in files["test"]}
        raise DataError(f"{some(sorted(twice))} are annotated in both {' and '.join(PARTS)}: remove one of each")
    ranges = trace_files.value_ranges({TARGET: [path for path, _ in found.values()]}, TARGETS)
    trace_files.check_ranges(ranges, TARGETS, RANGES)
    bare = [name for name, (path, _) in found.items() if np.isnan(ranges[TARGET].get(path, np.nan)).all()]
    kept = {name: found[name] for name in sorted({*found} - {*bare})}
    parts = [part for _, part in kept.values()]
    counted = ", ".join(f"{parts.count(part)} of {folder} ({part})" for folder, part in PARTS.items())
    told = f"annotations: {counted}; those of the set's own test videos are not public"
    lost = f"{len(bare)} have no annotated frame, and are left out: {some(bare)}"
    return kept, (told, *([lost] if bare else [])), ranges


def _check_apart(parts: Mapping[str, str], videos: Mapping[str, Path]) -> None:
    """Refuse a video of which people are in both parts; the owners' parts have no person, and no video, in common."""
    people = defaultdict[str, list[str]](list)
    for name in parts:
        people[name if name in videos else _video_name(name)].append(name)
    torn = {video: names for video, names in people.items() if len({parts[name] for name in names}) > 1}
    if torn:
        told = "; ".join(f"{video} ({', '.join(sorted(names))})" for video, names in sorted(torn.items())[:3])
        raise DataError(
            f"{len(torn)} videos have people in both {' and '.join(PARTS)}, so that the model would be tested on what "
            f"it was trained on: {told}. Remove or move the annotations of one of them"
        )


def _video_name(name: str) -> str:
    match = _PERSON.fullmatch(name)
    return match["video"] if match else name


def _videos(root: Path, names: set[str]) -> dict[str, Path]:
    """Name -> video, in the set's folder or at most three deeper (`batch1`, `videos/batch2`)."""
    found = defaultdict[str, list[Path]](list)
    for folder in layout.below(root, 3):
        if not folder.name.startswith(_CROPS):
            for entry in entries(folder):
                if is_film(entry.name) and Path(entry.name).stem in names:
                    found[Path(entry.name).stem].append(Path(entry.path))
    return _once(found)


def _crops(root: Path, names: set[str]) -> dict[str, Path]:
    """Name -> folder of its crops, in a folder `cropped_aligned…` or in one that lies there."""
    found = defaultdict[str, list[Path]](list)
    for home in (folder for folder in layout.below(root, 2) if folder.name.startswith(_CROPS)):
        for entry in _folders(entries(home)):
            inner = [entry] if entry.name in names else _folders(entries(Path(entry.path)))
            for one in inner:
                if one.name in names:
                    found[one.name].append(Path(one.path))
    return _once(found)


def _folders(found: Iterable[DirEntry[str]]) -> Iterator[DirEntry[str]]:
    return (entry for entry in found if is_folder(entry))


def _once(found: Mapping[str, list[Path]]) -> dict[str, Path]:
    if twice := next((paths for paths in found.values() if len({*paths}) > 1), None):
        raise DataError(f"{twice[0]} and {twice[1]} could both be meant: remove one of them")
    return {name: paths[0] for name, paths in found.items()}


def _missing(clips: Iterable[SourceClip], videos: Mapping[str, Path], crops: Mapping[str, Path]) -> Iterator[str]:
    lost = [clip.id for clip in clips if clip.numbered and clip.id not in crops]
    bare = [clip.id for clip in clips if not clip.numbered]
    mute = [clip.id for clip in clips if clip.id not in videos and _video_name(clip.id) not in videos]
    if bare:
        yield f"{len(bare)} have no crops; their faces are searched for in the videos: {some(bare)}"
    if lost:
        yield f"{len(lost)} are one of two people and have no crops, and are left out: {some(lost)}"
    if mute:
        yield f"{len(mute)} have no video, and are left out: {some(mute)}"
