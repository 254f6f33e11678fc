"""CREMA-D and RAVDESS: labels and actors are in the names, and nobody is in two folds."""

from collections import Counter
from itertools import product
from pathlib import Path

import layouts
import pytest

from mmadfer.data.sets import ClipTable, biovid, crema_d, ravdess, table
from mmadfer.errors import DataError

ACTORS = [str(1000 + k) for k in range(1, 92)]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def crema(root: Path, actors: list[str]) -> Path:
    for actor, code in product(actors, crema_d.CODES):
        layouts.touch(root, f"VideoFlash/{actor}_DFA_{code}_XX.flv", f"AudioWAV/{actor}_DFA_{code}_XX.wav")
    return root


def speech(actor: int, emotion: int, start: str = "01-01") -> str:
    return f"{start}-{emotion:02d}-01-01-01-{actor:02d}.mp4"


def actors_and_folds(found: ClipTable) -> dict[str | None, set[int]]:
    return {who: {clip.fold for clip in found.clips if clip.subject == who} for who in {c.subject for c in found.clips}}


def test_crema_d(tmp_path: Path) -> None:
    found = table("crema_d", crema(tmp_path, ACTORS[:10]))
    clip = found.clips[0]
    assert (clip.id, clip.label, clip.subject) == ("1001_DFA_ANG_XX", "anger", "1001")
    assert clip.media == tmp_path / "VideoFlash/1001_DFA_ANG_XX.flv"
    assert clip.sound == tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    assert not clip.cropped
    assert [clip.label for clip in found.clips[:6]] == ["anger", "disgust", "fear", "happy", "neutral", "sad"]
    assert found.root == tmp_path


def test_no_actor_of_crema_d_is_in_two_folds(tmp_path: Path) -> None:
    found = table("crema_d", crema(tmp_path, ACTORS))
    folds = actors_and_folds(found)
    assert len(folds) == 91
    assert all(len(where) == 1 for where in folds.values())
    assert sorted(Counter(min(where) for where in folds.values()).values()) == [18, 18, 18, 18, 19]
    assert {clip.fold for clip in table("crema_d", tmp_path, folds=7).clips} == {*range(1, 8)}


def test_crema_d_that_is_not_whole(tmp_path: Path) -> None:
    crema(tmp_path / "CREMA-D", ACTORS[:5])
    root = tmp_path / "CREMA-D"
    (root / "AudioWAV/1001_DFA_ANG_XX.wav").unlink()
    (root / "VideoFlash/1002_DFA_ANG_XX.flv").unlink()
    layouts.touch(root, "VideoFlash/1004_ITH_SAD_X.flv", "VideoFlash/1004_ITH_SAD_X.txt", "AudioWAV/1004_JOY.wav")
    layouts.text(root / "VideoFlash/1001_DFA_DIS_XX.flv", POINTER)
    found = table("crema_d", tmp_path)
    ids = {clip.id for clip in found.clips}
    assert len(ids) == 31
    assert {"1001_DFA_ANG_XX", "1002_DFA_ANG_XX", "1004_ITH_SAD_X"} <= ids
    notes = "\n".join(found.notes)
    assert "1 of 31 listed clips are not there" in notes
    assert "1002_DFA_ANG_XX.flv" in notes
    assert "2 other files were passed over: 1004_ITH_SAD_X.txt, 1004_JOY.wav" in notes


def test_crema_d_of_which_only_pointers_were_fetched(tmp_path: Path) -> None:
    for path in sorted(crema(tmp_path, ACTORS[:5]).glob("VideoFlash/*")):
        path.write_text(POINTER)
    with pytest.raises(DataError, match=r"Git LFS pointers.*git lfs pull"):
        table("crema_d", tmp_path)


def test_crema_d_without_films_or_sound(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    with pytest.raises(DataError, match="no folder 'AudioWAV'"):
        table("crema_d", tmp_path)
    layouts.touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    with pytest.raises(DataError, match="1 subjects cannot make 5 folds"):
        table("crema_d", tmp_path)
    (tmp_path / "VideoFlash/1001_DFA_ANG_XX.flv").unlink()
    with pytest.raises(DataError, match=r"none of the 1 listed clips is there.*1001_DFA_ANG_XX.flv"):
        table("crema_d", tmp_path)


@pytest.mark.parametrize("deeper", ["", "RAVDESS/", "ravdess/Video_Speech_Actor_{:02d}/"])
def test_ravdess(tmp_path: Path, deeper: str) -> None:
    for actor, emotion in product(range(1, 25), range(1, 9)):
        layouts.touch(tmp_path, f"{deeper.format(actor)}Actor_{actor:02d}/{speech(actor, emotion)}")
    found = table("ravdess", tmp_path)
    folds = actors_and_folds(found)
    assert len(found.clips) == 192
    assert [clip.label for clip in found.clips[::24]] == [*ravdess.LABELS]
    assert (found.clips[0].id, found.clips[0].subject, found.clips[0].sound) == ("01-01-01-01-01-01-01", "01", None)
    assert sorted(folds, key=str) == [f"{actor:02d}" for actor in range(1, 25)]
    assert all(len(where) == 1 for where in folds.values())


def test_ravdess_speech_only_and_with_both_streams(tmp_path: Path) -> None:
    for actor in range(1, 6):
        folder = f"Actor_{actor:02d}"
        layouts.touch(tmp_path, f"{folder}/{speech(actor, 3)}", f"{folder}/{speech(actor, 3, '02-01')}")
        layouts.touch(tmp_path, f"{folder}/{speech(actor, 3, '01-02')}", f"{folder}/.DS_Store")
    layouts.touch(tmp_path, "Actor_01/read.me", f"Actor_01/{speech(1, 9)}")
    found = table("ravdess", tmp_path)
    assert {clip.label for clip in found.clips} == {"happy"}
    assert len(found.clips) == 5
    assert "12 files were passed over: 5 songs, 5 pictures without sound, 2 of other names" in found.notes


def test_ravdess_without_a_clip_or_with_one_twice(tmp_path: Path) -> None:
    layouts.touch(tmp_path, f"Actor_01/{speech(1, 1, '02-01')}")
    with pytest.raises(DataError, match=r"no clip of RAVDESS in 1 folders of actors; expected Actor_01"):
        table("ravdess", tmp_path)
    layouts.touch(tmp_path, *(f"{copy}/Actor_{k:02d}/{speech(k, 1)}" for copy in "ab" for k in range(1, 6)))
    with pytest.raises(DataError, match=r"/a/Actor_01/.* and .*/b/Actor_01/.* are one clip"):
        table("ravdess", tmp_path)


def pain(person: str, level: str, number: int = 1) -> str:
    return f"{person}/{person}-{level}-{number:03d}.mp4"


PEOPLE = ["071309_w_21", "071313_m_41", "100909_w_65", "112209_m_51", "072514_m_27"]


@pytest.mark.parametrize("deeper", ["", "video/", "PartA/video/"])
def test_biovid(tmp_path: Path, deeper: str) -> None:
    for person, level in product(PEOPLE, biovid.LABELS):
        layouts.touch(
            tmp_path, deeper + pain(person, level), f"biosignals_filtered/{person}/{person}-{level}-001_bio.csv"
        )
    layouts.touch(tmp_path, f"{deeper}{PEOPLE[0]}/notes.txt", f"{deeper}{PEOPLE[0]}/.DS_Store")
    found = table("biovid", tmp_path)
    clip, folds = found.clips[-1], actors_and_folds(found)
    assert (clip.id, clip.label, clip.subject) == ("112209_m_51-PA4-001", "PA4", "112209_m_51")
    assert clip.media == tmp_path / f"{deeper}112209_m_51/112209_m_51-PA4-001.mp4"
    assert found.labels == ("BL1", "PA1", "PA2", "PA3", "PA4")
    assert sorted(folds, key=str) == sorted(PEOPLE)
    assert all(len(where) == 1 for where in folds.values())
    assert found.notes == (
        "25 clips are listed or found; BioVid, part A, has 8,700",
        f"1 other files were passed over: {tmp_path / deeper / PEOPLE[0] / 'notes.txt'}",
    )


def test_biovid_with_a_clip_in_another_place(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "biosignals/071309_w_21/071309_w_21-BL1-001_bio.csv")
    with pytest.raises(DataError, match="no clip of BioVid in 1 folders of people; expected folders of people"):
        table("biovid", tmp_path)
    layouts.touch(tmp_path, *(pain(person, "BL1") for person in PEOPLE), f"{PEOPLE[0]}/{PEOPLE[1]}-PA1-002.mp4")
    with pytest.raises(DataError, match="is of 071313_m_41, but lies in the folder of 071309_w_21"):
        table("biovid", tmp_path)
    (tmp_path / f"{PEOPLE[0]}/{PEOPLE[1]}-PA1-002.mp4").unlink()
    layouts.touch(tmp_path, f"mirrored/{pain(PEOPLE[0], 'BL1')}")
    with pytest.raises(DataError, match="are one clip: remove one"):
        table("biovid", tmp_path)
