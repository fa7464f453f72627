"""The citation blocker for text-generation-inference: its Python server with two methods replaced.

TGI has no place for a logits processor of ours. Its launcher starts the `text-generation-server` that comes first
on PATH; `server/tgi/text-generation-server` calls this module, which replaces the two classes' methods that choose
the next token and then runs TGI's own command line. Every request is blocked: TGI's protocol has no room for a
switch. Its choosers of TGI 3.3 were run on a CPU; a whole server was not (docs/engines.md).
"""

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.errors import HyperfitError

from .environment import BlockerSettings

_SPECULATION = "speculation goes around the citation blocker; start text-generation-launcher without --speculate"


def main() -> None:
    """TGI's command line; its `serve` blocks.

    Our errors are caught here: typer, which replaces `sys.excepthook`, would print pages with local variables.
    """
    try:
        if sys.argv[1:2] == ["serve"]:
            block_in_serve(BlockerSettings.from_environment())
        from text_generation_server import cli

        cli.app()
    except HyperfitError as error:
        if os.environ.get("HYPERFIT_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def block_in_serve(settings: BlockerSettings) -> None:
    """Replace TGI's `server.serve`, which its command line calls once it has read its options.

    Raises:
        HyperfitError: this is not the server of TGI that chooses tokens by the two classes.
    """
    import text_generation_server

    if not any(Path(folder, "models", "causal_lm.py").is_file() for folder in text_generation_server.__path__):
        raise HyperfitError(
            "this text-generation-server belongs to another backend of TGI (Gaudi, Neuron), whose citations cannot be "
            "blocked; use TGI's own for CUDA, ROCm, Intel GPUs or CPUs"
        )
    from text_generation_server import server
    from text_generation_server.utils import tokens

    server.serve = checked_serve(server.serve, settings, tokens, _flash_model())


def _flash_model() -> Any:
    """`FlashCausalLM`; None where flash attention is missing: TGI then serves by its other classes."""
    try:
        from text_generation_server.models.flash_causal_lm import FlashCausalLM
    except ImportError:
        return None
    return FlashCausalLM


def checked_serve(serve: Any, settings: BlockerSettings, tokens: Any, flash_model: Any) -> Any:
    """`server.serve` that opens the index of its model and puts the blocker in place first.

    Args:
        tokens: module `text_generation_server.utils.tokens`.
        flash_model: class `FlashCausalLM`, or None where TGI has none.
    """

    @functools.wraps(serve)
    def serving(*args: Any, **kwargs: Any) -> Any:
        options = inspect.signature(serve).bind(*args, **kwargs).arguments
        if options.get("speculate"):
            raise HyperfitError(f"--speculate {options['speculate']}: {_SPECULATION}")
        vocabulary, tokenizer = _load_tokenizer(options["model_id"], options)
        index = settings.load_index(vocabulary, tokenizer)
        patch(WindowBlocker(index, settings.max_overlap_tokens), tokens, flash_model)
        return serve(*args, **kwargs)

    return serving


def _load_tokenizer(model: str, options: Mapping[str, Any]) -> tuple[int, Any]:
    """How many tokens the model scores, and its tokenizer.

    Raises:
        HyperfitError: they cannot be loaded.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = {"revision": options.get("revision"), "trust_remote_code": options.get("trust_remote_code", False)}
    try:
        vocabulary = AutoConfig.from_pretrained(model, **source).get_text_config().vocab_size
        return vocabulary, AutoTokenizer.from_pretrained(model, **source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HyperfitError(f"{model}: its configuration or tokenizer cannot be loaded: {reason}") from error


def patch(blocker: WindowBlocker, tokens: Any, flash_model: Any) -> None:
    """Let both token choosers ban first.

    A flash model's chooser sees right-padded histories and no lengths; those are in the batch for which
    `generate_token` was called. The other chooser belongs to one request, and its first call sees the prompt alone.
    Without a flash model the first chooser has no batch, and refuses.
    """
    batches: list[Any] = []
    choose_many = tokens.HeterogeneousNextTokenChooser.__call__
    choose_one = tokens.NextTokenChooser.__call__

    @functools.wraps(choose_many)
    def choosing_many(
        self: Any,
        input_ids: torch.Tensor,
        scores: torch.Tensor,
        speculate: int = 0,
        speculated_ids: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if speculate or speculated_ids is not None:
            raise HyperfitError(_SPECULATION)
        batch = batches[-1] if batches else None
        if batch is None or batch.next_token_chooser is not self:
            raise HyperfitError("a token is chosen outside of FlashCausalLM.generate_token: its history is unknown")
        ends = (batch.cache_lengths_tensor + batch.input_lengths_tensor).long()
        starts = torch.tensor(batch.prompt_lengths).to(ends.device, non_blocking=True)
        rows = torch.arange(len(ends), device=ends.device)
        blocker.ban_(scores, blocker.gather(input_ids, rows, starts, ends))
        return choose_many(self, input_ids, scores, speculate, speculated_ids, *args, **kwargs)

    @functools.wraps(choose_one)
    def choosing_one(self: Any, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        length = input_ids.shape[1]
        if not hasattr(self, "hyperfit_start"):
            self.hyperfit_start = length
        row_start_end = torch.tensor([0, self.hyperfit_start, length], device=input_ids.device)
        blocker.ban_(scores[-1:], blocker.gather(input_ids, *row_start_end.split(1)))
        return choose_one(self, input_ids, scores)

    if flash_model is not None:
        generate_token = flash_model.generate_token

        @functools.wraps(generate_token)
        def generating(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
            batches.append(batch)
            try:
                return generate_token(self, batch, *args, **kwargs)
            finally:
                batches.pop()

        flash_model.generate_token = generating
    tokens.HeterogeneousNextTokenChooser.__call__ = choosing_many
    tokens.NextTokenChooser.__call__ = choosing_one


if __name__ == "__main__":
    main()
