"""Our frames against the published processing of the same photographs with the same draws."""

import io
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import adjust_brightness

from mmadfer.config.schema import Config, parse
from mmadfer.data import draws
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.dali import Frames, build_pipeline, feed_boxes
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store

SIDE, CLIPS, FRAMES, SIZES = 224, 20, 4, (112, 160, 224)
MEAN, TRAINING, EVALUATION = 1.5, 1.25, 0.1
"""Of 255: the bound for a clip's mean difference, and what is reached with a little room. In training, half a level of
it is that PIL cuts off the fractions of brightened bytes, where we keep them."""


def config(size: int) -> Config:
    encoder = {"width": 64, "heads": 2}
    model = {"image_size": size, "frames": FRAMES, "vision": encoder, "audio": encoder}
    return parse({"name": "pixels", "model": model, "data": {"threads": 1}}, where="test")


def views(picture: np.ndarray, first: int) -> Iterator[bytes]:
    """The photograph, moving by a pixel a frame."""
    for k in range(first, first + FRAMES):
        view = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(k, k, k + 270, k + 270))
        buffer = io.BytesIO()
        view.save(buffer, "JPEG", quality=95)
        yield buffer.getvalue()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    from skimage import data

    pictures = [picture() for picture in (data.astronaut, data.coffee, data.chelsea, data.rocket)]
    silence = np.zeros((512, 128), np.float32)
    records = [
        (Clip(f"{k:02}", "a", 1, f"{k}", FRAMES), ClipRecord(list(views(pictures[k % 4], k)), silence))
        for k in range(CLIPS)
    ]
    path = tmp_path_factory.mktemp("photographs") / "photographs.store"
    write_store(path, Header("photographs", ("a", "b"), config(SIDE).prepare), records)
    with Store(path) as store:
        yield store


def published(jpegs: list[bytes], drawn: draws.Draw, size: int) -> np.ndarray:
    """float64 (T, 3, S, S), 0 to 255: one picture after the other, in the published order, in bytes throughout."""
    frames, (x, y, w, h) = [], drawn.crop
    for k in drawn.indexes:
        image = adjust_brightness(Image.open(io.BytesIO(jpegs[k])).convert("RGB"), drawn.brightness)
        image = image.crop((x, y, x + w, y + h)).resize((size, size), Image.Resampling.BILINEAR)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if drawn.flip else image
        frames.append(np.asarray(image, np.float64).transpose(2, 0, 1))
    return np.stack(frames)


def differences(store: Store, size: int, training: bool) -> tuple[np.ndarray, float]:
    """Mean difference of each clip, and the largest of all."""
    settings, ids, found, largest = config(size), list(store.clips), [], 0.0
    picks = list(map(Pick, ids))
    with closing(Loader(store, settings, ("a", "b"))) as loader:
        for batch in loader.train(0, [picks[:8], picks[8:]]) if training else loader.test(ids, 8):
            for clip, frames in zip(batch.ids, preprocess(batch).numpy() * 255.0, strict=True):
                drawn = (
                    draws.draw_view(
                        1, 0, clip, FRAMES, size=store.size, augment=settings.data.augment, frames=FRAMES, depth=12
                    )
                    if training
                    else draws.test_draw(FRAMES, store.size, FRAMES)
                )
                difference = np.abs(frames - published(store.read(clip).jpegs, drawn, size))
                found.append(difference.mean())
                largest = max(largest, difference.max())
    return np.array(found), largest


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_photographs_look_as_published(photographs: Store, size: int, training: bool) -> None:
    means, largest = differences(photographs, size, training)
    print(f"{size} px, training {training}: mean {means.mean():.3f}, worst clip {means.max():.3f}, pixel {largest:.1f}")
    assert len(means) == CLIPS
    assert means.max() <= min(MEAN, TRAINING if training else EVALUATION)


@pytest.mark.parametrize("size", SIZES)
def test_the_graph_of_the_gpu_does_the_same(photographs: Store, size: int) -> None:
    """Here on the CPU; a GPU runs the same operators."""
    settings, worst = config(size), 0.0
    pipeline = build_pipeline(FRAMES, size, 1, torch.device("cpu"))
    for clip in list(photographs.clips)[:8]:
        drawn = draws.draw_view(
            1, 0, clip, FRAMES, size=photographs.size, augment=settings.data.augment, frames=FRAMES, depth=12
        )
        jpegs = photographs.read(clip, drawn.indexes.tolist()).jpegs
        frames = Frames(
            [np.frombuffer(jpeg, np.uint8) for jpeg in jpegs], np.array([drawn.crop], np.int32), np.array([drawn.flip])
        )
        pipeline.feed_input("jpegs", frames.jpegs)
        feed_boxes(pipeline, frames, FRAMES)
        (output,) = pipeline.run()
        ours = np.clip(np.array(output.as_tensor()) * drawn.brightness, 0, 255)
        worst = max(worst, np.abs(ours - published(photographs.read(clip).jpegs, drawn, size)).mean())
    assert worst <= MEAN
