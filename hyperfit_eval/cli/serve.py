"""`hyperfit serve`: the generation server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperfitError
from ..extras import require_extra


class Engine(StrEnum):
    """What runs the model."""

    transformers = "transformers"
    vllm = "vllm"


_COMMON = ("model", "index", "host", "port", "api_key", "force_blocking", "max_overlap_tokens", "engine")
_VLLM = ("max_requests", "print_command")
"""Options for --engine vllm alone; all that is neither here nor common is for the embedded engine alone."""


class LogLevel(StrEnum):
    """The least important lines that are logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Folder or Hub id of a causal LM; by default the demo's.")] = None,
    index: Annotated[Path | None, typer.Option(help="Citation index; by default the checkpoint's own.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8080,
    api_key: Annotated[
        str | None, typer.Option(envvar="HYPERFIT_API_KEY", help="Key that clients must send; best by environment.")
    ] = None,
    no_blocking: Annotated[bool, typer.Option("--no-blocking", help="Serve without a citation blocker.")] = False,
    force_blocking: Annotated[
        bool, typer.Option("--force-blocking", help="No request may switch the blocker off.")
    ] = False,
    off_by_default: Annotated[
        bool, typer.Option("--off-by-default", help="Block only for requests that ask for it.")
    ] = False,
    max_overlap_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest run that may be copied, words of many tokens included.")
    ] = None,
    include_prompt: Annotated[
        bool, typer.Option("--include-prompt", help="The blocker also looks at the prompt's tokens.")
    ] = False,
    chat_template: Annotated[
        Path | None, typer.Option(help="Chat template (Jinja), for a model that has none.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if there is one.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run model code from the checkpoint.")
    ] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Generations that run at a time.")] = 32,
    max_queue: Annotated[int, typer.Option(min=0, help="Generations that wait beyond those; then 429.")] = 128,
    max_input_tokens: Annotated[int | None, typer.Option(min=1, help="Of a prompt; by default the model's.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum new tokens per request.")] = None,
    max_total_tokens: Annotated[int | None, typer.Option(min=2, help="Prompt and new tokens together.")] = None,
    max_batch_tokens: Annotated[int | None, typer.Option(min=2, help="Places in the key-value cache.")] = None,
    max_prompts: Annotated[int, typer.Option(min=1, help="Prompts in one request.")] = 64,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Size of a request's body.")] = 4 << 20,
    max_request_cost: Annotated[
        int, typer.Option(min=1, help="Tokens read, generated and listed with log-probabilities for one request.")
    ] = 1 << 18,
    request_timeout: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds until a request must have arrived whole, and part of an answer read."),
    ] = 60.0,
    shutdown_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds for running requests after SIGTERM; then clients are cut off.")
    ] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(help="Least important lines that are logged.")] = LogLevel.info,
    log_text: Annotated[bool, typer.Option("--log-text", help="Write prompts and texts into the log.")] = False,
    engine: Annotated[Engine, typer.Option(help="What runs the model.")] = Engine.transformers,
    max_requests: Annotated[int, typer.Option(min=1, help="vllm: generations that run or wait; then 429.")] = 256,
    print_command: Annotated[bool, typer.Option("--print-command", help="vllm: only print what would be run.")] = False,
) -> None:
    """Serve a model with citation blocking: text-generation-inference's API and OpenAI's.

    Without arguments: the small model that ships with the package. With `--engine vllm`, options that are
    not listed here go to vLLM, after MODEL.

    Example: `hyperfit serve runs/book --port 8080`
    """
    require_extra("serve", "the server", "fastapi", "uvicorn", "prometheus_client", "orjson", "jinja2")
    if model is not None and model.startswith("-"):
        raise HyperfitError(f"{model}: no such option; see hyperfit serve --help (vLLM's own options go after MODEL)")
    _refuse_foreign_options(context, engine)
    if engine is Engine.vllm:
        _vllm(model, index, context)
        return
    from hyperfit_server.start import Options
    from hyperfit_server.start import serve as start

    given = {name: context.params[name] for name in Options.__dataclass_fields__}
    raise typer.Exit(start(Options(**{**given, "log_level": log_level.value})))


def _refuse_foreign_options(context: typer.Context, engine: Engine) -> None:
    """Options of the other engine, which would have no effect."""
    # By name: Typer may bring a click of its own, whose enumeration is another.
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    for name in given:
        if name not in _COMMON and (name in _VLLM) != (engine is Engine.vllm):
            hint = "; vLLM's own options go after MODEL --" if engine is Engine.vllm else ""
            raise HyperfitError(f"--{name.replace('_', '-')} has no effect with --engine {engine.value}{hint}")
    if engine is Engine.transformers and context.args:
        raise HyperfitError(f"{context.args[0]}: no such option or argument; see hyperfit serve --help")


def _vllm(model: str | None, index: Path | None, context: typer.Context) -> None:
    from hyperfit_server.vllm_launch import main

    from ..checkpoint_files import INDEX_FILE, find_checkpoint_file
    from ..demo.location import demo_model_dir

    options = context.params
    source = model or str(demo_model_dir())
    found = index or find_checkpoint_file(source, INDEX_FILE)
    if found is None:
        raise HyperfitError(
            f"{source}: no {INDEX_FILE} to block citations by; build it with `hyperfit index build` and give it with "
            "--index FILE"
        )
    main(
        source,
        found,
        options["host"],
        options["port"],
        options["api_key"],
        context.args,
        max_overlap_tokens=options["max_overlap_tokens"],
        force_blocking=options["force_blocking"],
        max_requests=options["max_requests"],
        print_command=options["print_command"],
    )
