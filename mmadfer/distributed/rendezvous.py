"""Where ranks meet: rank 0 listens on one address, and who does not come is named.

The store asks nobody who they are, and what it holds decides with whom the ranks exchange gradients. So it listens on
the address that MASTER_ADDR names and on no other, and where that is this machine's own, gloo and NCCL stay on it, too.
"""

import errno
import os
import socket
from datetime import timedelta
from ipaddress import ip_address

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # it is documented there

from mmadfer.errors import RunError, TrainingError
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

COMING = timedelta(minutes=5)
"""How long ranks wait for each other to come: they import torch, some from a slow disk."""
_OWN = ("lo", "lo0")
"""Names of the interface that leads back to this machine."""


def meet(rank: int, world: int, patience: timedelta) -> Store | None:
    """The store of all ranks, once all are there; None where torchrun's agent has one.

    Args:
        rank: from 0.
        world: how many there are.
        patience: how long they wait for each other afterwards.

    Raises:
        RunError: rank 0 cannot listen at MASTER_ADDR and MASTER_PORT.
        TrainingError: another rank has not come.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if is_own(address):
        _stay_here()
    LOGGER.debug(f"rank {rank} of {world} meets the others at {address}:{port}")
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    try:
        store = _store(address, port, rank, world)
        store.set(f"here {rank}", "")
        _wait(store, world)
    except RuntimeError as error:
        raise TrainingError(
            f"rank {rank} could not meet the others at {address}:{port} ({str(error).splitlines()[0]}): see whether "
            "rank 0 has ended, and why, and whether MASTER_ADDR and MASTER_PORT are the same for all"
        ) from error
    store.set_timeout(patience)
    return store


def is_own(address: str) -> bool:
    """Whether only processes of this machine can reach it."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _store(address: str, port: int, rank: int, world: int) -> TCPStore:
    first = rank == 0
    listening = listen(address, port).detach() if first else None
    return TCPStore(address, port, world, first, timeout=COMING, wait_for_workers=False, master_listen_fd=listening)


def listen(address: str, port: int) -> socket.socket:
    """A socket at this address alone.

    At every address only where the name means a loopback address here, which others know by another (as Debian's own
    name of a machine), or none of this machine's.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        elsewhere = ip_address(place[0]).is_loopback and not is_own(address)
        return _bound(socket.AF_INET, ("", port)) if elsewhere else _bound(family, place)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return _bound(socket.AF_INET, ("", port))
        raise RunError(
            f"rank 0 cannot listen at {address}:{port} ({error.strerror}): MASTER_ADDR must name its machine, and "
            "MASTER_PORT a free port, the same for all ranks"
        ) from error


def _bound(family: int, place: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


def _wait(store: TCPStore, world: int) -> None:
    try:
        store.wait([f"here {rank}" for rank in range(world)], COMING)
    except dist.DistStoreError as error:
        missing = [str(rank) for rank in range(world) if not store.check([f"here {rank}"])]
        raise TrainingError(
            f"rank {', '.join(missing)} of {world} has not come within {COMING.seconds} s: its log says why, or it was "
            "never started (WORLD_SIZE)"
        ) from error


def _stay_here() -> None:
    names = [name for _, name in socket.if_nameindex() if name in _OWN]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])
