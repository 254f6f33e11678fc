"""Float32 in full: the settings while it is computed, and after. What they do shows only on a GPU."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import torch

from mmadfer.utils.float32 import exact

backends = torch.backends


def settings() -> list[object]:
    """Of convolutions and products, read in PyTorch's older way, or, where that is an error, in the newer one."""
    try:
        return [backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32]
    except RuntimeError:
        return [place.fp32_precision for place in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)]


def older(value: bool) -> None:
    backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = value


def newer(value: str) -> None:
    backends.fp32_precision = value


@pytest.fixture(params=[(older, True), (older, False), (newer, "tf32")], autouse=True)
def before(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the process has set before, and finds again after."""
    kept = settings()
    use: Callable[[object], None] = request.param[0]
    use(request.param[1])
    found = settings()
    yield
    assert settings() == found
    newer("none")
    backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = kept


def full() -> bool:
    return "tf32" not in (backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision)


def fail_inside() -> None:
    with exact("cuda:1"):
        assert full()
        with exact("cuda"):
            assert full()
        assert full()
        raise ValueError("mine")


def test_it_holds_in_the_block_alone() -> None:
    found = settings()
    with pytest.raises(ValueError, match="mine"):
        fail_inside()
    with exact("cpu"):
        assert settings() == found


def test_it_holds_until_the_last_thread_is_done() -> None:
    both, left = Barrier(2), Event()

    def work(first: bool) -> bool:
        with exact("cuda"):
            both.wait(10)
            if not first:
                left.wait(10)
            return full()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(work, True), pool.submit(work, False)
        assert first.result(10)
        left.set()
        assert second.result(10)
