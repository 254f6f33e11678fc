"""What `mmadfer launch --estimate` counts, held against what training does, and what it says of memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from setting import checkpoints, make_config
from torch import Tensor

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import steps_per_epoch
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import Ranks
from mmadfer.evaluation.evaluate import run_test
from mmadfer.launch import extrapolate
from mmadfer.model.weights.build import build_model
from mmadfer.run.measurement import read
from mmadfer.train.loop import train
from mmadfer.train.measure import measure, room
from mmadfer.utils import memory


@dataclass(frozen=True)
class Second(Ranks):
    """One rank of several, whose peers say what it says."""

    def gather_tensor(self, mine: Tensor) -> Tensor:
        return torch.stack([mine] * self.world)


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_a_test_runs_as_many_clips_as_the_estimate_counts(config: Config, store: Path, ranks: int, count: int) -> None:
    seen: list[int] = []

    def forward(batch: Batch) -> Tensor:
        seen.append(len(batch.fbank))
        return torch.zeros(len(batch.fbank), 3)

    with Store(store) as opened, closing(Loader(opened, config, opened.labels)) as loader:
        run_test(forward, loader, opened.fold(1)[:count], Second(world=ranks))
    assert sum(seen) == extrapolate.tested_clips_per_rank(count, ranks, config.train.batch_size)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_training_saves_as_often_as_the_estimate_counts(store: Path, tmp_path: Path, every: int) -> None:
    config = make_config(store, keep=100, save_every=every)
    assert train(config, 1, tmp_path / "fold").finished
    with Store(store) as opened:
        steps = steps_per_epoch(config, opened, 1)
    assert len(checkpoints(tmp_path / "fold")) == extrapolate.saves(config.train, steps)


def test_a_measurement_counts_all_weights_and_what_comes_once_an_epoch(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, loads = make_config(store, precision="fp8"), Loader.train

    def slowly(self: Loader, epoch: int, ids: Sequence[Sequence[str]]) -> Iterator[Batch]:
        time.sleep(0.3)
        yield from loads(self, epoch, ids)

    monkeypatch.setattr(Loader, "train", slowly)
    measure(config, 1, [1, 2], tmp_path)
    found = read(tmp_path)
    assert found is not None
    assert found.weights == 4 * sum(weight.numel() for weight in build_model(config.model, 3).parameters())
    assert [size.fold for size in found.sizes] == [1, 2]
    assert found.step > 7 / 20 * 0.3  # of 20 steps of epochs of 3; their median lies between


def test_memory_is_what_the_control_groups_allow(tmp_path: Path) -> None:
    groups, root = tmp_path / "cgroup", tmp_path / "fs"

    def allow(place: str, text: str) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(f"{text}\n")

    assert memory.limit(groups, root) is None  # not Linux
    groups.write_text("0::/slurm/job_7/step_0\n")
    assert memory.limit(groups, root) is None
    allow("slurm/job_7/memory.max", "64000")
    allow("slurm/job_7/step_0/memory.max", "max")
    allow("slurm/memory.max", "90000")
    allow("../memory.max", "1")  # of nobody
    assert memory.limit(groups, root) == 64000
    groups.write_text("5:cpu,cpuacct:/\n4:memory:/docker/1f\n1:name=systemd:/\n0::/\n")
    assert memory.limit(groups, root) is None
    allow("memory/memory.limit_in_bytes", "32000")  # in a container, whose group's name is the host's
    assert memory.limit(groups, root) == 32000


def test_a_job_has_no_more_memory_than_slurm_or_the_machine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = room()
    assert 0 < machine < 2**50
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "3")
    assert room() == 3 * 2**20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    assert room() == machine
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "2")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert room() == 16 * 2**20
