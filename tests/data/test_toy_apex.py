"""The toy set with a hidden apex: what its clips show, and that it is made once."""

from pathlib import Path

import numpy as np
import pytest

from mmadfer.data.sets import toy_apex
from mmadfer.errors import DataError


@pytest.mark.parametrize("label", list(toy_apex.APEX_CLASSES))
def test_nothing_but_the_head_moves_outside_of_the_apex(label: str) -> None:
    """A face that is neutral throughout, of the same look, differs from the clip in the apex alone."""
    video, sound, start = toy_apex.content(label, 3)
    assert video.shape == (toy_apex.FRAMES, 160, 160, 3)
    assert sound.dtype == np.float32
    still, _, _ = toy_apex.content(label, 3)
    np.testing.assert_array_equal(video, still)
    steps = np.abs(np.diff(video.astype(np.int16), axis=0)).mean((1, 2, 3))
    within = slice(start, start + toy_apex.APEX_FRAMES - 1)
    outside = np.delete(steps, np.r_[within, max(0, start - 1) : start + toy_apex.APEX_FRAMES])
    assert steps[within].max() > 1.2 * np.median(outside)


def test_the_apex_is_anywhere() -> None:
    starts = {toy_apex.apex_start(label, k) for label in toy_apex.APEX_CLASSES for k in range(20)}
    assert min(starts) < 20
    assert max(starts) > 60


def test_it_is_made_once_and_listed(tmp_path: Path) -> None:
    root = tmp_path / "apex"
    toy_apex.make(root, clips_per_class=1, jobs=2)
    files = sorted(root.glob("*/*.mp4"))
    times = [file.stat().st_mtime_ns for file in files]
    table = toy_apex.table(root, 1)
    assert [file.stat().st_mtime_ns for file in files] == times
    assert sorted(clip.media for clip in table.clips) == files
    assert table.labels == ("happy", "sad", "surprise")


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="is not a toy_apex set and not empty"):
        toy_apex.table(tmp_path)
    (tmp_path / "plan.json").write_text('{"name": "toy"}')
    with pytest.raises(DataError, match="holds another toy set"):
        toy_apex.table(tmp_path)
