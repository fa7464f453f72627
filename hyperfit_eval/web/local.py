"""Requests to a server on loopback that a web page of somebody else's has sent.

A browser sends them gladly: a simple POST needs no permission, and a name that is resolved to 127.0.0.1 (DNS rebinding)
may even read the answer. Both show in headers that a page cannot set: Origin and Host.

A server that answers in its own format calls `foreign_site(scope["headers"])` and refuses with the reason; for any
other ASGI application there is `LocalOnly(app)`.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import HyperfitError

MIN_TOKEN_CHARACTERS = 16
"""Length of a secret that the owner of a page chooses."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address (no port) is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def require_token(host: str, token: str | None, variable: str) -> None:
    """Refuse to serve a page that others can reach without a secret, or with one that is too short.

    Args:
        host: to listen on.
        token: of --token or the environment; None without one.
        variable: of the environment that may hold it.
    Raises:
        HyperfitError: with what to type.
    """
    if token is None and not is_loopback(host):
        raise HyperfitError(
            f"--host {host}: others can reach it, so a secret is needed: add --token, or set {variable}"
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise HyperfitError(f"--token: {len(token)} characters, expected {MIN_TOKEN_CHARACTERS} or more, hard to guess")


def foreign_site(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why a request to a loopback server is not for it, in one line; None if nothing speaks against it.

    Args:
        headers: of the request, names in lower case, as in an ASGI scope.
    """
    pairs = [(name, value.decode("latin-1").strip()) for name, value in headers if name in (b"host", b"origin")]
    hosts = [value for name, value in pairs if name == b"host"]
    for host in hosts:
        if not is_loopback(_name(f"http://{host}")):
            return "the Host header names another site than this machine (127.0.0.1, localhost)"
    for name, value in pairs:
        # Pages of other local servers are other sites too: only what this server itself served may call it.
        if name == b"origin" and value.lower() not in [f"http://{host}".lower() for host in hosts]:
            return "the request comes from a web page of another site (Origin header)"
    return None


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


class LocalOnly:
    """ASGI middleware that answers 403 to requests of other web sites."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        reason = foreign_site(scope["headers"]) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await PlainTextResponse(reason, 403)(scope, receive, send)
