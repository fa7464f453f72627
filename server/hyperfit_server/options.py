"""Every option of `hyperfit serve`, declared once: name, type, default, limits and help.

Imports no more than the command line does, which shows them in a fraction of a second.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


class EngineName(StrEnum):
    """Engines that run the model."""

    transformers = "transformers"
    vllm = "vllm"


class LogLevel(StrEnum):
    """The least important lines that are logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Options:
    """Options of `hyperfit serve`."""

    model: Annotated[str | None, Argument(help="Folder or Hub id of a causal LM; by default the demo's.")] = None
    index: Annotated[Path | None, Option(help="Citation index; by default the checkpoint's own.")] = None
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8080
    api_key: Annotated[
        str | None, Option(envvar="HYPERFIT_API_KEY", help="Key that clients must send; best by environment.")
    ] = None
    no_blocking: Annotated[bool, Option("--no-blocking", help="Serve without a citation blocker.")] = False
    force_blocking: Annotated[bool, Option("--force-blocking", help="No request may switch the blocker off.")] = False
    off_by_default: Annotated[bool, Option("--off-by-default", help="Block only for requests that ask for it.")] = False
    max_overlap_tokens: Annotated[
        int | None, Option(min=1, help="Longest run that may be copied, words of many tokens included.")
    ] = None
    include_prompt: Annotated[
        bool, Option("--include-prompt", help="The blocker also looks at the prompt's tokens.")
    ] = False
    chat_template: Annotated[Path | None, Option(help="Chat template (Jinja), for a model that has none.")] = None
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:1, ...; by default a GPU if there is one.")] = None
    dtype: Annotated[str, Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    revision: Annotated[str | None, Option(help="Branch, tag or commit on the Hub.")] = None
    trust_remote_code: Annotated[bool, Option("--trust-remote-code", help="Run model code from the checkpoint.")] = (
        False
    )
    max_batch: Annotated[int, Option(min=1, help="Generations that run at a time.")] = 32
    max_queue: Annotated[int, Option(min=0, help="Generations that wait beyond those; then 429.")] = 128
    max_input_tokens: Annotated[int | None, Option(min=1, help="Of a prompt; by default the model's.")] = None
    max_new_tokens: Annotated[int | None, Option(min=1, help="Maximum new tokens per request.")] = None
    max_total_tokens: Annotated[int | None, Option(min=2, help="Prompt and new tokens together.")] = None
    max_batch_tokens: Annotated[int | None, Option(min=2, help="Places in the key-value cache.")] = None
    max_prompts: Annotated[int, Option(min=1, help="Prompts in one request.")] = 64
    max_body_bytes: Annotated[int, Option(min=1, help="Size of a request's body.")] = 4 << 20
    max_request_cost: Annotated[
        int, Option(min=1, help="Tokens read, generated and listed with log-probabilities for one request.")
    ] = 1 << 18
    request_timeout: Annotated[
        float, Option(min=0.1, help="Seconds until a request must have arrived whole, and part of an answer read.")
    ] = 60.0
    shutdown_timeout: Annotated[
        float, Option(min=0.0, help="Seconds for running requests after SIGTERM; then clients are cut off.")
    ] = 30.0
    log_level: Annotated[LogLevel, Option(help="Least important lines that are logged.")] = LogLevel.info
    log_text: Annotated[bool, Option("--log-text", help="Write prompts and texts into the log.")] = False
    engine: Annotated[EngineName, Option(help="What runs the model.")] = EngineName.transformers
    max_requests: Annotated[int, Option(min=1, help="vllm: generations that run or wait; then 429.")] = 256
    print_command: Annotated[bool, Option("--print-command", help="vllm: only print what would be run.")] = False


COMMON = ("model", "index", "host", "port", "api_key", "force_blocking", "max_overlap_tokens", "engine")
VLLM = ("max_requests", "print_command")
"""Options for --engine vllm alone; all that is neither here nor common is for the embedded engine alone."""
