import subprocess
import sys

import numpy as np
import pytest

from mmadfer.config.schema import AugmentConfig
from mmadfer.data import draws as sampling
from mmadfer.errors import DataError

AUGMENT = AugmentConfig()
SIZE = (224, 224)
# Frozen: a change here means that no earlier run can be reproduced.
GOLDEN_INDEXES = [1, 3, 5, 7, 8, 11, 12, 15, 16, 19, 20, 22, 25, 27, 29, 31]
GOLDEN_CROP = ((9, 67, 144, 122), False)
GOLDEN_BRIGHTNESS = 1.3980912135478358
GOLDEN_DROP = [0.2826651930809021, 0.5556026697158813]
GOLDEN_ORDER = list("ahfbcgde")


def draw(seed: int = 1, epoch: int = 0, clip: str = "a", n: int = 40, size: tuple[int, int] = SIZE) -> sampling.Draw:
    return sampling.draw_view(seed, epoch, clip, n, size=size, augment=AUGMENT, frames=16, depth=12)


def same(one: sampling.Draw, two: sampling.Draw) -> bool:
    pairs = [(one.indexes, two.indexes), (one.drop_path, two.drop_path)]
    scalars = [(d.crop, d.flip, d.brightness) for d in (one, two)]
    return scalars[0] == scalars[1] and all(np.array_equal(a, b) for a, b in pairs if a is not None and b is not None)


@pytest.mark.parametrize("n", [16, 17, 31, 32, 33, 40, 100, 299])
def test_training_takes_one_frame_of_each_part(n: int) -> None:
    step, seen = n // 16, [draw(epoch=e, n=n).indexes for e in range(300)]
    assert all(np.array_equal(indexes // step, np.arange(16)) for indexes in seen)
    assert {int(k) for indexes in seen for k in indexes} == set(range(16 * step))  # every frame has its turn
    counts = np.bincount([indexes[3] % step for indexes in seen], minlength=step)
    assert counts.min() > 0


@pytest.mark.parametrize("n", [1, 2, 15, 16])
def test_short_clips_repeat_their_last_frame(n: int) -> None:
    expected = [*range(n), *[n - 1] * (16 - n)]
    assert draw(n=n).indexes.tolist() == expected
    assert sampling.test_indexes(n, 16).tolist() == [expected]
    assert sampling.test_indexes(n, 16, 2).tolist() == [expected, expected]


@pytest.mark.parametrize("n", range(17, 320, 7))
def test_evaluation_takes_the_middle_of_each_tick(n: int) -> None:
    tick = n / float(16)
    assert sampling.test_indexes(n, 16).tolist() == [[int(tick / 2.0 + tick * k) for k in range(16)]]


def test_two_clips_are_one_even_sampling_of_twice_the_frames() -> None:
    for n in range(32, 300):
        merged = np.sort(sampling.test_indexes(n, 16, 2).ravel())
        assert np.array_equal(merged, sampling.test_indexes(n, 32)[0])
        assert merged[-1] < n


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(DataError, match="without frames"):
        draw(n=0)
    with pytest.raises(DataError, match="without frames"):
        sampling.test_indexes(0, 16)


def test_draws_depend_on_seed_epoch_and_clip_only() -> None:
    assert same(draw(), draw())
    assert not any(same(draw(), other) for other in (draw(seed=2), draw(epoch=1), draw(clip="b")))
    # Keys are joined so that no two of them run into each other.
    assert not same(draw(seed=1, epoch=11), draw(seed=11, epoch=1))


def test_draws_are_the_same_on_every_machine() -> None:
    drawn = draw(clip="happy/ü 1")
    assert drawn.indexes.tolist() == GOLDEN_INDEXES
    assert (drawn.crop, drawn.flip) == GOLDEN_CROP
    assert drawn.brightness == GOLDEN_BRIGHTNESS
    assert drawn.drop_path is not None
    assert drawn.drop_path[16, 11].tolist() == GOLDEN_DROP
    assert sampling.shuffled(1, 0, "abcdefgh") == GOLDEN_ORDER


def test_draws_do_not_depend_on_the_process() -> None:
    program = "from mmadfer.data.draws import shuffled; print(shuffled(3, 4, 'abcdefgh'))"
    for hash_seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == str(sampling.shuffled(3, 4, "abcdefgh"))


def test_augmentation_is_spread_as_it_should_be() -> None:
    drawn = [draw(clip=str(k)) for k in range(4000)]
    brightness = np.array([d.brightness for d in drawn])
    assert 0.5 <= brightness.min() < 0.51
    assert 1.49 < brightness.max() <= 1.5
    assert abs(brightness.mean() - 1) < 0.02
    assert abs(np.mean([d.flip for d in drawn]) - 0.5) < 0.03
    assert abs(np.corrcoef(brightness, [d.crop[2] for d in drawn])[0, 1]) < 0.05


def test_drop_path_draws_are_uniform_and_below_one() -> None:
    draws = np.stack([d.drop_path for k in range(200) if (d := draw(clip=str(k))).drop_path is not None])
    assert draws.shape == (200, 17, 12, 2)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] / draws.size - 0.1).max() < 0.005


def test_crops_follow_the_rule() -> None:
    boxes = np.array([draw(clip=str(k)).crop for k in range(4000)])
    x, y, w, h = boxes.T
    assert min(x.min(), y.min()) == 0
    assert (x + w).max() == (y + h).max() == 224
    share, ratio = w * h / 224**2, w / h
    assert 0.075 < share.min() < 0.09
    assert share.max() > 0.95
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    assert abs(np.median(ratio) - 1) < 0.02  # the swap makes upright and lying crops equally likely
    free = x[w < 200] / (224 - w[w < 200])
    assert np.abs(np.histogram(free, 4, (0, 1))[0] / len(free) - 0.25).max() < 0.04


def test_ratio_is_uniform_before_the_swap() -> None:
    settings = AugmentConfig(area=(0.1, 0.1))  # always fits, so that the first try decides
    boxes = np.array(
        [sampling.random_crop((2000, 2000), settings, np.random.default_rng(k).random(32)) for k in range(4000)]
    )
    ratio = boxes[:, 2] / boxes[:, 3]
    assert abs(np.mean(ratio < 1) - 0.5) < 0.03
    plain = np.random.default_rng(0).uniform(3 / 4, 4 / 3, 20000)
    expected = np.concatenate([plain, 1 / plain])
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(ratio, quantiles), np.quantile(expected, quantiles), atol=0.02)


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (224, 224)])
def test_where_nothing_fits_a_square_of_the_shorter_side_is_taken(size: tuple[int, int]) -> None:
    settings = AugmentConfig(area=(1.0, 1.0), ratio=(1.2, 1.3))
    boxes = [sampling.random_crop(size, settings, np.random.default_rng(k).random(32)) for k in range(50)]
    assert {(w, h) for _, _, w, h in boxes} == {(min(size), min(size))}
    places = {(x, y) for x, y, _, _ in boxes}
    assert all(x + min(size) <= size[1] and y + min(size) <= size[0] for x, y in places)
    assert (len(places) > 20) == (size[0] != size[1])


def test_evaluation_draws_nothing() -> None:
    drawn = sampling.test_draw(100, (96, 128), 16)
    assert (drawn.crop, drawn.flip, drawn.brightness, drawn.drop_path) == ((0, 0, 128, 96), False, 1.0, None)


def test_order_is_a_permutation_that_ignores_the_input_order() -> None:
    ids = [f"{k:03}" for k in range(200)]
    first = sampling.shuffled(1, 0, ids)
    assert sorted(first) == ids
    assert first != ids
    assert sampling.shuffled(1, 0, reversed(ids)) == first
    assert sampling.shuffled(1, 1, ids) != first
    assert sampling.shuffled(2, 0, ids) != first
    assert [clip for clip in first if clip != "007"] == sampling.shuffled(1, 0, [clip for clip in ids if clip != "007"])
    # No place in the order is favoured: a clip's mean place over epochs is in the middle.
    places = np.mean([[sampling.shuffled(1, e, ids).index(clip) for clip in ids[:5]] for e in range(200)], axis=0)
    assert np.abs(places - 99.5).max() < 20
