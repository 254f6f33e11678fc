"""Folders that are links: each real folder is searched once, and what is passed over is told."""

import warnings
from pathlib import Path

import layouts
import pytest

from mmadfer.data.sets import table
from mmadfer.errors import DataError
from mmadfer.runtime.find_videos import videos
from mmadfer.utils.files import is_clutter
from mmadfer.utils.folders import Known, Tree


def names(root: Path, folder: Path) -> list[str]:
    return [video.path.relative_to(root).as_posix() for video in videos([folder])]


def test_films_behind_a_link_are_clips(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "data/a.mp4", "cam2/b.mp4", "cam2/deep/c.mp4")
    (tmp_path / "data/cam2").symlink_to("../cam2")
    assert names(tmp_path, tmp_path / "data") == ["data/a.mp4", "data/cam2/b.mp4", "data/cam2/deep/c.mp4"]


def test_a_folder_of_links_alone(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "cam1/a.mp4", "cam2/b.mp4", "data/.hidden")
    for name in ("cam1", "cam2"):
        (tmp_path / "data" / name).symlink_to(tmp_path / name)
    (tmp_path / "data/c.mp4").symlink_to(tmp_path / "cam1/a.mp4")  # another name is another clip
    assert names(tmp_path, tmp_path / "data") == ["data/c.mp4", "data/cam1/a.mp4", "data/cam2/b.mp4"]


def test_folders_of_images_behind_links_are_clips(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "far/1/1.jpg", "far/1/2.jpg", "data/2/1.png")
    (tmp_path / "data/1").symlink_to("../far/1")
    (tmp_path / "data/2/up").symlink_to("..")
    (tmp_path / "start").symlink_to("data")
    with pytest.warns(UserWarning, match="2/up .another name of"):
        assert names(tmp_path, tmp_path / "start") == ["start/1", "start/2"]


def test_a_folder_is_searched_under_its_real_name_and_once(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "data/z/deep/a.mp4", "other/b.mp4")
    for name, target in {"a": "z", "b": "z/deep", "c": "../other", "d": "../other", "z/e": "../../other"}.items():
        (tmp_path / "data" / name).symlink_to(target)
    with pytest.warns(UserWarning, match="passed over under") as told:
        assert names(tmp_path, tmp_path / "data") == ["data/c/b.mp4", "data/z/deep/a.mp4"]
    assert f"{tmp_path}/data/a (another name of {tmp_path}/data/z)" in str(told[0].message)


def test_a_link_to_a_folder_above_does_not_go_round(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "x/data/a.mp4", "x/secret.mp4")
    for name, target in {"self": ".", "up": "..", "root": "/"}.items():
        (tmp_path / "x/data" / name).symlink_to(target)
    tree = Tree(tmp_path / "x/data")
    assert tree.files == {tmp_path / "x/data": ["a.mp4"]}
    assert sorted(tree.passed) == [
        f"{tmp_path}/x/data/root (a link to a folder above)",
        f"{tmp_path}/x/data/self (another name of {tmp_path}/x/data)",
        f"{tmp_path}/x/data/up (a link to a folder above)",
    ]


def told_of(folder: Path) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        videos([folder])
    return "; ".join(str(one.message) for one in caught)


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "a.mp4", "a.wav", "list.txt", "more.TXT", "frames/1.jpg", "Thumbs.DB", "@eaDir/x.mp4")
    (tmp_path / "gone").symlink_to("nowhere")
    said = told_of(tmp_path)
    assert f"{tmp_path}/gone (a link that leads nowhere)" in said
    assert "being neither videos nor images by their names: 2 .txt" in said
    assert f"holds videos, so 1 folders with images are passed over: {tmp_path}/frames" in said
    assert not any(word in said for word in ("wav", "humbs", "eaDir"))


def test_an_orderly_folder_needs_no_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    layouts.touch(tmp_path, "a.mp4", "b/c.ts", "b/c.wav", "b/.hidden")
    assert names(tmp_path, tmp_path) == ["a.mp4", "b/c.ts"]
    assert not recwarn.list


def test_sound_is_found_in_either_form_and_whatever_its_ending_is_written_like(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "films/é.mp4", "films/2.mp4", "sound/e\u0301.WAV", "sound/2.Flac")
    found = {video.path.name: video.sound for video in videos([tmp_path / "films"], tmp_path / "sound")}
    assert found == {"é.mp4": tmp_path / "sound/e\u0301.WAV", "2.mp4": tmp_path / "sound/2.Flac"}


def test_labels_that_are_links(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "set/glad/1.mp4", "far/2.mp4", "set/3.mp4")
    root = tmp_path / "set"
    for name, target in {"again": "glad", "sad": "../far", "up": "..", "loop": ".", "gone": "nowhere"}.items():
        (root / name).symlink_to(target)
    found = table("folder", root, 2)
    assert [(clip.id, clip.media) for clip in found.clips] == [
        ("glad/1", root / "glad/1.mp4"),
        ("sad/2", root / "sad/2.mp4"),
    ]
    told = " ".join(found.notes)
    for words in (
        f"{root}/again (another name of {root}/glad)",
        f"{root}/up (a link to a folder above)",
        f"{root}/loop (another name of {root})",
        f"{root}/gone (a link that leads nowhere)",
        "1 clips outside of label folders were passed over: 3.mp4",
    ):
        assert words in told


def test_a_folder_called_as_nothing_is_a_warning(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "nan/1.mp4", "sad/2.mp4")
    (warning,) = table("folder", tmp_path, 2).warnings
    assert "nan" in warning


def test_other_names_of_a_folder_are_no_second_one(tmp_path: Path) -> None:
    actors = [f"Actor_{k:02d}/01-01-0{k}-01-01-01-{k:02d}.mp4" for k in range(1, 4)]
    layouts.touch(tmp_path, *(f"videos/{name}" for name in actors))
    (tmp_path / "again").symlink_to("videos")
    (tmp_path / "videos/up").symlink_to("..")
    assert len(table("ravdess", tmp_path, 3).clips) == 3


def test_films_of_dfew_behind_another_name(tmp_path: Path) -> None:
    numbers = {k: k % 7 + 1 for k in range(1, 11)}
    layouts.dfew_lists(tmp_path, numbers)
    layouts.touch(tmp_path, *(f"Clip/original/part_1/{k}.mp4" for k in numbers))
    (tmp_path / "Clip/original/part_2").symlink_to("part_1")
    assert {clip.media.parent.name for clip in table("dfew", tmp_path).clips} == {"part_1"}


def test_known_folders(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    known = Known(tmp_path / "a")
    assert known.is_new(tmp_path / "a/b")
    assert not any(map(known.is_new, (tmp_path / "a/b", tmp_path / "a", tmp_path, tmp_path / "a/b/..")))


@pytest.mark.parametrize(
    "name",
    ["Thumbs.db", "THUMBS.DB", "thumbs.db", "Desktop.ini", "@eaDir", "$RECYCLE.BIN", "__MACOSX", ".DS_Store", "._x"],
)
def test_clutter_in_any_spelling(tmp_path: Path, name: str) -> None:
    assert is_clutter(name)
    layouts.touch(tmp_path, f"{name}.mp4" if name.startswith(".") else f"{name}/1.mp4", "a/1.mp4", "b/1.mp4")
    found = table("folder", tmp_path, 2)
    assert (found.labels, found.notes[:-1]) == (("a", "b"), ())


def test_a_closed_link_is_no_crash(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "a/1.mp4")
    (tmp_path / "a/loop").symlink_to("loop")
    with pytest.raises(DataError, match="a single label"):
        table("folder", tmp_path, 2)
    with pytest.warns(UserWarning, match="a link that leads nowhere"):
        assert names(tmp_path, tmp_path) == ["a/1.mp4"]
