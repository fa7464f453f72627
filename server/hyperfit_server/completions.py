"""POST /v1/completions: prompts as texts or token ids, echo and log-probabilities included."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from hyperfit_eval.serving.requests import Finished, Generation, Request

from .calls import Call, Result, copies_of, merged, run_all, submit_all
from .errors import Refusal
from .openai_schema import DEFAULT_COMPLETION_TOKENS, CompletionRequest, parse_completion
from .openai_text import DONE, OPENAI, CompletionLogprobs, VisibleText, finish_reason, usage, without_stop
from .prompts import Prompt, read_text
from .state import State, call_of, json_response, state_of
from .streams import EventStream, event

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
    body = parse_completion(await http.body(), state.settings.limits)
    call.blocking = state.settings.block(http.headers.get("x-hyperfit-blocking"), body.blocking)
    asked = [await _ask(state, body, prompt, call.blocking) for prompt in body.prompts]
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
        generations = submit_all(state.engine, requests)
        return EventStream(_events(body, asked, generations, call, head), generations, headers)
    results = await run_all(state.engine, requests, http.receive, call)
    choices: list[dict[str, Any]] = []
    for position, one in enumerate(asked):
        own = results[position * body.copies : (position + 1) * body.copies]
        if body.best_of:
            own = sorted(own, key=lambda result: -result.mean_logprob)[: body.n or 1]
        for result in own:
            choices.append(_choice(len(choices), body, one, result))
            call.keep(one.text, result.finished.text)
    return json_response({**head, "choices": choices, "usage": usage(call.prompt_tokens, call.new_tokens)}, headers)


async def _ask(state: State, body: CompletionRequest, given: str | list[int], blocking: bool) -> _Asked:
    prompt = await read_text(state.tokenizer, given) if isinstance(given, str) else Prompt(given, 0)
    if not prompt.ids:
        raise Refusal("validation", "prompt: empty; give at least one token", "prompt")
    text = given if isinstance(given, str) else state.tokenizer.decode(given)
    new_tokens = state.settings.limits.new_tokens(body.max_tokens, len(prompt.ids), DEFAULT_COMPLETION_TOKENS)
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
    }


async def _events(
    body: CompletionRequest, asked: Sequence[_Asked], generations: list[Generation], call: Call, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    def choice(index: int, text: str, logprobs: Any = None, **end: Any) -> bytes:
        shown = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None, **end}
        return event({**head, "choices": [shown]}, OPENAI)

    texts = [VisibleText(body.stops) for _ in generations]
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
            if text or logprobs:
                yield choice(number, text, logprobs)
    except Refusal as refusal:
        call.error = refusal.message
        yield event(refusal.body(openai=True), OPENAI)
        return
    if body.wants_usage:
        yield event({**head, "choices": [], "usage": usage(call.prompt_tokens, call.new_tokens)}, OPENAI)
    yield DONE
