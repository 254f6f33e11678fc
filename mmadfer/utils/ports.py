"""Ports of this machine."""

import random
import socket
from contextlib import suppress

PORTS = range(20000, 30000)
"""Below the range that systems give away: no connection of another process takes one by itself."""
_TRIES = 100


def free_port() -> int:
    """A port of `PORTS` that nobody uses now.

    Raises:
        OSError: all of a hundred are used.
    """
    for port in random.SystemRandom().sample(
        PORTS, min(_TRIES, len(PORTS))
    ):  # not of the seeded numbers, which are equal in all folds
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port from {PORTS.start} to {PORTS.stop - 1} was found in {_TRIES} tries")
