"""Gate that every HTTP request passes: its id, the key, the size of its body, its line in the log."""

import hmac
import re
import secrets
import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperfit_eval.web.local import foreign_site

from .calls import Call, ClientGone
from .errors import Refusal
from .logs import log, log_call
from .metrics import Metrics
from .settings import Settings
from .state import json_response

FREE_ROUTES = ("/health", "/health/live")
"""Need no key."""
CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a request whose client went away; nobody receives it, log and metrics show it."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Gate:
    """The outermost ASGI application of a server.

    Args:
        app: what answers.
        settings: of the server.
        metrics: where requests are counted.
        route_of: the route that answers a path, for log and metrics.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, route_of: Callable[[Scope], str]) -> None:
        self.app, self._settings, self._metrics, self._route_of = app, settings, metrics, route_of
        key = settings.api_key
        self._key = key.encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in and see it to its end."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path = scope["path"]
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        call = Call(
            request_id=given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8),
            route=self._route_of(scope),
            openai=path.startswith("/v1/"),
            texts=[] if self._settings.log_text else None,
        )
        scope["hyperfit_call"] = call

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", call.request_id.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await respond(refusal, call, scope, receive, send_with_id)
            elif scope["method"] == "HEAD":
                # As GET; uvicorn leaves the body out.
                await self.app({**scope, "method": "GET"}, self._limited(receive), send_with_id)
            else:
                await self.app(scope, self._limited(receive), send_with_id)
        except (ClientGone, ClientDisconnect):
            call.status, call.cancelled = call.status or CLIENT_CLOSED_REQUEST, True
        except Exception:
            # The application has answered with status 500 before it raised; here it is told, once.
            log.exception("request failed", extra={"fields": {"request_id": call.request_id, "route": call.route}})
        finally:
            seconds = time.monotonic() - call.started
            self._metrics.ended(call, seconds)
            client = scope.get("client")
            log_call(call, seconds, client[0] if client else None)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        if self._settings.local_only and (reason := foreign_site(scope["headers"])):
            return Refusal("forbidden", reason, code="foreign_site")
        if self._key is not None and scope["path"] not in FREE_ROUTES:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # Constant time, so that the key cannot be guessed byte by byte.
            if not hmac.compare_digest(given.strip(), self._key) or scheme.lower() != b"bearer":
                message = "a valid API key is needed: send the header Authorization: Bearer KEY"
                return Refusal("unauthorized", message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        # Python refuses to read numbers of thousands of digits.
        if length.isdigit() and (len(length) > 18 or int(length) > self._settings.limits.max_body_bytes):
            return self._too_large()
        return None

    def _limited(self, receive: Receive) -> Receive:
        """`receive` for a body without a declared length: it ends in an error where it gets too long."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > self._settings.limits.max_body_bytes:
                    raise self._too_large()
            return message

        return limited

    def _too_large(self) -> Refusal:
        limit = self._settings.limits.max_body_bytes
        # Without closing the connection the rest of the body would have to be read.
        return Refusal("too_large", f"the body is larger than {limit} bytes", headers={"Connection": "close"})


async def respond(refusal: Refusal, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal."""
    call.error = refusal.logged
    response = json_response(refusal.body(call.openai), refusal.headers, refusal.status(call.openai))
    await response(scope, receive, send)
