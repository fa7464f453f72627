"""An engine that says the same words to everyone: what the server does around it is under test."""

import asyncio
from collections import deque

from hyperfit_server.engine.requests import Failed, Finished, Overloaded, Request, Scored, Token

from hyperfit_eval.citation import Counters
from hyperfit_eval.errors import HyperfitError

WORDS = ["one", " two", " three", " four", " five"]


class ScriptedGeneration:
    """Says WORDS again and again; the second word of each round counts as blocked where blocking is on."""

    def __init__(self, engine, request):
        self.engine, self.request = engine, request
        self.queue_seconds = None
        self.cancelled = False
        self.said = 0
        # One that the client names, or one that is drawn.
        drawn = len(engine.generations) if request.sampling.seed is None else request.sampling.seed
        self.seed = drawn if request.sampling.do_sample else None

    async def __aiter__(self):
        request, sampling = self.request, self.request.sampling
        await self.engine.go_on.wait()
        self.queue_seconds = 0.25
        text, blocked, reason = "", 0, "length"
        for place in range(sampling.max_new_tokens):
            await self.engine.pause(place)
            if place == self.engine.fails_at:
                raise Failed("the model broke")
            if place == self.engine.ends_at:
                return
            self.said += 1
            word = WORDS[(place + (self.seed or 0)) % len(WORDS)]
            text += word
            met = [stop for stop in sampling.stop if stop in text]
            if met:
                end = min(text.index(stop) + len(stop) for stop in met)
                word, text, reason = word[: len(word) - (len(text) - end)], text[:end], "stop_sequence"
            is_blocked = request.blocking and place % len(WORDS) == 1
            blocked += is_blocked
            yield Token(scored(place, word), self.top(place), is_blocked)
            if met:
                break
        prompt, prompt_top = (), ()
        if request.prompt_logprobs:
            prompt = tuple(Scored(i, f"<{i}>", None if n == 0 else -n / 4) for n, i in enumerate(request.prompt_ids))
            prompt_top = tuple(self.top(n) if n else () for n in range(len(prompt)))
        self.engine.running -= 1
        self.engine.finished.append(request)
        yield Finished(reason, text, prompt, prompt_top, blocked, self.seed)

    def top(self, place):
        return tuple(scored(place + n, f"top{n}", -0.125 - n) for n in range(self.request.top_n_tokens))

    async def whole(self):
        items = [item async for item in self]
        if not items or not isinstance(items[-1], Finished):
            raise Failed("it ended early")
        return items[:-1], items[-1]

    def cancel(self):
        self.cancelled = True


def scored(place, text, logprob=-0.5):
    return Scored(place, text, logprob)


class ScriptedEngine:
    """See `hyperfit_server.engine.requests.Engine`; the switches are for tests."""

    def __init__(self, **switches):
        self.model_id = "scripted"
        self.max_total_tokens, self.max_input_tokens = 64, 63
        self.counters = Counters(steps=10, matched=3, banned=2, unblocked=1)
        self.running, self.queued, self.alive = 0, 0, True
        self.places, self.fails_at, self.ends_at = 1000, None, None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.generations = deque()
        self.finished = []
        self.drained = False
        vars(self).update(switches)

    def submit(self, request: Request):
        if len(self.generations) >= self.places:
            raise Overloaded("8 requests run and 8 wait; try again later")
        if 666 in request.prompt_ids:
            raise HyperfitError("token id 666 in the prompt: the model has ids from 0 to 99")
        self.running += 1
        self.generations.append(ScriptedGeneration(self, request))
        return self.generations[-1]

    async def pause(self, place):
        """Between two tokens."""
        await asyncio.sleep(0)

    async def drain(self):
        self.drained = True
