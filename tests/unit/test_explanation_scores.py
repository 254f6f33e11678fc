"""Measures of pictures, where the right answer is known: a model that looks at one place, and areas drawn by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmadfer.evaluation.explanation_scores import (
    RANDOM_ORDERS,
    blurred,
    cosine,
    curves,
    order_of,
    perturbed,
    pointing,
    summary,
)

FRAMES, SIDE, PATCH = 3, 32, 8
GRID = SIDE // PATCH
PLACE = (1, 2, 1)
"""Frame, row and column of the patch that the toy looks at."""


def picture_at(*place: int) -> np.ndarray:
    found = np.zeros((FRAMES, GRID, GRID), np.float32)
    found[place] = 1
    return found


def inside(images: Tensor) -> Tensor:
    """(k, n, C, H, W) -> the pixels of the patch."""
    frame, row, column = PLACE
    return images[:, frame, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]


def toy(images: Tensor) -> np.ndarray:
    """A model that sees a chessboard in one patch, and nothing else: how much of its contrast is left."""
    return np.asarray(inside(images).std(dim=(1, 2, 3), correction=0).numpy() * 2)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    made = torch.rand(FRAMES, 1, SIDE, SIDE, generator=generator)
    board = (torch.arange(PATCH)[:, None] + torch.arange(PATCH)[None]) % 2
    inside(made[None])[:] = board.float()
    return made


def test_the_right_picture_deletes_at_once_and_inserts_at_once(images: Tensor) -> None:
    found = curves(toy, images, picture_at(*PLACE), PATCH)
    places, steps = FRAMES * GRID**2, len(found.deletion.shares) - 1
    assert toy(images[None])[0] == pytest.approx(1)
    assert found.deletion.probabilities.tolist() == pytest.approx([1, *[0] * steps], abs=1e-6)
    assert found.deletion.area == pytest.approx(1 / steps / 2)  # gone with the first of 12 steps of 4 places
    assert found.deletion.shares[1] == pytest.approx(round(places / steps) / places)
    assert found.insertion.probabilities[0] < 0.1  # blurred, the chessboard is grey
    assert found.insertion.area == pytest.approx(1 - (1 - found.insertion.probabilities[0]) / steps / 2)


def test_random_orders_stand_between_the_right_picture_and_the_wrong_one(images: Tensor) -> None:
    right, wrong = (curves(toy, images, one, PATCH) for one in (picture_at(*PLACE), 1 - picture_at(*PLACE)))
    assert right.deletion.area < right.random_deletion < wrong.deletion.area
    assert wrong.insertion.area < right.random_insertion < right.insertion.area
    assert right.random_deletion == wrong.random_deletion  # the same orders for both


def test_random_orders_are_as_good_as_chance(images: Tensor) -> None:
    """Where the one place that counts is drawn anywhere, it is in use for half of the curve on average."""
    areas = [curves(toy, images, picture_at(*PLACE), PATCH, seed=seed).random_deletion for seed in range(20)]
    deviation = (1 / 12 / RANDOM_ORDERS / len(areas)) ** 0.5  # of a mean of uniform numbers
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * deviation)


def test_curves_of_a_model_that_sees_nothing_are_flat(images: Tensor) -> None:
    found = curves(lambda some: np.full(len(some), 0.25), images, picture_at(*PLACE), PATCH)
    assert set(found.areas().values()) == {0.25}
    assert list(found.areas()) == ["deletion", "deletion_random", "insertion", "insertion_random"]


def test_every_place_comes_once_and_in_order(images: Tensor) -> None:
    """A model that counts the places that are taken sees the shares of the curve."""
    rng = np.random.default_rng(2)
    picture = rng.random((FRAMES, GRID, GRID)).astype(np.float32)
    taken: list[Tensor] = []

    def count(some: Tensor) -> np.ndarray:
        patches = (some < 0)[:, :, 0, ::PATCH, ::PATCH]
        taken.extend(patches)
        return patches.flatten(1).float().mean(1).numpy()

    found = perturbed(count, images, torch.full_like(images, -1), order_of(picture), picture.shape, 6)
    assert found.probabilities.tolist() == pytest.approx(found.shares.tolist())
    highest = [set(order_of(picture)[: round(share * picture.size)].tolist()) for share in found.shares]
    assert [set(np.flatnonzero(one.numpy()).tolist()) for one in taken] == highest


def test_equal_places_come_as_they_lie() -> None:
    assert order_of(np.array([[0.5, 1], [1, 0.5]])).tolist() == [1, 2, 0, 3]


def test_a_blurred_input_keeps_its_mean_and_loses_its_patches(images: Tensor) -> None:
    soft = blurred(images, PATCH)
    assert soft.shape == images.shape
    assert float(soft.mean()) == pytest.approx(float(images.mean()), abs=0.01)
    assert float(soft.std()) < 0.2 * float(images.std())


def areas() -> np.ndarray:
    """Two frames with an area in the left quarter, and one without a map."""
    maps = np.zeros((3, 8, 8), np.float32)
    maps[:, :, :2] = [1, 0.6]
    maps[2] = np.nan
    return maps


def test_the_pointing_game_counts_the_highest_places() -> None:
    picture = np.zeros((3, 4, 4), np.float32)
    picture[0, 2, 0] = picture[1, 2, 3] = picture[2, 0, 0] = 1
    found = pointing(picture, areas())
    assert (found.hits, found.frames, found.chance) == (1, 2, 0.25)
    assert pointing(picture, areas(), level=0.7).chance == 0.125


def test_a_picture_without_contrast_points_nowhere() -> None:
    assert pointing(np.ones((3, 4, 4), np.float32), areas()).hits == 0


def test_without_maps_there_is_nothing_to_point_at() -> None:
    nothing = np.full((3, 8, 8), np.nan, np.float32)
    assert pointing(np.ones((3, 4, 4), np.float32), nothing) == (0, 0, 0.0)
    assert np.isnan(cosine(np.ones((3, 8, 8), np.float32), nothing))


def test_the_cosine_is_that_of_frames_with_a_map() -> None:
    maps = areas()
    picture = np.stack([3 * maps[0], np.roll(maps[1], 4, axis=1), maps[0]])
    assert cosine(picture, maps) == pytest.approx(0.5)  # 1 of the first, 0 of the second


def test_the_summary_counts_each_measure_where_it_is() -> None:
    found = summary([{"deletion": 0.2, "cosine": 0.5}, {"deletion": 0.4}, {"deletion": 0.6, "cosine": float("nan")}])
    assert found["deletion"] == {"mean": pytest.approx(0.4), "std": pytest.approx(0.2), "clips": 3}
    assert found["cosine"] == {"mean": 0.5, "std": 0.0, "clips": 1}
