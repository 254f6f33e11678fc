"""Faces, the loader's decoding and training on a GPU, against the same on the CPU."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import setting
import tiny
import torch
from make_media import grey, moving_face, portrait
from needs import missing
from safetensors.torch import load_file

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.faces import detection
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.store.store import Header, Store, write_store


@pytest.fixture(autouse=True)
def _torch_sees_it() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")


def test_the_same_faces_are_found() -> None:
    images = [*moving_face(20, step=3), *grey(2), portrait()[24:168, 32:224], np.tile(portrait(), (1, 2, 1))]
    for here, there in zip(detection.detect(images), detection.detect(images, "cuda"), strict=True):
        np.testing.assert_allclose(here, there, atol=1e-3)


def test_a_clip_gets_the_same_crops(video: Path) -> None:
    here, there = (read_clip(video, PrepareConfig(), device=device) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(here.fbank, there.fbank)
    for one, other in zip(here.jpegs, there.jpegs, strict=True):
        assert np.abs(decode_jpeg(one).astype(int) - decode_jpeg(other)).mean() < 3  # a crop may move by a pixel


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store") / "tiny.store"
    write_store(path, Header("tiny", tiny.LABELS, tiny.config().prepare), tiny.records())
    with Store(path) as store:
        yield store


@pytest.mark.parametrize(
    ("training", "augment"), [(True, {}), (True, {"mixup": 0.4, "drop_vision": 0.2, "spec_mels": 20}), (False, {})]
)
def test_the_loader_decodes_the_same_pixels(store: Store, training: bool, augment: dict[str, float]) -> None:
    """DALI's `mixed` decoding and resizing; 1.5 of 255 is the bound that the CPU's way has against Pillow."""
    config = tiny.config(data={"augment": augment})
    with (
        closing(Loader(store, config, tiny.LABELS)) as cpu,
        closing(Loader(store, config, tiny.LABELS, device=0)) as gpu,
    ):
        for one, other in zip(*(drawn(loader, store, training) for loader in (cpu, gpu)), strict=True):
            assert other.frames.is_cuda
            assert one.ids == other.ids
            torch.testing.assert_close(other.fbank.cpu(), one.fbank, rtol=0, atol=0)
            torch.testing.assert_close(other.targets["label"].cpu(), one.targets["label"], rtol=0, atol=0)
            assert (preprocess(one) - preprocess(other).cpu()).abs().mean().item() * 255 < 1.5


def drawn(loader: Loader, store: Store, training: bool) -> Iterator[Batch]:
    return loader.train(0, batches(loader.config, store, 1, 0)) if training else loader.test(list(store.clips), 8)


def test_a_gpu_trains_as_a_cpu(tmp_path: Path) -> None:
    assert all(far <= 1e-2 for far in apart(tmp_path, [{}]))


def test_two_gpus_train_as_a_cpu(tmp_path: Path) -> None:
    """Over NCCL."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    assert all(far <= 1e-2 for far in apart(tmp_path, setting.rank_variables(2)))


def apart(folder: Path, ranks: list[dict[str, str]]) -> list[float]:
    """Train on the CPU, and in these ranks on GPUs, from the same start: how far losses and trained weights differ."""
    config = setting.make_config(setting.make_store(folder / "tiny.store"))
    trained(setting.start(config, folder / "cpu", env={"CUDA_VISIBLE_DEVICES": ""}))
    trained(*[setting.start(config, folder / "gpu", env=env) for env in ranks])
    cpu, gpu = folder / "cpu" / "fold-1", folder / "gpu" / "fold-1"
    steps = zip(setting.events(cpu, "step"), setting.events(gpu, "step"), strict=True)
    one, two = (load_file(setting.checkpoints(path)[-1] / "weights.safetensors") for path in (cpu, gpu))
    assert one.keys() == two.keys()
    return [
        *(float(abs(here["loss"] - there["loss"])) for here, there in steps),
        *((value - two[name]).abs().max().item() for name, value in one.items()),
    ]


def trained(*ranks: subprocess.Popen[str]) -> None:
    ends = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * len(ranks), ends
