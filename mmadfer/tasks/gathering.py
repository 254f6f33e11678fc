"""Rows of all ranks together, with a gradient: for a loss that compares the clips of a batch with each other."""

from collections.abc import Iterable
from hashlib import blake2b

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """This rank, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def gathered(own: Tensor) -> Tensor:
    """Rows (ranks x n, ...) of all ranks, in their order, of each rank's own (n, ...); all ranks must call.

    Every rank computes the same loss of them. Its gradient runs through the rank's own rows alone, times the number of
    ranks: DeepSpeed takes the mean of the ranks' gradients, and that is then the gradient of the whole loss.
    """
    rank, world = place()
    if world == 1:
        return own
    rows = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(rows, own.detach().contiguous())
    if own.requires_grad:
        rows[rank] = rows[rank] + world * (own - own.detach())
    return torch.cat(rows)


def mean_count(rows: Tensor) -> Tensor:
    """How many rows are true, bool (n,), of all ranks, by the number of ranks, and at least one; all ranks must call.

    Of losses divided by it, DeepSpeed's mean over ranks is the mean over the rows of all ranks.
    """
    count, world = rows.sum().float(), dist.get_world_size() if dist.is_initialized() else 1
    if world > 1:
        dist.all_reduce(count)
    return count.clamp(min=1) / world


def digests(salt: int, ids: Iterable[str], device: torch.device) -> Tensor:
    """A number int64 (n,) of each clip, by which those of all ranks can be put in an order that is the same for any."""
    hashes = (blake2b(f"{salt} {name}".encode(), digest_size=8).digest() for name in ids)
    return torch.tensor([int.from_bytes(one, "big", signed=True) for one in hashes], device=device)
