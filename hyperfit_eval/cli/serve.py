"""`hyperfit serve`: the generation server."""

import inspect
from dataclasses import fields
from typing import Any

import typer
from hyperfit_server.options import COMMON, VLLM, EngineName, Options

from ..errors import HyperfitError
from ..extras import require_extra


def serve(context: typer.Context, **values: Any) -> None:
    """Serve a model with citation blocking: text-generation-inference's API and OpenAI's.

    Without arguments: the small model that ships with the package. With `--engine vllm`, options that are
    not listed here go to vLLM, after MODEL.

    Example: `hyperfit serve runs/book --port 8080`
    """
    require_extra("serve", "the server", "fastapi", "uvicorn", "prometheus_client", "orjson", "jinja2")
    options = Options(**values)
    if options.model is not None and options.model.startswith("-"):
        raise HyperfitError(
            f"{options.model}: no such option; see hyperfit serve --help (vLLM's own options go after MODEL)"
        )
    _refuse_foreign_options(context, options.engine)
    if options.engine is EngineName.vllm:
        from hyperfit_server.vllm_launch import main

        main(options, context.args)
        return
    from hyperfit_server.start import serve as start

    raise typer.Exit(start(options))


# Typer reads the parameters from here.
_PARAMETERS = {"context": inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)} | {
    option.name: inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
    )
    for option in fields(Options)
}
serve.__signature__ = inspect.Signature(list(_PARAMETERS.values()))  # type: ignore[attr-defined]
serve.__annotations__ = {name: parameter.annotation for name, parameter in _PARAMETERS.items()}


def _refuse_foreign_options(context: typer.Context, engine: EngineName) -> None:
    """Options of the other engine, which would have no effect."""
    # By name: Typer may bring a click of its own, whose enumeration is another.
    sources = {name: context.get_parameter_source(name) for name in context.params}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    for name in typed:
        if name not in COMMON and (name in VLLM) != (engine is EngineName.vllm):
            hint = "; vLLM's own options go after MODEL --" if engine is EngineName.vllm else ""
            raise HyperfitError(f"--{name.replace('_', '-')} has no effect with --engine {engine.value}{hint}")
    if engine is EngineName.transformers and context.args:
        raise HyperfitError(f"{context.args[0]}: no such option or argument; see hyperfit serve --help")
