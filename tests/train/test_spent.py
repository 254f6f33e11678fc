"""Seconds and joules of a fold, with a library that answers as NVML does, since there may be no GPU here."""

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from needs import missing

from mmadfer.distributed.ranks import Ranks
from mmadfer.run.checkpoint_state import Progress
from mmadfer.train import spent
from mmadfer.train.spent import Spent, nvml_counter

SOURCE = """
#include <string.h>
static unsigned long long used = 1000;
static int known;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    *handle = &known;
    return strcmp(uuid, "GPU-0123") ? 6 : 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    if (handle != &known || used > 100000) return 3;
    *energy = used;
    used += 2500;
    return 0;
}
"""


@pytest.fixture
def library(tmp_path: Path) -> ctypes.CDLL:
    """Each reading is 2.5 J more than the one before."""
    compiler = shutil.which("cc") or missing("no C compiler")
    (tmp_path / "nvml.c").write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "nvml.so", tmp_path / "nvml.c"], check=True)
    return ctypes.CDLL(str(tmp_path / "nvml.so"))


class OneGpu(Ranks):
    """A single rank that has a GPU, as far as it says."""

    def __init__(self) -> None:
        super().__init__(device=torch.device("cuda"))


def test_the_counter_is_that_of_the_gpu(library: ctypes.CDLL) -> None:
    read = nvml_counter(library, "GPU-0123")
    assert read is not None
    assert [read(), read()] == [3.5, 6.0]
    assert nvml_counter(library, "GPU-9999") is None
    while not math.isnan(last := read()):
        assert last <= 100
    assert nvml_counter(library, "GPU-0123") is None, "it tells nothing any more"


def test_joules_add_up_from_one_save_to_the_next(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent, "counter", lambda device: nvml_counter(library, "GPU-0123"))
    one = Spent(OneGpu())
    at = one.begin()
    for wanted in (2.5, 5.0, 7.5):
        one.add(at)
        assert at.joules == pytest.approx(wanted)
    one.start()
    one.add(at)
    assert at.joules == pytest.approx(10.0), "what lies between is not counted"
    assert at.seconds >= 0
    while at.joules is not None:
        one.add(at)
    one.add(at)
    assert at.joules is None, "for good"


def test_without_a_gpu_or_a_counter_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Spent(Ranks()).begin()
    Spent(Ranks()).add(at)
    assert at.joules is None
    monkeypatch.setattr(spent, "counter", lambda device: None)
    blind = Spent(OneGpu())
    at = blind.begin()
    blind.add(at)
    assert at.joules is None
    resumed = Progress()
    blind.add(resumed)
    assert resumed.joules is None
