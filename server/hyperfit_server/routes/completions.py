"""POST /v1/completions: prompts as texts or token ids, echo and log-probabilities included."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ..bodies import off_loop
from ..calls import Call, Result, copies_of, merged, run_all, submit_all
from ..engine.requests import Finished, Generation, Request
from ..errors import Refusal
from ..settings import Limits, cost_of
from ..state import State, call_of, json_response, state_of
from ..streams import EventStream, event
from .openai_schema import DEFAULT_COMPLETION_TOKENS, CompletionRequest, parse_completion
from .openai_text import DONE, OPENAI, CompletionLogprobs, VisibleText, finish_reason, usage, without_stop
from .prompts import Prompt, read_text

router = APIRouter()


@dataclass(frozen=True)
class _Asked:
    """One prompt and the generations it is for."""

    text: str
    """For `echo` and the log."""
    prompt: Prompt
    requests: list[Request]


@router.post("/v1/completions")
async def completions(http: HttpRequest) -> Any:
    """Continue one prompt or several."""
    state, call = state_of(http), call_of(http)
    state.check_ready()
    limits = state.settings.limits
    raw = await http.body()
    body, prompts = await off_loop(len(raw), _read, state, raw)
    call.blocking = state.settings.block(http.headers.get("x-hyperfit-blocking"), body.blocking)
    asked = [_ask(limits, body, text, prompt, call.blocking) for text, prompt in prompts]
    call.prompt_tokens = sum(len(one.prompt.ids) for one in asked)
    requests = [request for one in asked for request in one.requests]
    headers = {"x-hyperfit-blocking": "on" if call.blocking else "off"}
    head = {
        "id": f"cmpl-{call.request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": state.engine.model_id,
    }
    if body.stream:
        generations = submit_all(state.engine, limits, requests)
        return EventStream(_events(body, asked, generations, call, head), generations, headers)
    results = await run_all(state.engine, limits, requests, http.receive, call)
    for position, one in enumerate(asked):
        for result in results[position * body.copies : (position + 1) * body.copies]:
            call.keep(one.text, result.finished.text)

    def answer() -> Response:
        choices: list[dict[str, Any]] = []
        for position, one in enumerate(asked):
            own = results[position * body.copies : (position + 1) * body.copies]
            if body.best_of:
                own = sorted(own, key=lambda result: -result.mean_logprob)[: body.n or 1]
            for result in own:
                choices.append(_choice(len(choices), body, one, result))
        return json_response({**head, "choices": choices, "usage": usage(call.prompt_tokens, call.new_tokens)}, headers)

    return await off_loop(sum(map(cost_of, requests)), answer)


def _read(state: State, raw: bytes) -> tuple[CompletionRequest, list[tuple[str, Prompt]]]:
    """The request, and each prompt as text, for `echo` and the log, and as ids."""
    limits = state.settings.limits
    body = parse_completion(raw, limits)
    limits.check_text(sum(len(prompt) for prompt in body.prompts if isinstance(prompt, str)))
    shown = body.echo or state.settings.log_text
    prompts: list[tuple[str, Prompt]] = []
    for given in body.prompts:
        if isinstance(given, str):
            prompts.append((given, read_text(state.tokenizer, given, limits)))
        else:
            prompts.append((state.tokenizer.decode(given) if shown else "", Prompt(given, 0)))
        if not prompts[-1][1].ids:
            raise Refusal("validation", "prompt: empty; give at least one token", "prompt")
    return body, prompts


def _ask(limits: Limits, body: CompletionRequest, text: str, prompt: Prompt, blocking: bool) -> _Asked:
    new_tokens = limits.new_tokens(body.max_tokens, len(prompt.ids), DEFAULT_COMPLETION_TOKENS)
    request = Request(
        prompt_ids=tuple(prompt.ids),
        sampling=body.sampling(new_tokens),
        blocking=blocking,
        top_n_tokens=body.logprobs or 0,
        prompt_logprobs=bool(body.echo) and (body.logprobs is not None or new_tokens == 0),
    )
    return _Asked(text, prompt, copies_of(request, body.copies))


def _choice(index: int, body: CompletionRequest, asked: _Asked, result: Result) -> dict[str, Any]:
    finished = result.finished
    text = without_stop(finished, body.stops)
    logprobs = None
    if body.logprobs is not None:
        shown = CompletionLogprobs(body.logprobs)
        if body.echo:
            # A BOS that the server put in front is no part of the prompt that was sent.
            for place in range(asked.prompt.added, len(finished.prompt)):
                top = finished.prompt_top[place] if finished.prompt_top else ()
                shown.add(finished.prompt[place], top)
        for token in result.tokens:
            shown.add(token.scored, token.top)
        logprobs = shown.take()
    return {
        "index": index,
        "text": asked.text + text if body.echo else text,
        "logprobs": logprobs,
        "finish_reason": finish_reason(finished),
        "blocked_tokens": finished.blocked_tokens,
        **body.token_ids("prompt_token_ids", asked.prompt.ids),
        **body.token_ids("token_ids", [token.scored.id for token in result.tokens]),
    }


async def _events(
    body: CompletionRequest, asked: Sequence[_Asked], generations: list[Generation], call: Call, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    def choice(index: int, text: str, logprobs: Any = None, **end: Any) -> bytes:
        shown = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None, **end}
        return event({**head, "choices": [shown]}, OPENAI)

    texts = [VisibleText(body.stops) for _ in generations]
    begun: set[int] = set()
    scores = [CompletionLogprobs(body.logprobs or 0) for _ in generations]
    try:
        if body.echo:
            for number in range(len(generations)):
                yield choice(number, asked[number // body.copies].text)
        async for number, item in merged(generations, call):
            if isinstance(item, Finished):
                call.keep(asked[number // body.copies].text, item.text)
                end = {"finish_reason": finish_reason(item), "blocked_tokens": item.blocked_tokens}
                yield choice(number, texts[number].end(item), **end)
                continue
            text, logprobs = texts[number].add(item), None
            if body.logprobs is not None:
                scores[number].add(item.scored, item.top)
                logprobs = scores[number].take()
            token_ids = body.token_ids("token_ids", [item.scored.id])
            if number not in begun:
                token_ids |= body.token_ids("prompt_token_ids", asked[number // body.copies].prompt.ids)
                begun.add(number)
            if text or logprobs or token_ids:
                yield choice(number, text, logprobs, **token_ids)
    except Refusal as refusal:
        call.error = refusal.logged
        yield event(refusal.body(openai=True), OPENAI)
        return
    if body.wants_usage:
        yield event({**head, "choices": [], "usage": usage(call.prompt_tokens, call.new_tokens)}, OPENAI)
    yield DONE
