"""What a server allows, and how long it keeps things."""

import ipaddress
import re
from dataclasses import dataclass

from mmadfer.errors import ConfigError

MOST_SEGMENTS = 20_000
"""Of a video, which bounds what a result takes of memory: 5 hours in windows every second, of one person."""
MOST_NAME = 100
"""Letters of an upload's name that are shown."""
TOKEN_VARIABLE = "MMADFER_TOKEN"
"""In whose place of `--token` no other user of the machine sees it in the list of processes."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


@dataclass(frozen=True)
class Limits:
    """What the options of `mmadfer serve` say.

    Raises:
        ConfigError: one of them cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    """What each request has to carry; needed where `host` is not of this machine alone."""
    names: tuple[str, ...] = ()
    """Further names by which browsers may call this machine, such as that of a proxy."""
    max_bytes: int = 2 << 30
    """Of an upload."""
    max_seconds: float = 7200.0
    """Of a video."""
    timeout: float = 3600.0
    """Seconds that an upload may take, and then a job from its first picture to its end."""
    jobs: int = 1
    """Videos that are read at once."""
    queue: int = 16
    """Jobs that may wait, with those that are being uploaded."""
    keep_minutes: float = 15.0
    """A job's result is kept so long."""
    live: int = 4
    """Live streams at once."""

    def __post_init__(self) -> None:
        for name, least in (("max_bytes", 1), ("jobs", 1), ("queue", 1), ("live", 0)):
            _check(name, getattr(self, name), least)
        for name in ("max_seconds", "timeout", "keep_minutes"):
            _check(name, getattr(self, name), 0.001)
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the token must be 16 to 256 letters, digits and signs without blanks, for example that of "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
            )
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} can be reached from other machines, and faces and voices are sent there: give a "
                "--token or MMADFER_TOKEN, or leave --host out"
            )


def _check(name: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise ConfigError(f"--{name.replace('_', '-')} is {value:g}: give {least:g} or more")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
