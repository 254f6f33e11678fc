"""From the owners' layouts to a store, with their oddities."""

from pathlib import Path

import layouts
import make_media
import pytest

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import crema_d, table
from mmadfer.data.store.store import Store

pytestmark = pytest.mark.slow

FRAMES = {1: 7, 2: 16, 262: 847, 2522: 17, 12583: 20}
SIDE = 48


@pytest.fixture
def dfew(tmp_path: Path) -> Path:
    """Sound named `1.wav`, beside `00001/`; one clip without."""
    root = layouts.dfew_lists(tmp_path / "DFEW", {number: 1 + k for k, number in enumerate(FRAMES)})
    for number, count in FRAMES.items():
        layouts.frames(root / f"Clip/clip_224x224/{number:05d}", count, SIDE)
        if number != 2522:
            layouts.wav(root / f"Clip/clip_224x224/{number}.wav", seconds=count / 25)
    return root


def test_dfew(dfew: Path, tmp_path: Path) -> None:
    summary = prepare(table("dfew", dfew), tmp_path / "dfew.store", PrepareConfig(face_size=SIDE))
    assert [(left.id, left.reason) for left in summary.left] == [("02522", "no sound")]
    with Store(tmp_path / "dfew.store") as store:
        counts = {int(clip.id): clip.frames for clip in store.clips.values()}
        assert counts == {number: count for number, count in FRAMES.items() if number != 2522}
        clip = store.clips["00262"]
        assert (clip.label, clip.fold, clip.rate, clip.silent) == ("neutral", 3, 16000, False)
        assert (clip.media, clip.sound) == ("clip_224x224/00262", "clip_224x224/262.wav")
        files = [(dfew / f"Clip/clip_224x224/00262/{k}.jpg").read_bytes() for k in range(1, 848)]
        assert store.read("00262").jpegs == files  # in the order of their numbers, and not encoded again
        assert store.verify() == []


def test_mafw_with_a_silent_film(tmp_path: Path) -> None:
    names = dict(zip(("00025", "00026", "00027", "00028", "10045"), ["anger", "fear"] * 3, strict=False))
    root = layouts.mafw_lists(tmp_path / "MAFW", names)
    for name in names:
        sound = None if name == "10045" else make_media.tone(0.4)
        make_media.write_video(root / f"data/clips/{name}.mp4", make_media.moving_face(10), sound)
    settings = PrepareConfig(face_size=SIDE, detect_every=100, no_sound="silence")
    assert prepare(table("mafw", root), tmp_path / "mafw.store", settings).left == []
    with Store(tmp_path / "mafw.store") as store:
        assert {clip.id: (clip.silent, clip.rate) for clip in store.clips.values()} == {
            **dict.fromkeys(names, (False, make_media.RATE)),
            "10045": (True, 0),
        }


def test_crema_d_with_four_broken_clips(tmp_path: Path) -> None:
    root = tmp_path / "CREMA-D"
    names = [f"{1001 + k}_DFA_{code}_XX" for k, code in enumerate([*crema_d.CODES, "ANG", "SAD", "HAP"])]
    for name in names:
        layouts.flv(root / f"VideoFlash/{name}.flv")
        layouts.wav(root / f"AudioWAV/{name}.wav")
    zero, cut, mute, text = names[:4]
    (root / f"VideoFlash/{zero}.flv").write_bytes(b"")
    whole = (root / f"VideoFlash/{cut}.flv").read_bytes()
    (root / f"VideoFlash/{cut}.flv").write_bytes(whole[: len(whole) // 3])
    (root / f"AudioWAV/{mute}.wav").unlink()
    (root / f"VideoFlash/{text}.flv").write_text("404: Not Found")
    settings = PrepareConfig(face_size=SIDE, detect_every=100, sound=SoundConfig(rate=16000))
    found = table("crema_d", root)
    summary = prepare(found, tmp_path / "crema_d.store", settings)
    reasons = {left.id: left.reason for left in summary.left}
    assert reasons == {zero: "unreadable", cut: "unreadable", mute: "no sound", text: "unreadable"}
    with Store(tmp_path / "crema_d.store") as store:
        assert sorted(store.clips) == sorted({*names} - {*reasons})
        clip = store.clips[names[4]]
        assert (clip.label, clip.subject, clip.frames) == ("neutral", "1005", 12)
        assert (clip.media, clip.sound) == (f"VideoFlash/{clip.id}.flv", f"AudioWAV/{clip.id}.wav")
        assert {c.id: c.fold for c in store.clips.values()}.items() <= {c.id: c.fold for c in found.clips}.items()
