"""Landmarks of real faces: where they are, what changes them, and when they are not to be relied on."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmadfer.data.faces import detection, face_mesh
from mmadfer.data.faces.landmarks import MIN_SCORE, clip_landmarks, find_landmarks, from_mesh, reliable_frames
from mmadfer.data.faces.landmarks68 import GROUPS, MIRROR, POINTS

ASTRONAUT_EYES = ((205, 102), (247, 104))
"""Middles of the eyes in scikit-image's portrait, by hand."""
MOUTH = (223, 148)


@cache
def portrait() -> np.ndarray:
    from skimage.data import astronaut

    return np.asarray(astronaut())


@cache
def hopper() -> np.ndarray:
    """Grace Hopper (US Navy, public domain), which matplotlib brings along."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        return np.asarray(Image.open(file).convert("RGB"))


def crop(image: np.ndarray, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """The face as a store has it, and its box in pixels of the image."""
    (faces,) = detection.detect([image])
    box = faces[0, :4]
    return detection.crop(image, box, size, 0.2), box * np.tile(image.shape[1::-1], 2)


def middles(points: np.ndarray) -> dict[str, np.ndarray]:
    return {name: points[[*group]].mean(axis=0) for name, group in GROUPS.items()}


def eyes_apart(points: np.ndarray) -> float:
    of = middles(points)
    return float(np.linalg.norm(of["right_eye"] - of["left_eye"]))


def test_eyes_and_mouth_are_where_they_are_seen():
    face, (x0, y0, x1, y1) = crop(portrait())
    found = find_landmarks(face)
    assert found.points.shape == (POINTS, 2)
    assert found.points.dtype == np.float32
    assert found.reliable
    half = max(x1 - x0, y1 - y0) * 1.2 / 2
    in_portrait = found.points / 160 * 2 * half + ((x0 + x1) / 2 - half, (y0 + y1) / 2 - half)
    of = middles(in_portrait)
    for name, (x, y) in zip(("left_eye", "right_eye", "inner_lips"), (*ASTRONAUT_EYES, MOUTH), strict=True):
        assert np.hypot(*(of[name] - (x, y))) < 4, name  # of 42 pixels between the eyes


@pytest.mark.parametrize("image", [portrait, hopper])
def test_parts_of_a_face_are_in_their_order(image):
    of = middles(find_landmarks(crop(image())[0]).points)
    assert of["left_brow"][1] < of["left_eye"][1] < of["nostrils"][1] < of["inner_lips"][1] < of["jaw"][1] + 40
    assert of["left_eye"][0] < of["nose_bridge"][0] < of["right_eye"][0]
    assert of["right_brow"][1] < of["right_eye"][1]


@pytest.mark.parametrize("image", [portrait, hopper])
def test_a_mirrored_face_has_mirrored_landmarks(image):
    face = crop(image())[0]
    points = find_landmarks(face).points
    mirrored = find_landmarks(np.ascontiguousarray(face[:, ::-1])).points
    back = mirrored[[*MIRROR]] * (-1, 1) + (face.shape[1], 0)
    assert np.linalg.norm(back - points, axis=1).mean() < 0.03 * eyes_apart(points)


def test_each_landmark_is_another_point_and_the_jaw_is_evenly_parted():
    mesh = np.random.default_rng(0).random((face_mesh.POINTS, 2))
    assert len({*map(tuple, from_mesh(mesh).tolist())}) == POINTS
    points = find_landmarks(crop(portrait())[0]).points
    jaw = np.linalg.norm(np.diff(points[[*GROUPS["jaw"]]], axis=0), axis=1)
    assert jaw[:8].max() < 1.1 * jaw[:8].min()
    assert jaw[8:].max() < 1.1 * jaw[8:].min()


@pytest.mark.parametrize("side", [48, 96, 224, 500])
def test_the_size_of_the_crop_does_not_matter(side):
    reference = find_landmarks(crop(portrait())[0]).points / 160
    found = find_landmarks(crop(portrait(), side)[0])
    assert found.reliable
    apart = np.linalg.norm(found.points / side - reference, axis=1).mean()
    assert apart < (0.08 if side < 64 else 0.03) * eyes_apart(reference)


def test_a_face_that_is_turned_or_not_in_the_middle_is_found():
    wide = Image.fromarray(portrait()).crop((124, 16, 324, 216))
    straight = find_landmarks(np.asarray(wide)).points
    for degrees in (-30, 30):
        found = find_landmarks(np.asarray(wide.rotate(degrees, Image.Resampling.BILINEAR)))
        turn = np.deg2rad(degrees)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        expected = (straight - 100) @ matrix.T + 100
        assert found.reliable
        assert np.linalg.norm(found.points - expected, axis=1).mean() < 0.06 * eyes_apart(straight)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick", "grass", "gravel", "coins", "moon"])
def test_pictures_without_a_face_have_no_reliable_landmarks(name):
    import skimage.data

    image = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
    rng = np.random.default_rng(0)
    for _ in range(3):
        side = int(rng.integers(60, min(image.shape[:2])))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        found = find_landmarks(np.asarray(Image.fromarray(image[y : y + side, x : x + side]).resize((160, 160))))
        assert not found.reliable, (name, side, y, x)


def test_black_white_and_noise_have_none():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    for image in (np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 255, np.uint8), noise, noise[:1, :1]):
        found = find_landmarks(image)
        assert not found.reliable
        assert found.score < MIN_SCORE
        assert np.isfinite(found.points).all()


def test_a_face_that_fills_a_small_part_of_the_crop_is_not_relied_on():
    canvas = np.full((600, 600, 3), 128, np.uint8)
    canvas[:60, :60] = crop(portrait(), 60)[0]
    assert not find_landmarks(canvas).reliable


def test_frames_of_a_clip_are_each_for_themselves():
    face, nothing = _jpeg(crop(portrait())[0]), _jpeg(np.full((160, 160, 3), 90, np.uint8))
    other = _jpeg(crop(hopper())[0])
    found = clip_landmarks([face, nothing, b"no picture", other, face])
    assert (found.shape, found.dtype) == ((5, POINTS, 2), np.float16)
    assert np.isfinite(found).all(axis=(1, 2)).tolist() == [True, False, False, True, True]
    assert np.isnan(found[1:3]).all()
    assert found[0].tobytes() == found[4].tobytes() == clip_landmarks([face])[0].tobytes()
    assert reliable_frames(found) == 3
    assert clip_landmarks([]).shape == (0, POINTS, 2)
    assert reliable_frames(clip_landmarks([])) == 0


def test_the_network_is_what_its_licence_says():
    import onnx

    model = onnx.load(face_mesh.NETWORK_FILE)
    assert {node.op_type for node in model.graph.node} == {
        "Transpose", "Cast", "Conv", "PRelu", "Add", "MaxPool", "Pad", "Identity",
    }  # fmt: skip
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    licence = Path(face_mesh.NETWORK_FILE).with_name("LICENSE").read_text()
    assert "Face Mesh V2" in licence
    assert "Apache License" in licence


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
