"""Faces that are small in large pictures: found in larger ones, where the small pictures show none."""

from pathlib import Path

import numpy as np
import pytest
from make_media import FPS, grey, moving_face, portrait, tone, write_images, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import clip as clips
from mmadfer.data.clip import read_clip
from mmadfer.data.faces import detection, search
from mmadfer.data.media import frames
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.media.notes import SMALL_FACE
from mmadfer.data.video_windows import Windows, read_windows
from mmadfer.errors import ClipError

pytestmark = pytest.mark.slow

SETTINGS = PrepareConfig(face_size=64, detect_every=1, no_sound="silence")
WIDE = (1280, 720)


def group(x: int = 700, y: int = 300, size: float = 0.5, shape: tuple[int, int] = WIDE) -> np.ndarray:
    """A large picture, uint8, with a face that is 60 * size pixels wide."""
    image = Image.fromarray(np.full((shape[1], shape[0], 3), 120, np.uint8))
    image.paste(Image.fromarray(portrait()).resize((round(256 * size), round(192 * size))), (x, y))
    return np.asarray(image)


def sees(image: np.ndarray, size: int) -> bool:
    """Whether the face is found in the picture at this size."""
    return bool((next(detection.detect([frames.MemoryPicture(image, 0).rgb(size)]))[:, 4] >= search.SURE).any())


def near(box: np.ndarray, image: np.ndarray) -> bool:
    """Whether a box is about the one that is found in the whole picture."""
    (other,) = next(detection.detect([image]))
    return bool((np.abs(box[:4] - other[:4]) < 0.15 * np.tile(other[2:4] - other[:2], 2)).all())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Longer sides of all pictures in which faces are looked for, and 0 where pictures are gone through anew."""
    seen, detect, pictures = list[int](), detection.detect, frames.pictures

    def counted(images, device):  # type: ignore[no-untyped-def]
        def noted():  # type: ignore[no-untyped-def]
            for image in images:
                seen.append(max(image.shape))
                yield image

        return detect(noted(), device)

    def opened(*arguments):  # type: ignore[no-untyped-def]
        seen.append(0)
        return pictures(*arguments)

    monkeypatch.setattr(detection, "detect", counted)
    monkeypatch.setattr(frames, "pictures", opened)
    return seen


@pytest.mark.parametrize(("size", "shape"), [(0.5, WIDE), (0.6, (2560, 1440))])
def test_a_small_face_is_found_as_in_the_whole_picture(tmp_path: Path, size: float, shape: tuple[int, int]) -> None:
    pictures = [group(700 + 4 * k, 300, size, shape) for k in range(3)]
    assert not sees(pictures[0], detection.DETECTION_SIDE_PX)
    clip = read_clip(write_images(tmp_path / "frames", pictures), SETTINGS)
    assert SMALL_FACE in clip.notes
    assert clip.faceless == ()
    _, found = search.search_faces(tmp_path / "frames", SETTINGS, "cpu")
    search.search_larger(tmp_path / "frames", SETTINGS, "cpu", found, [(0, 3)])
    assert all(near(boxes[0], image) for boxes, image in zip(found.faces, pictures, strict=True))
    assert clip.jpegs[1] == clips.face_jpeg(pictures[1], found.faces[1][0, :4], SETTINGS)


def test_a_usual_clip_is_looked_at_once(tmp_path: Path, passes: list[int]) -> None:
    large = [np.asarray(Image.fromarray(image).resize(WIDE)) for image in [*moving_face(3), *grey(3)]]
    clip = read_clip(write_images(tmp_path / "frames", large), SETTINGS)
    assert passes == [0, *[320] * 6, 0]
    assert (clip.notes[1:], list(map(str, clip.faceless))) == ((), ["the face was found in 3 of 6 frames looked at"])


def test_small_pictures_are_not_looked_at_again(tmp_path: Path, passes: list[int]) -> None:
    with pytest.raises(ClipError, match="no face in any of the 4"):
        read_clip(write_images(tmp_path / "frames", grey(4)), SETTINGS)
    assert passes == [0, *[256] * 4]


def test_once_it_is_found_other_sizes_are_not_tried(tmp_path: Path, passes: list[int]) -> None:
    read_clip(write_images(tmp_path / "frames", [group()] * 4), SETTINGS)
    assert passes[:5] == [0, *[320] * 4]
    assert passes[5] == 0
    tried = passes[6:-1]
    assert tried[-1] in (640, 1280)
    assert tried[-4:] == [tried[-1]] * 4
    assert passes[-1] == 0


def test_a_recording_without_anyone_is_tried_less_and_less(passes: list[int]) -> None:
    nobody = frames.DecodedClip(np.full((60, 360, 640, 3), 90, np.uint8), "nobody")
    with pytest.raises(ClipError, match="no face in any of the 60"):
        read_clip(nobody, SETTINGS)
    tried = passes[62:]
    assert {*tried} == {640}
    assert len(tried) == 10  # 1 + 2 + ... + 10 passes over more than 50


def test_a_face_that_changes_its_size_or_comes_later_is_found() -> None:
    nobody, small, smaller = np.full((720, 1280, 3), 120, np.uint8), group(size=0.5), group(size=0.25)
    assert sees(small, 640)
    assert not sees(smaller, 640)
    clip = frames.DecodedClip(np.stack([nobody, nobody, *[small] * 3, *[smaller] * 5]), "clip")
    seen, found = search.search_faces(clip, SETTINGS, "cpu")
    search.search_larger(clip, SETTINGS, "cpu", found, [(0, 10)])
    assert len(seen.times) == 10
    # after one in vain the next is passed over; three in vain, then all sizes again
    assert [len(one) for one in found.faces] == [0, 0, 1, 1, 1, 0, 0, 0, 1, 1]
    assert found.enlarged == {2, 3, 4, 8, 9}


def test_a_face_that_is_seldom_seen_in_small_pictures_is_looked_for_in_larger_ones() -> None:
    wrong = group(0, 0, 1.0)  # a poster, for a moment
    clip = frames.DecodedClip(np.stack([wrong, *[group(1100, 500)] * 8]), "clip")
    found = read_clip(clip, SETTINGS, mute=True)
    assert SMALL_FACE in found.notes
    apart = np.abs(decode_jpeg(found.jpegs[8]).astype(float) - decode_jpeg(found.jpegs[1])).mean()
    assert apart < 1
    assert list(map(str, found.faceless)) == ["the face was found in 8 of 9 frames looked at"]


def test_what_is_hardly_a_face_counts_in_small_pictures_alone() -> None:
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (45, 80, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1) for _ in range(4)]
    _, found = search.search_faces(frames.DecodedClip(np.stack(noise), "noise"), SETTINGS, "cpu")
    search.search_larger(frames.DecodedClip(np.stack(noise), "noise"), SETTINGS, "cpu", found, [(0, 4)])
    assert all((found.faces[k][:, 4] >= search.SURE).all() for k in found.enlarged)


def test_a_window_without_a_face_is_looked_at_closer_while_others_are_not(tmp_path: Path, passes: list[int]) -> None:
    near = [np.asarray(Image.fromarray(image).resize(WIDE)) for image in moving_face(FPS)]
    path = write_video(tmp_path / "a.mp4", [*near, *[group()] * FPS], tone(2))
    settings = SETTINGS.model_copy(update={"detect_every": 5})
    first, second = read_windows(path, settings, Windows(1, 1), keep=lambda n: [0, n // 2])
    assert first.clip is not None
    assert second.clip is not None
    assert SMALL_FACE not in first.clip.notes
    assert SMALL_FACE in second.clip.notes
    assert passes.count(320) == 11
    assert 0 < len([size for size in passes if size > 320]) <= 8


def test_a_blind_model_gets_the_small_face_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [group()] * 5, tone(0.2))
    clip = clips.read_clip(path, SETTINGS, blind=True)
    assert SMALL_FACE in clip.notes
