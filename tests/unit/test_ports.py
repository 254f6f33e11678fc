"""A port for ranks that meet on this machine."""

import socket
from pathlib import Path

import pytest

from mmadfer.utils import ports


def test_a_port_that_is_used_is_not_given_and_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first = ports.free_port()
    assert first in ports.PORTS
    assert ports.PORTS.stop <= lowest, "the system gives these ports to connections"
    with socket.socket() as used:
        used.bind(("127.0.0.1", first))
        monkeypatch.setattr(ports, "PORTS", range(first, first + 100))
        assert all(ports.free_port() != first for _ in range(50))
        monkeypatch.setattr(ports, "PORTS", range(first, first + 1))
        with pytest.raises(OSError, match=f"no free port from {first} to {first} was found"):
            ports.free_port()
