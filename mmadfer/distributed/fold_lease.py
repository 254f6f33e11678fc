"""A fold directory entered by all ranks together, as its only training."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmadfer.distributed.ranks import Ranks, on_all_ranks
from mmadfer.errors import RunError
from mmadfer.run import directory as runs
from mmadfer.run.disk import explain_write_errors
from mmadfer.run.lease import Held, lease
from mmadfer.utils.files import own_folder


@contextmanager
def alone(folder: Path, resume: bool, ranks: Ranks, stop: Callable[[], bool]) -> Iterator[Held]:
    """Keep other trainings out of `folder`; rank 0 has the lease, and all ranks fail if it cannot have it.

    An error that comes of another training having taken over, such as a lost rank, becomes that LostError.

    Raises:
        RunError: the fold has been begun and `resume` is off, or another process is training it.
    """
    with ExitStack() as stack:
        entered: list[Held] = []
        on_all_ranks(ranks, Held(), folder, lambda: entered.append(_enter(stack, folder, resume, stop)))
        token = ranks.first(int(entered[0].token, 16) if entered else 0)
        held = entered[0] if entered else Held(token=f"{token:012x}")
        try:
            yield held
        except Exception:
            held.check()
            raise


def _enter(stack: ExitStack, folder: Path, resume: bool, stop: Callable[[], bool]) -> Held:
    _open(folder, resume)
    held = stack.enter_context(lease(folder, stop=stop))
    _open(folder, resume)  # while this process waited, another one may have begun it
    for path in folder.glob(".*.tmp"):  # an earlier start that still lives can no longer publish them
        path.unlink(missing_ok=True)
    runs.clear_failed(folder)
    return held


def _open(folder: Path, resume: bool) -> None:
    """Raises RunError where `folder` holds a begun fold that nobody asked to go on with."""
    if not resume and runs.begun(folder):
        raise RunError(f"{folder} has been begun: go on with --resume, or choose another run directory")
    with explain_write_errors(folder):
        own_folder(folder)
