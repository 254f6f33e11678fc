import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import FACE, LABELS, SIDE, config, join, records, same

from mmadfer.data import draws
from mmadfer.data.fold_clips import steps_per_epoch
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.media.image import decode_jpeg, resize
from mmadfer.data.store.store import ClipRecord, Header, Store, write_store
from mmadfer.errors import ConfigError, DataError
from mmadfer.utils.cores import of_a_rank


def test_shapes_types_and_labels(loader: Loader, store: Store) -> None:
    (batch, *_) = loader.train(0, batches(config(), store, 1, 0))
    assert batch.frames.shape == (4, 16, 3, SIDE, SIDE)
    assert batch.frames.dtype == torch.uint8
    assert batch.frames.is_contiguous()
    assert batch.fbank.shape == (4, 1, 512, 128)
    assert batch.drop_path is not None
    assert batch.drop_path.shape == (4, 17, 12, 2)
    assert [LABELS[k] for k in batch.targets["label"]] == [store.clips[clip].label for clip in batch.ids]
    for clip, fbank in zip(batch.ids, batch.fbank, strict=True):
        np.testing.assert_array_equal(fbank[0], store.read(clip).fbank)


def test_batches_are_the_same_again_and_differ_between_epochs(loader: Loader, store: Store) -> None:
    ids = batches(config(), store, 1, 3)
    first, again = list(loader.train(3, ids)), list(loader.train(3, ids))
    assert len(first) == len(again) == 4
    assert all(map(same, first, again))
    assert not any(map(same, first, loader.train(4, ids)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_ranks_see_the_halves_of_one(store: Store, accumulate: int) -> None:
    settings = config(train={"accumulate": accumulate})
    loader = Loader(store, settings, LABELS)
    ranks = [list(loader.train(1, batches(settings, store, 2, 1, rank=rank, world=2))) for rank in range(2)]
    alone = list(loader.train(1, batches(settings, store, 2, 1)))
    assert len(alone) == 4 * accumulate
    assert all(map(same, map(join, zip(*ranks, strict=True)), alone))


def test_a_step_in_the_middle_does_not_need_the_earlier_ones(loader: Loader, store: Store) -> None:
    whole = list(loader.train(2, batches(config(), store, 1, 2)))
    rest = list(loader.train(2, batches(config(), store, 1, 2, start_step=2)))
    assert len(rest) == 2
    assert all(map(same, rest, whole[2:]))


def test_threads_change_nothing(loader: Loader, store: Store) -> None:
    ids = batches(config(), store, 1, 0)
    auto, many = (Loader(store, config(data={"threads": threads}), LABELS) for threads in ("auto", 4))
    assert (loader.threads, auto.threads, many.threads) == (1, of_a_rank(), 4)
    for other in (auto, many):
        assert all(map(same, other.train(0, ids), loader.train(0, ids)))


def test_epoch_drops_only_the_last_incomplete_batch_and_the_test_fold(store: Store) -> None:
    ids = [pick.clip for part in batches(config(), store, 1, 0) for pick in part]
    assert len(ids) == len(set(ids)) == 16  # 5 of the 23 clips are tested on, 18 // 4 * 4
    assert not set(ids) & set(store.fold(1))
    assert steps_per_epoch(config(), store, 1) == 4
    assert batches(config(), store, 1, 0, start_step=4) == []


def test_augmentation_is_what_pil_does(loader: Loader, store: Store) -> None:
    settings, worst = config(), 0
    means: list[float] = []
    for batch in loader.train(5, batches(settings, store, 1, 5)):
        for clip, frames in zip(batch.ids, batch.frames.numpy(), strict=True):
            drawn = draws.draw_view(
                1,
                5,
                clip,
                store.clips[clip].frames,
                size=store.size,
                augment=settings.data.augment,
                frames=16,
                depth=12,
            )
            x, y, w, h = drawn.crop
            jpegs = store.read(clip).jpegs
            crops = [decode_jpeg(jpegs[k])[y : y + h, x : x + w] for k in drawn.indexes]
            expected = resize(crops, SIDE)[..., :: -1 if drawn.flip else 1]
            difference = np.abs(expected.astype(int) - frames)
            worst, means = max(worst, difference.max()), [*means, difference.mean()]
    assert worst <= 3
    assert np.mean(means) < 0.2


def test_evaluation_is_what_the_runtime_does(loader: Loader, store: Store) -> None:
    ids = sorted(store.clips)
    tested = list(loader.test(ids, 4))
    assert [clip for batch in tested for clip in batch.ids] == ids
    assert [len(batch.ids) for batch in tested] == [4, 4, 4, 4, 4, 3]
    for batch in tested:
        assert batch.drop_path is None
        assert torch.equal(preprocess(batch), batch.frames / 255)
        for clip, frames in zip(batch.ids, batch.frames.numpy(), strict=True):
            crops = [decode_jpeg(data) for data in store.read(clip).jpegs]
            expected = resize([crops[k] for k in draws.test_indexes(len(crops), 16)[0]], SIDE)
            difference = np.abs(expected.astype(int) - frames)
            assert difference.max() <= 3
            assert difference.mean() < 0.2


def test_two_index_sets(store: Store) -> None:
    loader = Loader(store, config(data={"test_clips": 2}), LABELS)
    (one,), (two,) = loader.test(["c/00"], 1, clip=0), loader.test(["c/00"], 1, clip=1)
    assert not torch.equal(one.frames, two.frames)


@pytest.mark.parametrize("batch_size", [1, 3, 30])
def test_no_clip_is_lost_in_evaluation(loader: Loader, store: Store, batch_size: int) -> None:
    ids = sorted(store.clips)[:7]
    assert [clip for batch in loader.test(ids, batch_size) for clip in batch.ids] == ids
    assert list(loader.test([], batch_size)) == []


def test_brightness_scales_and_clamps(loader: Loader, store: Store) -> None:
    batch = next(loader.train(0, batches(config(), store, 1, 0)))
    frames = preprocess(batch)
    expected = np.clip(batch.frames.numpy() / 255.0 * batch.brightness.numpy()[:, None, None, None, None], 0, 1)
    np.testing.assert_allclose(frames, expected, atol=1e-6)
    assert frames.dtype == torch.float32


@pytest.mark.parametrize("modalities", ["vision", "audio"])
def test_one_modality(loader: Loader, store: Store, modalities: str) -> None:
    ids = batches(config(), store, 1, 0)
    one = next(Loader(store, config(data={"modalities": modalities}), LABELS).train(0, ids))
    both = next(loader.train(0, ids))
    assert torch.equal(one.frames, both.frames if modalities == "vision" else torch.zeros_like(both.frames))
    assert torch.equal(one.fbank, both.fbank if modalities == "audio" else torch.full_like(both.fbank, SILENCE))
    assert torch.equal(one.targets["label"], both.targets["label"])


def test_the_next_batch_is_made_while_this_one_is_used(path: Path) -> None:
    class Noting(Store):
        def read(self, clip: str, *what: Any, **rows: Any) -> ClipRecord:
            noted.append(clip)
            return super().read(clip, *what, **rows)

    noted: list[str] = []
    ids = [f"c/{number:02}" for number in range(12)]
    with Noting(path) as store:
        loop = Loader(store, config(), LABELS).test(ids, 2)
        assert next(loop).ids == ids[:2]
        deadline = time.monotonic() + 10
        while len(noted) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert noted == ids[:8]  # one batch is being decoded, two are read ahead, and not the whole epoch
        loop.close()  # type: ignore[attr-defined]


def test_an_abandoned_loop_leaves_nothing_behind(loader: Loader, store: Store) -> None:
    ids = batches(config(), store, 1, 0)
    expected = list(loader.train(0, ids))
    for _ in range(3):
        next(loader.train(1, ids))
    assert all(map(same, loader.train(0, ids), expected))


def test_two_loops_at_once_do_not_disturb_each_other(loader: Loader, store: Store) -> None:
    ids = batches(config(), store, 1, 0)
    expected = [list(loader.train(epoch, ids)) for epoch in (0, 1)]
    both = list(zip(loader.train(0, ids), loader.train(1, ids), strict=True))
    assert all(map(same, expected[0], (one for one, _ in both)))
    assert all(map(same, expected[1], (two for _, two in both)))


def test_a_damaged_record_is_named(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    with Store(path) as store:
        needle = store.read("c/04").fbank.tobytes()[:64]
    data[data.index(needle)] ^= 1
    (tmp_path / "bad.store").write_bytes(data)
    with Store(tmp_path / "bad.store") as store:
        loader = Loader(store, config(), LABELS)
        with pytest.raises(DataError, match=r"'c/04'.*damaged"):
            list(loader.test(sorted(store.clips), 4))
        assert len(list(loader.test(["c/00", "c/01"], 2))) == 1


def test_a_frame_that_is_no_jpeg_is_named(tmp_path: Path) -> None:
    good, bad = list(records())[:2]
    write_store(
        tmp_path / "bad.store",
        Header("t", LABELS, config().prepare),
        [good, (bad[0], ClipRecord([b"x" * 99] * 16, bad[1].fbank))],
    )
    with Store(tmp_path / "bad.store") as store:
        loader = Loader(store, config(), LABELS)
        with pytest.raises(DataError, match="c/01"):
            list(loader.test(["c/01"], 1))
        assert len(list(loader.test(["c/00"], 1))) == 1  # the loader survives it
        with pytest.raises(DataError, match=r"cannot be decoded, of c/01: delete"):
            list(loader.test(["c/00", "c/01"], 2))


def test_a_frame_smaller_than_its_crop_is_told(tmp_path: Path) -> None:
    good, bad = list(records())[:2]
    buffer = io.BytesIO()
    Image.new("RGB", (FACE - 1, FACE)).save(buffer, "JPEG")
    small = (bad[0], ClipRecord([buffer.getvalue()] * 16, bad[1].fbank))
    write_store(tmp_path / "small.store", Header("t", LABELS, config().prepare), [good, small])
    with Store(tmp_path / "small.store") as store:
        loader = Loader(store, config(), LABELS)
        for _ in range(3):
            with pytest.raises(DataError, match=r"c/01.*smaller than its crop.*95 x 96"):
                list(loader.test(["c/01"], 1))
            assert len(list(loader.test(["c/00"], 1))) == 1  # the loader survives it


def test_bad_settings_are_explained(store: Store) -> None:
    with pytest.raises(ConfigError, match="3 ranks"):
        batches(config(), store, 1, 0, world=3)
    with pytest.raises(ConfigError, match="leaves 18 training clips"):
        batches(config(train={"batch_size": 32}), store, 1, 0)
    with pytest.raises(ConfigError, match=r"data\.labels names odd, but .* has"):
        Loader(store, config(), (*LABELS[:2], "odd"))
    with pytest.raises(ConfigError, match="twice"):
        Loader(store, config(), (*LABELS, "sad"))
    with pytest.raises(DataError, match="no fold 9"):
        batches(config(), store, 9, 0)
