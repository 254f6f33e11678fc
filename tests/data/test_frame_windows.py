"""Windows of stored clips in training and tests: which frames and which sound, and clips put together out of them."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loader_ranks import Gathering
from tiny import LABELS, config, records
from torch import Tensor

from mmadfer.config.schema import Config, load
from mmadfer.data.frame_windows import check_windows, covering_windows, drawn_window, positions, window_indexes
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.store.record import LATER
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.data.window_sound import window_sound
from mmadfer.errors import ConfigError
from mmadfer.evaluation.clip_windows import rows_of
from mmadfer.evaluation.evaluate import run_test
from mmadfer.evaluation.predictions import Predictions
from mmadfer.tasks.pooling import pooled

SECONDS = 700
"""Filter-bank frames of a stored sound: more than the 512 that a clip's own has."""


def windowed(window: dict[str, Any] | None = None, **sections: Any) -> Config:
    data = {"window": {"stride": 1, "hop": 4, **(window or {})}, **sections.pop("data", {})}
    return config(data=data, **sections)


def sounding(clips: int = 23) -> Iterator[tuple[Clip, ClipRecord]]:
    """The tiny clips, with sound of 7 s and frames of 0.1 s each."""
    for number, (clip, record) in enumerate(records(clips)):
        rng = np.random.default_rng([7, number])
        later = rng.random((SECONDS - 512, 128), np.float32)
        times = np.arange(clip.frames) / 10
        yield replace(clip, sound_frames=SECONDS), replace(record, times=times, tensors={LATER: later})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store") / "sounding.store"
    write_store(path, Header("tiny", LABELS, config().prepare), sounding())
    with Store(path) as opened:
        yield opened


def test_the_windows_of_a_test_cover_the_clip_and_end_with_it() -> None:
    assert covering_windows(40, 16, 8) == [(0, 16), (8, 16), (16, 16), (24, 16)]
    assert covering_windows(41, 16, 8)[-2:] == [(24, 16), (25, 16)]
    assert covering_windows(16, 16, 8) == [(0, 16)]
    assert covering_windows(5, 16, 8) == [(0, 5)]
    assert [positions(n, 16) for n in (1, 16, 17, 40)] == [1, 1, 2, 25]


def test_a_window_holds_every_stride_th_frame_and_repeats_the_last_one() -> None:
    assert window_indexes((3, 16), 16, 1).tolist() == [*range(3, 19)]
    assert window_indexes((3, 10), 4, 3).tolist() == [3, 6, 9, 12]
    assert window_indexes((0, 5), 4, 3).tolist() == [0, 3, 4, 4]


def test_each_window_is_drawn_equally_often() -> None:
    found = [drawn_window(1, epoch, "c", 20, 16)[0] for epoch in range(2000)]
    counts = np.bincount(found, minlength=5)
    assert len(counts) == 5
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)
    assert drawn_window(1, 3, "c", 20, 16) == drawn_window(1, 3, "c", 20, 16)
    assert [drawn_window(1, 3, "c", 20, 16, (turn,)) for turn in range(20)].count(drawn_window(1, 3, "c", 20, 16)) < 15


@pytest.mark.parametrize("stride", [1, 2])
def test_training_sees_and_hears_the_drawn_window(store: Store, stride: int) -> None:
    settings = windowed({"stride": stride}, train={"batch_size": 4})
    span, clip = 15 * stride + 1, "c/00"
    with closing(Loader(store, settings, LABELS)) as loader:
        (batch,) = loader.train(5, [[Pick(clip)]])
        window = drawn_window(settings.train.seed, 5, clip, 40, span)
        (chosen,) = loader.train(5, [[Pick(clip, window=window)]])
        (tested,) = loader.test([Pick(clip, window=window)], 1)
        (whole,) = loader.test([clip], 1)
    assert window[1] == span
    assert torch.equal(batch.frames, chosen.frames), "a window that a sampler chooses is the same window"
    record = store.read(clip, [], [LATER])
    heard = window_sound(record, store.clips[clip], window)
    np.testing.assert_array_equal(batch.fbank[0, 0].numpy(), heard)
    np.testing.assert_array_equal(tested.fbank[0, 0].numpy(), heard)
    assert not torch.equal(tested.frames, whole.frames)
    stored = np.concatenate([record.fbank, np.asarray(record.tensors[LATER])])
    start = 10 * window[0]
    np.testing.assert_array_equal(heard[: 10 * span], stored[start : start + 10 * span])


def test_without_the_section_nothing_is_drawn(store: Store) -> None:
    with closing(Loader(store, config(), LABELS)) as loader:
        (batch,) = loader.train(5, [[Pick("c/00")]])
    np.testing.assert_array_equal(batch.fbank[0, 0].numpy(), store.read("c/00", []).fbank)


def test_ranks_and_resume_draw_the_same_windows(store: Store) -> None:
    settings = windowed(train={"batch_size": 4})

    def seen(rank: int, world: int, start: int = 0) -> dict[str, bytes]:
        picked = batches(settings, store, 3, 2, rank=rank, world=world, start_step=start)
        with closing(Loader(store, settings, LABELS)) as loader:
            found = list(loader.train(2, picked))
        return {clip: b.fbank[k].numpy().tobytes() for b in found for k, clip in enumerate(b.ids)}

    alone = seen(0, 1)
    assert seen(0, 2) | seen(1, 2) == alone
    later = seen(0, 1, 2)
    assert later
    assert later == {clip: alone[clip] for clip in later}


def test_mixup_blends_a_window_with_a_window(store: Store) -> None:
    settings = windowed(train={"batch_size": 4}, data={"augment": {"mixup": 0.4}})
    with closing(Loader(store, settings, LABELS)) as loader:
        found = list(loader.train(0, batches(settings, store, 3, 0)))
    assert all(batch.mix is not None and batch.frames.shape[1] == 16 for batch in found)


def predict(
    store: Store, ids: Sequence[str], world: int, settings: Config
) -> tuple[list[Predictions], dict[bytes, np.ndarray]]:
    """What every rank gets, and the logits of each window by its sound."""
    table: list[Tensor | None] = [None] * world
    meeting, said = threading.Barrier(world), dict[bytes, np.ndarray]()

    def forward(batch: Batch) -> Tensor:
        logits = torch.stack([batch.frames[:, k].float().mean((1, 2, 3)) / 20 for k in (0, 7, 15)], 1)
        for sound, row in zip(batch.fbank.numpy(), logits.numpy(), strict=True):
            said[sound.tobytes()] = row
        return logits

    def rank(number: int) -> Predictions:
        with closing(Loader(store, settings, LABELS)) as loader:
            gathering = Gathering(number, world, torch.device("cpu"), table, meeting)
            result = run_test(forward, loader, ids, gathering, lambda: False)
        assert result is not None
        return result

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(rank, range(world))), said


@pytest.mark.parametrize("window", [{"pool": "mean"}, {"pool": "softmax", "gamma": 2.0}])
@pytest.mark.parametrize(("world", "batch"), [(1, 4), (2, 4), (3, 12), (5, 60)])
def test_any_ranks_and_batches_give_the_same_clips(
    store: Store, window: dict[str, Any], world: int, batch: int
) -> None:
    ids = sorted(store.clips)[2:9]
    (alone,), said = predict(store, ids, 1, windowed(window, train={"batch_size": 7}))
    everyone, _ = predict(store, ids, world, windowed(window, train={"batch_size": batch}))
    for result in everyone:
        assert result.ids == ids
        np.testing.assert_array_equal(result.logits, alone.logits)
        np.testing.assert_array_equal(result.labels, [LABELS.index(store.clips[clip].label) for clip in ids])
    place, clip = ids.index("c/04"), store.clips["c/04"]
    record = store.read("c/04", [], [LATER])
    rows = [said[window_sound(record, clip, one)[None].tobytes()] for one in covering_windows(40, 16, 4)]
    assert len(rows) == 7
    if window["pool"] == "softmax":
        expected = pooled(np.stack(rows), 2.0)
    else:
        expected = torch.from_numpy(np.stack(rows)).double().softmax(1).mean(0).log().numpy()
    np.testing.assert_allclose(alone.logits[place], expected, rtol=1e-5)


def test_mirrored_windows_count_as_windows(store: Store) -> None:
    settings = windowed({"pool": "softmax", "gamma": 0.0}, data={"test_flips": True})
    (result,), _ = predict(store, ["c/00"], 1, settings)
    (plain,), _ = predict(store, ["c/00"], 1, windowed({"pool": "softmax", "gamma": 0.0}))
    np.testing.assert_allclose(result.logits, plain.logits, rtol=1e-5)  # means of pictures know no left and right


def test_a_test_runs_each_window_once(store: Store) -> None:
    rows = rows_of(windowed(), store, ["c/00", "c/02"])
    assert rows == [*(Pick("c/00", window=(k, 16)) for k in range(0, 25, 4)), Pick("c/02", window=(0, 5))]
    assert rows_of(config(), store, ["c/00"]) == [Pick("c/00")]


@pytest.mark.parametrize(
    ("window", "data", "told"),
    [
        ({"hop": 17}, {}, r"data\.window\.hop is 17, but a window spans 16 frames .* set 16 or less"),
        ({"stride": 0}, {}, r"data\.window\.stride: Input should be greater than 0"),
        ({"gamma": -0.5}, {}, r"data\.window\.gamma: Input should be greater than or equal to 0 \(got -0\.5\)"),
        ({"gamma": float("nan")}, {}, r"data\.window\.gamma"),
        ({"gamma": True}, {}, r"data\.window\.gamma: .*give a number, not true or false"),
        ({"gamma": 10**400}, {}, r"data\.window\.gamma"),
        ({"pool": "max"}, {}, r"data\.window\.pool"),
        ({}, {"test_clips": 2}, r"data\.test_clips is 2, but data\.window"),
    ],
)
def test_windows_that_cannot_be_are_refused_by_their_keys(
    window: dict[str, Any], data: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        windowed(window, data=data)


def test_windows_longer_than_all_clips_are_refused(store: Store) -> None:
    check_windows(windowed({"stride": 2}), store)
    with pytest.raises(ConfigError, match=r"stride of 3 span 46 frames, and the longest clip .* has 40: set a smaller"):
        check_windows(windowed({"stride": 3}), store)


@pytest.mark.parametrize(
    ("window", "before"), [((0, 50), 100), ((10, 50), 60), ((25, 50), 0), ((30, 20), 0), ((0, 25), 512), ((0, 10), 512)]
)
def test_sound_that_begins_within_a_window_stays_at_its_time(window: tuple[int, int], before: int) -> None:
    fbank = np.arange(1.0, 513, dtype=np.float32)[:, None].repeat(128, 1)
    clip = Clip("a", "", 1, "a.mp4", 100, sound_frames=300, sound_start=1.0)
    heard = window_sound(ClipRecord([], fbank, np.arange(100) / 25), clip, window)[:, 0]
    first = max(0, 4 * window[0] - 100)
    wanted = np.full(512, SILENCE, np.float32)
    row = max(0, 100 - 4 * window[0])
    count = max(0, 4 * window[1] - row)
    wanted[row : row + count] = np.arange(first + 1, first + 1 + count)
    np.testing.assert_array_equal(heard, wanted)
    assert before == (np.argmax(heard > 0.5) if count else 512)


def test_sound_that_the_store_has_cut_is_told(tmp_path: Path) -> None:
    prepare = {"face_size": 96, "sound": {"max_seconds": 7}}
    path = tmp_path / "cut.store"
    write_store(path, Header("tiny", LABELS, config(prepare=prepare).prepare), sounding(8))
    with Store(path) as opened:
        check_windows(windowed(data={"modalities": "vision"}), opened)
        with pytest.raises(ConfigError, match=r"sound of 8 clips .* was cut at prepare\.sound\.max_seconds \(7 s\)"):
            check_windows(windowed(), opened)


def test_infinity_survives_the_files() -> None:
    settings = windowed({"pool": "softmax", "gamma": float("inf")})
    assert settings.data.window is not None
    again = type(settings.data.window).model_validate_json(settings.data.window.model_dump_json())
    assert again == settings.data.window
    assert again.gamma == float("inf")


def test_a_key_of_the_section_is_set_where_the_file_leaves_it_out(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text(config().to_yaml())
    assert "window: null" in file.read_text()
    window = load(file, ["data.window.stride=2"]).data.window
    assert window is not None
    assert (window.stride, window.hop, window.hop_of(16)) == (2, None, 15)
