"""vLLM as an engine of this server: generations by its own /v1/completions, called inside its process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from hyperfit_eval.citation import CitationMatcher, Counters
from hyperfit_eval.errors import HyperfitError

from ..errors import Refusal
from ..hooks.environment import SWITCH
from .requests import Failed, Finished, Overloaded, Request, Sampling, Scored, Token
from .text import TextStream, TokenTexts

_TOKEN_ID = "token_id:"
"""How vLLM writes a token that is asked for by its id."""


class VllmEngine:
    """An `Engine` over vLLM's ASGI application.

    Every generated token is looked up once more: the blocked ones are counted, and one that should have been
    banned ends the generation, so that a blocker which stops working never goes unnoticed.

    Args:
        app: vLLM's application below this server's middleware.
        scope: what every inner call's scope has: "app", "state".
        tokenizer: the model's.
        matcher: of the index that vLLM's blocker uses.
        max_total_tokens: vLLM's max_model_len.
        max_requests: generations under way or waiting; more are refused.
        api_key: that vLLM asks for.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        tokenizer: Any,
        matcher: CitationMatcher,
        model_id: str,
        max_total_tokens: int,
        max_requests: int,
        api_key: str | None = None,
    ) -> None:
        self.app = app
        self.texts = TokenTexts(tokenizer)
        self.matcher = matcher
        self.model_id = model_id
        self.max_total_tokens = max_total_tokens
        self.max_input_tokens = max_total_tokens - 1
        self.counters: Counters | None = Counters()
        """Counts of the generations that went through here; what else vLLM generates is not counted."""
        self.bypassed: str | None = None
        """Set once a token came through that the blocker bans."""
        self._max_requests = max_requests
        self._running: set[asyncio.Task[None]] = set()
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        if api_key:
            headers.append((b"authorization", b"Bearer " + api_key.encode()))
        self._scope: dict[str, Any] = dict(scope) | {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "POST",
            "path": "/v1/completions", "raw_path": b"/v1/completions", "query_string": b"", "root_path": "",
            "headers": headers, "client": None, "server": None,
        }  # fmt: skip

    @property
    def running(self) -> int:
        """Generations under way; vLLM does not tell which of them wait."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Counted in `running`."""
        return 0

    @property
    def alive(self) -> bool:
        """False once the blocker was seen to be bypassed."""
        return self.bypassed is None

    def submit(self, request: Request, off: str = "off") -> "_Generation":
        """Start a generation.

        Args:
            off: what is sent to switch the blocker off; the canary has a word of its own.
        Raises:
            Overloaded: too many are under way.
            Failed: the blocker is bypassed.
            HyperfitError: vLLM cannot do it.
        """
        if self.bypassed is not None:
            raise Failed(self.bypassed)
        if request.sampling.typical_p < 1:
            raise HyperfitError(f"typical_p is {request.sampling.typical_p}: vLLM has no typical sampling")
        if len(self._running) >= self._max_requests:
            raise Overloaded
        generation = _Generation(self, request, off)
        self._running.add(generation.task)
        generation.task.add_done_callback(self.ended)  # also of one that is cancelled before it has begun
        return generation

    def ended(self, task: asyncio.Task[None]) -> None:
        """A generation has come to its end: its place is free."""
        self._running.discard(task)

    async def drain(self) -> None:
        """Wait for the generations under way; vLLM itself takes no more by then."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def call(
        self, body: dict[str, Any], on_event: Callable[[dict[str, Any]], None]
    ) -> tuple[int, dict[str, Any]]:
        """POST to /v1/completions.

        Args:
            on_event: gets each event of a stream, parsed.
        Returns:
            The status and, of an answer that is no stream of events, the body.
        """
        content = json.dumps(body).encode()
        buffer, status, streamed, sent = bytearray(), 500, False, False
        gone = asyncio.Event()

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": content, "more_body": False}
            await gone.wait()  # vLLM watches for a client that goes away; here the task is cancelled instead
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                streamed = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
                return
            buffer.extend(message.get("body", b""))
            while streamed and (end := buffer.find(b"\n\n")) >= 0:
                line = bytes(buffer[:end]).removeprefix(b"data:").strip()
                del buffer[: end + 2]
                if line != b"[DONE]":
                    on_event(json.loads(line))

        length = (b"content-length", str(len(content)).encode())
        await self.app(self._scope | {"headers": [*self._scope["headers"], length]}, receive, send)
        return status, {} if streamed else json.loads(buffer or b"{}")


class _Generation:
    """One generation under way; it runs whether or not anybody reads it."""

    def __init__(self, engine: VllmEngine, request: Request, off: str) -> None:
        self._engine, self._request = engine, request
        self._items: asyncio.Queue[Token | Finished | Exception] = asyncio.Queue()
        self._stream = TextStream(engine.texts, request.prompt_ids)
        self._history: list[int] = []
        self._blocked = 0
        self._text = ""
        self._ended = False
        self._prompt: tuple[Scored, ...] = ()
        self.queue_seconds: float | None = None
        self.task = asyncio.create_task(self._run(_body(request, off)))

    async def __aiter__(self) -> AsyncIterator[Token | Finished]:
        while True:
            item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Finished):
                return

    async def whole(self) -> tuple[list[Token], Finished]:
        """All of it, when it has ended."""
        items = [item async for item in self]
        return [item for item in items if isinstance(item, Token)], next(i for i in items if isinstance(i, Finished))

    def cancel(self) -> None:
        """Nobody waits for it any more; vLLM aborts it."""
        self.task.cancel()

    async def _run(self, body: dict[str, Any]) -> None:
        try:
            status, answer = await self._engine.call(body, self._take)
            if not self._ended:
                self._take(answer, status)
        except asyncio.CancelledError:
            self._end(Failed("the generation was cancelled"))
            raise
        except Exception as error:  # whatever vLLM raises: the others must go on
            self._end(Failed(f"vLLM failed: {type(error).__name__}: {error}"))
        self._end(Failed("vLLM ended the generation without a reason"))

    def _end(self, item: Finished | Exception) -> None:
        """The last item; later ones are dropped."""
        if not self._ended:
            self._ended = True
            self._engine.ended(self.task)
            self._items.put_nowait(item)

    def _take(self, answer: dict[str, Any], status: int = 200) -> None:
        """An event of a stream, or the whole answer."""
        if self._ended:
            return
        if "choices" not in answer:
            self._end(_error(answer, status))
            return
        for choice in answer["choices"]:
            if choice.get("prompt_logprobs"):
                self._prompt = self._read_prompt(choice["prompt_logprobs"])
            self._text += choice["text"]
            ids, scores = choice.get("token_ids") or [], choice["logprobs"] or {}
            tops = scores.get("top_logprobs") or [None] * len(ids)
            for token, logprob, top in zip(ids, scores.get("token_logprobs") or [], tops, strict=True):
                banned = self._banned()
                if token in banned:
                    self._engine.bypassed = "vLLM generated a token that the citation blocker bans: it is bypassed"
                    self._end(Failed(self._engine.bypassed))
                    self.task.cancel()
                    return
                self._blocked += len(banned) > 0
                self._items.put_nowait(self._token(token, logprob, top, len(banned) > 0))
            if choice["finish_reason"] is not None:
                seed = self._request.sampling.seed if self._request.sampling.do_sample else None
                ended = Finished("length", self._text, self._prompt, blocked_tokens=self._blocked, seed=seed)
                self._end(_ending(choice, ended))

    def _banned(self) -> Sequence[int]:
        """Count what the blocker bans at this position."""
        if not self._request.blocking:
            return ()
        bans = self._engine.matcher.banned_after(self._history)
        counters = self._engine.counters
        if counters is not None:
            counters.steps += 1
            counters.matched += bans.matched
            counters.banned += len(bans.ids) > 0
        return bans.ids.tolist()

    def _token(self, token: int, logprob: float | None, top: dict[str, float] | None, blocked: bool) -> Token:
        self._history.append(token)
        ranked = sorted((top or {}).items(), key=lambda pair: -pair[1])[: self._request.top_n_tokens]
        others = tuple(self._scored(int(name.removeprefix(_TOKEN_ID)), value) for name, value in ranked)
        text = self._stream.push(token)
        scored = self._scored(token, logprob)
        return Token(scored if scored.special else replace(scored, text=text), others, blocked)

    def _scored(self, token: int, logprob: float | None) -> Scored:
        texts = self._engine.texts
        return Scored(token, texts.alone(token), logprob, token in texts.special)

    def _read_prompt(self, logprobs: list[dict[str, Any] | None]) -> tuple[Scored, ...]:
        pairs = zip(self._request.prompt_ids, logprobs, strict=True)
        return tuple(self._scored(token, at[str(token)]["logprob"] if at else None) for token, at in pairs)


def _body(request: Request, off: str) -> dict[str, Any]:
    """The request in vLLM's words."""
    sampling: Sampling = request.sampling
    body: dict[str, Any] = {
        "prompt": list(request.prompt_ids),
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens,
        "temperature": sampling.temperature if sampling.do_sample else 0,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "logprobs": request.top_n_tokens,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "vllm_xargs": {SWITCH: "on" if request.blocking else off},
    }
    if sampling.do_sample and sampling.seed is not None:
        # Unsigned here and signed there. Only the client's: each costs vLLM a generator of its own.
        body["seed"] = sampling.seed - 2**64 if sampling.seed >= 2**63 else sampling.seed
    # vLLM scores prompts only in whole answers.
    return body | ({"prompt_logprobs": 0} if request.prompt_logprobs else {"stream": True})


def _error(answer: dict[str, Any], status: int) -> Exception:
    """Error of vLLM as one of this server."""
    error = answer.get("error", answer)
    message = error.get("message", error) if isinstance(error, dict) else error
    if status == 503:
        return Refusal("overloaded", f"{message}", headers={"Retry-After": "1"})
    return Failed(f"vLLM refuses ({status}): {message}")


def _ending(choice: dict[str, Any], finished: Finished) -> Finished | Failed:
    """The end of a generation, with its reason in text-generation-inference's words."""
    reason, stop = choice["finish_reason"], choice["stop_reason"]
    if reason == "length":
        return finished
    if reason == "stop":
        return replace(finished, reason="stop_sequence" if isinstance(stop, str) else "eos_token")
    return Failed(f"vLLM ended the generation: {reason}")
