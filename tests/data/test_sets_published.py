"""The published program's own lists, for users who move over."""

import gzip
from collections import Counter
from pathlib import Path

import layouts
import pytest

from mmadfer.data.sets import dfew, mafw, table
from mmadfer.errors import DataError

OLD = "/old/home/data"
DFEW_CLASSES = (2445, 1894, 2669, 2173, 1469, 145, 902)
MAFW_CLASSES = (1242, 1470, 1138, 1390, 1072, 639, 625, 236, 916, 262, 182)
"""How many clips the published lists have of each class."""
DFEW_FOLDS = {1: 2341, 2: 2341, 3: 2340, 4: 2339, 5: 2336}
MAFW_FOLDS = {1: 1839, 2: 1837, 3: 1833, 4: 1832, 5: 1831}
CLIPS = "/dfew/clip_224x224"
SMALL = [(f"{number:05d}", 3, number % 7) for number in range(1, 11)]


def small(root: Path, start: str = f"{OLD}/dfew/clip_224x224", name: str = "DFEW", ending: str = "") -> Path:
    return layouts.published_lists(root / "lists", name, SMALL, start, ending)


def with_frames(folder: Path, count: int = 3) -> Path:
    for clip, _, _ in SMALL:
        layouts.touch(folder / clip, *(f"{k}.jpg" for k in range(count)))
    layouts.touch(folder.parent, "raw_wav/1.wav")
    return folder


def full_size(root: Path, name: str, classes: tuple[int, ...], folds: dict[int, int], prefix: str) -> Path:
    """Lists as long as the published ones."""
    labels = [label for label, count in enumerate(classes) for _ in range(count)]
    lines = [f"{prefix}/{number:05d} 40 {label}" for number, label in enumerate(labels, start=1)]
    for fold, size in folds.items():
        mine, lines = lines[:size], lines[size:]
        (root / f"{name}_set_{fold}_test.txt.gz").write_bytes(gzip.compress("\n".join(mine).encode()))
    return root


@pytest.mark.parametrize(
    ("name", "labels", "classes", "folds", "clips"),
    [
        ("dfew", dfew.LABELS, DFEW_CLASSES, DFEW_FOLDS, "dfew/clip_224x224"),
        ("mafw", mafw.LABELS, MAFW_CLASSES, MAFW_FOLDS, "mfaw/clips_faces"),
    ],
)
def test_lists_of_the_published_size(
    tmp_path: Path, name: str, labels: tuple[str, ...], classes: tuple[int, ...], folds: dict[int, int], clips: str
) -> None:
    lists = full_size(tmp_path, name.upper(), classes, folds, f"{OLD}/{clips}")
    (tmp_path / clips / "00001").mkdir(parents=True)
    layouts.touch(tmp_path / clips, "../raw_wav/1.wav", "../clips_wav/00001.wav")
    found = table(name, tmp_path, 5, lists)
    assert len(found.clips) == len({clip.id for clip in found.clips}) == {"dfew": 11_697, "mafw": 9_172}[name]
    assert Counter(clip.fold for clip in found.clips) == folds
    assert tuple(Counter(clip.label for clip in found.clips)[label] for label in labels) == classes
    assert found.labels == labels
    assert not [note for note in found.notes if "listed or found" in note]


@pytest.mark.parametrize(("root", "end"), [("new", ""), ("new/dfew", "/dfew"), ("new/dfew/clip_224x224", CLIPS)])
def test_the_prefix_is_found(tmp_path: Path, root: str, end: str) -> None:
    clips = with_frames(tmp_path / "new/dfew/clip_224x224")
    layouts.touch(tmp_path, "new/dfew/raw_wav/1.wav", "new/dfew/raw_wav/00002.wav")
    found = table("dfew", tmp_path / root, 5, small(tmp_path))
    assert [(clip.id, clip.media, clip.cropped) for clip in found.clips] == [(i, clips / i, True) for i, _, _ in SMALL]
    assert [clip.label for clip in found.clips[:7]] == [*dfew.LABELS[1:], "happy"]
    assert [clip.sound for clip in found.clips] == [
        clips.parent / f"raw_wav/{'00002' if k == 2 else k}.wav" for k in range(1, 11)
    ]
    notes = "\n".join(found.notes)
    assert f", {OLD}{end} was replaced by {tmp_path / root}" in notes
    assert "8 of 10 clips have no file with sound" in found.warnings[0]
    assert "numbers of images" not in notes


def test_the_prefix_is_given(tmp_path: Path) -> None:
    clips = with_frames(tmp_path / "x/dfew/clip_224x224")
    lists = small(tmp_path)
    for prefix in (OLD, f"{OLD}/"):
        assert table("dfew", tmp_path / "x", 5, lists, prefix).clips[0].media == clips / "00001"
    with pytest.raises(
        DataError, match=r"test.txt, line 1: /old/.* does not start with /mine/; give the right --prefix"
    ):
        table("dfew", tmp_path / "x", 5, lists, "/mine")
    with pytest.raises(DataError, match=r"none of the 10 listed clips.*x/data/dfew.*in place of /old/home"):
        table("dfew", tmp_path / "x", 5, lists, "/old/home")


def test_lists_of_another_system(tmp_path: Path) -> None:
    clips = with_frames(tmp_path / "clip_224x224")
    lists = small(tmp_path, "D:\\my data\\\\clip_224x224\\", ending="_faces")
    for path in lists.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b" \r\n\r\n"))
    for prefix in (None, "D:\\my data"):
        assert table("dfew", tmp_path, 5, lists, prefix).clips[9].media == clips / "00010"


def test_mafw_sound_and_counts(tmp_path: Path) -> None:
    clips = with_frames(tmp_path / "mfaw/clips_faces", count=4)
    layouts.touch(clips, "00001/4.jpg", "00001/.hidden")
    layouts.touch(tmp_path, "mfaw/clips_wav/00001.wav")
    lists = small(tmp_path, f"{OLD}/mfaw/clips_faces", "MAFW", "_faces")
    layouts.touch(lists, "MAFW_set_1_train_faces.txt", "DFEW_set_9_test.txt")
    found = table("mafw", tmp_path, 5, lists)
    assert found.clips[0].sound == tmp_path / "mfaw/clips_wav/00001.wav"
    assert found.clips[0].label == "sadness"
    assert "1 clips have other numbers of images than listed: 00001 (5, not 4)" in found.notes


def test_clips_that_are_not_there_stay_in_the_table(tmp_path: Path) -> None:
    clips = with_frames(tmp_path / "clip_224x224")
    clips.joinpath("00007").rename(tmp_path / "elsewhere")
    found = table("dfew", tmp_path, 5, small(tmp_path))
    assert len(found.clips) == 10
    assert any("1 of 10 listed clips are not there" in note and "00007" in note for note in found.notes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("00002 3 2", "00002 3", r"set_2_test.txt, line 1: .* is not `folder count label`"),
        ("00002 3 2", "00002 3 x", r"set_2_test.txt, line 1: .* is not"),
        ("00002 3 2", "00002 3 7", r"set_2_test.txt, line 1: label 7 is not from 0 to 6"),
        ("00002 3 2", "00002 -3 2", r"set_2_test.txt, line 1: .* is not"),
        ("00002 3 2", "0\0002 3 2", r"set_2_test.txt, line 1 has control characters"),
        ("00002 3 2", ".. 3 2", r"set_2_test.txt, line 1: clip id '..' cannot be stored"),
        ("00002 3 2", "00001 3 1", r"'00001' is in the test lists of folds 1 and 2"),
        ("00007 3 0", "00002 3 0", r"set_2_test.txt, line 2: clip '00002' is already in .*line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with_frames(tmp_path / "clip_224x224")
    path = small(tmp_path) / "DFEW_set_2_test.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        table("dfew", tmp_path, 5, tmp_path / "lists")


def test_there_must_be_five_test_lists(tmp_path: Path) -> None:
    lists = small(tmp_path)
    (lists / "DFEW_set_4_test.txt").rename(lists / "DFEW_set_4_train.txt")
    with pytest.raises(DataError, match=r"must have 5 test lists.*there are 1, 2, 3, 5"):
        table("dfew", tmp_path, 5, lists)
    with pytest.raises(DataError, match=r"there are none"):
        table("mafw", tmp_path, 5, lists)
    (lists / "DFEW_set_4_test.txt.gz").write_bytes(b"not a gzip")
    with pytest.raises(DataError, match=r"set_4_test.txt.gz is not a readable list"):
        table("dfew", tmp_path, 5, lists)
    (lists / "DFEW_set_1_test.txt.gz").touch()
    with pytest.raises(DataError, match=r"two lists of fold 1: DFEW_set_1_test.txt and DFEW_set_1_test.txt.gz"):
        table("dfew", tmp_path, 5, lists)


def test_only_the_sets_of_the_published_program_take_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--lists is for dfew and mafw"):
        table("mafw_compound", tmp_path, 5, tmp_path)
    with pytest.raises(DataError, match=r"--prefix only for --lists"):
        table("dfew", tmp_path, 5, None, "/x")
    with pytest.raises(DataError, match=r"DFEW has 5 folds of its own, and data.folds is 4"):
        table("dfew", tmp_path, 4, tmp_path)
