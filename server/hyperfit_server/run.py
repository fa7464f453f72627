"""Running a server: bind, prove that the blocker blocks, serve, and on a signal finish what was accepted."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from hyperfit_eval.errors import HyperfitError

from .app import create_app
from .logs import log
from .state import State

KEEP_ALIVE_SECONDS = 65
"""Longer than clients and proxies usually keep an idle connection, so that they close it and not the server."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before minutes are spent on loading a model.

    Raises:
        HyperfitError: it is taken, or not this machine's.
    """
    with contextlib.ExitStack() as on_error:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = on_error.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise HyperfitError(f"{host}:{port}: {error.strerror}; choose another one with --port or --host") from error
        on_error.pop_all()
    return listener


def run(state: State, listener: socket.socket, prove: Callable[[State], Awaitable[None]], banner: str) -> int:
    """Serve until a signal comes.

    Args:
        listener: bound, not listening yet.
        prove: runs the canary; sets `state.unready` and `state.canary`.
        banner: printed once the server is ready.
    Returns:
        The exit status: 0, or 1 if the citation blocker is bypassed.
    Raises:
        HyperfitError: the canary could not be run.
    """
    return asyncio.run(_run(state, listener, prove, banner))


async def _run(state: State, listener: socket.socket, prove: Callable[[State], Awaitable[None]], banner: str) -> int:
    config = uvicorn.Config(
        create_app(state),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = _Server(config)
    proving = asyncio.create_task(_prove(state, prove, banner))
    proving.add_done_callback(server.stop_after_failure)
    try:
        await server.serve(sockets=[listener])
    finally:
        proving.cancel()
        (error,) = await asyncio.gather(proving, return_exceptions=True)
        if server.force_exit:
            for task in server.server_state.tasks:
                task.cancel()
        await state.engine.drain()
        log.info("stopped")
    if isinstance(error, Exception):
        raise HyperfitError(f"the canary could not be run: {type(error).__name__}: {error}") from error
    return int(state.canary == "bypassed")


async def _prove(state: State, prove: Callable[[State], Awaitable[None]], banner: str) -> None:
    await prove(state)
    if state.unready:
        log.error(state.unready)
    else:
        print(banner, flush=True)


class _Server(uvicorn.Server):
    """uvicorn's server, but a signal that it was ready for does not end the process with that signal.

    The first one closes the listening socket and waits for all accepted requests, those in the engine's queue
    included; the second one does not wait.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def stop_after_failure(self, proving: asyncio.Task[None]) -> None:
        """A canary that cannot be run ends the server."""
        if not proving.cancelled() and proving.exception() is not None:
            self.stop()

    def stop(self) -> None:
        """Begin to stop, or no longer wait."""
        if self.should_exit:
            self.force_exit = True
            return
        log.info("stopping: accepted requests are finished; a second signal stops at once")
        self.should_exit = True
