"""The citation blocker for vLLM: one class for the logits-processor interfaces of both its model runners.

It is put in place by `--logits-processors hyperfit_server.hooks.vllm:CitationLogitsProcessor`, which
`hyperfit serve --engine vllm` passes. There is no entry point: vLLM drops those in silence when it decodes
speculatively, while what was named on the command line stops it (docs/engines.md).
"""

from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as RunnerV1LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as RunnerV2LogitsProcessor

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.errors import HyperfitError

from .environment import BlockerSettings, refuse_constraints, wants_blocking

CONSTRAINTS = ("structured_outputs", "allowed_token_ids", "bad_words")
"""Sampling parameters that can leave one token alone to choose from, applied before the blocker."""


class CitationLogitsProcessor(RunnerV1LogitsProcessor, RunnerV2LogitsProcessor):
    """Blocks every request that does not say `vllm_xargs={"hyperfit_blocking": "off"}`.

    Runner V1 tells which request is in which row and shows its output tokens as a list that grows; runner V2
    keeps all tokens on the device, in slots to which the rows point. Only generated tokens are history.

    Args:
        vllm_config: of the engine.
        device_or_requests: the device (V1), or the state of all requests (V2).
        is_pin_memory: given by V1 alone.
    Raises:
        HyperfitError: no index, one of another model, or a way of decoding that would go around it.
    """

    def __init__(self, vllm_config: VllmConfig, device_or_requests: Any, is_pin_memory: bool | None = None) -> None:
        _refuse_bypasses(vllm_config)
        self._settings = BlockerSettings.from_environment()
        model = vllm_config.model_config
        index = self._settings.load_index(model.get_vocab_size(), _tokenizer(model))
        self.blocker = WindowBlocker(index, self._settings.max_overlap_tokens)
        self._outputs: dict[int, list[int]] = {}
        """V1: the output tokens of each row that is blocked; the list is the runner's own."""
        if isinstance(device_or_requests, LogitsProcRequestState):
            self._requests = device_or_requests
            self._switches = np.zeros(device_or_requests.max_num_reqs, dtype=bool)
            self._apply_switches()

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Both runners: refuse a bad switch, or a constraint past the blocker; the server answers 400."""
        settings = BlockerSettings.from_environment()
        if wants_blocking(sampling_params.extra_args, settings):
            refuse_constraints(sampling_params, CONSTRAINTS, settings)

    def is_argmax_invariant(self) -> bool:
        """V1: no; greedy requests must pass through here."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """V1: follow the requests as they come, go and change rows."""
        process_dict_updates(self._outputs, batch_update, self._new_row)

    def _new_row(self, params: SamplingParams, prompt: list[int] | None, output: list[int]) -> list[int] | None:
        return output if wants_blocking(params.extra_args, self._settings) else None

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """V2: a request takes a slot, which another may have used before."""
        self._switches[req_idx] = wants_blocking(sampling_params.extra_args, self._settings)
        self._switches_changed = True
        return bool(self._switches[req_idx])

    def apply_staged_writes(self) -> None:
        """V2: tell the device which slots are blocked."""
        if self._switches_changed:
            self._apply_switches()

    def _apply_switches(self) -> None:
        # A copy: the transfer may still be under way when the next request is added.
        switches = torch.from_numpy(self._switches.copy())
        self._device_switches = switches.to(self._requests.device, non_blocking=True)
        self._switches_changed = False

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Both runners: ban for one step, in place.

        Args:
            logits: float32, shape (rows, vocabulary).
            ctx: V2: which slot and position each row stands for.
        """
        if ctx is None:
            if self._outputs:
                self._refuse_placeholders()
                self.blocker.ban_(logits, self.blocker.windows(len(logits), self._outputs.items()))
            return logits
        slots = ctx.expanded_idx_mapping.long()
        ends = ctx.pos.long() + 1
        starts = torch.where(self._device_switches[slots], self._requests.prompt_len.gpu[slots].long(), ends)
        windows = self.blocker.gather(self._requests.all_token_ids.gpu, slots, starts, ends)
        self.blocker.ban_(logits, windows)
        return logits

    def _refuse_placeholders(self) -> None:
        """Asynchronous scheduling writes -1 until a token is known; vLLM fills them in before it comes here."""
        for row, ids in self._outputs.items():
            if ids and ids[-1] < 0:
                raise HyperfitError(
                    f"row {row}: vLLM shows a placeholder instead of its last token, citations cannot be blocked; "
                    "start it with --no-async-scheduling"
                )


def _refuse_bypasses(vllm_config: VllmConfig) -> None:
    if vllm_config.speculative_config is not None:
        raise HyperfitError("speculative decoding goes around the citation blocker; start vLLM without it")
    if getattr(vllm_config.model_config, "enable_trace_replay", False):
        raise HyperfitError(
            "trace replay overwrites what was sampled, past the citation blocker; start vLLM without it"
        )


def _tokenizer(model: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model.tokenizer, revision=model.tokenizer_revision, trust_remote_code=model.trust_remote_code
    )
