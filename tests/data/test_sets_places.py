"""Which folders are a set's own: neighbours, copies, half-unpacked parts and sound that is not there."""

import shutil
from pathlib import Path

import layouts
import pytest

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import ClipTable, mafw, table
from mmadfer.errors import DataError

NUMBERS = {number: 1 + number % 7 for number in range(1, 41)}
NAMES = {f"{number:05d}": mafw.LABELS[number % 11] for number in range(1, 41)}
SINGLE = "Train & Test Set/single/no_caption"


def dfew(root: Path, sound: str | None = "Clip/raw_wav") -> Path:
    layouts.dfew_lists(root, NUMBERS)
    for number in NUMBERS:
        layouts.touch(root, f"Clip/clip_224x224/{number:05d}/1.jpg", *([f"{sound}/{number}.wav"] if sound else []))
    return root


def mafw_media(root: Path, films: int = 0, frames: int = 0, sounds: int = 0) -> Path:
    """MAFW with so many of its clips."""
    layouts.mafw_lists(root, NAMES)
    names = [*NAMES]
    layouts.touch(root, *(f"data/clips/{name}.mp4" for name in names[:films]))
    layouts.touch(root, *(f"data/frames/{name}/0.jpg" for name in names[:frames]))
    return layouts.touch(root, *(f"data/clips_wav/{name}.wav" for name in names[:sounds]))


def told(found: ClipTable) -> str:
    return "\n".join(found.notes)


def test_sound_is_not_taken_from_a_neighbour(tmp_path: Path) -> None:
    layouts.touch(tmp_path, *(f"AFEW/raw_wav/{number}.wav" for number in NUMBERS))
    dfew(tmp_path / "DFEW")
    own = tmp_path / "DFEW/Clip/raw_wav"
    assert {clip.sound.parent for clip in table("dfew", tmp_path).clips if clip.sound} == {own}
    shutil.rmtree(own)
    with pytest.raises(DataError, match=r"none of 40 clips has its file with sound.*.*DFEW/Clip/raw_wav/1.w"):
        table("dfew", tmp_path)


def test_films_are_not_taken_from_a_neighbour(tmp_path: Path) -> None:
    layouts.touch(tmp_path, *(f"AVEC/clips/{name}.mp4" for name in NAMES), "AFEW/original/part_1/1.mp4")
    mafw_media(tmp_path / "MAFW", frames=40, sounds=40)
    found = table("mafw", tmp_path)
    assert {clip.media.parent for clip in found.clips} == {tmp_path / "MAFW/data/frames"}
    layouts.dfew_lists(tmp_path / "DFEW", NUMBERS)
    with pytest.raises(DataError, match=r"none of the 40 listed clips is there.*.*DFEW/Clip/original/part_1/"):
        table("dfew", tmp_path)


def test_sound_beside_the_frames_comes_first(tmp_path: Path) -> None:
    dfew(tmp_path)
    layouts.touch(tmp_path, *(f"raw_wav/{number}.wav" for number in NUMBERS))
    assert {clip.sound.parent for clip in table("dfew", tmp_path).clips if clip.sound} == {tmp_path / "Clip/raw_wav"}


@pytest.mark.parametrize(("name", "build"), [("dfew", dfew), ("mafw", lambda root: mafw_media(root, films=40))])
def test_two_sets_of_lists_are_an_error(tmp_path: Path, name: str, build: object) -> None:
    assert callable(build)
    for copy in ("old", "new"):
        build(tmp_path / copy)
    with pytest.raises(DataError, match=rf"{tmp_path}/new/.* and {tmp_path}/old/.* could both be meant"):
        table(name, tmp_path)
    assert len(table(name, tmp_path / "new").clips) == 40


def test_one_set_by_two_names_is_one(tmp_path: Path) -> None:
    dfew(tmp_path / "a")
    (tmp_path / "latest").symlink_to("a")
    assert table("dfew", tmp_path).clips[0].media == tmp_path / "a/Clip/clip_224x224/00001"


def test_the_official_place_comes_before_a_copy_and_two_others_are_an_error(tmp_path: Path) -> None:
    dfew(tmp_path)
    layouts.touch(tmp_path, "backup/Clip/clip_224x224/00001/1.jpg", "a/Clip/clip_224x224/00001/1.jpg")
    assert table("dfew", tmp_path).clips[0].media == tmp_path / "Clip/clip_224x224/00001"
    (tmp_path / "Clip").rename(tmp_path / "renamed")
    with pytest.raises(DataError, match=r"/a/Clip/clip_224x224 and .*/backup/Clip/clip_224x224 could both "):
        table("dfew", tmp_path)


def test_crema_d_sound_lies_beside_its_films(tmp_path: Path) -> None:
    layouts.touch(tmp_path, *(f"CREMA-D/VideoFlash/{1000 + k}_DFA_ANG_XX.flv" for k in range(5)))
    layouts.touch(tmp_path, *(f"A/AudioWAV/{1000 + k}_DFA_ANG_XX.wav" for k in range(5)))
    with pytest.raises(DataError, match=r"CREMA-D has no folder 'AudioWAV' beside VideoFlash"):
        table("crema_d", tmp_path)
    (tmp_path / "CREMA-D/AudioWAV").mkdir()
    with pytest.raises(DataError, match="none of 5 clips has its file with sound"):
        table("crema_d", tmp_path)


def test_a_moved_sound_folder_is_an_error_and_not_silence(tmp_path: Path) -> None:
    mafw_media(tmp_path / "mfaw", frames=40, sounds=40)
    lists = layouts.published_lists(tmp_path / "lists", "MAFW", [(name, 0, 1) for name in NAMES], "/old/data/frames")
    assert len(table("mafw", tmp_path / "mfaw/data", 5, lists).clips) == 40
    (tmp_path / "mfaw/data/clips_wav").rename(tmp_path / "gone")
    for more in ((), (5, lists)):
        with pytest.raises(DataError, match=r"none of 40 clips has its file with sound.*.*clips_wav/00001.wav"):
            table("mafw", tmp_path / "mfaw/data" if more else tmp_path, *more)


@pytest.mark.parametrize(("sounds", "warned"), [(40, 0), (38, 0), (37, 1)])
def test_more_than_five_in_a_hundred_without_sound_are_a_warning(tmp_path: Path, sounds: int, warned: int) -> None:
    found = table("mafw", mafw_media(tmp_path, frames=40, sounds=sounds))
    assert len(found.warnings) == warned
    assert ("clips have no file with sound" in told(found)) is (sounds == 38)


def test_warnings_are_those_of_the_summary(tmp_path: Path) -> None:
    root = layouts.dfew_lists(tmp_path / "DFEW", dict.fromkeys(range(1, 6), 1))
    for number in range(1, 6):
        layouts.frames(root / f"Clip/clip_224x224/{number:05d}", 2)
    layouts.wav(root / "Clip/raw_wav/1.wav")
    settings = PrepareConfig(face_size=48, no_sound="silence")
    summary = prepare(table("dfew", root), tmp_path / "dfew.store", settings)
    assert any("4 of 5 clips have no file with sound" in warning for warning in summary.warnings)


@pytest.mark.parametrize("other", ["part_2/3.mp4", "part_1/0003.mp4"])
def test_two_films_of_one_number_are_an_error(tmp_path: Path, other: str) -> None:
    layouts.dfew_lists(tmp_path, NUMBERS)
    layouts.touch(tmp_path, "Clip/original/part_1/3.mp4", f"Clip/original/{other}")
    with pytest.raises(DataError, match=r"part_./0*3.mp4 and .*part_./0*3.mp4 are films of one number"):
        table("dfew", tmp_path)


@pytest.mark.parametrize("keep", [0, 20])
def test_cut_training_lists_are_a_warning(tmp_path: Path, keep: int) -> None:
    mafw_media(tmp_path, films=40)
    path = tmp_path / SINGLE / "set_3/train.txt"
    assert table("mafw", tmp_path).warnings == ()
    path.write_text("\n".join(path.read_text().splitlines()[:keep]))
    (warning,) = table("mafw", tmp_path).warnings
    assert f"the training list of fold 3 lacks {32 - keep} of the 32 clips" in warning


@pytest.mark.parametrize(
    ("films", "frames", "used"), [(0, 40, "frames"), (1, 40, "frames"), (40, 1, "clips"), (40, 40, "clips")]
)
def test_the_form_with_more_clips_is_used(tmp_path: Path, films: int, frames: int, used: str) -> None:
    mafw_media(tmp_path, films, frames, sounds=40)
    layouts.touch(tmp_path, *(["data/clips/read.me"] if not films else []))
    found = table("mafw", tmp_path)
    assert {clip.media.parent for clip in found.clips} == {tmp_path / "data" / used}
    assert f"of 40 listed clips, {films} are films and {frames} are frames" in told(found)
