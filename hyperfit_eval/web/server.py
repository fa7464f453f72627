"""uvicorn with an end to everything: requests that never arrive, answers that nobody reads, a stop that hangs.

    Server(app, Timeouts(request=60, shutdown=30)).run(sockets=[listener])

returns after SIGTERM or SIGINT, which is no exception: accepted requests have been answered, and the log names the
clients that were cut off. `listener` is a bound socket.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 65
"""Longer than clients and proxies usually keep an idle connection, so that they close it and not the server."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TICK_SECONDS = 0.05
_LAST_SECONDS = 2.0
"""Time for applications to notice that their client is cut off, before their tasks are canceled."""

_BEGINNING = b"HTTP/1.1 "
_PROBE_SECONDS = (0.05, 0.2, 1.0, 3.0, 10.0)
"""Pauses between the bytes that ask whether a client is still there; fewer than `_BEGINNING` has."""


@dataclass(frozen=True)
class Timeouts:
    """How long a server waits, in seconds."""

    request: float = 60.0
    """Time until a request has arrived whole, from its first byte or the opening of its connection; and time for a
    client that takes nothing of its answer."""
    shutdown: float = 30.0
    """Time for accepted requests to be answered once the server is told to stop."""


DEFAULT_TIMEOUTS = Timeouts()


class Connection(H11Protocol):
    """One connection of a client, closed when it makes the server wait for too long."""

    timeouts = DEFAULT_TIMEOUTS
    _arrival: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    @property
    def arriving(self) -> bool:
        """Whether the client is to send: a request, or the rest of one."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    @property
    def answering(self) -> bool:
        """Whether a request that has arrived whole waits for the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete and not self.arriving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request, however slowly its parts come."""
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        """Between two requests the time of an idle connection counts, which is uvicorn's, unless one has begun."""
        super().on_response_complete()
        self._cancel_arrival()
        if self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._expect()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it may have closed half of the connection and wait for its answer, or all of it.

        Only a write shows which. So the answer's first bytes, which are always the same, are sent one by one already
        now; a client that has gone refuses them.
        """
        if not self.answering:
            return False
        self.cycle.keep_alive = False
        if not self.cycle.response_started:
            self.cycle.transport = _Begun(self.transport)  # type: ignore[assignment]
            self._probe(0)
        return True

    def _probe(self, number: int) -> None:
        if not self.transport.is_closing() and not self.cycle.response_started and number < len(_PROBE_SECONDS):
            self.cycle.transport.begin()  # type: ignore[attr-defined]
            self.loop.call_later(_PROBE_SECONDS[number], self._probe, number + 1)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to: it must go on reading."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._cancel_arrival()
        if self._reading is not None:
            self._reading.cancel()

    def cut_off(self, why: str) -> None:
        """Close the connection now; the application sees its client disconnect."""
        path = self.scope["path"] if self.cycle is not None and not self.cycle.response_complete else None
        client = self.client[0] if self.client else "a client"
        log.warning("cut off %s: %s", client, why, extra={"fields": {"client": client, "under_way": path is not None}})
        self.transport.abort()

    def _expect(self) -> None:
        if not self.arriving:
            self._cancel_arrival()
        elif self._arrival is None:
            why = f"its request had not arrived after {self.timeouts.request:g} s"
            self._arrival = self.loop.call_later(self.timeouts.request, self.cut_off, why)

    def _cancel_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _watch_reader(self, unread: int) -> None:
        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left >= unread:
                self.cut_off(f"it took nothing of its answer for {self.timeouts.request:g} s")
            else:
                self._watch_reader(left)

        self._reading = self.loop.call_later(self.timeouts.request, look)


class _Begun:
    """A transport for an answer of which some bytes are sent before it is known."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._sent = transport, 0

    def begin(self) -> None:
        """Send one byte of what every answer begins with."""
        self._transport.write(_BEGINNING[self._sent : self._sent + 1])
        self._sent += 1

    def write(self, data: bytes) -> None:
        """Send the rest of what was begun, then all else as it is."""
        self._transport.write(data[self._sent :])
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Server(uvicorn.Server):
    """uvicorn's server; a signal ends it, but not the process.

    The first signal closes the listening socket and waits for the requests that have arrived, those in the
    application's queues included; the second one does not wait.

    Args:
        app: the ASGI application; it has no lifespan.
        timeouts: how long clients may take, and how long a stop.
        on_stop: called when the stop begins.
    """

    def __init__(
        self, app: ASGIApp, timeouts: Timeouts = DEFAULT_TIMEOUTS, on_stop: Callable[[], None] | None = None
    ) -> None:
        self.timeouts, self._on_stop = timeouts, on_stop
        kind = type("Connection", (Connection,), {"timeouts": timeouts})
        config = uvicorn.Config(
            app,
            http=kind,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs; in a thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begin to stop, or no longer wait. From the server's event loop."""
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        if self._on_stop is not None:
            self._on_stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what has arrived, as long as there is time, and cut off the others."""
        ending = asyncio.create_task(self._end())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end(self) -> None:
        state, end = self.server_state, time.monotonic() + self.timeouts.shutdown
        while time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(_TICK_SECONDS)
            if not any(connection.answering for connection in _connections(state)):
                break
        for connection in _connections(state):
            late = f"its answer was not complete when the server stopped ({self.timeouts.shutdown:g} s)"
            why = "the server stopped before its request had arrived"
            connection.cut_off(late if connection.answering else why)
        await asyncio.sleep(_LAST_SECONDS)
        for task in list(state.tasks):
            task.cancel()


def _connections(state: Any) -> list[Connection]:
    return [connection for connection in state.connections if isinstance(connection, Connection)]
