"""POST /v1/chat/completions, by the chat template of the model's tokenizer."""

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ..bodies import off_loop
from ..calls import Call, Result, copies_of, merged, run_all, submit_all
from ..engine.requests import Finished, Generation, Request
from ..errors import Refusal
from ..settings import cost_of
from ..state import State, call_of, json_response, state_of
from ..streams import EventStream, event
from .openai_schema import ChatRequest, parse_chat
from .openai_text import DONE, OPENAI, VisibleText, chat_logprob, finish_reason, usage, without_stop
from .prompts import read_chat

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(http: HttpRequest) -> Any:
    """Answer a chat."""
    state, call = state_of(http), call_of(http)
    limits = state.settings.limits
    state.check_ready()
    raw = await http.body()
    body, ids = await off_loop(len(raw), _read, state, raw)
    call.blocking = state.settings.block(http.headers.get("x-hyperfit-blocking"), body.blocking)
    call.prompt_tokens = len(ids)
    asked = body.max_completion_tokens or body.max_tokens
    request = Request(
        prompt_ids=tuple(ids),
        sampling=body.sampling(limits.new_tokens(asked, len(ids), default=limits.max_new_tokens)),
        blocking=call.blocking,
        top_n_tokens=body.top_logprobs or 0,
    )
    requests = copies_of(request, body.n or 1)
    headers = {"x-hyperfit-blocking": "on" if call.blocking else "off"}
    prompt = "" if call.texts is None else state.tokenizer.decode(ids)
    head = {"id": f"chatcmpl-{call.request_id}", "created": int(time.time()), "model": state.engine.model_id}
    if body.stream:
        generations = submit_all(state.engine, limits, requests)
        events = _events(body, ids, prompt, generations, call, {**head, "object": "chat.completion.chunk"})
        return EventStream(events, generations, headers)
    results = await run_all(state.engine, limits, requests, http.receive, call)
    for result in results:
        call.keep(prompt, result.finished.text)

    def answer() -> Response:
        whole = {
            **head,
            "object": "chat.completion",
            "choices": [_choice(index, body, result) for index, result in enumerate(results)],
            "usage": usage(call.prompt_tokens, call.new_tokens),
        }
        return json_response(whole | body.token_ids("prompt_token_ids", ids), headers)

    return await off_loop(sum(map(cost_of, requests)), answer)


def _read(state: State, raw: bytes) -> tuple[ChatRequest, list[int]]:
    limits = state.settings.limits
    body = parse_chat(raw, limits)
    ids = read_chat(state.tokenizer, [message.as_dict() for message in body.messages], limits)
    if not ids:
        raise Refusal("validation", "messages: the chat template makes an empty prompt of them", "messages")
    return body, ids


def _choice(index: int, body: ChatRequest, result: Result) -> dict[str, Any]:
    top = body.top_logprobs or 0
    logprobs = {"content": [chat_logprob(token, top) for token in result.tokens]} if body.logprobs else None
    return {
        "index": index,
        "message": {"role": "assistant", "content": without_stop(result.finished, body.stops)},
        "logprobs": logprobs,
        "finish_reason": finish_reason(result.finished),
        "blocked_tokens": result.finished.blocked_tokens,
        **body.token_ids("token_ids", [token.scored.id for token in result.tokens]),
    }


async def _events(
    body: ChatRequest, ids: list[int], prompt: str, generations: list[Generation], call: Call, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    def choice(index: int, delta: dict[str, str], logprobs: Any = None, **end: Any) -> bytes:
        shown = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None, **end}
        return event({**head, "choices": [shown]}, OPENAI)

    texts = [VisibleText(body.stops) for _ in generations]
    try:
        for number in range(len(generations)):
            yield choice(number, {"role": "assistant", "content": ""}, **body.token_ids("prompt_token_ids", ids))
        async for number, item in merged(generations, call):
            if isinstance(item, Finished):
                call.keep(prompt, item.text)
                end = {"finish_reason": finish_reason(item), "blocked_tokens": item.blocked_tokens}
                rest = texts[number].end(item)
                yield choice(number, {"content": rest} if rest else {}, **end)
                continue
            text = texts[number].add(item)
            logprobs = {"content": [chat_logprob(item, body.top_logprobs or 0)]} if body.logprobs else None
            token_ids = body.token_ids("token_ids", [item.scored.id])
            if text or logprobs or token_ids:
                yield choice(number, {"content": text}, logprobs, **token_ids)
    except Refusal as refusal:
        call.error = refusal.logged
        yield event(refusal.body(openai=True), OPENAI)
        return
    if body.wants_usage:
        yield event({**head, "choices": [], "usage": usage(call.prompt_tokens, call.new_tokens)}, OPENAI)
    yield DONE
