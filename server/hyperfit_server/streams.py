"""JSON and server-sent events: one chunk for each token, ended early when the client goes away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .calls import cancel_all, until_gone
from .engine.requests import Generation

to_json = orjson.dumps


def event(data: Any, prefix: bytes = b"data:") -> bytes:
    """One event; OpenAI writes a space after the colon, text-generation-inference none."""
    return prefix + to_json(data) + b"\n\n"


class EventStream(StreamingResponse):
    """Events, and at their end, however it comes, the generations they are made from are cancelled.

    Args:
        events: encoded chunks.
        generations: what the events are made from, already submitted.
        headers: beside those of every event stream.
    """

    def __init__(
        self, events: AsyncIterator[bytes], generations: Sequence[Generation], headers: dict[str, str]
    ) -> None:
        common = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, headers=common | headers, media_type="text/event-stream")
        self._generations = generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; Starlette's own way needs a task group for each response and a write for each event."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await until_gone(receive, self._send_events(send))
        finally:
            cancel_all(self._generations)

    async def _send_events(self, send: Send) -> None:
        """Send what is there in one write: engines hand over several tokens at a time when they are fast."""
        chunks: list[bytes] = []
        arrived = asyncio.Event()

        async def collect() -> None:
            try:
                async for chunk in self.body_iterator:
                    chunks.append(cast(bytes, chunk))
                    arrived.set()
            finally:
                arrived.set()

        collecting = asyncio.create_task(collect())
        try:
            while chunks or not collecting.done():
                await arrived.wait()
                arrived.clear()
                body = b"".join(chunks)
                chunks.clear()
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await collecting
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
