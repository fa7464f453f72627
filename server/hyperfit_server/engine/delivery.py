"""From the thread that runs the model to the event loops that wait for its tokens."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from .requests import Failed, Finished, Token

Event = Token | Finished | Failed
FLUSH_SECONDS = 0.02
"""Tokens wait for others at most so long: waking an event loop for each would take the model's time."""


class PendingGeneration:
    """A request under way; see `requests.Generation`. Used from one event loop."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.queue_seconds: float | None = None
        self.loop = asyncio.get_running_loop()
        self._cancel = cancel
        self._submitted = time.monotonic()
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._wants_end = False
        self._ended = False

    def __aiter__(self) -> "PendingGeneration":
        return self

    async def __anext__(self) -> Token | Finished:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._more()
        event = self._events.popleft()
        if isinstance(event, Failed):
            raise event
        return event

    async def whole(self) -> tuple[list[Token], Finished]:
        """All of it at once, when it has ended: without waking up for every token."""
        self._wants_end = True
        while not self._ended:
            await self._more()
        tokens: list[Token] = []
        async for event in self:
            if isinstance(event, Finished):
                return tokens, event
            tokens.append(event)
        raise Failed("the generation was read to its end before")

    def cancel(self) -> None:
        """Nobody waits for it any more: whoever still does gets Failed."""
        if not self._ended:
            self.abandon()
            self.deliver(Failed("the request was cancelled"))

    def abandon(self) -> None:
        """From any thread: stop the work, tell nobody."""
        self._cancel()

    def started(self) -> None:
        """From the model's thread: it is in the batch (again, where memory ran out)."""
        if self.queue_seconds is None:
            self.queue_seconds = time.monotonic() - self._submitted

    def deliver(self, event: Event) -> None:
        """From the event loop: one event more."""
        if self._ended:
            return
        self._events.append(event)
        self._ended = not isinstance(event, Token)
        if self._waiter is not None and (self._ended or not self._wants_end) and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self) -> None:
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Outbox:
    """Collects events in the model's thread and hands them over, many at a time."""

    def __init__(self) -> None:
        self._events: list[tuple[PendingGeneration, Event]] = []
        self._flushed = 0.0

    def put(self, generation: PendingGeneration, event: Event) -> None:
        """Keep an event of a generation until the next delivery."""
        self._events.append((generation, event))

    def flush(self, urgent: bool = True) -> None:
        """Hand over what is there; unless it is urgent, only if the last time was long enough ago."""
        now = time.monotonic()
        if not self._events or (not urgent and now - self._flushed < FLUSH_SECONDS):
            return
        events, self._events, self._flushed = self._events, [], now
        for loop in {generation.loop for generation, _ in events}:
            its = [(generation, event) for generation, event in events if generation.loop is loop]
            try:
                loop.call_soon_threadsafe(_deliver, its)
            except RuntimeError:  # the loop is closed: nobody waits there any more
                for generation, _ in its:
                    generation.abandon()


def _deliver(events: Iterable[tuple[PendingGeneration, Event]]) -> None:
    for generation, event in events:
        generation.deliver(event)
