"""Which of several faces a clip is about, and where it is in every frame."""

from pathlib import Path

import numpy as np
import pytest
from make_media import portrait, write_images, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import sets
from mmadfer.data.clip import read_clip
from mmadfer.data.faces import detection, track
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy

NONE = np.empty((0, 5))


def row(x: float, y: float = 0.1, side: float = 0.2, score: float = 0.99) -> np.ndarray:
    return np.array([[x, y, x + side, y + side, score]])


def both(*rows: np.ndarray) -> np.ndarray:
    return np.concatenate(rows)


def at(found: list[np.ndarray]) -> list[float | None]:
    """The left edges of the face that is followed."""
    return [None if box is None else round(float(box[0]), 6) for box in track.follow(found).boxes]


def one_after_the_other(found: list[np.ndarray]) -> list[np.ndarray | None]:
    """The surest and largest face of the first picture that has any, then always the one that fits best."""
    boxes, last, reach = list[np.ndarray | None](), None, 1.5
    for seen in found:
        best = None
        if len(seen) and last is None:
            sizes = (seen[:, 2:4] - seen[:, :2]).clip(0).prod(axis=1)
            best = seen[np.argmax(seen[:, 4] * sizes), :4]
        elif len(seen):
            sides = (np.minimum(seen[:, 2:4], last[2:]) - np.maximum(seen[:, :2], last[:2])).clip(0)
            common, areas = sides.prod(axis=1), (seen[:, 2:4] - seen[:, :2]).prod(axis=1)
            moved = (seen[:, :2] + seen[:, 2:4]) / 2 - (last[:2] + last[2:]) / 2
            distance = np.linalg.norm(moved / (last[2:] - last[:2]), axis=1)
            fit = int(np.argmax(common / (areas + (last[2:] - last[:2]).prod() - common) - distance / 1000))
            best = seen[fit, :4] if distance[fit] <= reach else None
        reach = 1.5 if best is not None else reach + 1
        last = last if best is None else best
        boxes.append(best)
    return boxes


def same(found: list[np.ndarray]) -> bool:
    """Whether following the dominant face gives the very boxes of following the first."""
    pairs = zip(track.follow(found).boxes, one_after_the_other(found), strict=True)
    return all(
        (a is None and b is None) or (a is not None and b is not None and a.tobytes() == b.tobytes()) for a, b in pairs
    )


def walk(rng: np.random.Generator, looks: int, side: float) -> list[np.ndarray]:
    """A face that moves and grows a little from picture to picture, and is missed in some."""
    x, y = rng.uniform(0.2, 0.5, 2)
    found = []
    for _ in range(looks):
        x, y = np.clip(np.array([x, y]) + rng.normal(0, 0.2 * side, 2), 0.1, 0.7)
        found.append(NONE if rng.random() < 0.2 else row(x, y, side * rng.uniform(0.9, 1.1), rng.uniform(0.8, 1)))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_single_face_has_the_boxes_of_following_the_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert same(walk(rng, int(rng.integers(1, 30)), rng.uniform(0.1, 0.3)))


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_face_from_the_first_picture_on_has_them_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    large = [row(rng.uniform(0.1, 0.2), 0.1, 0.3) for _ in range(12)]
    small = [row(0.8 + rng.uniform(-0.02, 0.02), 0.7, 0.1) if rng.random() < 0.7 else NONE for _ in range(12)]
    assert same([both(*pair) for pair in zip(small, large, strict=True)])


def test_clips_of_the_toy_set_have_them_too() -> None:
    for label in toy.TOY_CLASSES:
        pictures, _ = toy.content(label, 3, seed=5)
        found = list(detection.detect(pictures[::5]))
        assert sum(map(len, found)) > len(found) / 2
        assert same(found)


def test_the_largest_and_surest_face_is_followed() -> None:
    near, far = row(0.1, 0.3, 0.3), row(0.6, 0.3, 0.2)
    found = [both(far, near)] + [both(far, row(0.1 + 0.04 * k, 0.3, 0.3)) for k in range(1, 5)]
    assert at(found) == [0.1, 0.14, 0.18, 0.22, 0.26]


def test_who_comes_in_later_and_is_larger_is_followed() -> None:
    painting, speaker = row(0.8, 0.1, 0.1), row(0.2, 0.3, 0.3)
    assert at([painting, painting, *[both(painting, speaker)] * 6]) == [None, None, *[0.2] * 6]
    assert at([*[both(painting, speaker)] * 6, painting, painting]) == [*[0.2] * 6, None, None]
    hidden = [*[painting] * 3, *[speaker] * 5]  # by the speaker, so that the two are never seen together
    assert at(hidden)[2:] == [None, *[0.2] * 5]


def test_who_turns_away_is_not_taken_for_the_one_beside() -> None:
    speaker, beside = row(0.2, 0.3, 0.3), row(0.55, 0.3, 0.2)  # a width away
    found = [both(speaker, beside), both(speaker, beside), *[beside] * 5, both(beside, speaker), both(speaker, beside)]
    assert at([*found, *[both(speaker, beside)] * 4]) == [0.2, 0.2, *[None] * 5, *[0.2] * 6]


def test_a_face_elsewhere_is_someone_else_unless_the_first_stays_away() -> None:
    here, there = row(0.1), row(0.7)  # 3 widths away
    assert at([NONE, here, here, there, here, NONE]) == [None, 0.1, 0.1, None, 0.1, None]
    assert at([here, here, here, here, there, there, there]) == [*[0.1] * 4, None, None, 0.7]  # after a cut
    assert at([here, here, there, there, there, there]) == [None, None, *[0.7] * 4]
    assert at([here, here, here, there, there, there, there]) == [0.1, None, None, *[0.7] * 4]
    assert at([here, row(0.35)]) == [0.1, 0.35]  # no overlap, but near


def test_what_is_seen_in_one_picture_alone_is_not_followed_however_large() -> None:
    face, wrong = row(0.1, 0.1, 0.1), row(0.2, 0.2, 0.7, 0.75)
    assert at([both(wrong, face), *[face] * 4]) == [0.1] * 5
    assert at([face, face, both(face, wrong), face]) == [0.1] * 4
    assert at([row(0.2, 0.2, 0.7), NONE]) == [0.2, None]


def test_another_face_as_large_is_counted() -> None:
    one, two, small = row(0.1, 0.1, 0.3), row(0.6, 0.1, 0.29), row(0.8, 0.8, 0.1)
    assert track.follow([both(one, two)] * 4).others == 4
    assert track.follow([both(one, small)] * 4).others == 0
    assert track.follow([both(one, two), *[one] * 3, two, NONE]).others == 2
    assert track.follow([both(one, row(0.15, 0.15, 0.25))] * 4).others == 0  # a second box on one face
    assert track.follow([NONE, NONE]).others == track.follow([]).others == 0


def test_boxes_between_are_linear_and_at_the_ends_the_nearest() -> None:
    first, last = np.array([0.0, 0, 0.2, 0.2]), np.array([0.4, 0.2, 0.6, 0.4])
    boxes = track.interpolate([0, 2, 6, 9], [None, first, last, None], 10)
    assert boxes is not None
    np.testing.assert_allclose(boxes[:, 0], [0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    assert track.interpolate([0, 3], [None, None], 4) is None


def room(*places: tuple[int, int, float]) -> np.ndarray:
    """uint8 (240, 512, 3) with the portrait at x, y in a size."""
    image = Image.fromarray(np.full((240, 512, 3), 90, np.uint8))
    for x, y, size in places:
        image.paste(Image.fromarray(portrait()).resize((round(256 * size), round(192 * size))), (x, y))
    return np.asarray(image)


def test_a_speaker_who_comes_in_gives_the_crops_of_one_who_was_there(tmp_path: Path) -> None:
    settings = PrepareConfig(face_size=64, detect_every=1, no_sound="silence")
    wall, speaker = (380, 10, 0.5), (60, 30, 1.0)
    there = read_clip(write_images(tmp_path / "there", [room(wall, speaker)] * 6), settings)
    comes = read_clip(write_images(tmp_path / "comes", [room(wall)] * 2 + [room(wall, speaker)] * 4), settings)
    assert comes.jpegs[2:] == there.jpegs[2:]
    assert list(map(str, comes.faceless)) == ["the face was found in 4 of 6 frames looked at"]
    assert (there.faceless, [str(note) for note in there.notes if "face" in str(note)]) == ((), [])
    empty = np.abs(decode_jpeg(comes.jpegs[0]).astype(float) - decode_jpeg(there.jpegs[0])).mean()
    assert empty > 20  # the speaker's place, where nobody is yet


def test_a_second_face_as_large_is_told_of(tmp_path: Path) -> None:
    settings = PrepareConfig(face_size=64, detect_every=1, no_sound="silence")
    pair = room((0, 20, 1.0), (256, 20, 0.95))
    clip = read_clip(write_images(tmp_path / "pair", [pair] * 3), settings)
    assert "another face, about as large, is there in 3 of 3 frames looked at" in map(str, clip.notes)


def test_preparation_reports_who_comes_in_and_is_about_as_large(tmp_path: Path) -> None:
    alone, pair = room((0, 20, 1.0)), room((0, 20, 1.0), (256, 20, 0.95))
    for name, count in (("glad", 1), ("sad", 2)):  # of eight frames looked at
        write_video(tmp_path / "media" / name / "one.mp4", [*[alone] * (8 - count), *[pair] * count], None)
    settings = PrepareConfig(face_size=64, detect_every=1, no_sound="silence")
    summary = prepare(sets.table("folder", tmp_path / "media", 2), tmp_path / "out.store", settings, jobs=1)
    assert summary.kept == 2
    notes = {name: note for name, note in summary.remarks.items() if "another face" in note}
    assert list(notes) == ["sad/one"]  # a quarter
    assert "another face, about as large, is there in 2 of 8 frames looked at" in notes["sad/one"]
