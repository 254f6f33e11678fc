"""Ranks meet at one address, which only those can reach who must, and one that does not come is named."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from setting import start

from mmadfer.config.schema import Config
from mmadfer.distributed import rendezvous
from mmadfer.errors import RunError, TrainingError
from mmadfer.utils.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    free = free_port()
    monkeypatch.setenv("MASTER_PORT", str(free))
    return free


def listening(child: "subprocess.Popen[str]") -> Iterator[str]:
    """The addresses on which a process listens, in hexadecimal."""
    try:
        names = [os.readlink(path) for path in Path(f"/proc/{child.pid}/fd").iterdir()]
    except OSError:
        return
    sockets = {name[8:-1] for name in names if name.startswith("socket:[")}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                yield words[1].partition(":")[0]


def test_ranks_of_one_machine_listen_on_loopback_alone(config: Config, tmp_path: Path, port: int) -> None:
    env = {"WORLD_SIZE": "2"}
    ranks = [start(config, tmp_path / "run", env={**env, "RANK": k, "LOCAL_RANK": k}) for k in "01"]
    found = set[str]()
    while any(rank.poll() is None for rank in ranks):
        found |= {address for rank in ranks for address in listening(rank)}
        time.sleep(0.05)
    assert [rank.returncode for rank in ranks] == [0, 0], [rank.communicate() for rank in ranks]
    assert found == {"0100007F"}  # 127.0.0.1


def test_a_store_listens_where_master_addr_says(port: int) -> None:
    for address, place in (("127.0.0.2", "127.0.0.2"), ("localhost", None), ("127.0.0.1", "127.0.0.1")):
        with rendezvous.listen(address, port) as made:
            bound = made.getsockname()[0]
            assert bound == place or (place is None and bound in ("127.0.0.1", "::1"))


def test_a_name_that_means_loopback_only_here_is_listened_for_everywhere(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian writes a machine's own name into /etc/hosts; the others would look for it in vain."""
    said = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: said)
    with rendezvous.listen("node1", port) as made:
        assert made.getsockname()[0] == "0.0.0.0"


def test_who_does_not_come_is_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "COMING", timedelta(seconds=1))
    with pytest.raises(TrainingError, match=r"rank 1, 2 of 3 has not come within 1 s"):
        rendezvous.meet(0, 3, timedelta(minutes=1))
    with pytest.raises(TrainingError, match=r"rank 1 could not meet the others at 127\.0\.0\.1:.*rank 0 has ended"):
        rendezvous.meet(1, 2, timedelta(minutes=1))


def test_a_port_that_is_taken_and_a_name_that_is_none_are_told(port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(RunError, match=r"Address already in use.*MASTER_PORT"),
    ):
        rendezvous.meet(0, 2, timedelta(minutes=1))
    with pytest.raises(RunError, match=r"cannot listen at no-such-name\.invalid"):
        rendezvous.listen("no-such-name.invalid", port)
