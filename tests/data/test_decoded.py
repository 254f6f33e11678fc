"""Pictures in memory are read as those in a folder are."""

from pathlib import Path

import make_media
import numpy as np
import pytest

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.media.frames import DecodedClip
from mmadfer.errors import ClipError

SETTINGS = PrepareConfig(face_size=64, detect_every=5)


@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS.model_copy(update={"face_box": "union"})])
@pytest.mark.parametrize("cropped", [False, True])
def test_they_give_what_a_folder_gives(settings: PrepareConfig, cropped: bool, tmp_path: Path) -> None:
    images = make_media.moving_face(8, step=3)
    folder = make_media.write_images(tmp_path / "frames", images)
    expected = read_clip(folder, settings, mute=True, cropped=cropped)
    found = read_clip(DecodedClip(np.stack(images), "pictures"), settings, mute=True, cropped=cropped)
    assert found.jpegs == expected.jpegs
    assert np.array_equal(found.times, expected.times)
    assert (found.notes, found.faceless) == (expected.notes, expected.faceless)


def test_what_is_wrong_with_them_is_told_by_their_name() -> None:
    grey = DecodedClip(np.stack(make_media.grey(6)), "pictures")
    with pytest.raises(ClipError, match=r"^pictures came without sound$") as caught:
        read_clip(grey, SETTINGS)
    assert caught.value.reason == "no sound"
    with pytest.raises(ClipError, match=r"^pictures shows no face in any of the 2 frames looked at"):
        read_clip(grey, SETTINGS, mute=True)
