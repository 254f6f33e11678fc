"""`mmadfer serve`: one process that answers until it is told to end, and leaves nothing."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType

import uvicorn

from mmadfer.errors import ConfigError
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.serve.app import application
from mmadfer.serve.guard import Guard
from mmadfer.serve.law import NOTICE
from mmadfer.serve.limits import Limits
from mmadfer.serve.live_messages import MOST_BYTES
from mmadfer.serve.protocol import Protocol
from mmadfer.serve.service import Service
from mmadfer.utils.temporary_folders import scratch

_MOST_CONNECTIONS = 512
_END_SECONDS = 5
"""For requests that are being answered when the server ends."""


def bound(limits: Limits) -> socket.socket:
    """A socket at the host and port.

    Raises:
        ConfigError: another program has the port, or there is no such host here.
    """
    try:
        found = socket.getaddrinfo(limits.host, limits.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        where = f"{limits.host} port {limits.port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"{where} is in use: give another --port, or 0 for a free one") from error
        raise ConfigError(f"{where} cannot be served ({error.strerror}): give another --host or --port") from error


class _Server(uvicorn.Server):
    """Tells the service at once when it is to end: streams of events would else be waited for."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for each signal."""
        self._service.stopping = True
        super().handle_exit(sig, frame)


@contextmanager
def serving(recogniser: Recogniser, limits: Limits, batch: int | None = None) -> Iterator[Service]:
    """A service with a temporary folder; at the block's end both are gone."""
    with scratch("serve") as folder, closing(Service(recogniser, limits, folder, batch)) as service:
        yield service


def serve(
    recogniser: Recogniser,
    limits: Limits,
    listening: socket.socket,
    tell: Callable[[str], None],
    batch: int | None = None,
) -> None:
    """Serve until a signal; SIGINT and SIGTERM go on to their handlers when all is tidied up.

    Args:
        recogniser: the model.
        limits: what is allowed.
        listening: of `bound`.
        tell: takes lines for people: the address, and what the law says.
        batch: looks that are computed together, by default as `Recogniser.predict` does.

    Raises:
        MmadferError: the process that reads videos does not start.
    """
    with serving(recogniser, limits, batch) as service:
        app = Guard(application(service), limits, service.metrics)
        config = uvicorn.Config(
            app,
            http=Protocol,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_END_SECONDS,
            ws_max_size=2 * MOST_BYTES,  # of which those up to the half are told why they are refused
            ws_per_message_deflate=False,  # JPEGs are packed already
        )
        tell(f"{_url(limits.host, listening)} serves {recogniser.path}; ctrl-C ends it")
        tell(NOTICE)
        _Server(config, service).run([listening])


def _url(host: str, listening: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"
