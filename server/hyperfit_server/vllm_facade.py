"""This server's routes on top of vLLM's: ASGI middleware for `--middleware hyperfit_server.vllm_facade.TgiFacade`.

text-generation-inference's routes, /info and /health are this server's own and generate by `VllmEngine`. What else
is asked for goes on to vLLM. Nothing is generated for anybody before the canary has passed (docs/engines.md).
"""

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperfit_eval.citation import CitationIndex, CitationMatcher
from hyperfit_eval.web.local import foreign_site, is_loopback

from .app import create_app
from .engine.canary import NEW_TOKENS, run_canary
from .engine.requests import Request, Sampling
from .engine.vllm import VllmEngine
from .errors import Refusal
from .hooks.environment import SWITCH, BlockerSettings
from .logs import JsonLines, log
from .settings import Limits, Settings
from .state import State, json_response
from .vllm_launch import API_KEY, MAX_REQUESTS

OWN_ROUTES = ("/", "/generate", "/generate_stream", "/info", "/health", "/health/live")
TOKENIZE = "/tokenize"
"""Ours with "inputs" in the body, vLLM's own without."""
SWITCHED_ROUTES = ("/v1/completions", "/v1/chat/completions")
METRICS = "/metrics/hyperfit"
"""vLLM's own counters stay at /metrics."""


class TgiFacade:
    """The middleware; it learns of model and limits when vLLM has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._vllm = app
        self._state: State | None = None
        self._own: ASGIApp | None = None
        self._canary: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "lifespan":
            await self._vllm(scope, receive, self._starting(scope, send))
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        own = path in OWN_ROUTES or path == METRICS
        if scope["type"] == "http" and (own or scope["method"] not in ("GET", "HEAD", "OPTIONS")):
            await self._http(path, scope, receive, send)
        else:
            await self._vllm(scope, receive, send)

    def _starting(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start(scope)
            await send(message)

        return sending

    def _start(self, scope: Scope) -> None:
        if not log.handlers:  # vLLM configures its own log alone
            log.addHandler(logging.StreamHandler())
            log.handlers[0].setFormatter(JsonLines())
            log.setLevel(logging.INFO)
            log.propagate = False
        # vLLM's own state, which it fills before it serves.
        model = scope["app"].state.vllm_config.model_config
        names = scope["app"].state.args.served_model_name
        blocker = BlockerSettings.from_environment()
        tokenizer = _tokenizer(model)
        index = blocker.load_index(model.get_vocab_size(), tokenizer)
        shared = {name: scope[name] for name in ("app", "state") if name in scope}
        queued = scope["app"].state.args.max_num_queued_reqs or MAX_REQUESTS
        engine = VllmEngine(
            self._vllm,
            shared,
            tokenizer,
            CitationMatcher(index, blocker.max_overlap_tokens),
            names[0] if names else model.model,
            model.max_model_len,
            queued,
            os.environ.get(API_KEY),
        )
        longest = model.max_model_len
        limits = Limits(max_total_tokens=longest, max_input_tokens=longest - 1, max_new_tokens=longest - 1)
        key = os.environ.get(API_KEY)
        # vLLM without a host listens on all addresses.
        local_only = not key and is_loopback(scope["app"].state.args.host or "0.0.0.0")
        settings = Settings(limits, force_blocking=blocker.force_blocking, api_key=key, local_only=local_only)
        state = State(engine, tokenizer, settings, index=asdict(index.header), max_concurrent_requests=queued)
        self._state, self._own = state, create_app(state)
        self._canary = asyncio.create_task(self._prove(state, engine, index, blocker.canary or "off"))

    async def _prove(self, state: State, engine: VllmEngine, index: CitationIndex, off: str) -> None:
        """Run the canary, and open or keep shut."""
        places = asyncio.Semaphore(state.max_concurrent_requests)

        async def generate(prompt_ids: Sequence[int], blocking: bool) -> list[int]:
            wanted = min(NEW_TOKENS, engine.max_total_tokens - len(prompt_ids))
            sampling = Sampling(max_new_tokens=wanted, min_new_tokens=wanted)
            async with places:
                tokens, _ = await engine.submit(Request(tuple(prompt_ids), sampling, blocking), off).whole()
            return [token.scored.id for token in tokens]

        try:
            report = await run_canary(index, generate)
        except Exception as error:  # whatever it is, the server must stay shut and say why
            state.unready = f"the canary failed: {type(error).__name__}: {error}"
            state.canary = "bypassed" if engine.bypassed else "pending"
            log.error(state.unready)
            return
        state.unready = report.line() if report.bypassed else None
        state.canary = "bypassed" if report.bypassed else "passed" if report.proven else "unproven"
        log.log(logging.INFO if report.proven else logging.ERROR, report.line())

    async def _http(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        state, own = self._state, self._own
        ours = dict(scope) | {"path": path, "raw_path": path.encode(), "root_path": ""}
        try:
            if state is None or own is None:
                raise Refusal("unhealthy", "vLLM is starting")
            if state.settings.local_only and (reason := foreign_site(scope["headers"])):
                raise Refusal("forbidden", reason, code="foreign_site")
            if path == METRICS:
                ours |= {"path": "/metrics", "raw_path": b"/metrics"}
            elif scope["method"] != "GET" and (state.unready or not state.engine.alive):
                raise Refusal("unhealthy", state.unready or "the citation blocker is bypassed")
            elif path not in OWN_ROUTES:
                body = await _whole(receive)
                asked = _parsed(body)
                if path == TOKENIZE and isinstance(asked, dict) and "inputs" in asked:
                    await own(ours, _replayed(body, receive), send)
                    return
                _refuse_beams(asked)
                if path in SWITCHED_ROUTES and isinstance(asked, dict):
                    body = json.dumps(_switched(asked, scope, state.settings)).encode()
                headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                await self._vllm(dict(scope) | {"headers": headers}, _replayed(body, receive), send)
                return
        except Refusal as refusal:
            openai = path.startswith("/v1/")
            response = json_response(refusal.body(openai), refusal.headers, refusal.status(openai))
            await response(scope, receive, send)
            return
        await own(ours, receive, send)


def _parsed(body: bytes) -> Any:
    """The JSON in `body`; None for anything else, of which vLLM says what is wrong with it."""
    try:
        return json.loads(body)
    except ValueError:
        return None
    except RecursionError as error:
        raise Refusal("validation", "the body is nested too deeply") from error


def _refuse_beams(asked: Any) -> None:
    """Raise a Refusal for a request, or one of a list, that asks for beam search."""
    for request in asked if isinstance(asked, list) else [asked]:
        if isinstance(request, dict) and request.get("use_beam_search"):
            raise Refusal(
                "validation",
                "use_beam_search: vLLM asks for each beam's next token as for a new prompt, past the citation blocker",
                "use_beam_search",
            )


def _switched(asked: dict[str, Any], scope: Scope, settings: Settings) -> dict[str, Any]:
    """An OpenAI request with this server's header and field in vLLM's words.

    Raises:
        Refusal: a switch that is wrong or locked.
    """
    header = dict(scope["headers"]).get(b"x-hyperfit-blocking")
    given = asked.pop("blocking", None)
    if given is not None and not isinstance(given, bool):
        raise Refusal("validation", f"blocking: {given!r}, expected true or false", "blocking")
    arguments = asked.get("vllm_xargs") or {}
    if (header is not None or given is not None) and isinstance(arguments, dict):
        blocking = settings.block(None if header is None else header.decode("latin-1"), given)
        asked["vllm_xargs"] = arguments | {SWITCH: "on" if blocking else "off"}
    return asked


async def _whole(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _tokenizer(model: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model.tokenizer, revision=model.tokenizer_revision, trust_remote_code=model.trust_remote_code
    )
