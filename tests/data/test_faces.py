import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from make_media import FPS, RATE, grey, moving_face, portrait, tone, write_video

from mmadfer.config import PrepareConfig
from mmadfer.data import faces
from mmadfer.data.clip import _one_thread, read_clip
from mmadfer.data.image import decode_jpeg
from mmadfer.errors import ClipError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def row(x: float, y: float, side: float = 0.2, score: float = 0.99) -> np.ndarray:
    return np.array([[x, y, x + side, y + side, score]])


def centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:4]) / 2


def test_the_face_is_found_in_pictures_of_different_sizes() -> None:
    small = portrait()[24:168, 32:224]
    found = list(faces.detect([portrait(), portrait(), small, grey(1)[0], portrait()[:10, :10]]))
    assert [len(one) for one in found] == [1, 1, 1, 0, 0]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0][0, 4] > 0.9
    middle = centre(found[0][0]) * (256, 192)
    np.testing.assert_allclose(centre(found[2][0]) * (192, 144) + (32, 24), middle, atol=4)
    assert 100 < middle[0] < 150
    assert 60 < middle[1] < 110


def test_the_largest_and_surest_face_is_followed() -> None:
    near, far = row(0.1, 0.3, 0.3), row(0.6, 0.3, 0.2)
    found = [np.concatenate([far, near])] + [np.concatenate([far, row(0.1 + 0.04 * k, 0.3, 0.3)]) for k in range(1, 5)]
    boxes = faces.track(found)
    np.testing.assert_allclose([box[0] for box in boxes if box is not None], [0.1, 0.14, 0.18, 0.22, 0.26])


def test_a_face_elsewhere_is_someone_else_unless_the_first_stays_away() -> None:
    none = np.empty((0, 5))
    here, there = row(0.1, 0.1), row(0.7, 0.1)  # 3 widths away
    assert [box is None for box in faces.track([none, here, there, here, none])] == [True, False, True, False, True]
    boxes = faces.track([here, there, there, there])
    assert [box is None for box in boxes] == [False, True, True, False]
    nearby = faces.track([here, row(0.35, 0.1)])[1]  # no overlap, but near
    assert nearby is not None
    np.testing.assert_allclose(nearby, [0.35, 0.1, 0.55, 0.3])


def test_boxes_between_are_linear_and_at_the_ends_the_nearest() -> None:
    first, last = np.array([0.0, 0, 0.2, 0.2]), np.array([0.4, 0.2, 0.6, 0.4])
    boxes = faces.interpolate([0, 2, 6, 9], [None, first, last, None], 10)
    assert boxes is not None
    np.testing.assert_allclose(boxes[:, 0], [0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    assert faces.interpolate([0, 3], [None, None], 4) is None


def test_a_crop_is_square_with_margin() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255
    box = np.array([90 / 200, 0.4, 110 / 200, 0.6])
    assert faces.crop(image, box, 32, 0.0)[2:-2, 2:-2].min() == 255
    wide = faces.crop(image, box, 80, 1.0)  # 40 x 40 pixels, the white ones in the middle half
    assert wide.shape == (80, 80, 3)
    assert wide[22:58, 22:58].min() == 255
    assert wide[:18].max() == wide[:, 62:].max() == 0


def test_outside_of_the_picture_the_edge_is_repeated() -> None:
    ramp = np.repeat(np.arange(100, 200, dtype=np.uint8)[None, :, None], 50, axis=0).repeat(3, axis=2)
    cut = faces.crop(ramp, np.array([-0.2, 0.2, 0.2, 1.0]), 40, 0.0)
    assert (cut[:, :19] == 100).all()
    np.testing.assert_array_equal(cut[0, 20:, 0], np.arange(100, 120))


def test_the_crop_follows_a_face_that_moves(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_face(24, step=3), tone(1.0))
    clip = read_clip(path, PrepareConfig(face_size=64))
    crops = [decode_jpeg(data) for data in clip.jpegs]
    assert len(crops) == len(clip.times) == 24
    assert {(frame.shape, frame.dtype) for frame in crops} == {((64, 64, 3), np.dtype(np.uint8))}
    steady = np.abs(crops[0].astype(float) - crops[-1]).mean()
    moved = np.abs(crops[0].astype(float) - np.roll(crops[0], 12, axis=1)).mean()
    assert steady < 12 < moved
    assert (clip.rate, clip.fbank.shape) == (RATE, (512, 128))
    assert clip.span == pytest.approx((0.0, 1.0), abs=0.05)
    np.testing.assert_allclose(clip.times, np.arange(24) / FPS, atol=1e-3)


def test_every_reason_is_told_with_the_file(tmp_path: Path) -> None:
    made = {
        "no face": write_video(tmp_path / "a.mp4", grey(8), tone(0.4)),
        "no sound": write_video(tmp_path / "b.mp4", moving_face(8), None),
        "empty": write_video(tmp_path / "c.mkv", [], tone(0.4)),
    }
    for reason, path in made.items():
        with pytest.raises(ClipError, match=path.name) as caught:
            read_clip(path, PrepareConfig())
        assert caught.value.reason == reason
    short = write_video(tmp_path / "d.mov", moving_face(8), tone(0.01), codecs=("libx264", "pcm_s16le"))
    with pytest.raises(ClipError, match=r"d\.mov.*less than|d\.mov.*25 ms") as caught:
        read_clip(short, PrepareConfig())
    assert caught.value.reason == "no sound"


def test_threads_that_decode_at_once_keep_their_number() -> None:
    torch.set_num_threads(3)
    inside, leave, seen = threading.Barrier(3), threading.Event(), list[int]()

    def work() -> None:
        with _one_thread():
            inside.wait(10)
            seen.append(torch.get_num_threads())
            leave.wait(10)
        seen.append(torch.get_num_threads())

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    inside.wait(10)
    bystander = threading.Thread(target=lambda: seen.append(10 * torch.get_num_threads()))
    bystander.start()
    bystander.join()
    leave.set()
    for worker in workers:
        worker.join()
    assert sorted(seen) == [1, 1, 3, 3, 30]
    assert torch.get_num_threads() == 3
