"""DFEW and MAFW as their owners distribute them; the other sets have files of their own."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import layouts
import make_media
import pytest

from mmadfer.config.schema import CONFIGS, load
from mmadfer.data.sets import ClipTable, SourceClip, dfew, mafw, table
from mmadfer.errors import DataError
from mmadfer.model.weights import published

NUMBERS = {1: 1, 2: 2, 262: 3, 2522: 4, 12583: 5, 16000: 6, 16001: 7}
NAMES = {f"{k:05d}": label for k, label in enumerate(mafw.LABELS, start=25)}


def dfew_frames(root: Path, folder: str = "Clip/clip_224x224", sound: bool = True) -> Path:
    layouts.dfew_lists(root, NUMBERS)
    for number in NUMBERS:
        layouts.touch(root, f"{folder}/{number:05d}/1.jpg", *([f"{folder}/{number}.wav"] if sound else []))
    return root


def mafw_films(root: Path) -> Path:
    layouts.mafw_lists(root, NAMES)
    return layouts.touch(root, *(f"data/clips/{name}.mp4" for name in NAMES))


def notes(found: ClipTable) -> str:
    return "\n".join(found.notes)


def test_label_orders_have_one_home() -> None:
    assert {path.stem: load(path.stem).data.labels for path in CONFIGS.glob("*.yaml")} == dict.fromkeys(
        path.stem for path in CONFIGS.glob("*.yaml")
    )
    assert published._PUBLISHED_LABELS[7][1] == dfew.LABELS
    assert published._PUBLISHED_LABELS[11][1] == mafw.LABELS
    assert mafw.COMPOUND[:11] == mafw.LABELS


def test_dfew_frames_with_sound_wherever_it_lies(tmp_path: Path) -> None:
    dfew_frames(tmp_path, sound=False)
    layouts.touch(tmp_path, "Clip/raw_wav/1.wav", "Clip/raw_wav/00002.wav", "Clip/clip_224x224/262.wav")
    layouts.touch(tmp_path, "Clip/clip_224x224/1.wav", "Clip/original/part_3/2522.mp4", "Clip/original/read.me")
    found = table("dfew", tmp_path)
    clips = {clip.id: clip for clip in found.clips}
    assert [clip.id for clip in found.clips] == [f"{number:05d}" for number in NUMBERS]
    assert [clip.label for clip in found.clips] == ["happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"]
    assert [clip.fold for clip in found.clips] == [1, 2, 3, 4, 5, 1, 2]
    assert all(clip.cropped and clip.media == tmp_path / "Clip/clip_224x224" / clip.id for clip in found.clips)
    sounds = [str(clip.sound.relative_to(tmp_path / "Clip")) for clip in found.clips if clip.sound]
    first = ["raw_wav/1.wav", "raw_wav/00002.wav", "clip_224x224/262.wav", "original/part_3/2522.mp4"]
    assert sounds == [*first, *(f"raw_wav/{number}.wav" for number in (12583, 16000, 16001))]
    assert found.root == tmp_path / "Clip"
    assert clips["00262"].subject is None
    for words in ("2 clips: {}/Clip/raw_wav", "1 clips: {}/Clip/clip_224x224", "1 clips: {}/Clip/original"):
        assert words.format(tmp_path) in notes(found)
    assert "3 of 7 clips have no file with sound" in found.warnings[0]
    assert "7 clips are listed or found; DFEW has 11,697" in notes(found)


def test_dfew_sixteen_frames_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    found = table("dfew", dfew_frames(tmp_path, "Clip/clip_224x224_16f"))
    assert found.clips[0].media == tmp_path / "Clip/clip_224x224_16f/00001"
    assert "16 frames only" in notes(found)
    dfew_frames(tmp_path)
    assert table("dfew", tmp_path).clips[0].media == tmp_path / "Clip/clip_224x224/00001"


def test_dfew_films_and_a_folder_more(tmp_path: Path) -> None:
    layouts.dfew_lists(tmp_path / "DFEW-part2", NUMBERS, end="\r\n")
    layouts.touch(tmp_path, "DFEW-part2/Clip/original/part_1/1.mp4", "DFEW-part2/Clip/original/part_2/262.mp4")
    found = table("dfew", tmp_path)
    media = {clip.id: clip.media for clip in found.clips}
    assert media["00262"] == tmp_path / "DFEW-part2/Clip/original/part_2/262.mp4"
    assert {(clip.cropped, clip.sound) for clip in found.clips} == {(False, None)}
    assert "5 of 7 listed clips are not there" in notes(found)
    assert "2.mp4" in notes(found)
    assert len(media) == 7  # preparation lists those that are not there by name


def test_mafw_films_are_used_before_frames(tmp_path: Path) -> None:
    mafw_films(tmp_path)
    layouts.touch(tmp_path, "data/frames/00025/0.jpg")
    found = table("mafw", tmp_path)
    assert [(clip.id, clip.label, clip.sound, clip.cropped) for clip in found.clips] == [
        (name, label, None, False) for name, label in NAMES.items()
    ]
    assert found.labels == mafw.LABELS
    assert found.clips[0].media == tmp_path / "data/clips/00025.mp4"
    assert "films are used" in notes(found)


def test_mafw_frames_with_their_own_sound(tmp_path: Path) -> None:
    layouts.mafw_lists(tmp_path / "MAFW", NAMES)
    layouts.touch(tmp_path, *(f"MAFW/data/frames/{name}/0.jpg" for name in NAMES), "MAFW/data/clips_wav/00025.wav")
    found = table("mafw", tmp_path)
    first, second = found.clips[:2]
    assert first == SourceClip(
        "00025", tmp_path / "MAFW/data/frames/00025", "happiness", 1, sound=tmp_path / "MAFW/data/clips_wav/00025.wav"
    )
    assert second.sound == tmp_path / "MAFW/data/clips_wav/00026.wav"
    assert "10 of 11 clips have no file with sound" in found.warnings[0]


def test_mafw_compound_has_43_labels(tmp_path: Path) -> None:
    names = {f"{k:05d}": label for k, label in enumerate(mafw.COMPOUND, start=1)}
    layouts.mafw_lists(tmp_path, names, "compound")
    layouts.touch(tmp_path, *(f"data/clips/{name}.mp4" for name in names))
    found = table("mafw_compound", tmp_path)
    assert {clip.id: clip.label for clip in found.clips} == names
    assert len(found.labels) == 43
    assert (found.labels[:11], found.labels[11]) == (mafw.LABELS, "fear_surprise")
    assert "MAFW (compound) has 8,996" in notes(found)
    with pytest.raises(DataError, match=r"5 of 5 lists are missing.*single"):
        table("mafw", tmp_path)


Mend = Callable[[Path], object]


def change(name: str, old: str, new: str) -> Mend:
    def mend(root: Path) -> None:
        path = root / name
        whole = path.read_bytes().decode()
        assert old in whole
        layouts.text(path, whole.replace(old, new, 1))

    return mend


TEST, TRAIN = ("EmoLabel_DataSplit/" + part + "(single-labeled)/" for part in ("test", "train"))
SET = "Train & Test Set/single/no_caption/"


@pytest.mark.parametrize(
    ("mend", "message"),
    [
        (change(TEST + "set_2.csv", "2,2", "1,1"), "clip '00001' is in the test lists of folds 1 and 2"),
        (change(TRAIN + "set_1.csv", "2,2", "1,1"), "'00001' is in the training list and in the test list of fold 1"),
        (change(TRAIN + "set_1.csv", "2,2", "3,2"), "'00003' is in the training list of fold 1 and in no test list"),
        (change(TRAIN + "set_1.csv", "2,2", "2,3"), "'00002' is 'sad' in one list and 'neutral' in another"),
        (change(TRAIN + "set_1.csv", "2,2", "262,3"), "line 3: clip '00262' is in this list twice"),
        (change(TEST + "set_3.csv", "262,3", "262,8"), r"set_3.csv, line 2: '262,8' is not .*from 1 to 7"),
        (change(TEST + "set_3.csv", "262,3", "x,3"), "set_3.csv, line 2: 'x,3' is not"),
        (lambda root: (root / TEST / "set_4.csv").unlink(), "1 of 5 lists are missing: .*set_4.csv"),
        (lambda root: (root / TEST / "set_4.csv").write_bytes(b"\xff\xfa"), "set_4.csv, line 1 is not UTF-8 text"),
    ],
)
def test_dfew_lists_that_contradict(tmp_path: Path, mend: Mend, message: str) -> None:
    mend(dfew_frames(tmp_path))
    with pytest.raises(DataError, match=message):
        table("dfew", tmp_path)


@pytest.mark.parametrize(
    ("mend", "message"),
    [
        (change(SET + "set_2/test.txt", "00026", "00025"), "'00025' is in the test lists of folds 1 and 2"),
        (change(SET + "set_1/train.txt", "00026", "00025"), "'00025' is in the training list and in the test list"),
        (change(SET + "set_1/train.txt", "sadness", "sad"), "train.txt, line 1: '00026.mp4 sad' is not .*happiness"),
        (lambda root: (root / SET / "set_1/train.txt").unlink(), "1 of 5 lists are missing: .*set_1/train.txt"),
    ],
)
def test_mafw_lists_that_contradict(tmp_path: Path, mend: Mend, message: str) -> None:
    mend(mafw_films(tmp_path))
    with pytest.raises(DataError, match=message):
        table("mafw", tmp_path)


@pytest.mark.parametrize(("name", "build"), [("dfew", dfew_frames), ("mafw", mafw_films)])
def test_official_folds_are_five(tmp_path: Path, name: str, build: Callable[[Path], Path]) -> None:
    with pytest.raises(DataError, match=r"has 5 folds of its own, and data.folds is 3: set data.folds=5"):
        table(name, build(tmp_path), folds=3)


@pytest.mark.parametrize("name", ["dfew", "mafw", "mafw_compound", "crema_d", "ravdess"])
def test_another_folder_is_told_what_is_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected"):
        table(name, layouts.touch(tmp_path, "holiday/beach.mp4"))
    with pytest.raises(DataError, match=r"none.*"):
        table(name, tmp_path / "none")


def test_without_any_clip_the_first_looked_for_are_named(tmp_path: Path) -> None:
    layouts.dfew_lists(tmp_path, NUMBERS)
    with pytest.raises(DataError, match=r"none of the 7 listed clips .*looked for .*part_1/1.mp4.*clip_224x224"):
        table("dfew", tmp_path)
    (tmp_path / "Clip/clip_224x224").mkdir(parents=True)
    with pytest.raises(DataError, match=r"looked for .*clip_224x224/00001, .*/00002"):
        table("dfew", tmp_path)
    layouts.mafw_lists(tmp_path, NAMES)
    with pytest.raises(DataError, match=r"none of the 11 listed clips is there; looked for .*data/clips/00025.mp4"):
        table("mafw", tmp_path)


def test_folders_are_read_once_and_clips_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {k: k % 7 + 1 for k in range(1, 400)}
    layouts.dfew_lists(tmp_path, numbers)
    for number in numbers:
        layouts.touch(tmp_path, f"Clip/clip_224x224/{number}.wav")
        (tmp_path / f"Clip/clip_224x224/{number:05d}").mkdir()
    calls = Counter[str]()
    for name in ("scandir", "stat"):
        real = getattr(os, name)

        def counted(*args: object, real: Callable[..., object] = real, name: str = name, **more: object) -> object:
            calls[name] += 1
            return real(*args, **more)

        monkeypatch.setattr(os, name, counted)
    assert len(table("dfew", tmp_path).clips) == 399
    assert calls.total() < 100, calls


def test_silent_films_are_still_in_the_table(tmp_path: Path) -> None:
    mafw_films(tmp_path)
    make_media.write_video(tmp_path / "data/clips/00025.mp4", make_media.grey(3), None)
    assert table("mafw", tmp_path).clips[0].sound is None
