"""Running a server: bind, prove that the blocker blocks, serve, and on a signal finish what was accepted."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.web.server import DEFAULT_TIMEOUTS, Server, Timeouts

from .app import create_app
from .logs import log
from .state import State


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


Prove = Callable[[State], Awaitable[None]]


def run(state: State, listener: socket.socket, prove: Prove, banner: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> int:
    """Serve until a signal comes.

    Args:
        listener: bound, not listening yet.
        prove: runs the canary; sets `state.unready` and `state.canary`.
        banner: printed once the server is ready.
        timeouts: for clients, and for the stop.
    Returns:
        The exit status: 0, or 1 if the citation blocker is bypassed.
    Raises:
        HyperfitError: the canary could not be run.
    """
    return asyncio.run(_run(state, listener, prove, banner, timeouts))


async def _run(state: State, listener: socket.socket, prove: Prove, banner: str, timeouts: Timeouts) -> int:
    server = Server(create_app(state), timeouts, on_stop=_tell_of_stop)
    proving = asyncio.create_task(_prove(state, prove, banner))
    proving.add_done_callback(lambda task: server.stop() if not task.cancelled() and task.exception() else None)
    try:
        await server.serve(sockets=[listener])
    finally:
        proving.cancel()
        (error,) = await asyncio.gather(proving, return_exceptions=True)
        await state.engine.drain()
        log.info("stopped")
    if isinstance(error, Exception):
        raise HyperfitError(f"the canary could not be run: {type(error).__name__}: {error}") from error
    return int(state.canary == "bypassed")


async def _prove(state: State, prove: Prove, banner: str) -> None:
    await prove(state)
    if state.unready:
        log.error(state.unready)
    else:
        print(banner, flush=True)


def _tell_of_stop() -> None:
    log.info("stopping: accepted requests are finished; a second signal stops at once")
