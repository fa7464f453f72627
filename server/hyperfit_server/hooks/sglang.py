"""The citation blocker for SGLang, as hooks around its methods (docs/engines.md).

Each of SGLang's processes registers them by `sglang_plugin.register`. Its own per-request processors are not used: they
are pickled code in a request. Run with SGLang 0.5.23 on a CPU.
"""

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.errors import HyperfitError

from .environment import BlockerSettings, refuse_constraints, wants_blocking
from .sglang_plugin import end_process

CONSTRAINTS = ("json_schema", "regex", "ebnf", "structural_tag")
"""Sampling parameters that can leave one token alone to choose from, applied before the blocker."""


def register_hooks() -> None:
    """Register all hooks; SGLang applies them when its plugins have been loaded.

    Raises:
        HyperfitError: bad settings, or an SGLang without one of the methods (it would log that, and go on).
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    hooks = Hooks(BlockerSettings.from_environment())
    for target, hook in {
        "sglang.srt.server_args.ServerArgs.resolve_once": hooks.resolve_arguments,
        "sglang.srt.sampling.sampling_params.SamplingParams.verify": hooks.verify_parameters,
        "sglang.srt.layers.sampler.Sampler.__init__": hooks.make_sampler,
        "sglang.srt.layers.sampler.Sampler._preprocess_logits": hooks.preprocess_logits,
    }.items():
        try:
            pkgutil.resolve_name(target)
        except AttributeError as error:
            raise HyperfitError(f"this SGLang has no {target}; use sglang==0.5.23") from error
        HookRegistry.register(target, hook, HookType.AROUND)


class Hooks:
    """Hooks around four methods of SGLang; each hook gets the method first, then its arguments."""

    def __init__(self, settings: BlockerSettings) -> None:
        self._settings = settings
        self._blocker: WindowBlocker | None = None

    def resolve_arguments(self, original: Callable[[Any], None], server_args: Any) -> None:
        """`ServerArgs.resolve_once`, in every process: refuse what goes around, before anything is served."""
        was_resolved = getattr(server_args, "_resolution_finished", False)
        original(server_args)
        try:
            arguments = server_args.resolved_dict()
            refuse_bypasses(arguments)
            if not was_resolved:  # where the command line was read: not again in each process that it starts
                self._open_index(arguments)
        except Exception as error:
            end_process(error)

    def verify_parameters(self, original: Callable[..., None], parameters: Any, *args: Any, **kwargs: Any) -> None:
        """`SamplingParams.verify`, when a request arrives: what is raised here is answered with 400."""
        if wants_blocking(parameters.custom_params, self._settings):
            refuse_constraints(parameters, CONSTRAINTS, self._settings)
            if parameters.beam_width not in (None, 1):
                raise HyperfitError(
                    f"beam_width={parameters.beam_width!r}: beams are chosen past the citation blocker; leave it out"
                )
        original(parameters, *args, **kwargs)

    def make_sampler(self, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """`Sampler.__init__`, in each process that samples."""
        from sglang.srt.runtime_context import get_server_args

        try:
            self._blocker = self._open_index(get_server_args().resolved_dict())
        except Exception as error:
            end_process(error)
        original(*args, **kwargs)

    def preprocess_logits(
        self, original: Callable[..., torch.Tensor], sampler: Any, logits: torch.Tensor, sampling_info: Any
    ) -> torch.Tensor:
        """`Sampler._preprocess_logits`, before every choice of tokens, with the requests in the order of the rows."""
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

    def _open_index(self, arguments: Mapping[str, Any]) -> WindowBlocker:
        from transformers import AutoConfig, AutoTokenizer

        model = arguments["model_path"]
        source = {"revision": arguments["revision"], "trust_remote_code": arguments["trust_remote_code"]}
        vocabulary = AutoConfig.from_pretrained(model, **source).get_text_config().vocab_size
        tokenizer = AutoTokenizer.from_pretrained(arguments["tokenizer_path"] or model, **source)
        return WindowBlocker(self._settings.load_index(vocabulary, tokenizer), self._settings.max_overlap_tokens)

    def _is_blocked(self, custom_params: Any) -> bool:
        try:
            return wants_blocking(custom_params, self._settings)
        except HyperfitError:
            # It came in without `verify`, over gRPC: an error here would end the others' requests, too.
            return True


def refuse_bypasses(arguments: Mapping[str, Any]) -> None:
    """Raise for settings with which the sampler does not see the newest tokens, or is not asked.

    Args:
        arguments: all of SGLang's, resolved.
    Raises:
        HyperfitError: which one, and what to type.
        KeyError: an argument is not there: another version of SGLang.
    """
    from sglang.srt.arg_groups.choices import BUILT_IN_SAMPLING_BACKENDS
    from sglang.srt.environ import envs

    if not arguments["disable_overlap_schedule"]:
        raise HyperfitError("overlap scheduling samples before the last token is known: add --disable-overlap-schedule")
    if arguments["enable_custom_logit_processor"]:
        raise HyperfitError(
            "--enable-custom-logit-processor runs pickled code out of requests, and such code can undo the citation "
            "blocker; start SGLang without it"
        )
    for name in ("speculative_algorithm", "dllm_algorithm"):
        if arguments[name]:
            option = f"--{name.replace('_', '-')} {arguments[name]}"
            raise HyperfitError(f"{option}: it chooses tokens past the citation blocker; start SGLang without it")
    if arguments["sampling_backend"] not in {None, *BUILT_IN_SAMPLING_BACKENDS}:
        raise HyperfitError(
            f"--sampling-backend {arguments['sampling_backend']}: its sampler may not ask the citation blocker; use "
            f"one of {', '.join(sorted(BUILT_IN_SAMPLING_BACKENDS))}"
        )
    if envs.SGLANG_USE_MLX.get():
        raise HyperfitError("SGLANG_USE_MLX=1: MLX chooses tokens past the citation blocker; unset it")
