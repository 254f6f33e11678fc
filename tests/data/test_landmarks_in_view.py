"""Landmarks of a batch: where the points of its frames are after crop, resizing and mirroring."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import FACE, config, same

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.aligned_clips import aligned, check_alignment
from mmadfer.data.faces.landmarks68 import GROUPS, MIRROR, POINTS
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.errors import ConfigError, DataError
from mmadfer.tasks.codebook import NONE, expression_of

LABELS, FRAMES, CLIPS = ("happy", "sad", "neutral"), 16, 12
Change = Callable[[np.ndarray], Any]


def dotted(point: np.ndarray) -> bytes:
    """A black picture with one bright dot."""
    rows, columns = np.mgrid[:FACE, :FACE] + 0.5
    near = np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * 2.0**2))
    buffer = io.BytesIO()
    Image.fromarray((255 * near).astype(np.uint8)).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def clips(change: Change = lambda points: points.astype(np.float16)) -> Iterator[tuple[Clip, ClipRecord]]:
    """Frame k shows point k + clip alone; the points of clip 5 are not known in frame 3, and clip 7 has none."""
    for number in range(CLIPS):
        points = np.random.default_rng(number).uniform(0, FACE, (FRAMES, POINTS, 2))
        jpegs = [dotted(points[k, shown(number, k)]) for k in range(FRAMES)]
        if number == 5:
            points[3] = np.nan
        tensors = {} if number == 7 else {"landmarks": change(points)}
        told = dict.fromkeys(tensors, "")
        clip = Clip(f"c{number:02}", LABELS[number % 3], 1 + number % 2, f"{number}.mp4", FRAMES, tensors=told)
        yield clip, ClipRecord(jpegs, np.zeros((512, 128), np.float32), tensors=tensors)


def shown(number: int, frame: int) -> int:
    return (5 * number + 7 * frame) % POINTS


def store_of(path: Path, *change: Change) -> Path:
    write_store(path, Header("dots", LABELS, PrepareConfig(face_size=FACE), Path("/media")), clips(*change))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("dots") / "dots.store")


def aligning(**data: Any) -> Any:
    return config(data={"threads": 1, "folds": 2, **data}, task={"align": {}})


def loaded(path: Path, settings: Any, epoch: int = 0) -> Iterator[Batch]:
    with Store(path) as store:
        loader = Loader(store, settings, LABELS)
        yield from loader.train(epoch, batches(settings, store, 1, epoch))
        loader.close()


def centre(frame: torch.Tensor) -> np.ndarray | None:
    """Of the dot, x and y; None where too much of it is outside."""
    grey = frame.float().mean(0).numpy()
    grey = np.where(grey > 60, grey, 0)
    if not grey.any() or max(grey[0].max(), grey[-1].max(), grey[:, 0].max(), grey[:, -1].max()) > 0:
        return None
    rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]] + 0.5
    return np.array([(columns * grey).sum(), (rows * grey).sum()]) / grey.sum()


@pytest.mark.parametrize(("flip", "area"), [(0.0, [1, 1]), (1.0, [1, 1]), (0.0, [0.3, 0.9]), (1.0, [0.3, 0.9])])
def test_points_follow_the_picture(path: Path, flip: float, area: list[float]) -> None:
    settings = aligning(augment={"flip": flip, "area": area})
    apart = list[np.ndarray]()
    for epoch in range(2):
        for batch in loaded(path, settings, epoch):
            assert batch.landmarks is not None
            assert batch.landmarks.dtype == torch.float32
            for k, name in enumerate(batch.ids):
                for frame in range(FRAMES):
                    found, point = centre(batch.frames[k, frame]), shown(int(name[1:]), frame)
                    place = batch.landmarks[k, frame, MIRROR.index(point) if flip else point]
                    if found is not None and place.isfinite().all():
                        apart.append(found - place.numpy())
    assert len(apart) > 40
    assert np.abs(apart).max() < 0.6
    assert np.abs(np.mean(apart, axis=0)).max() < 0.1, "places of pixels' corners in the stead of centres are 0.17 off"


def test_left_is_left_after_mirroring(path: Path) -> None:
    """The picture's left brow has the lower x, whether the frame is mirrored or not."""
    face = np.zeros((FRAMES, POINTS, 2))
    face[:, list(GROUPS["right_brow"]), 0] = FACE
    (clip, record), *_ = clips(lambda _: face.astype(np.float32))
    path = path.with_name("sides.store")
    header = Header("dots", LABELS, PrepareConfig(face_size=FACE), Path("/media"))
    write_store(path, header, ((replace(clip, id=f"c{k}", fold=1 + k % 2), record) for k in range(8)))
    for flip in (0.0, 1.0):
        for batch in loaded(path, aligning(augment={"flip": flip, "area": [1, 1]})):
            assert batch.landmarks is not None
            left, right = (batch.landmarks[:, :, list(GROUPS[name]), 0] for name in ("left_brow", "right_brow"))
            assert (left < right).all()


def test_frames_without_points_and_hidden_ones_have_none(path: Path) -> None:
    for batch in loaded(path, aligning(augment={"drop_vision": 0.5})):
        assert batch.landmarks is not None
        for k, name in enumerate(batch.ids):
            known = batch.landmarks[k].isfinite().all(dim=(1, 2))
            if name == "c07" or batch.brightness[k] == 0:
                assert not known.any()
            else:
                assert known.tolist() == [not (name == "c05" and frame == 3) for frame in range(FRAMES)]
        assert batch.expressions is not None
        assert batch.expressions.tolist() == [expression_of(LABELS[int(name[1:]) % 3]) for name in batch.ids]
    assert expression_of("neutral") == NONE


def test_a_run_without_align_reads_nothing_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = config(data={"threads": 1, "folds": 2})
    asked = list[tuple[str, ...]]()
    read = Store.read

    def counted(self: Store, *given: Any, **named: Any) -> ClipRecord:
        asked.append(tuple(named["rows"]))
        return read(self, *given, **named)

    monkeypatch.setattr(Store, "read", counted)
    without, with_align = list(loaded(path, plain)), list(loaded(path, aligning()))
    assert {*asked} == {(), ("landmarks",)}
    assert all(batch.landmarks is None and batch.expressions is None for batch in without)
    assert all(map(same, without, with_align)), "the same draws, frames and labels"


def test_a_test_of_a_store_with_points(path: Path) -> None:
    with Store(path) as store:
        loader = Loader(store, aligning(), LABELS)
        (one,), (mirrored,) = (list(loader.test(["c00", "c07"], 2, flip=flip)) for flip in (False, True))
        loader.close()
    assert one.landmarks is not None
    assert mirrored.landmarks is not None
    assert one.landmarks[1].isnan().all()
    side = one.frames.shape[-1]
    torch.testing.assert_close(mirrored.landmarks[0, ..., 0], side - one.landmarks[0][:, list(MIRROR), 0])
    moved = one.moved(lambda tensor: tensor + 1)
    assert moved.landmarks is not None
    torch.testing.assert_close(moved.landmarks[0], one.landmarks[0] + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda points: points[:9].astype(np.float16), "has 16 frames and a tensor 'landmarks' of 9 rows"),
        (lambda points: points[:, :5], r"with float64 \(5, 2\) for each frame"),
        (lambda points: np.zeros_like(points, np.int32), r"with int32 \(68, 2\)"),
    ],
)
def test_other_tensors_of_that_name_are_refused(tmp_path: Path, change: Change, told: str) -> None:
    with pytest.raises(DataError, match=f"clip 'c.*{told}.*Prepare the store again"):
        list(loaded(store_of(tmp_path / "odd.store", change), aligning()))


def test_clips_that_take_part_are_counted(path: Path, tmp_path: Path) -> None:
    with Store(path) as store:
        check_alignment(aligning(), store, [1, 2])
        assert aligned(aligning(), store, 1) == (6, 2, 1)
        assert "in 3 of 6 training clips" in str(aligned(aligning(), store, 1))
    bare = tmp_path / "bare.store"
    pairs = ((replace(clip, tensors={}), replace(record, tensors={})) for clip, record in clips())
    write_store(bare, Header("dots", LABELS, PrepareConfig(face_size=FACE), Path("/media")), pairs)
    with Store(bare) as store:
        check_alignment(config(data={"threads": 1, "folds": 2}), store, [1])
        with pytest.raises(
            DataError, match=r"bare\.store has no reliable landmarks of the clips that fold 1 trains on"
        ):
            check_alignment(aligning(), store, [1])
    looked, header = tmp_path / "looked.store", Header("dots", LABELS, PrepareConfig(face_size=FACE), Path("/media"))
    some = ((replace(clip, landmarked=8 * (clip.id == "c01")), record) for clip, record in clips())
    write_store(looked, replace(header, landmarks="a network"), some)
    with Store(looked) as store:
        assert [aligned(aligning(), store, fold).without_landmarks for fold in (1, 2)] == [3, 4], "c01 is of fold 2"
        with pytest.raises(DataError, match="no reliable landmarks of the clips that fold 2 trains on"):
            check_alignment(aligning(), store, [1, 2])
    odd = aligning(labels=["neutral", "calm"])
    with Store(path) as store, pytest.raises(ConfigError, match="none of the labels neutral, calm has action units"):
        check_alignment(odd, store, [1])
