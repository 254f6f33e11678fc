"""Lists as other systems and programs write them, and lists that are none."""

import gzip
import resource
import subprocess
import sys
from pathlib import Path

import layouts
import pytest

from mmadfer.data.sets import listing, table
from mmadfer.errors import DataError

CLIPS = [f"clips/{k}.mp4" for k in range(4)]
LINES = ["path,label", *(f"{path},{'wütend' if k % 2 else 'sad'}" for k, path in enumerate(CLIPS))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.touch(tmp_path, *CLIPS)


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_file_as_spreadsheets_write_it(root: Path, coding: str, separator: str, end: str) -> None:
    text = end.join(line.replace(",", separator) for line in LINES) + end
    (root / "x.csv").write_bytes(text.encode(coding))
    found = table("csv", root / "x.csv", 2)
    assert found.labels == ("sad", "wütend")
    assert [clip.media for clip in found.clips] == [root / path for path in CLIPS]


def test_paths_of_windows_are_read(root: Path) -> None:
    layouts.touch(root, "sound/0.wav")
    lines = [line.replace("/", "\\") + "," for line in LINES[1:]]
    lines[0] += ".\\sound\\0.wav"
    found = table("csv", layouts.text(root / "x.csv", "\r\n".join(["path,label,sound", *lines])), 2)
    assert [clip.id for clip in found.clips] == ["clips/0", "clips/1", "clips/2", "clips/3"]
    assert [clip.media for clip in found.clips] == [root / path for path in CLIPS]
    assert found.clips[0].sound == root / "sound/0.wav"


def test_a_file_of_that_very_name_is_taken(root: Path) -> None:
    (root / "clips\\0.mp4").touch()
    file = layouts.text(root / "x.csv", "path,label\nclips\\0.mp4,a\nclips\\1.mp4,b\n")
    with pytest.raises(DataError, match=r"line 2: clip id 'clips\\\\0' cannot be stored"):
        table("csv", file, 2)


@pytest.mark.parametrize("path", ["C:\\films\\0.mp4", "d:/films/0.mp4", "\\\\server\\films\\0.mp4"])
def test_paths_that_only_windows_can_follow_are_named(root: Path, path: str) -> None:
    file = layouts.text(root / "x.csv", f"path,label\n{path},a\nclips/1.mp4,b\n")
    with pytest.raises(DataError, match=r"x.csv, line 2: .* is a path of a Windows computer: write paths relative"):
        table("csv", file, 2)


def test_empty_columns_and_fractions_of_programs_are_no_matter(root: Path) -> None:
    lines = [f"{path},{'ab'[k % 2]},{k % 2 + 1}.0,," for k, path in enumerate(CLIPS)]
    found = table("csv", layouts.text(root / "x.csv", "\n".join(["path,label,fold,,", *lines])), 2)
    assert [clip.fold for clip in found.clips] == [1, 2, 1, 2]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "null", "None", "<NA>"])
def test_a_value_that_is_missing_is_no_label_and_nobody(root: Path, word: str) -> None:
    file = layouts.text(root / "x.csv", "\n".join([*LINES, f"clips/9.mp4,{word}"]))
    with pytest.raises(DataError, match=f"line 6 has no label .'{word}' says that there is none"):
        table("csv", file, 2)
    people = [f"{line},{'ann' if k else word}" for k, line in enumerate(LINES[1:])]
    file = layouts.text(root / "x.csv", "\n".join(["path,label,subject", *people]))
    with pytest.raises(DataError, match="line 2 has no subject"):
        table("csv", file, 2)
    file = layouts.text(root / "x.csv", "\n".join(["path,label,subject", *(f"{line},{word}" for line in LINES[1:])]))
    assert {clip.subject for clip in table("csv", file, 2).clips} == {None}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("path,label\nfür.mp4,sad\n".encode("cp1252"), r"line 2 is not UTF-8 text .byte 0xfc.*Excel: CSV UTF-8"),
        ("\n".join(LINES).encode("utf-16-le"), "UTF-16 or UTF-32 without a mark"),
        ("\n".join(LINES).encode("utf-32"), "UTF-16 or UTF-32 without a mark"),
        (b'path,label\n"' + b"a" * 200_000 + b'",b\n', "line 2: field larger than .* and close the quotes"),
    ],
)
def test_what_cannot_be_read_is_told(root: Path, data: bytes, words: str) -> None:
    (root / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match=f"(?s)x.csv.*{words}"):
        table("csv", root / "x.csv", 2)


def test_every_ending_of_a_film_is_one(tmp_path: Path) -> None:
    films = [f"{k}.{ending}" for k, ending in enumerate(("ts", "MPG", "mpeg", "m2ts", "vob", "3gp", "wmv", "mjpg"))]
    layouts.touch(tmp_path, *films)
    lines = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(films)]
    found = table("csv", layouts.text(tmp_path / "x.csv", "\n".join(["path,label", *lines])), 2)
    assert [clip.id for clip in found.clips] == [str(k) for k in range(len(films))]
    assert found.warnings == ()


def test_a_sheet_beside_what_systems_leave_is_the_only_one(root: Path) -> None:
    layouts.text(root / "x.csv", "\n".join(LINES))
    layouts.touch(root, "._x.csv")
    assert len(table("csv", root, 2).clips) == 4


SWOLLEN = """
import sys
from pathlib import Path
from mmadfer.data.sets import listing
from mmadfer.errors import DataError
try:
    listing.list_text(Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


def test_a_list_that_swells_is_refused_as_it_comes(tmp_path: Path) -> None:
    bomb = tmp_path / "set_1.csv.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(16):
            file.write(bytes(2**26))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))  # it unpacks to 1 GiB

    said = subprocess.run(
        [sys.executable, "-c", SWOLLEN, bomb], preexec_fn=limit, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "set_1.csv.gz unpacks to more than 67108864 bytes" in said


def test_a_list_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(DataError, match=r"a.txt is larger than the 67108864 bytes"):
        listing.list_text(tmp_path / "a.txt")
