"""The routes of text-generation-inference: POST /, /generate, /generate_stream and /tokenize."""

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ..bodies import off_loop, read_body
from ..calls import Call, Result, copies_of, items, run_all, submit_all
from ..engine.requests import Finished, Generation, Request, Scored, Token
from ..errors import Refusal
from ..settings import cost_of
from ..state import State, call_of, json_response, logprob_of, state_of
from ..streams import EventStream, event
from .prompts import Prompt, read_text, token_spans, truncated
from .tgi_schema import (
    DEFAULT_NEW_TOKENS,
    GenerateParameters,
    GenerateRequest,
    TokenizeRequest,
    parse_generate,
    sampling_of,
)

router = APIRouter()


@router.post("/", operation_id="generate_compatible")
@router.post("/generate")
async def generate(http: HttpRequest) -> Any:
    """Continue a text; with `stream`, as server-sent events."""
    return await _generate(http, stream=False)


@router.post("/generate_stream")
async def generate_stream(http: HttpRequest) -> Any:
    """Continue a text, one event for each token."""
    return await _generate(http, stream=True)


@router.post("/tokenize")
async def tokenize(http: HttpRequest) -> Response:
    """The prompt's tokens as the model would read them, with their places in the text."""
    body = await http.body()
    return await off_loop(len(body), _spans, state_of(http), body)


def _spans(state: State, raw: bytes) -> Response:
    limits = state.settings.limits
    body = read_body(TokenizeRequest, raw, limits)
    return json_response(token_spans(state.tokenizer, body.inputs, limits, body.add_special_tokens))


def _read(state: State, raw: bytes, stream: bool) -> tuple[GenerateRequest, GenerateParameters, Prompt]:
    limits = state.settings.limits
    body, parameters = parse_generate(raw, limits, stream)
    return body, parameters, truncated(read_text(state.tokenizer, body.inputs, limits), parameters.truncate)


async def _generate(http: HttpRequest, stream: bool) -> Any:
    state, call = state_of(http), call_of(http)
    limits = state.settings.limits
    state.check_ready()
    raw = await http.body()
    body, parameters, prompt = await off_loop(len(raw), _read, state, raw, stream)
    given = body.blocking if parameters.blocking is None else parameters.blocking
    call.blocking = state.settings.block(http.headers.get("x-hyperfit-blocking"), given)
    call.prompt_tokens = len(prompt.ids)
    new_tokens = limits.new_tokens(parameters.max_new_tokens, len(prompt.ids), DEFAULT_NEW_TOKENS)
    request = Request(
        prompt_ids=tuple(prompt.ids),
        sampling=sampling_of(parameters, new_tokens),
        blocking=call.blocking,
        top_n_tokens=parameters.top_n_tokens or 0,
        prompt_logprobs=bool(parameters.decoder_input_details),
    )
    before = body.inputs if parameters.return_full_text else ""
    headers = {"x-hyperfit-blocking": "on" if call.blocking else "off", "x-compute-type": state.compute_type}
    if stream or body.stream:
        generations = submit_all(state.engine, limits, [request])
        events = _Stream(request, call, body.inputs, before, bool(parameters.details)).events(generations[0])
        return EventStream(events, generations, headers)
    best = parameters.best_of or 1
    copies = copies_of(request, best)
    results = await run_all(state.engine, limits, copies, http.receive, call)
    chosen = max(range(best), key=lambda copy: results[copy].mean_logprob)
    call.keep(body.inputs, results[chosen].finished.text)
    milliseconds = 1000 * (time.monotonic() - call.started)
    generated = len(results[chosen].tokens)
    headers |= {
        "x-prompt-tokens": str(call.prompt_tokens),
        "x-generated-tokens": str(generated),
        "x-total-time": f"{milliseconds:.0f}",
        "x-time-per-token": f"{milliseconds / max(1, generated):.0f}",
    }

    def answer() -> Response:
        whole: dict[str, Any] = {"generated_text": before + results[chosen].finished.text}
        if parameters.details or parameters.decoder_input_details:
            whole["details"] = _details(results[chosen], copies[chosen])
            if best > 1:
                whole["details"]["best_of_sequences"] = [
                    {"generated_text": before + result.finished.text, **_details(result, copy)}
                    for number, (result, copy) in enumerate(zip(results, copies, strict=True))
                    if number != chosen
                ]
        return json_response(whole, headers)

    return await off_loop(sum(map(cost_of, copies)), answer)


def _details(result: Result, request: Request) -> dict[str, Any]:
    finished = result.finished
    details: dict[str, Any] = {
        **_ending(result.finished, len(result.tokens)),
        "prefill": [{"id": token.id, "text": token.text, "logprob": _prefill(token)} for token in finished.prompt],
        "tokens": [_token(token) for token in result.tokens],
    }
    if request.top_n_tokens:
        details["top_tokens"] = [[_scored(top) for top in token.top] for token in result.tokens]
    return details


def _ending(finished: Finished, generated: int) -> dict[str, Any]:
    return {
        "finish_reason": finished.reason,
        "generated_tokens": generated,
        "seed": finished.seed,
        "blocked_tokens": finished.blocked_tokens,
    }


def _prefill(token: Scored) -> float | None:
    return None if token.logprob is None else logprob_of(token)


def _scored(token: Scored) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": logprob_of(token), "special": token.special}


def _token(token: Token) -> dict[str, Any]:
    return {**_scored(token.scored), "blocked": token.blocked}


class _Stream:
    """The events of one generation. The last token's event also brings the whole text and the details.

    A token is sent as soon as it comes, unless it may be the last: by its number, as a special token, or since
    the text now has a stop sequence in it. Only then what follows it is waited for.
    """

    def __init__(self, request: Request, call: Call, prompt: str, before: str, details: bool) -> None:
        self.request, self.call, self.prompt, self.before, self.details = request, call, prompt, before, details
        self.stop = request.sampling.stop
        self.tail_characters = max(map(len, self.stop), default=1) - 1
        self.tail = ""

    async def events(self, generation: Generation) -> AsyncIterator[bytes]:
        """Encoded events; an error becomes one too."""
        held: Token | None = None
        index = 0
        try:
            async for item in items(generation, self.call):
                if isinstance(item, Finished):
                    if held is None:
                        raise Refusal("incomplete_generation", "the generation ended without a last token")
                    yield self._last(index, held, item)
                    return
                if held is not None:
                    yield self._event(index, held)
                index += 1
                held = item if index == self.request.sampling.max_new_tokens or self._may_be_last(item) else None
                if held is None:
                    yield self._event(index, item)
        except Refusal as refusal:
            self.call.error = refusal.logged
            yield event(refusal.body(openai=False))

    def _may_be_last(self, token: Token) -> bool:
        if token.scored.special:
            return True
        if not self.stop:
            return False
        text = self.tail + token.scored.text
        self.tail = text[-self.tail_characters :] if self.tail_characters else ""
        return any(stop in text for stop in self.stop)

    def _event(self, index: int, token: Token, text: str | None = None, details: Any = None) -> bytes:
        data = {"index": index, "token": _token(token), "generated_text": text, "details": details}
        if self.request.top_n_tokens:
            data["top_tokens"] = [_scored(top) for top in token.top]
        return event(data)

    def _last(self, index: int, token: Token, finished: Finished) -> bytes:
        self.call.keep(self.prompt, finished.text)
        details = None
        if self.details:
            ending = _ending(finished, index)
            details = {**ending, "input_length": len(self.request.prompt_ids)}
        return self._event(index, token, self.before + finished.text, details)
