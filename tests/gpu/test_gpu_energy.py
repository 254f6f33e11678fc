"""The energy that a GPU counts."""

import pytest
import torch
from needs import missing

from mmadfer.distributed.ranks import Ranks
from mmadfer.train.spent import Spent, counter

ROUNDS = 200
"""Each some ten milliseconds of work on a large GPU, and more on a small one."""


@pytest.fixture(autouse=True)
def _torch_sees_it() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")


def test_work_takes_energy_and_it_is_added_up() -> None:
    device = torch.device("cuda", 0)
    if counter(device) is None:
        pytest.skip("this GPU, or this part of one, counts no energy")
    spent = Spent(Ranks(device=device))
    at, factor = spent.begin(), torch.ones(4096, 4096, device=device)
    for _ in range(ROUNDS):
        for _ in range(20):
            factor = (factor @ factor).clamp(max=1.0)
        torch.cuda.synchronize()
        spent.add(at)
        if at.joules:
            break
    assert at.joules is not None
    assert at.joules > 0
