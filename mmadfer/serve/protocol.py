"""uvicorn's HTTP, without patience for clients that begin a request and never end its head."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmadfer.serve.upload import STALL_SECONDS


class Protocol(H11Protocol):
    """One connection. uvicorn waits for a first request, and for the rest of one, for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Called once."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Called for each piece."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called at the end."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the head is whole
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(STALL_SECONDS, self.timeout_keep_alive_handler)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
