"""The fast ways to train: the same result as the plain one, and nothing that waits for the device."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, weights
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
from torch.utils._python_dispatch import TorchDispatchMode

from mmadfer.config.schema import Config, TrainConfig, parse
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import connected
from mmadfer.errors import ConfigError, MissingDependencyError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.precision import apply, autocast, compiles
from mmadfer.model.weights.build import build_model
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.loop import train
from mmadfer.train.schedules import learning_rate

WEIGHTS = 2e-4
"""How far any float32 weight may be from the plain one after 51 steps with a learning rate of 1e-3."""
BANDS = {"bf16": 0.02, "fp16": 0.01, "fp8": 0.2}
"""How far the loss of any of these steps may be from the plain one; it falls from 1.1 to 0.6."""
COMPILED = [{"precision": "bf16", "compile": True}] if os.environ.get("MMADFER_MATRIX") == "all" else []
"""A compiler for processors takes minutes for bfloat16; float32 is compiled in every run of the tests."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled programs are kept; torch, when timm is imported, has chosen another place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Path(os.environ["XDG_CACHE_HOME"]) / "mmadfer" / "compiled"


def long(store: Path, **way: Any) -> Config:
    """51 steps of 4 clips."""
    return make_config(store, epochs=17, save_every=1000, **way)


def ended(folder: Path) -> dict[str, Tensor]:
    return load_file(checkpoints(folder)[-1] / "weights.safetensors")


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in events(folder, "step")]


def norm(folder: Path) -> float:
    """Of the first gradient."""
    return float(events(folder, "step")[0]["norm"])


@pytest.fixture(scope="module")
def plain(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """51 steps as published; test_recipe.py holds this against plain PyTorch, bit by bit."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("plain") / "fold"
    assert train(long(store, precision="reference"), 1, folder).finished
    return folder


@pytest.mark.parametrize(
    "way",
    [{}, {"compile": True}, {"checkpoint_activations": True}, {"accumulate": 2}, {"zero_stage": 1}, {"zero_stage": 3}],
    ids=str,
)
def test_float32_is_the_plain_recipe_after_50_steps(
    store: Path, plain: Path, tmp_path: Path, way: dict[str, Any]
) -> None:
    torch.set_num_threads(2 if "compile" in way else 1)
    assert train(long(store, **way), 1, tmp_path / "fold").finished
    wanted, found = ended(plain), ended(tmp_path / "fold")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=WEIGHTS, msg=name)
    assert losses(tmp_path / "fold") == pytest.approx(losses(plain), abs=1e-4)


@pytest.mark.parametrize(
    "way",
    [{"precision": "bf16"}, {"precision": "fp16"}, {"precision": "fp8"}, *COMPILED],
    ids=str,
)
def test_loss_stays_in_its_band(store: Path, plain: Path, tmp_path: Path, way: dict[str, Any]) -> None:
    torch.set_num_threads(2 if "compile" in way else 1)
    assert train(long(store, **way), 1, tmp_path / "fold").finished
    wanted, found = losses(plain), losses(tmp_path / "fold")
    assert len(found) == 51
    assert found != wanted
    assert found == pytest.approx(wanted, abs=BANDS[way["precision"]])
    assert norm(tmp_path / "fold") == pytest.approx(norm(plain), rel=BANDS[way["precision"]]), "Adam would not mind"
    assert found[-1] < 0.7 < found[0]


@pytest.mark.parametrize("precision", ["reference", "bf16", "fp8"])
def test_evaluation_computes_as_training_did(store: Path, tmp_path: Path, precision: str) -> None:
    assert train(make_config(store, precision=precision), 1, tmp_path / "fold").finished
    evaluate_path(tmp_path / "fold", store, 1, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "fold" / "predictions.csv").read_bytes()


def test_8_bits_are_tested_in_bfloat16_where_there_are_none(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(make_config(store, precision="fp8"), 1, tmp_path / "fold").finished

    def none(device: torch.device) -> None:
        raise ConfigError("fp8 does not run on this one")

    monkeypatch.setattr("mmadfer.model.float8.check_device", none)
    found = evaluate_path(tmp_path / "fold", store, 1)
    assert len(found.ids) == found.confusion.sum() == 12
    assert "trained with fp8, tested with bf16: fp8 does not run on this one" in capsys.readouterr().err


def micro(config: Config, store: Store) -> list[Batch]:
    with closing(Loader(store, config, store.labels)) as loader:
        return list(loader.train(0, batches(config, store, 1, 0)))


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: a number that is read off a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("precision", "waits"), [("reference", True), ("fp32", False), ("bf16", False)])
def test_a_step_does_not_wait_for_the_device(store: Path, precision: str, waits: bool) -> None:
    config = make_config(store, precision=precision, ema=0.9, task={"label_smoothing": 0.1}, clip_norm=1.0)
    with Store(store) as opened, connected() as ranks:
        feed = micro(config, opened)
        engine = Engine(build_model(config.model, 3), config.train, ranks, config.task)
        engine.step(feed[:1], 1e-3, lambda: False)
        with Waits() as noted:
            reports = [engine.step([batch], 1e-3, lambda: False) for batch in feed]
        assert [report.read().finite for report in reports] == [True] * len(feed)
        engine.close()
    assert bool(noted.seen) == waits, noted.seen


def test_a_checkpoint_from_before_the_fused_optimizer_goes_on(store: Path, tmp_path: Path) -> None:
    config = make_config(store)
    with Store(store) as opened, connected() as ranks:
        feed = micro(config, opened)
        old, new = (Engine(build_model(config.model, 3), config.train, ranks) for _ in range(2))
        assert old.step(feed[:1], 1e-3, lambda: False).read().finite
        for group in old._optimizer.param_groups:
            group["fused"] = None
        assert old.save(tmp_path / "saved") is None
        new.load(tmp_path / "saved", tmp_path / "weights.safetensors")  # which only the average is read from
        assert new.step(feed[1:2], 1e-3, lambda: False).read().finite
        assert {group["fused"] for group in new._optimizer.param_groups} == {True}
        old.close()
        new.close()


@pytest.fixture
def _lagging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop reads reports as on a GPU: one step later."""
    original = Engine.__init__

    def lagging(self: Engine, *given: Any) -> None:
        original(self, *given)
        self.lag = 1

    monkeypatch.setattr(Engine, "__init__", lagging)


@pytest.mark.usefixtures("_lagging")
@pytest.mark.parametrize("asked", [0, 1, 2, 4])
def test_reading_reports_late_changes_nothing(config: Config, straight: Path, tmp_path: Path, asked: int) -> None:
    stopped = train(config, 1, tmp_path / "fold", stop=StopAt(asked))
    assert not stopped.finished
    assert train(config, 1, tmp_path / "fold", resume=True).finished
    assert losses(tmp_path / "fold") == losses(straight)
    assert weights(tmp_path / "fold") == weights(straight)


def test_memory_may_be_saved_from_one_start_to_the_next(config: Config, straight: Path, tmp_path: Path) -> None:
    """As one does who has run out of it."""
    assert not train(config, 1, tmp_path / "fold", stop=StopAt(2)).finished
    less = config.model_copy(update={"train": config.train.model_copy(update={"checkpoint_activations": True})})
    assert train(less, 1, tmp_path / "fold", resume=True).finished
    assert weights(tmp_path / "fold") == weights(straight)


def saved_for_later(model: MMADFER, batch: Sequence[Tensor]) -> int:
    """Bytes that autograd keeps of a forward pass, parameters aside."""
    kept = dict[int, int]()
    known = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*batch).sum().backward()
    return sum(kept.values())


def test_activation_checkpointing_keeps_less_for_the_way_back(store: Path) -> None:
    config = make_config(store).model.model_copy(update={"frames": 16})
    feed = (torch.rand(2, 16, 3, 32, 32), torch.randn(2, 1, 512, 128), torch.rand(2, 17, 2, 2))
    usual, less = build_model(config, 3), build_model(config, 3)
    apply(less, "fp32", CPU, recomputed=True)
    assert saved_for_later(less, feed) < 0.35 * saved_for_later(usual, feed)
    for name, parameter in usual.trainable().items():
        torch.testing.assert_close(less.trainable()[name].grad, parameter.grad, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_frozen_matrices_are_held_in_half(store: Path, precision: Any, kind: torch.dtype) -> None:
    model = build_model(make_config(store).model, 3)
    apply(model, precision, CPU)
    assert {p.dtype for p in model.trainable().values()} == {torch.float32}
    matrices = [value for name, value in model.frozen().items() if "norm" not in name and "cls" not in name]
    assert {value.dtype for value in matrices} == {kind}
    feed = (torch.rand(1, 4, 3, 32, 32), torch.randn(1, 1, 512, 128))
    with autocast(precision, CPU):
        model(*feed).float().sum().backward()
    assert all(value.grad is None for value in model.frozen().values())
    assert all(value.grad is not None for value in model.trainable().values())


def test_learning_rate_grows_with_the_batch_by_the_rule() -> None:
    rates = {
        (rule, batch): learning_rate(TrainConfig(lr_scaling=rule, batch_size=batch), 0)
        for rule in ("none", "sqrt", "linear")
        for batch in (2, 8, 32)
    }
    assert {rate for (_, batch), rate in rates.items() if batch == 8} == {1e-4}, "the published batch: to the bit"
    assert [rates["none", 32], rates["sqrt", 32], rates["linear", 32]] == pytest.approx([1e-4, 2e-4, 4e-4])
    assert [rates["none", 2], rates["sqrt", 2], rates["linear", 2]] == pytest.approx([1e-4, 5e-5, 2.5e-5])


def test_compiled_programs_outlive_the_process_for_any_number_of_threads(
    store: Path, kept: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    tree = make_config(store, epochs=1, compile=True, precision="bf16").model_dump()
    tree["model"]["progressive"] = 1  # layers of one shape share their programs, and these are slow to compile
    assert train(parse(tree, "the test"), 1, tmp_path / "fold").finished
    assert kept.stat().st_mode & 0o077 == 0, "others could put programs there"
    assert list(kept.rglob("*.so"))
    sources = [path.read_text() for path in kept.rglob("*.cpp")]
    assert any("omp parallel" in source for source in sources)
    assert not any("num_threads(" in source for source in sources)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setenv("CXX", "no-such-compiler")
    # torch's own patch: after pytest's these settings would be gone from the whole process
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}):
        with pytest.raises(MissingDependencyError, match=r"train\.compile is true.*C\+\+ compiler.*CXX"):
            compiles(TrainConfig(compile=True), CPU)
        assert not compiles(TrainConfig(), CPU)


def test_where_nothing_can_be_compiled_auto_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadfer.model.precision._cannot_compile", lambda device: "gcc: not found")
    with pytest.warns(UserWarning, match="not compiled, and slower.*Triton, gcc.*gcc: not found"):
        assert not compiles(TrainConfig(), torch.device("cuda"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"precision": "reference", "compile": True}, "never compiled"),
        ({"precision": "fp8", "zero_stage": 3}, "take zero_stage 0, 1 or 2"),
        ({"compile": True, "zero_stage": 3}, "take zero_stage 0, 1 or 2"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(store: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(store, **settings)
