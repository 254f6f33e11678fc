"""How many clips are computed at once, on a simulated device that only counts. Others: test_many.py."""

import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from export_setup import CONTRACT

from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.batches import RETRY_AFTER_BATCHES, Batches

CLIP = (np.zeros((1, 2)), np.zeros((1, 2)))


class Counted:
    """A backend whose memory holds so many clips."""

    contract, input = CONTRACT, "fbank"

    def __init__(self, device: str, holds: int = 100) -> None:
        self.device, self.holds = parse_device(device), holds
        self.asked = list[int]()
        self.inside = self.together = 0

    def logits(self, frames: np.ndarray, *sound: np.ndarray) -> np.ndarray:
        self.asked.append(len(frames))
        if len(frames) > self.holds:
            raise RuntimeError("CUDA out of memory")
        self.inside += 1
        self.together = max(self.together, self.inside)
        time.sleep(0.002)
        self.inside -= 1
        return np.zeros((len(frames), 4), np.float32)


def test_a_crowded_moment_is_not_for_ever() -> None:
    backend = Counted("cuda", holds=2)
    batches = Batches(backend)
    with pytest.warns(UserWarning, match="8 clips.*with 4|4 clips.*with 2"):
        batches.logits([CLIP] * 8, 8)
    backend.holds = 100
    while backend.asked[-1] < 8:
        assert len(backend.asked) < 5 * RETRY_AFTER_BATCHES
        batches.logits([CLIP] * 8, 8)
    assert backend.asked[:4] == [8, 4, 2, 2]
    assert sorted(set(backend.asked[4:])) == [2, 4, 8]


def test_what_never_fits_is_tried_ever_more_rarely() -> None:
    backend = Counted("cuda", holds=1)
    batches = Batches(backend)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(10 * RETRY_AFTER_BATCHES):
            batches.logits([CLIP] * 2, 2)
    assert len(told) == backend.asked.count(2) == 5  # at once, and after 1, 2, 4 and 8 patiences of clips


@pytest.mark.parametrize(("device", "alone"), [("cuda", True), ("cpu", False)])
def test_one_computation_at_a_time_on_a_gpu(device: str, alone: bool) -> None:
    backend = Counted(device)
    several = [Batches(backend), Batches(backend)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: several[k % 2].logits([CLIP]), range(40)))
    assert (backend.together == 1) is alone


def test_the_command_tells_a_warning_in_its_words_alone() -> None:
    program = "import warnings, mmadfer.cli.main as cli; cli.run = lambda app: warnings.warn('4 clips'); cli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: 4 clips\n"
