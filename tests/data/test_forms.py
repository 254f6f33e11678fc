"""One name in two Unicode forms: macOS writes an accent as a sign of its own, other systems one letter."""

import unicodedata
from pathlib import Path

import layouts
import pytest

from mmadfer.data.sets import table
from mmadfer.errors import DataError
from mmadfer.utils.folders import Folders

ONE, TWO = (unicodedata.normalize(form, "déçu") for form in ("NFC", "NFD"))
"""As one letter, and with accents of their own."""


def csv(root: Path, *lines: str, header: str = "path,label") -> Path:
    return layouts.text(root / "x.csv", "\n".join([header, *lines]) + "\n")


def test_a_label_in_two_forms_is_one_label(tmp_path: Path) -> None:
    layouts.touch(tmp_path, *(f"{k}.mp4" for k in range(6)))
    lines = [f"{k}.mp4,{(ONE, TWO, 'heureux')[k % 3]}" for k in range(6)]
    found = table("csv", csv(tmp_path, *lines), 2)
    assert found.labels == (ONE, "heureux")
    assert {clip.label for clip in found.clips} == {ONE, "heureux"}


def test_a_person_in_two_forms_is_in_one_fold(tmp_path: Path) -> None:
    people = (ONE, TWO, "b", "c", "d", "e")
    layouts.touch(tmp_path, *(f"{k}.mp4" for k in range(12)))
    lines = [f"{k}.mp4,{'xy'[k % 2]},{people[k // 2]}" for k in range(12)]
    clips = table("csv", csv(tmp_path, *lines, header="path,label,subject"), 3).clips
    assert {clip.subject for clip in clips} == {ONE, "b", "c", "d", "e"}
    assert len({clip.fold for clip in clips if clip.subject == ONE}) == 1


def test_people_that_look_alike_are_noted_as_labels_are(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "0.mp4", "1.mp4", "2.mp4")
    lines = ["0.mp4,x,Ann Lee", "1.mp4,y,annlee", "2.mp4,x,Bob"]
    told = "subjects that differ only in case or blanks are separate ones: 'Ann Lee', 'annlee'"
    assert told in table("csv", csv(tmp_path, *lines, header="path,label,subject"), 2).notes
    numbered = [f"{line},{k % 2 + 1}" for k, line in enumerate(lines)]
    assert told in table("csv", csv(tmp_path, *numbered, header="path,label,subject,fold"), 2).notes


@pytest.mark.parametrize(("listed", "there"), [(ONE, TWO), (TWO, ONE)])
def test_a_listed_path_finds_its_file_in_either_form(tmp_path: Path, listed: str, there: str) -> None:
    layouts.touch(tmp_path, f"{there}/{there}.mp4", f"{there}/{there}.wav", "2.mp4")
    file = csv(tmp_path, f"{listed}/{listed}.mp4,x,{listed}/{listed}.wav", "2.mp4,y,", header="path,label,sound")
    found = table("csv", file, 2)
    clip = found.clips[1]
    assert (clip.id, clip.media) == (f"{ONE}/{ONE}", tmp_path / there / f"{there}.mp4")
    assert clip.sound == tmp_path / there / f"{there}.wav"
    assert clip.media.exists()
    assert not any("not there" in note for note in found.notes)


def test_a_clip_that_is_listed_in_both_forms_is_there_twice(tmp_path: Path) -> None:
    layouts.touch(tmp_path, f"{TWO}.mp4")
    with pytest.raises(DataError, match=r"line 3: .* is already in line 2"):
        table("csv", csv(tmp_path, f"{ONE}.mp4,x", f"{TWO}.mp4,y"), 2)


def test_folders_of_one_name_are_one_label(tmp_path: Path) -> None:
    layouts.touch(tmp_path, f"{ONE}/1.mp4", f"{TWO}/2.mp4", "heureux/3.mp4")
    found = table("folder", tmp_path, 3)
    assert found.labels == (ONE, "heureux")
    assert [clip.id for clip in found.clips] == [f"{ONE}/1", f"{ONE}/2", "heureux/3"]
    assert all(clip.media.parent.is_dir() for clip in found.clips)


def test_two_files_of_one_name_are_both_named(tmp_path: Path) -> None:
    layouts.touch(tmp_path, f"{ONE}/1.mp4", f"{TWO}/1.mp4", "heureux/3.mp4")
    both = r"de\\u0301c\\u0327u/1.mp4' and '.*d\\xe9\\xe7u/1.mp4' have one name in two Unicode forms"
    with pytest.raises(DataError, match=both):
        table("folder", tmp_path, 3)


def test_published_lists_find_folders_in_either_form(tmp_path: Path) -> None:
    clips = [(f"{ONE}{k}", 1, k % 7) for k in range(10)]
    layouts.published_lists(tmp_path / "lists", "DFEW", clips, "/old/clip_224x224")
    layouts.touch(tmp_path, *(f"clip_224x224/{TWO}{k}/1.jpg" for k in range(10)), f"raw_wav/{ONE}1.wav")
    found = table("dfew", tmp_path, lists=tmp_path / "lists")
    assert {clip.id for clip in found.clips} == {clip for clip, *_ in clips}
    assert all(clip.media.is_dir() for clip in found.clips)


def test_names_are_looked_up_as_they_are_first(tmp_path: Path) -> None:
    layouts.touch(tmp_path, f"{ONE}.mp4", f"{TWO}.mp4")
    folders = Folders()
    for name in (ONE, TWO):
        assert folders.named(tmp_path / f"{name}.mp4") == tmp_path / f"{name}.mp4"
    assert folders.named(tmp_path / "none/é.mp4") == tmp_path / "none/é.mp4"
