"""Reading that takes too long is given up, at the next packet."""

import time
from itertools import islice
from pathlib import Path

import make_media
import pytest

from mmadfer.data import deadline, media
from mmadfer.errors import ClipError


def test_pictures_and_sound_are_given_up_when_the_time_is_over(tmp_path: Path) -> None:
    path = make_media.video(tmp_path / "a.mp4")
    for read in (media.read_frames, media.sound_chunks):
        with deadline.within(0.2):
            found = iter(read(path))
            next(found)
            time.sleep(0.25)
            with pytest.raises(ClipError, match=r"a\.mp4 is not read within 0\.2 s, .*shorter ones") as caught:
                list(found)
            assert caught.value.reason == "too slow"


def test_what_is_in_time_is_read_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = make_media.video(tmp_path / "a.mp4")
    with deadline.within(60):
        assert len(list(media.read_frames(path))) == 25
    with pytest.raises(ClipError), deadline.within(-1):
        next(media.read_frames(path))
    assert len(list(islice(media.read_frames(path), 3))) == 3
