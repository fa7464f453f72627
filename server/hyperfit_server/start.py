"""From the options of `hyperfit serve` to a server that runs on the embedded engine."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from transformers.utils import logging as transformers_logging

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.web.local import is_loopback
from hyperfit_eval.web.server import Timeouts

from .engine.canary import generate_with, run_canary
from .engine.embedded import TransformersEngine
from .engine.loading import load_engine
from .engine.requests import Overloaded
from .logs import configure_logging, log
from .options import Options
from .run import listen, run
from .settings import Limits, Settings
from .state import State


def serve(options: Options) -> int:
    """Load the model and serve it until a signal comes.

    Returns:
        The exit status: 0, or 1 if the citation blocker is bypassed.
    Raises:
        HyperfitError: options that do not fit together, an address that is taken, a model that cannot be loaded.
    """
    _check(options)
    configure_logging(options.log_level.value)
    listener = listen(options.host, options.port)
    try:
        engine = _load(options)
        state = _state(options, engine)
        address = _address(listener.getsockname())
        if not is_loopback(options.host) and not options.api_key:
            log.warning(
                "everybody who can reach %s can use this server; set HYPERFIT_API_KEY to ask for a key", address
            )
        timeouts = Timeouts(request=options.request_timeout, shutdown=options.shutdown_timeout)
        return run(state, listener, prove, _banner(state, address), timeouts)
    finally:
        listener.close()


def _check(options: Options) -> None:
    if options.no_blocking:
        for given, name in (
            (options.index, "--index"),
            (options.force_blocking, "--force-blocking"),
            (options.off_by_default, "--off-by-default"),
        ):
            if given:
                raise HyperfitError(f"{name} and --no-blocking contradict each other; leave one out")
    if options.force_blocking and options.off_by_default:
        raise HyperfitError("--force-blocking and --off-by-default contradict each other; leave one out")
    if options.chat_template is not None and not options.chat_template.is_file():
        raise HyperfitError(f"--chat-template {options.chat_template}: no such file")


def _load(options: Options) -> TransformersEngine:
    transformers_logging.disable_progress_bar()
    names = ["device", "dtype", "revision", "trust_remote_code", "max_batch", "max_queue", "max_input_tokens"]
    names += ["max_total_tokens", "max_batch_tokens", "max_overlap_tokens", "include_prompt"]
    chosen: dict[str, Any] = {name: getattr(options, name) for name in names}
    engine = load_engine(options.model, options.index, without_index=options.no_blocking, **chosen)
    if options.chat_template is not None:
        engine.tokenizer.chat_template = options.chat_template.read_text(encoding="utf-8-sig")
    return engine


def _state(options: Options, engine: TransformersEngine) -> State:
    total = engine.max_total_tokens
    limits = Limits(
        max_total_tokens=total,
        max_input_tokens=engine.max_input_tokens,
        max_new_tokens=min(options.max_new_tokens or total, total - 1),
        max_prompts=options.max_prompts,
        max_body_bytes=options.max_body_bytes,
        max_request_cost=options.max_request_cost,
    )
    settings = Settings(
        limits=replace(limits, max_sequences=options.max_batch + options.max_queue),
        has_index=engine.index is not None,
        blocking=engine.index is not None and not options.off_by_default,
        force_blocking=options.force_blocking,
        local_only=is_loopback(options.host) and not options.api_key,
        api_key=options.api_key,
        log_text=options.log_text,
    )
    return State(
        engine,
        engine.tokenizer,
        settings,
        compute_type=str(engine.model.device.type),
        dtype=str(engine.model.dtype).removeprefix("torch."),
        index=None if engine.index is None else asdict(engine.index.header),
        max_concurrent_requests=options.max_batch + options.max_queue,
    )


async def prove(state: State) -> None:
    """Run the canary through the engine's own queue."""
    engine = state.engine
    assert isinstance(engine, TransformersEngine)
    if engine.index is None:
        log.warning("there is no citation blocker: --no-blocking")
        state.unready, state.canary = None, "off"
        return
    generate = generate_with(engine)

    async def patiently(prompt_ids: Sequence[int], blocking: bool) -> Sequence[int]:
        # The canary asks for several at a time, and the queue may be shorter; nobody else is served yet.
        while True:
            try:
                return await generate(prompt_ids, blocking)
            except Overloaded:
                await asyncio.sleep(0.02)

    report = await run_canary(engine.index, patiently)
    if report.bypassed:
        state.unready, state.canary = report.line(), "bypassed"
        return
    state.canary = "passed" if report.proven else "unproven"
    (log.info if report.proven else log.warning)(report.line())
    state.unready = None


def _address(name: tuple[Any, ...]) -> str:
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _banner(state: State, address: str) -> str:
    blocking = "without citation blocking"
    if state.index is not None:
        blocking = f"with citation blocking ({'on' if state.settings.blocking else 'off'} by default)"
    key = " -H 'Authorization: Bearer KEY'" if state.settings.api_key else ""
    example = f'curl {address}/generate{key} -d \'{{"inputs": "The old house"}}\''
    return f"Serving {state.engine.model_id} {blocking} on {address}; try: {example}"
