"""One thread for torch, for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_moment = threading.Lock()
"""Held while torch's number for threads yet to start is another one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's order of sums, which changes with its threads: a box's last digit can move a crop by a pixel.

    Other threads of this process, such as a server's, keep their number, and may be in here at the same time. Without
    torch, ONNX Runtime looks for faces, in one thread (mmadfer.data.faces.mtcnn_networks).
    """
    if find_spec("torch") is None:
        yield
        return
    import torch

    with _moment:
        before = torch.get_num_threads()  # this also makes the number this thread's own; see below
        _set_here_only(1, before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _set_here_only(count: int, elsewhere: int) -> None:
    import torch

    # torch sets two numbers: the calling thread's own, and the one that threads start with that ask for the first time
    torch.set_num_threads(count)
    other = threading.Thread(target=torch.set_num_threads, args=(elsewhere,))
    other.start()
    other.join()
