"""What overlay videos show: of many people, of a moment, and of sound that cannot be read."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.video_writer import VideoWriter
from mmadfer.data.sets.toy import TOY_FPS, VOICE_RATE_HZ, write_clip
from mmadfer.errors import DataError
from mmadfer.runtime import Prediction, Video
from mmadfer.runtime.overlay import Place, _encoding, write_overlay

SIZE = (96, 128)
ROOM, TRACK, PAD, PANEL = 240, 26, 6, 232
"""Least height of the picture with black below, of a timeline, what is around things, and width of the panel."""
NAMES = tuple("abcdefg")


def clip(path: Path, pictures: int = 10) -> Path:
    sound = np.zeros(VOICE_RATE_HZ * pictures // TOY_FPS, np.float32)
    write_clip(path, np.full((pictures, *SIZE, 3), 128, np.uint8), sound)
    return path


def segment(start: float, end: float, label: str | None, person: int | None = None) -> dict[str, Any]:
    shares = {name: (0.4 if name == label else 0.1) for name in NAMES} if label else {}
    return {"start": start, "end": end, "label": label, "probabilities": shares, "notes": [], "person": person}


def overlay(
    out: Path, video: Video, segments: list[dict[str, Any]], people: int = 0, place: Place | None = None
) -> tuple[list[str], list[np.ndarray]]:
    """Notes and pictures."""
    told = [{"person": k, "label": "a", "probabilities": {}, "notes": []} for k in range(1, people + 1)]
    said = Prediction(str(video.path), "a", {}, segments, {}, people=told)
    notes = write_overlay(out, video, said, [place] * len(segments), PrepareConfig(), {})
    with av.open(str(out)) as file:
        return notes, [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_of_many_people_those_shown_longest_have_timelines(tmp_path: Path) -> None:
    many = [segment(0, 1 + k / 100, "a", k) for k in range(1, 701)]
    notes, pictures = overlay(tmp_path / "out.mp4", Video(clip(tmp_path / "a.mp4", 2)), many, 700)
    assert notes == ["timelines of the 8 people shown longest, of 700"]
    assert pictures[0].shape[0] == ROOM + 8 * TRACK + PAD
    notes, pictures = overlay(tmp_path / "out.mp4", Video(tmp_path / "a.mp4"), many[:8], 8)
    assert notes == []
    assert pictures[0].shape[0] == ROOM + 8 * TRACK + PAD


@pytest.mark.parametrize("people", [0, 1, 3, 8])
def test_bars_stay_beside_the_picture(tmp_path: Path, people: int) -> None:
    numbers = range(1, people + 1) if people else [None]
    told = [one for k in numbers for one in (segment(0, 0.2, "b", k), segment(0.2, 10, None, k))]
    _, pictures = overlay(tmp_path / "out.mp4", Video(clip(tmp_path / "a.mp4")), told, people)
    panel = [picture[:, SIZE[1] + PAD :].astype(int) for picture in pictures]
    changed = np.abs(panel[0] - panel[-1]).max(axis=2) > 60
    assert changed[: ROOM // 2].any()
    assert not changed[ROOM:].any()


def test_the_last_picture_has_its_box_and_label(tmp_path: Path) -> None:
    place = Place(np.zeros(1), np.array([[0.2, 0.3, 0.8, 0.9]], np.float32))
    for pictures in (1, 3):
        end = (pictures - 1) / TOY_FPS
        video = Video(clip(tmp_path / f"{pictures}.mp4", pictures))
        _, drawn = overlay(tmp_path / "out.mp4", video, [segment(0, end, "a")], place=place)
        assert len(drawn) == pictures
        for picture in drawn:
            assert (np.ptp(picture[: SIZE[0], : SIZE[1]].astype(int), axis=2) > 60).any(0).sum() > 60


def test_sound_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    video, told = clip(tmp_path / "a.mp4"), [segment(0, 1, "a")]
    (tmp_path / "odd.wav").write_text("no sound")
    for sound, says in (("missing.wav", "missing.wav does not exist"), ("odd.wav", "odd.wav")):
        ((note,), _) = overlay(tmp_path / "out.mp4", Video(video, tmp_path / sound), told)
        assert note.startswith("the sound of the overlay ends at the start: ")
        assert says in note
    assert overlay(tmp_path / "out.mp4", Video(video), told)[0] == []
    with VideoWriter(tmp_path / "silent.mp4", SIZE, None) as file:
        file.write(0, np.zeros((*SIZE, 3), np.uint8))
    assert overlay(tmp_path / "out.mp4", Video(tmp_path / "silent.mp4"), told)[0] == []


def test_what_ffmpeg_cannot_encode_is_told_in_words(tmp_path: Path) -> None:
    out, size = tmp_path / "out.mp4", (20_000, 64)
    says = r"out\.mp4 cannot be encoded as H\.264 and AAC"
    with pytest.raises(DataError, match=says), _encoding(out), VideoWriter(out, size, None) as file:
        file.write(0, np.zeros((*size, 3), np.uint8))
