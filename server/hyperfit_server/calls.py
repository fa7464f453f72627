"""One HTTP request from its arrival to its line in the log, and the generations that it waits for."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from starlette.types import Receive

from hyperfit_eval.errors import HyperfitError

from .engine.requests import Engine, Failed, Finished, Generation, Overloaded, Request, Token
from .errors import Refusal
from .settings import Limits

RETRY_SECONDS = 1


@dataclass
class Call:
    """Facts about a request; log and metrics are written from it when it ends."""

    request_id: str
    route: str
    openai: bool
    """Errors have OpenAI's body."""
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    blocked_tokens: int = 0
    blocking: bool | None = None
    first_token_seconds: float | None = None
    """Time to the first token of a stream, from arrival."""
    queue_seconds: list[float] = field(default_factory=list)
    """Time of each generation from arrival to the start of its work."""
    cancelled: bool = False
    """The client went away."""
    error: str | None = None
    texts: list[tuple[str, str]] | None = None
    """Prompts and generated texts; None where they may not be logged."""

    def count(self, token: Token) -> None:
        """Take notice of a token of a stream."""
        if self.first_token_seconds is None:
            self.first_token_seconds = time.monotonic() - self.started
        self.new_tokens += 1
        self.blocked_tokens += token.blocked

    def ended(self, generation: Generation, tokens: Sequence[Token] = ()) -> None:
        """Take notice of the end of a generation, and of its tokens if they were not counted one by one."""
        self.new_tokens += len(tokens)
        self.blocked_tokens += sum(token.blocked for token in tokens)
        self.queue_seconds.append(generation.queue_seconds or 0.0)

    def keep(self, prompt: str, generated: str) -> None:
        """Keep a prompt and what came of it for the log, if it may be there."""
        if self.texts is not None:
            self.texts.append((prompt, generated))


class Result(NamedTuple):
    """A whole generation."""

    tokens: list[Token]
    finished: Finished

    @property
    def mean_logprob(self) -> float:
        """Nats a token, by which `best_of` chooses."""
        return sum(token.scored.logprob or 0.0 for token in self.tokens) / max(1, len(self.tokens))


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def copies_of(request: Request, number: int) -> list[Request]:
    """The same request, with a seed of its own for each copy where it has one, the first as it is."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * number
    seeds = [(seed + copy) % 2**64 for copy in range(number)]
    return [replace(request, sampling=replace(request.sampling, seed=seed)) for seed in seeds]


def submit_all(engine: Engine, limits: Limits, requests: Sequence[Request]) -> list[Generation]:
    """Queue generations, all or none.

    Raises:
        Refusal: "overloaded" or "validation".
    """
    limits.check_cost(requests)
    generations: list[Generation] = []
    try:
        for request in requests:
            generations.append(_submit(engine, request))
    except Refusal:
        cancel_all(generations)
        raise
    return generations


def cancel_all(generations: Sequence[Generation]) -> None:
    """Stop those that are still under way."""
    for generation in generations:
        generation.cancel()


async def merged(generations: Sequence[Generation], call: Call) -> AsyncIterator[tuple[int, Token | Finished]]:
    """The items of several generations as they come, each with its generation's number.

    Raises:
        Refusal: "generation" or "incomplete_generation", of the first that fails.
    """
    if len(generations) == 1:
        async for item in items(generations[0], call):
            yield 0, item
        return
    queue: asyncio.Queue[tuple[int, Token | Finished | Refusal]] = asyncio.Queue()

    async def pump(number: int) -> None:
        try:
            async for item in items(generations[number], call):
                queue.put_nowait((number, item))
        except Refusal as refusal:
            queue.put_nowait((number, refusal))

    tasks = [asyncio.create_task(pump(number)) for number in range(len(generations))]
    try:
        under_way = len(tasks)
        while under_way:
            number, told = await queue.get()
            if isinstance(told, Refusal):
                raise told
            yield number, told
            under_way -= isinstance(told, Finished)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def items(generation: Generation, call: Call) -> AsyncIterator[Token | Finished]:
    """Each token and, last, the Finished.

    Raises:
        Refusal: "generation" or "incomplete_generation".
    """
    try:
        async for item in generation:
            if isinstance(item, Finished):
                call.ended(generation)
                yield item
                return
            call.count(item)
            yield item
    except (Failed, Overloaded) as error:
        raise _refusal_of(error) from error
    raise Refusal("incomplete_generation", "the generation ended before it was complete")


async def run_all(
    engine: Engine, limits: Limits, requests: Sequence[Request], receive: Receive, call: Call
) -> list[Result]:
    """Run several generations to their end; they are cancelled when the client goes away.

    Raises:
        Refusal: "overloaded", "validation", "generation" or "incomplete_generation".
        ClientGone: nobody waits any more.
    """
    generations = submit_all(engine, limits, requests)
    try:
        return await until_gone(receive, _finish_all(generations, call))
    finally:
        cancel_all(generations)


async def _finish_all(generations: Sequence[Generation], call: Call) -> list[Result]:
    # One after the other: they run beside each other in the engine, and what comes early waits.
    return [await _finish(generation, call) for generation in generations]


async def _finish(generation: Generation, call: Call) -> Result:
    try:
        tokens, finished = await generation.whole()
    except (Failed, Overloaded) as error:
        raise _refusal_of(error) from error
    call.ended(generation, tokens)
    return Result(tokens, finished)


def _submit(engine: Engine, request: Request) -> Generation:
    try:
        return engine.submit(request)
    except (Failed, Overloaded) as error:
        raise _refusal_of(error) from error
    except HyperfitError as error:
        raise Refusal("validation", str(error)) from error


def _refusal_of(error: Failed | Overloaded) -> Refusal:
    if isinstance(error, Failed):
        return Refusal("generation", str(error))
    message = str(error) or "the queue is full; try again later"
    return Refusal("overloaded", message, headers={"Retry-After": str(RETRY_SECONDS)})


async def until_gone(receive: Receive, work: Coroutine[Any, Any, Any]) -> Any:
    """Await `work`, or cancel it as soon as the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
