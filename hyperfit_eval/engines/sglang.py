"""The citation blocker for SGLang: a hook of its plugin group, active only where an index is named.

SGLang loads the entry points of `sglang.srt.plugins` in each of its processes. It goes on without a plugin that
fails, so this one ends the process instead. Its per-request processors are not used: they are pickled code in a
request. Read against SGLang 0.5.23, not run (docs/engines.md).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import HyperfitError
from .environment import INDEX, BlockerSettings, wants_blocking
from .windows import WindowBlocker

SAMPLER = "sglang.srt.layers.sampler.Sampler"


def register() -> None:
    """The entry point: does nothing unless HYPERFIT_CITATION_INDEX names an index."""
    if not os.environ.get(INDEX):
        return
    from sglang.srt.layers.sampler import Sampler
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if not hasattr(Sampler, "_preprocess_logits"):
        # SGLang would log that the hook cannot be applied, and serve without it.
        raise SystemExit(f"error: {SAMPLER} has no _preprocess_logits: this SGLang cannot be blocked; use 0.5.23")
    try:
        hook = SamplerHook(BlockerSettings.from_environment())
    except HyperfitError as error:
        raise SystemExit(f"error: {error}") from error
    HookRegistry.register(f"{SAMPLER}.__init__", hook.started, HookType.AROUND)
    HookRegistry.register(f"{SAMPLER}._preprocess_logits", hook.preprocess, HookType.AROUND)


class SamplerHook:
    """What happens around `Sampler.__init__` and `Sampler._preprocess_logits`."""

    def __init__(self, settings: BlockerSettings) -> None:
        self._settings = settings
        self._blocker: WindowBlocker | None = None

    def started(self, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """When the sampler is made, before anything is served: refuse what goes around, open the index."""
        from sglang.srt.runtime_context import get_server_args
        from transformers import AutoConfig, AutoTokenizer

        server = get_server_args()
        refuse_bypasses(vars(server))
        source = {"revision": server.revision, "trust_remote_code": server.trust_remote_code}
        vocabulary = AutoConfig.from_pretrained(server.model_path, **source).get_text_config().vocab_size
        tokenizer = AutoTokenizer.from_pretrained(server.tokenizer_path or server.model_path, **source)
        index = self._settings.load_index(vocabulary, tokenizer)
        self._blocker = WindowBlocker(index, self._settings.max_overlap_tokens)
        original(*args, **kwargs)

    def preprocess(
        self, original: Callable[..., torch.Tensor], sampler: Any, logits: torch.Tensor, sampling_info: Any
    ) -> torch.Tensor:
        """Before every choice of tokens, with the requests in the order of the rows."""
        orchestrator = sampling_info.penalizer_orchestrator
        batch = orchestrator.batch if orchestrator is not None else None
        if self._blocker is None or batch is None or len(batch.reqs) != len(logits):
            raise HyperfitError(
                "SGLang does not show which request each row is for, citations cannot be blocked; start it with "
                "--disable-overlap-schedule and without speculation"
            )
        histories = [
            (row, request.output_ids)
            for row, request in enumerate(batch.reqs)
            if self._is_blocked(request.sampling_params.custom_params)
        ]
        self._blocker.ban_(logits, self._blocker.windows(len(logits), histories))
        return original(sampler, logits, sampling_info)

    def _is_blocked(self, custom_params: Mapping[str, Any] | None) -> bool:
        try:
            return wants_blocking(custom_params, self._settings)
        except HyperfitError:
            # SGLang lets nobody check parameters when a request arrives; an error here would end all requests.
            return True


def refuse_bypasses(server_args: Mapping[str, Any]) -> None:
    """Raise for settings with which the sampler does not see the newest tokens, or is not asked.

    Raises:
        HyperfitError: which one, and what to type.
    """
    if not server_args.get("disable_overlap_schedule"):
        raise HyperfitError("overlap scheduling samples before the last token is known: add --disable-overlap-schedule")
    if server_args.get("speculative_algorithm"):
        raise HyperfitError(
            f"--speculative-algorithm {server_args['speculative_algorithm']}: speculative decoding goes around the "
            "citation blocker; start SGLang without it"
        )
    if server_args.get("enable_custom_logit_processor"):
        raise HyperfitError(
            "--enable-custom-logit-processor runs pickled code out of requests, and such code can undo the citation "
            "blocker; start SGLang without it"
        )
