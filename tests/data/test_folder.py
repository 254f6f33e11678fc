import os
from collections import Counter
from pathlib import Path

import pytest
from layouts import touch

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import sets
from mmadfer.data.preparation.workers import ClipJob, prepare_clip
from mmadfer.errors import DataError


def test_labels_clips_and_folds_are_found(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{k}.mp4" for label in ("sad", "glad") for k in range(10)))
    table = sets.table("folder", tmp_path, 5)
    assert table.labels == ("glad", "sad")
    assert [clip.id for clip in table.clips] == [f"{label}/{k}" for label in ("glad", "sad") for k in range(10)]
    assert Counter((clip.label, clip.fold) for clip in table.clips) == {
        (label, fold): 2 for label in ("glad", "sad") for fold in range(1, 6)
    }
    assert (table.root, table.notes) == (tmp_path, ())
    assert table.clips[0].media == tmp_path / "glad/0.mp4"


def test_other_files_are_passed_over_and_told(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.MP4", "a/1.webm", "a/2.mov", "b/3.flv", "b/.hidden.mp4", ".cache/4.mp4", "loose.mp4")
    touch(tmp_path, "a/list.csv", "a/more.csv", "b/README", "b/deeper/5.mp4")
    table = sets.table("folder", tmp_path, 2)
    assert [clip.id for clip in table.clips] == ["a/1.MP4", "a/1.webm", "a/2", "b/3"]
    text = " ".join(table.notes)
    assert "3 files" in text
    assert "2 .csv" in text
    assert "1 readme" in text.lower()
    assert "b/deeper" in text
    assert "fewer clips than folds" in text
    assert text.endswith("b")


def test_no_clip_is_dropped_for_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.mp4", "x/a.mov", "x/a.mp4.mp4", "y/a.mp4")
    found = {clip.id: clip.media.name for clip in sets.table("folder", tmp_path, 2).clips}
    assert found == {"x/a.mp4": "a.mp4", "x/a.mov": "a.mov", "x/a.mp4.mp4": "a.mp4.mp4", "y/a": "a.mp4"}


def test_the_name_does_not_depend_on_how_root_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "mine/a/1.mp4", "mine/b/1.mp4")
    monkeypatch.chdir(tmp_path / "mine/a")
    found = sets.table("folder", "..", 2)
    assert found == sets.table("folder", tmp_path / "mine", 2)
    assert found.name == "mine"


def test_labels_that_look_alike_are_noted(tmp_path: Path) -> None:
    notes = sets.table("folder", touch(tmp_path, "Sad/1.mp4", "sad /2.mp4", "glad/3.mp4"), 3).notes
    assert "labels that differ only in case or blanks are separate ones: 'Sad', 'sad '" in notes


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "no clips"),
        ([".git/a.mp4"], "no clips"),
        (["a.mp4", "b.mp4"], "2 clips outside of label folders"),
        (["x/a.txt", "y/b.jpg"], "2 folders, with 2 files that are not video"),
        (["x/a.mp4", "x/b.mp4", "y/c.txt"], "a single label, 'x', with 2 clips"),
    ],
)
def test_what_is_found_instead_is_told(tmp_path: Path, names: list[str], found: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=f"{found}.*expected <label>/<clip>.mp4"):
        sets.table("folder", tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", touch(tmp_path, "file") / "file"):
        with pytest.raises(DataError, match=f"{path.name} is not a folder; expected"):
            sets.table("folder", path)


def test_fewer_clips_than_folds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 clips cannot make 5 folds"):
        sets.table("folder", touch(tmp_path, "a/1.mp4", "b/1.mp4"), 5)


def test_names_that_cannot_be_stored(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(DataError, match=r"clip id 'a/caf.*cannot be stored.*Rename"):
        sets.table("folder", tmp_path, 2)


def test_unknown_sets_are_listed() -> None:
    with pytest.raises(DataError, match=r"no data set 'fodler': did you mean folder\? Known are .*toy"):
        sets.table("fodler", ".")


def test_tables_are_checked() -> None:
    clip = sets.SourceClip("a", Path("/x/a.mp4"), "glad", 1)
    for clips, word in (
        ([], "no clips"),
        ([clip, clip], "twice"),
        ([sets.SourceClip("b", Path("b"), "?", 1)], "labels are"),
    ):
        with pytest.raises(DataError, match=word):
            sets.ClipTable("set", ("glad", "sad"), clips)
    with pytest.raises(DataError, match="fold 0"):
        sets.ClipTable("set", ("glad",), [sets.SourceClip("b", Path("b"), "glad", 0)])


def test_a_link_to_itself_is_left_to_preparation(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{k}.mp4" for label in ("sad", "glad") for k in range(2)))
    for name in ("sad/loop.mp4", "sad/loop", "loop"):
        (tmp_path / name).symlink_to(tmp_path / name)
    table = sets.table("folder", tmp_path, 2)
    assert [clip.id for clip in table.clips] == ["glad/0", "glad/1", "sad/0", "sad/1", "sad/loop"]
    outcome = prepare_clip(ClipJob(table.clips[-1], "sad/loop.mp4", PrepareConfig()))
    assert outcome.reason == "unreadable"


def test_names_that_cannot_be_ids_are_told_together(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/1.mp4", *(f"b/{k}\n.mp4" for k in range(6)))
    (tmp_path / os.fsdecode(b"a/\xff.mp4")).touch()
    with pytest.raises(DataError, match=r"7 clip ids, 'a/\\udcff', 'b/0\\n', .*, … cannot be stored.*Rename the files"):
        sets.table("folder", tmp_path, 2)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("glad", "sad\u202e"), r"control characters or line breaks: 'sad\\u202e'"),
        (("glad", "sad", "glad"), r"names twice among its labels.*: 'glad', 'glad'"),
    ],
)
def test_labels_are_lines_of_their_own(tmp_path: Path, labels: tuple[str, ...], words: str) -> None:
    source = sets.SourceClip(id="a", media=tmp_path / "a.mp4", label="glad", fold=1)
    with pytest.raises(DataError, match=words):
        sets.ClipTable("set", labels, [source])
