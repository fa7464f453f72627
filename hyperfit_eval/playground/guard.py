"""Gradio's server without what the page has no use for: uploads, recordings, calls by programs."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PAGE_CALLS = ("/login", "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
"""Paths to which the page posts. A list of these is shorter than one of gradio's routes that take files, and it stays
right when gradio gets more of them."""
_READING = ("GET", "HEAD", "OPTIONS")


class PageCallsOnly:
    """ASGI middleware that answers 404 to everything but reading and the page's own calls."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] == "http" and scope["method"] not in _READING and scope["path"].rstrip("/") not in PAGE_CALLS:
            await PlainTextResponse("the playground takes no uploads and no calls but its page's", 404)(
                scope, receive, send
            )
        else:
            await self.app(scope, receive, send)
