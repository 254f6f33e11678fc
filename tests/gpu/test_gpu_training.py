"""Training on a GPU: no step waits for it, and each precision, compiled or not, stays beside the published recipe."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import setting
import torch
from needs import missing

from mmadfer.config.schema import ModelConfig, TrainConfig
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import connected
from mmadfer.model.precision import apply, autocast, compiles
from mmadfer.model.weights.build import build_model
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.loop import train

BANDS = {"fp32": 1e-2, "bf16": 0.02, "fp16": 0.02, "fp8": 0.2}
"""How far the loss of any of 51 steps may be from the plain one's; it falls from 1.1 to 0.6."""
FP8 = ((8, 9), (9, 0), (10, 0))


@pytest.fixture(autouse=True)
def _torch_sees_it() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return setting.make_store(tmp_path_factory.mktemp("store") / "tiny.store")


def long(store: Path, **way: Any) -> Any:
    return setting.make_config(store, epochs=17, save_every=1000, **way)


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in setting.events(folder, "step")]


@pytest.fixture(scope="module")
def plain(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("plain") / "fold"
    assert train(long(store, precision="reference"), 1, folder).finished
    return losses(folder)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", list(BANDS))
def test_losses_stay_beside_the_published_recipe(
    store: Path, plain: list[float], tmp_path: Path, precision: str, compiled: bool
) -> None:
    if precision == "fp8" and torch.cuda.get_device_capability() not in FP8:
        pytest.skip("needs a GPU of compute capability 8.9, 9.0 or 10.0")
    assert train(long(store, precision=precision, compile=compiled), 1, tmp_path / "fold").finished
    assert losses(tmp_path / "fold") == pytest.approx(plain, abs=BANDS[precision])


def test_compiled_training_resumes_to_the_same_weights(store: Path, tmp_path: Path) -> None:
    config = setting.make_config(store, precision="bf16", compile=True)
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=setting.StopAt(3)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert setting.weights(tmp_path / "stopped") == setting.weights(tmp_path / "straight")


@contextmanager
def started(store: Path, **way: Any) -> Iterator[tuple[Engine, list[Batch]]]:
    """An engine that has made its first steps, and batches on the GPU."""
    config = setting.make_config(store, **way)
    with Store(store) as opened, connected() as ranks:
        with closing(Loader(opened, config, opened.labels, ranks.device.index)) as loader:
            feed = list(loader.train(0, batches(config, opened, 1, 0)))
        engine = Engine(build_model(config.model, len(opened.labels)), config.train, ranks, config.task)
        for batch in feed[:2]:
            assert engine.step([batch], 1e-3, lambda: False).read().finite
        yield engine, feed
        engine.close()


@pytest.mark.parametrize(
    "way",
    [
        {},
        {"precision": "bf16", "ema": 0.9, "clip_norm": 1.0, "task": {"label_smoothing": 0.1}},
        {"precision": "bf16", "compile": True},
    ],
    ids=str,
)
def test_no_step_waits_for_the_gpu(store: Path, way: dict[str, Any]) -> None:
    with started(store, **way) as (engine, feed):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            reports = [engine.step([batch], 1e-3, lambda: False) for batch in feed]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert [report.read().finite for report in reports] == [True] * len(feed)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_of_the_published_size_is_the_same_each_time(precision: Any) -> None:
    """Fused attention has ways back that add in any order."""
    found = []
    with connected() as ranks:
        engine = Engine(build_model(ModelConfig(), 7), TrainConfig(precision=precision, compile=False), ranks)
        frames, fbank = torch.rand(2, 16, 3, 160, 160).cuda(), torch.randn(2, 1, 512, 128).cuda()
        for _ in range(2):
            with autocast(precision, ranks.device):
                engine.model(frames, fbank).float().square().sum().backward()
            found.append([p.grad.clone() for p in engine.model.trainable().values() if p.grad is not None])
            engine.model.zero_grad()
        engine.close()
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_activation_checkpointing_takes_less_memory(store: Path) -> None:
    config = setting.make_config(store).model.model_copy(update={"frames": 16})
    peaks = []
    for recomputed in (False, True):
        model = build_model(config, 3).cuda()
        apply(model, "fp32", torch.device("cuda"), recomputed=recomputed)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        feed = (torch.rand(16, 16, 3, 32, 32), torch.randn(16, 1, 512, 128), torch.rand(16, 17, 2, 2))
        model(*(tensor.cuda() for tensor in feed)).sum().backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.8 * peaks[0]


def test_a_gpu_compiles_by_itself(store: Path) -> None:
    device = torch.device("cuda")
    known = torch.cuda.get_device_capability() >= (7, 0)
    assert compiles(setting.make_config(store).train, device) == known
    assert not compiles(setting.make_config(store, precision="reference").train, device)
