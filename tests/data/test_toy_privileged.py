"""The toy set with privileged sound: the voice tells the class, the face tells it with errors, and it is made once."""

from pathlib import Path

import numpy as np
import pytest

from mmadfer.data.sets import table, toy_privileged
from mmadfer.errors import DataError


def test_the_voice_rises_with_the_label_and_the_mouth_is_wrong_by_clips() -> None:
    """Of clips in the order of their arousal, the loudness rises; pictures are those of this number alone."""
    made = [toy_privileged.content(k) for k in range(10)]
    video, sound, _ = made[3]
    assert video.shape == (toy_privileged.FRAMES, 160, 160, 3)
    assert len(sound) == toy_privileged.FRAMES * 16000 // toy_privileged.FPS
    np.testing.assert_array_equal(toy_privileged.content(3)[0], video)
    loudness = [float(np.square(sound).mean()) for _, sound, _ in sorted(made, key=lambda clip: clip[2])]
    assert loudness == sorted(loudness)
    arousal = [arousal for _, _, arousal in made]
    assert [int(5 * one) for one in arousal] == [0, 1, 2, 3, 4] * 2


def test_it_is_made_once_and_folds_have_all_labels(tmp_path: Path) -> None:
    toy_privileged.make(tmp_path / "media", clips=10, jobs=1)
    files = sorted((tmp_path / "media" / "clips").glob("*.mp4"))
    times = [file.stat().st_mtime_ns for file in files]
    found = table("toy_privileged", tmp_path / "media", folds=2)
    assert [file.stat().st_mtime_ns for file in files] == times
    assert sorted(clip.media for clip in found.clips) == files
    for fold in (1, 2):
        assert sorted(clip.label for clip in found.clips if clip.fold == fold) == sorted(toy_privileged.AROUSAL)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="is not a toy_privileged set and not empty"):
        toy_privileged.table(tmp_path)
    (tmp_path / "plan.json").write_text('{"name": "toy"}')
    with pytest.raises(DataError, match="holds another toy set"):
        toy_privileged.table(tmp_path)
