"""The citation blocker for text-generation-inference: its Python server with two methods replaced.

TGI has no place for a logits processor of ours. Its launcher starts the `text-generation-server` that comes first
on PATH; `server/tgi/text-generation-server` calls this module, which replaces the two classes' methods that choose
the next token and then runs TGI's own command line. Every request is blocked: TGI's protocol has no room for a
switch. Read against TGI 3.3, not run (docs/engines.md).
"""

import functools
import inspect
import sys
from typing import Any

import torch

from ..errors import HyperfitError, exit_with_one_line
from .environment import BlockerSettings
from .windows import WindowBlocker

_SPECULATION = "speculation goes around the citation blocker; start text-generation-launcher without --speculate"


def main() -> None:
    """TGI's command line; its `serve` blocks."""
    sys.excepthook = exit_with_one_line
    from text_generation_server import cli

    if sys.argv[1:2] == ["serve"]:
        from text_generation_server import server
        from text_generation_server.models.flash_causal_lm import FlashCausalLM
        from text_generation_server.utils import tokens

        settings = BlockerSettings.from_environment()
        server.serve = checked_serve(server.serve, settings, tokens, FlashCausalLM)
    cli.app()


def checked_serve(serve: Any, settings: BlockerSettings, tokens: Any, flash_model: type) -> Any:
    """`server.serve` that opens the index of its model and puts the blocker in place first.

    Args:
        tokens: module `text_generation_server.utils.tokens`.
        flash_model: class `FlashCausalLM`.
    """

    @functools.wraps(serve)
    def serving(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(serve).bind(*args, **kwargs).arguments
        if given.get("speculate"):
            raise HyperfitError(f"--speculate {given['speculate']}: {_SPECULATION}")
        from transformers import AutoConfig, AutoTokenizer

        source = {"revision": given.get("revision"), "trust_remote_code": given.get("trust_remote_code", False)}
        vocabulary = AutoConfig.from_pretrained(given["model_id"], **source).get_text_config().vocab_size
        index = settings.load_index(vocabulary, AutoTokenizer.from_pretrained(given["model_id"], **source))
        patch(WindowBlocker(index, settings.max_overlap_tokens), tokens, flash_model)
        return serve(*args, **kwargs)

    return serving


def patch(blocker: WindowBlocker, tokens: Any, flash_model: Any) -> None:
    """Let both token choosers ban first.

    A flash model's chooser sees right-padded histories and no lengths; those are in the batch for which
    `generate_token` was called. The other chooser belongs to one request, and its first call sees the prompt alone.
    """
    batches: list[Any] = []
    generate_token = flash_model.generate_token
    choose_many = tokens.HeterogeneousNextTokenChooser.__call__
    choose_one = tokens.NextTokenChooser.__call__

    @functools.wraps(generate_token)
    def generating(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        batches.append(batch)
        try:
            return generate_token(self, batch, *args, **kwargs)
        finally:
            batches.pop()

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
        place = torch.tensor([0, self.hyperfit_start, length], device=input_ids.device)
        blocker.ban_(scores[-1:], blocker.gather(input_ids, *place.split(1)))
        return choose_one(self, input_ids, scores)

    flash_model.generate_token = generating
    tokens.HeterogeneousNextTokenChooser.__call__ = choosing_many
    tokens.NextTokenChooser.__call__ = choosing_one


if __name__ == "__main__":
    main()
