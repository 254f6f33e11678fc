import json
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from make_media import grey
from needs import needed
from PIL import Image
from skimage.data import astronaut

from mmadfer.data.faces import mtcnn as detectors
from mmadfer.data.faces import mtcnn_networks
from mmadfer.data.faces.area_resize import AreaTable
from mmadfer.data.faces.mtcnn import Boxes, Detector

GOLDEN = Path(__file__).with_name("mtcnn_boxes.json")
"""Boxes by facenet-pytorch 2.6.0, MTCNN(keep_all=True), of the first `pictures`."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def by_torch() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def by_onnxruntime() -> Detector:
    detector = Detector()
    detector.networks = {name: mtcnn_networks._by_onnxruntime(name) for name in mtcnn_networks.POOLS}
    return detector


def pictures() -> Iterator[np.ndarray]:
    """A portrait in many sizes, turned, mirrored, cut by the border, on grey or on noise, up to 5 in a picture."""
    portrait = Image.fromarray(astronaut())
    yield np.asarray(portrait)
    for number in range(40):
        rng = np.random.default_rng([number])
        width, height = (int(side) for side in rng.integers(100, 500, 2))
        ground = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(ground if number % 5 == 0 else np.full_like(ground, rng.integers(0, 256)))
        for _ in range(int(rng.integers(1, 6))):
            side = int(512 * rng.uniform(0.15, 1.6))
            one = portrait.resize((side, side)).rotate(rng.uniform(-25, 25)).crop((0, 0, side, side // 2))
            one = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else one
            picture.paste(one, (int(rng.integers(-side // 2, width)), int(rng.integers(-side // 3, height))))
        yield np.asarray(picture)


def assert_same(found: np.ndarray, boxes: np.ndarray | None, scores: np.ndarray) -> None:
    assert len(found) == (0 if boxes is None else len(boxes))
    if boxes is not None:
        np.testing.assert_allclose(found[:, :4], boxes.astype(float), atol=0.05)
        np.testing.assert_allclose(found[:, 4], scores.astype(float), atol=1e-5)


@pytest.mark.parametrize("kind", ["by_torch", "by_onnxruntime"])
def test_the_boxes_are_those_of_facenet_pytorch_as_written_down(kind: str, request: pytest.FixtureRequest) -> None:
    detector, golden = request.getfixturevalue(kind), json.loads(GOLDEN.read_text())
    for image, rows in zip(islice(pictures(), len(golden)), golden, strict=True):
        expected = np.array(rows).reshape(-1, 5)
        assert_same(detector.detect(image[None])[0], expected[:, :4], expected[:, 4])
    assert sum(map(len, golden)) >= 12


@pytest.mark.slow
def test_the_boxes_are_those_of_facenet_pytorch(by_torch: Detector) -> None:
    theirs, faces = needed("facenet_pytorch").MTCNN(keep_all=True), 0
    for image in pictures():
        (boxes,), (scores,) = theirs.detect(image[None].copy())
        assert_same(by_torch.detect(image[None])[0], boxes, scores)
        faces += 0 if boxes is None else len(boxes)
    assert faces > 20


def test_both_ways_to_compute_find_the_same(by_torch: Detector, by_onnxruntime: Detector) -> None:
    for image in islice(pictures(), 8):
        one, other = (detector.detect(image[None])[0] for detector in (by_torch, by_onnxruntime))
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("kind", ["by_torch", "by_onnxruntime"])
def test_neither_a_batch_nor_threads_change_a_box(kind: str, request: pytest.FixtureRequest) -> None:
    detector = request.getfixturevalue(kind)
    whole = np.asarray(Image.fromarray(astronaut()).resize((160, 160)))
    batch = np.stack([whole, grey(1)[0][:160, :160], np.roll(whole, 20, axis=1), whole[:, ::-1]])
    alone = [detector.detect(image[None])[0] for image in batch]
    assert [len(found) for found in alone] == [1, 0, 1, 1]
    together = list[list[np.ndarray]]()
    workers = [threading.Thread(target=lambda: together.append(detector.detect(batch))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(together) == 4
    for found in together:
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_candidate_outside_of_the_picture_is_no_face(by_torch: Detector) -> None:
    image = np.asarray(Image.fromarray(astronaut()).crop((150, 30, 310, 190)))[None]
    inside, table = by_torch.detect(image)[0][:, :4], AreaTable(image)
    edges = np.concatenate([inside, [[-40, 10, -10, 40], [170, 5, 200, 35], [20, 300, 50, 330]]]).astype(np.float32)
    around = Boxes(edges, np.ones(4, np.float32), np.zeros((4, 4), np.float32), np.zeros(4, int))
    found = by_torch._look(table, around, "rnet", 24)
    np.testing.assert_array_equal(found.edges, edges[:1])
    nothing = by_torch._look(table, around.of(np.arange(1, 4)), "rnet", 24)
    assert len(nothing.edges) == 0


@pytest.mark.parametrize("shape", [(2, 10, 400, 3), (1, 19, 19, 3), (1, 20, 20, 3), (1, 1, 1, 3), (3, 64, 48, 3)])
def test_pictures_of_any_size_can_be_looked_at(shape: tuple[int, ...], by_torch: Detector) -> None:
    assert [len(found) for found in by_torch.detect(np.full(shape, 90, np.uint8))] == [0] * shape[0]


def test_of_boxes_that_overlap_the_surest_stays() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, (400, 2))
    edges = np.concatenate([start, start + rng.uniform(5, 40, (400, 2))], axis=1)
    for overlap in (detectors._shared, detectors._covered):
        kept = list[int]()
        for k in range(len(edges)):
            if not kept or overlap(edges[k : k + 1], edges[kept]).max() <= 0.4:
                kept.append(k)
        np.testing.assert_array_equal(np.flatnonzero(detectors._surest(edges, 0.4, overlap)), kept)
    assert detectors._shared(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).item() == pytest.approx(1 / 3)
    assert detectors._covered(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 0, 9, 9]])).item() == pytest.approx(1 / 2)


def test_a_pixel_is_the_mean_of_the_area_below_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    table, pixels = AreaTable(images), torch.from_numpy(images).permute(0, 3, 1, 2).double()
    for size in ((31, 43), (50, 70), (1, 1), (80, 90)):
        expected = torch.nn.functional.adaptive_avg_pool2d(pixels, size).permute(0, 2, 3, 1)
        np.testing.assert_allclose(table.whole(*size), expected.numpy(), rtol=1e-6)
    edges = np.array([[0, 0, 70, 50], [5, 7, 6, 8], [40, 3, 70, 50], [10, 20, 30, 33]])
    parts = table.parts(np.array([0, 2, 1, 2]), edges, 24)
    for part, owner, (x0, y0, x1, y1) in zip(parts, (0, 2, 1, 2), edges, strict=True):
        expected = torch.nn.functional.adaptive_avg_pool2d(pixels[owner, :, y0:y1, x0:x1], 24).permute(1, 2, 0)
        np.testing.assert_allclose(part, expected.numpy(), rtol=1e-6)


def test_large_white_pictures_do_not_overflow() -> None:
    assert (AreaTable(np.full((1, 3000, 3000, 3), 255, np.uint8)).whole(7, 5) == 255).all()
