"""Any clips, by a CSV file."""

from pathlib import Path

import layouts
import pytest

from mmadfer.data import splits
from mmadfer.data.sets import SourceClip, table
from mmadfer.errors import DataError


def listed(root: Path, *lines: str, start: str = "") -> Path:
    layouts.touch(root, *(f"clips/{k}.mp4" for k in range(10)))
    return layouts.text(root / "clips.csv", start + "\n".join(lines) + "\n")


PLAIN = [f"clips/{k}.mp4,{'glad' if k % 2 else 'sad'}" for k in range(10)]


def test_path_and_label_are_enough(tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label", *PLAIN)
    found = table("csv", file)
    assert found.labels == ("glad", "sad")
    assert [clip.id for clip in found.clips] == [f"clips/{k}" for k in range(10)]
    labels = {clip.id: clip.label for clip in found.clips}
    assert {clip.id: clip.fold for clip in found.clips} == splits.assign(labels, 5)
    assert found == table("csv", tmp_path)
    assert (found.name, found.clips[0].media) == ("clips", tmp_path / "clips/0.mp4")


def test_all_columns_in_any_order_with_quotes_and_spreadsheet_habits(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "films/a, b.mp4", "films/frames.of/1.jpg", "sound/x.wav")
    header, full = "Sound,label,Fold,path,subject", 'sound/x.wav,sad,2,"films/a, b.mp4",ann'
    lines = [header, full, "", ",glad,1,films/frames.of,bob", ",,,,"]
    file = layouts.text(tmp_path / "my.csv", "\ufeff" + "\r\n".join(lines) + "\r\n")
    assert table("csv", file, 2).clips == [
        SourceClip("films/a, b", tmp_path / "films/a, b.mp4", "sad", 2, "ann", tmp_path / "sound/x.wav"),
        SourceClip("films/frames.of", tmp_path / "films/frames.of", "glad", 1, "bob"),
    ]


def test_paths_may_lie_anywhere(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "a/1.mp4", "b/1.mp4", "b/1.mov")
    file = layouts.text(tmp_path / "lists/x.csv", f"path,label\n{tmp_path}/a/1.mp4,x\n../b/1.mp4,y\n../b/./1.mov,y\n")
    found = table("csv", file, 2)
    assert [clip.id for clip in found.clips] == ["a/1", "b/1.mov", "b/1.mp4"]
    assert found.clips[2].media == tmp_path / "b/1.mp4"


def test_folds_are_by_subject_where_that_is_given(tmp_path: Path) -> None:
    lines = [f"{line},p{k // 2}" for k, line in enumerate(PLAIN)]
    found = table("csv", listed(tmp_path, "path,label,subject", *lines))
    assert {(clip.subject, clip.fold) for clip in found.clips} == {(f"p{k}", found.clips[2 * k].fold) for k in range(5)}


def test_a_subject_in_two_of_its_folds_is_noted(tmp_path: Path) -> None:
    lines = [f"{line},{k % 5 + 1},{'ann' if k < 3 else k}" for k, line in enumerate(PLAIN)]
    file = listed(tmp_path, "path,label,fold,subject", *lines)
    assert "1 subjects are in several folds: ann" in table("csv", file).notes


def test_clips_that_are_not_there_stay_in_the_table(tmp_path: Path) -> None:
    found = table("csv", listed(tmp_path, "path,label", *PLAIN, "clips/lost.mp4,sad"))
    assert len(found.clips) == 11
    assert f"1 of 11 listed clips are not there: {tmp_path}/clips/lost.mp4" in found.notes
    (tmp_path / "clips").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"none of the 11 listed clips is there; looked for .*paths relative to"):
        table("csv", tmp_path)


def test_folders_that_cannot_be_read_are_left_to_preparation(tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label", *PLAIN, "loop/1.mp4,sad")
    (tmp_path / "loop").symlink_to("loop")
    assert "loop/1" in {clip.id for clip in table("csv", file).clips}


def test_ids_and_folds_do_not_depend_on_how_root_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = listed(tmp_path / "g", "path,label", *PLAIN)
    (tmp_path / "link").symlink_to("g")
    (tmp_path / "h").mkdir()
    monkeypatch.chdir(tmp_path / "h")
    found = table("csv", file)
    for root in ("../g/clips.csv", "../h/../g", "../link/clips.csv", tmp_path / "link"):
        assert table("csv", root) == found


def test_above_a_link_is_the_folder_above_what_it_leads_to(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "far/away/1.mp4", "far/2.mp4", "g/2.mp4", "g/3.mp4")
    (tmp_path / "g/link").symlink_to(tmp_path / "far/away")
    lines = ["path,label", "link/1.mp4,a", "link/../2.mp4,b", "x/../3.mp4,b"]
    found = table("csv", layouts.text(tmp_path / "g/x.csv", "\n".join(lines)), 2)
    media = {clip.media.relative_to(tmp_path).as_posix() for clip in found.clips}
    assert media == {"g/link/1.mp4", "far/2.mp4", "g/3.mp4"}


def test_no_clip_is_dropped_for_its_ending(tmp_path: Path) -> None:
    names = ["a.mp4", "a.mov", "a.mp4.mp4", "b.mp4"]
    file = layouts.text(tmp_path / "x.csv", "path,label\n" + "".join(f"{n},{n[0]}\n" for n in names))
    layouts.touch(tmp_path, *names)
    assert [clip.id for clip in table("csv", file, 2).clips] == ["a.mov", "a.mp4", "a.mp4.mp4", "b"]


def test_listed_sound_that_is_not_there(tmp_path: Path) -> None:
    lines = [f"{line},sound/{k}.wav" for k, line in enumerate(PLAIN)]
    file = listed(tmp_path, "path,label,sound", *lines)
    with pytest.raises(DataError, match=r"none of 10 clips has its file with sound; looked for .*sound/0.wav"):
        table("csv", file)
    layouts.touch(tmp_path, *(f"sound/{k}.wav" for k in range(9)))
    found = table("csv", file)
    assert len(found.clips) == 10
    assert "1 of 10 clips have no file with sound" in found.warnings[0]


def test_frames_without_sound_are_a_warning(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "frames/1/1.jpg")
    (warning,) = table("csv", listed(tmp_path, "path,label", *PLAIN, "frames/1,sad")).warnings
    assert f"1 of 11 clips are no films by their names and have no `sound`: {tmp_path}/frames/1" in warning


def test_shared_sound_and_labels_that_look_alike_are_noted(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "one.wav")
    lines = ["clips/0.mp4,Very sad,one.wav", "clips/1.mp4,verysad,one.wav", "clips/2.mp4,glad,"]
    notes = table("csv", listed(tmp_path, "path,label,sound", *lines), 2).notes
    assert f"1 files with sound are those of several clips: {tmp_path}/one.wav" in notes
    assert "labels that differ only in case or blanks are separate ones: 'Very sad', 'verysad'" in notes


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1 is '';"),
        (["clips/1.mp4,sad"], "line 1 is 'clips/1.mp4,sad'; expected a header with path,label"),
        (["path|label", "clips/1.mp4|sad"], r"line 1 is 'path\|label'; .*separated by commas"),
        (["path,label,folds"], "line 1 is 'path,label,folds'"),
        (["path,label,label"], "each once"),
        (["path,label"], "0 clips of 0 labels"),
        (["path,label", "clips/1.mp4,sad"], "1 clips of 1 labels; at least two"),
        (["path,label", "clips/1.mp4,sad", "clips/2.mp4,"], "line 3 has no label"),
        (["path,label", ",sad"], "line 2 has no path"),
        (["path,label", "", "clips/2.mp4"], "line 3 has no label"),
        (["path,label", "clips/1.mp4,sad", "clips/a,b.mp4,sad"], "line 3 has more fields than the header"),
        (["path,label", '"clips/1.mp4"x,sad'], "line 2: .*quote"),
        (["path,label", '"clips/\n1.mp4",sad'], "line 3 has control characters"),
        (["path,label", "clips/\0.mp4,sad"], "line 2 has control characters"),
        (["path,label", *PLAIN, "clips/./1.mp4,sad"], r"line 12: .*clips/1.mp4 is already in line 3"),
        (["path,label,fold", "clips/1.mp4,sad,0"], "line 2 has fold '0'"),
        (["path,label,fold", "clips/1.mp4,sad,1", "clips/2.mp4,glad,"], "line 3 has fold ''"),
        (["path,label,fold", "clips/1.mp4,sad,9999999"], "line 2 has fold"),
        (["path,label,fold", "clips/1.mp4,sad,1", "clips/2.mp4,glad,3"], "in fold 3 and none in fold 2"),
        (["path,label,fold", "clips/1.mp4,sad,1", "clips/2.mp4,glad,2"], "2 folds of its own.*set data.folds=2"),
        (["path,label,subject", "clips/1.mp4,sad,ann", "clips/2.mp4,glad,"], "line 3 has no subject"),
        (["path,label", f"clips/{'x' * 210}.mp4,sad", "clips/1.mp4,glad"], "line 2: clip id .*cannot be stored"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=f"(?s)clips.csv.*{message}"):
        table("csv", listed(tmp_path, *lines))


def test_files_that_are_not_one_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 CSV files; give the file itself"):
        table("csv", tmp_path)
    layouts.touch(tmp_path, "a.csv", "b.CSV")
    with pytest.raises(DataError, match=r"has 2 CSV files: a.csv, b.CSV"):
        table("csv", tmp_path)
    (tmp_path / "a.csv").write_bytes("path,label\nf\xfcr.mp4,sad\n".encode("latin-1"))
    for name, words in (("a.csv", "a.csv, line 2 is not UTF-8 text .*Excel"), ("none.csv", "none.csv is not a read")):
        with pytest.raises(DataError, match=f"{words}.*must be a CSV file with a header"):
            table("csv", tmp_path / name)
