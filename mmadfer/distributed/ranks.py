"""The processes that train one fold together: who they are, and how they agree.

One process needs no launcher and no port. More are started by srun, or by anything that sets RANK, LOCAL_RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun, submitit). NCCL where there is a GPU, gloo elsewhere.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import HashStore  # type: ignore[attr-defined]  # it is documented there

from mmadfer.distributed.rendezvous import meet
from mmadfer.errors import MmadferError, RunError, TrainingError
from mmadfer.run.disk import explain_write_errors
from mmadfer.run.lease import Held, LostError
from mmadfer.run.provenance import processor
from mmadfer.utils import slurm_env

NEEDED = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RANK_TIMEOUT = timedelta(minutes=15)
"""How long a rank waits for the others: rank 0 alone writes and checks files."""
_TAKEN_OVER = 2.0
"""What a rank tells the others where the fold has been taken over."""


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this is rank 0, the only one that writes."""
        return self.rank == 0

    @property
    def hardware(self) -> str:
        """The GPU's name, or the CPU's without one."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank, by rank; each rank gives as many, and all get the same answer."""
        if self.world == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        return self.gather_tensor(mine).tolist()

    def gather_tensor(self, mine: Tensor) -> Tensor:
        """The tensors of every rank, by rank, on the device: (ranks, ...); the same shape and dtype everywhere."""
        if self.world == 1:
            return mine[None]
        everyone = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(everyone, mine.contiguous())
        return torch.stack(everyone)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all ranks must ask."""
        return any(row[0] for row in self.gather([float(flag)]))

    def first(self, value: int) -> int:
        """What rank 0 says; all ranks must ask."""
        return int(self.gather([float(value)])[0][0])

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.gather([0.0])


def on_all_ranks(ranks: Ranks, held: Held, path: Path, work: Callable[[], object], everywhere: bool = False) -> None:
    """Have rank 0 (or all ranks) do its part of reading or writing `path`; all ranks fail if one does.

    Raises:
        LostError: the fold has been taken over; on every rank.
        TrainingError: a rank could not write, or another one failed.
        MmadferError: whatever this rank's own part has raised.
    """
    problem = _attempt(held, path, work) if ranks.main or everywhere else None
    code = _TAKEN_OVER if isinstance(problem, LostError) else float(problem is not None)
    worst = max(row[0] for row in ranks.gather([code]))
    if worst == _TAKEN_OVER and code != _TAKEN_OVER:
        raise LostError(f"{path.parent} was taken over by another start of this training")
    if worst:
        raise problem or TrainingError(f"another rank could not read or write {path}; its log says why")


def _attempt(held: Held, path: Path, work: Callable[[], object]) -> MmadferError | None:
    try:
        with explain_write_errors(path):
            work()
        return None
    except MmadferError as error:
        try:
            held.check()  # what went wrong may have done so because the fold is another's by now
        except LostError as lost:
            return lost
        except OSError:
            pass
        return error


@contextmanager
def connected() -> Iterator[Ranks]:
    """Join the other ranks, and leave them in good order.

    Raises:
        RunError: the launcher has set only some of the variables.
        TrainingError: another rank is gone.
    """
    ranks = _join()
    try:
        yield ranks
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise TrainingError(
            f"rank {ranks.rank} has lost another rank ({str(error).splitlines()[0]}); that rank's log "
            "says why. Run the same command with --resume to go on from the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def _join() -> Ranks:
    slurm_env.adopt()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in NEEDED if name not in os.environ]
    if world > 1 and missing:
        raise RunError(f"WORLD_SIZE is {world}, but the launcher has not set {', '.join(missing)}")
    os.environ.setdefault("LOCAL_RANK", "0")
    device = _device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    if world == 1:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    else:
        store = meet(rank, world, _RANK_TIMEOUT)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_RANK_TIMEOUT)
    return Ranks(rank, world, device)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise RunError(f"LOCAL_RANK is {local_rank}, but this machine shows {torch.cuda.device_count()} GPU(s)")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether an error of torch's says that another rank is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
