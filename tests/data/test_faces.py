import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from make_media import FPS, RATE, grey, moving_face, portrait, tone, write_images, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.faces import detection
from mmadfer.data.faces.one_thread import one_thread
from mmadfer.data.media.image import decode_jpeg, encode_jpeg, square
from mmadfer.errors import ClipError, MissingDependencyError


@pytest.fixture(autouse=True)
def quiet() -> None:
    torch.set_num_threads(1)


def row(x: float, y: float, side: float = 0.2, score: float = 0.99) -> np.ndarray:
    return np.array([[x, y, x + side, y + side, score]])


def centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:4]) / 2


def test_the_face_is_found_in_pictures_of_different_sizes() -> None:
    small = portrait()[24:168, 32:224]
    found = list(detection.detect([portrait(), portrait(), small, grey(1)[0], portrait()[:10, :10]]))
    assert [len(one) for one in found] == [1, 1, 1, 0, 0]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0][0, 4] > 0.9
    middle = centre(found[0][0]) * (256, 192)
    np.testing.assert_allclose(centre(found[2][0]) * (192, 144) + (32, 24), middle, atol=4)
    assert 100 < middle[0] < 150
    assert 60 < middle[1] < 110


def test_a_crop_is_square_with_margin() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255
    box = np.array([90 / 200, 0.4, 110 / 200, 0.6])
    assert detection.crop(image, box, 32, 0.0)[2:-2, 2:-2].min() == 255
    wide = detection.crop(image, box, 80, 1.0)  # 40 x 40 pixels, the white ones in the middle half
    assert wide.shape == (80, 80, 3)
    assert wide[22:58, 22:58].min() == 255
    assert wide[:18].max() == wide[:, 62:].max() == 0


def test_outside_of_the_picture_the_edge_is_repeated() -> None:
    ramp = np.repeat(np.arange(100, 200, dtype=np.uint8)[None, :, None], 50, axis=0).repeat(3, axis=2)
    cut = detection.crop(ramp, np.array([-0.2, 0.2, 0.2, 1.0]), 40, 0.0)
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


def two_faces() -> np.ndarray:
    """uint8 (192, 512, 3): a face at (118, 92), and a smaller one at (394, 94)."""
    small = Image.fromarray(portrait()).resize((204, 153), Image.Resampling.BILINEAR)
    image = Image.fromarray(np.pad(portrait(), ((0, 0), (0, 256), (0, 0)), mode="edge"))
    image.paste(small, (300, 20))
    return np.asarray(image)


def test_tracking_stays_on_one_of_two_faces_also_where_it_is_lost(tmp_path: Path) -> None:
    both, lost = two_faces(), two_faces().copy()
    lost[:, :256] = 120
    folder = write_images(tmp_path / "frames", [both, both, lost, both, both])
    settings = PrepareConfig(face_size=64, detect_every=1, no_sound="silence")
    crops = [decode_jpeg(data).astype(float) for data in read_clip(folder, settings).jpegs]
    assert all(np.abs(crop - crops[0]).mean() < 1 for crop in (crops[1], crops[3], crops[4]))
    np.testing.assert_allclose(crops[2], 120, atol=2)  # where the face was, not where the other one is


def plain_union(image: np.ndarray) -> np.ndarray:
    """The published program's steps, written down once more."""
    boxes = detection.detector().detect(image[None])[0][:, :4]
    height, width = image.shape[:2]
    if not len(boxes):
        ss = min(height // 2, width // 2)
        return image[height // 2 - ss // 2 : height // 2 + ss // 2, width // 2 - ss // 2 : width // 2 + ss // 2]
    x0, y0 = np.maximum(np.round(boxes[:, :2].min(0)), 0).astype(int)
    x1, y1 = np.round(boxes[:, 2:].max(0)).astype(int)
    more = abs((x1 - x0) - (y1 - y0)) // 2
    if x1 - x0 > y1 - y0:
        y0, y1 = y0 - more, y1 + more
    else:
        x0, x1 = x0 - more, x1 + more
    return image[max(y0, 0) : y1, max(x0, 0) : x1]


def test_the_union_is_the_published_box_of_every_frame(tmp_path: Path) -> None:
    pictures = [two_faces(), portrait(), grey(1)[0], portrait()[40:150, :230]]
    folder = write_images(tmp_path / "frames", pictures)
    settings = PrepareConfig(face_size=96, face_box="union", no_sound="silence")
    clip = read_clip(folder, settings)
    for image, data in zip(pictures, clip.jpegs, strict=True):
        assert data == encode_jpeg(square(plain_union(image), 96), 95)
    last = read_clip(folder, settings, keep=lambda count: [count - 1, 0])
    assert last.jpegs == [clip.jpegs[3], clip.jpegs[0]]


def test_the_union_is_widened_to_a_square_that_the_border_cuts() -> None:
    def box(*faces_: tuple[float, ...]) -> tuple[int, ...]:
        found = np.array([[x0 / 200, y0 / 100, x1 / 200, y1 / 100, 0.9] for x0, y0, x1, y1 in faces_])
        return detection.union_box(found.reshape(-1, 5), 100, 200)

    assert box((50, 20, 70, 61)) == (40, 20, 80, 61)
    assert box((50, 20, 70, 40), (120, 30, 140, 60)) == (50, 0, 140, 85)  # 25 pixels up and down
    assert box((-5, -3, 30, 40)) == (0, 0, 35, 40)
    assert box((150, 10, 215, 40)) == (150, 0, 200, 57)
    assert box() == box((210, 10, 230, 20)) == (75, 25, 125, 75)
    nothing = np.empty((0, 5))
    assert detection.union_box(nothing, 192, 256) == (80, 48, 176, 144)
    assert detection.union_box(nothing, 99, 50) == (13, 37, 37, 61)
    assert detection.union_box(nothing, 1, 1) == (0, 0, 1, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingDependencyError, match="finds no GPU"):
        detection.detector("cuda")


def test_large_pictures_are_looked_at_in_smaller_batches() -> None:
    assert [detection._batch(shape, "cpu") for shape in ((180, 320, 3), (320, 320, 3), (1080, 1920, 3))] == [16, 16, 1]
    assert [detection._batch(shape, "cuda") for shape in ((320, 320, 3), (1080, 1920, 3), (0, 9, 3))] == [64, 3, 64]


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
        with one_thread():
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
