"""Clips in real worker processes: what hangs or is not ours to read is listed, and the others go on."""

import os
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from make_media import moving_face, portrait, video, write_images
from PIL import Image

from mmadfer.config import PrepareConfig
from mmadfer.data.sets import Source
from mmadfer.data.workers import Task, outcomes, prepare_clip
from mmadfer.errors import DataError

SETTINGS = PrepareConfig(face_size=32, face_box="union", no_sound="silence")


def task(media: Path) -> Task:
    return Task(Source(media.stem, media, "glad", 1), media.name, SETTINGS)


def endless(folder: Path) -> Path:
    """A clip that would take some minutes: 300 links to one large picture, whose faces are looked for at full size."""
    large = np.asarray(Image.fromarray(portrait()).resize((2000, 1500), Image.Resampling.BILINEAR))
    write_images(folder, [large], "jpg")
    for k in range(1, 300):
        (folder / f"{k}.jpg").symlink_to("0.jpg")
    return folder


def test_a_clip_that_never_ends_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    good = [write_images(tmp_path / name, moving_face(2)) for name in ("a", "c", "d")]
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    begin = monotonic()
    tasks = [task(path) for path in (good[0], endless(tmp_path / "b"), pipe, *good[1:])]
    found = list(outcomes(tasks, jobs=2, seconds=6))
    assert [outcome.id for outcome in found] == ["a", "b", "pipe", "c", "d"]
    assert [outcome.reason for outcome in found] == ["", "unreadable", "unreadable", "", ""]
    assert "took longer than 6 s" in found[1].detail
    assert "is not a file" in found[2].detail
    assert monotonic() - begin < 90


def test_the_index_says_what_a_clip_was_made_of(tmp_path: Path) -> None:
    folder, film = write_images(tmp_path / "frames", moving_face(2)), video(tmp_path / "a.mp4", 0.2)
    source = Source("a", folder, "glad", 1, sound=film, cropped=True)
    clip = prepare_clip(Task(source, "frames", SETTINGS, "a.mp4")).clip
    assert clip is not None
    assert (clip.media, clip.sound, clip.rate, clip.silent, clip.cropped) == ("frames", "a.mp4", 44100, False, True)
    outcome = prepare_clip(task(folder))
    assert outcome.clip is not None
    assert (outcome.clip.sound, outcome.clip.rate, outcome.clip.silent, outcome.clip.cropped) == (None, 0, True, False)
    assert "silence in its place" in outcome.clip.note


def test_a_folder_that_vanished_is_listed(tmp_path: Path) -> None:
    outcome = prepare_clip(task(tmp_path / "gone"))
    assert (outcome.reason, outcome.clip) == ("unreadable", None)
    assert "does not exist" in outcome.detail


def test_a_disk_that_fails_under_a_folder_stops_preparation(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", moving_face(2))
    (folder / "1.png").unlink()
    (folder / "1.png").symlink_to("/proc/self/mem")  # a file whose first byte gives an input error
    with pytest.raises(DataError, match=r"1\.png cannot be read: Input/output error.*run the same command"):
        prepare_clip(task(folder))
