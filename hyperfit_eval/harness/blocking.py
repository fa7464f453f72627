"""Citation blocking in every `generate_until` task under `--model hf`, switched on by a model argument.

    lm_eval --model hf --model_args pretrained=MODEL,block_citations=True --tasks gsm8k

or by `--metadata '{"block_citations": true}'`. lm-eval hands model arguments to the model's constructor,
which knows none of ours, and metadata to tasks, which do not generate: so the two places are wrapped
where a model is made from arguments (`LM.create_from_arg_obj` and `..._string`) and where it is
evaluated (`lm_eval.evaluator.evaluate`). A model that cannot be blocked from here is refused.
"""

import functools
import logging
import sys
from collections.abc import Mapping
from typing import Any

from lm_eval.api.model import LM, CachingLM
from lm_eval.utils import simple_parse_args_string

from ..errors import HyperfitError
from .arguments import whole_number

SWITCH = "block_citations"
OPTIONS = (SWITCH, "citation_index", "max_overlap_tokens", "training_set", "per_source")
"""Model arguments that are ours; the tasks get them as metadata."""

logger = logging.getLogger("lm_eval.hyperfit_eval.blocking")


def install() -> None:
    """Let `--model_args` hold OPTIONS. Models made without them are as lm-eval makes them."""
    from_obj, from_string = LM.create_from_arg_obj.__func__, LM.create_from_arg_string.__func__

    @functools.wraps(from_obj)
    def create_from_arg_obj(cls: type[LM], arg_dict: dict[str, Any], additional_config: Any = None) -> LM:
        ours = {name: value for name, value in arg_dict.items() if name in OPTIONS}
        if not ours:
            return from_obj(cls, arg_dict, additional_config)
        rest = {name: value for name, value in arg_dict.items() if name not in ours}
        lm = from_obj(cls, rest, additional_config)
        block_model(lm, arg_dict)
        return lm

    @functools.wraps(from_string)
    def create_from_arg_string(cls: type[LM], arg_string: str, additional_config: Any = None) -> LM:
        arguments = simple_parse_args_string(arg_string)
        if not set(arguments) & set(OPTIONS):
            return from_string(cls, arg_string, additional_config)
        return cls.create_from_arg_obj(arguments, additional_config)

    LM.create_from_arg_obj = classmethod(create_from_arg_obj)
    LM.create_from_arg_string = classmethod(create_from_arg_string)


def block_evaluations(metadata: Mapping[str, Any] | None) -> None:
    """Block in the evaluations to come if `metadata` asks for it, else leave them as they are.

    A TaskManager is made for each evaluation, and this is called for each TaskManager.
    """
    import lm_eval.evaluator as evaluator

    plain = getattr(evaluator.evaluate, "_hyperfit_plain", evaluator.evaluate)
    if not metadata or not metadata.get(SWITCH):
        evaluator.evaluate = plain
        return

    @functools.wraps(plain)
    def evaluate(lm: LM, *args: Any, **kwargs: Any) -> Any:
        block_model(lm, metadata)
        return plain(lm, *args, **kwargs)

    evaluate._hyperfit_plain = plain  # type: ignore[attr-defined]
    evaluator.evaluate = evaluate


def block_model(lm: Any, options: Mapping[str, Any]) -> None:
    """Switch citation blocking on in an lm-eval model if `options` ask for it.

    Raises:
        HyperfitError: a model that generates elsewhere, a response cache, or no index to block by.
    """
    if not options.get(SWITCH):
        return
    if isinstance(lm, CachingLM):
        raise HyperfitError(
            f"--use_cache with {SWITCH}: the cache does not tell blocked answers from others; leave it out"
        )
    huggingface = sys.modules.get("lm_eval.models.huggingface")
    if huggingface is None or not isinstance(lm, huggingface.HFLM) or lm.backend != "causal":
        raise HyperfitError(
            f"{SWITCH} needs --model hf and a causal LM, not {type(lm).__name__}; a server blocks by its own settings"
        )
    if getattr(lm, "hyperfit_blocker", None) is not None:
        return
    from ..blocking import CitationBlocker
    from ..checkpoint_files import INDEX_FILE
    from ..citation import CitationIndex
    from .checkpoint import checkpoint_file

    path = checkpoint_file(options, "citation_index", INDEX_FILE)
    if path is None:
        raise HyperfitError(
            f"{options.get('pretrained')}: no {INDEX_FILE} in the checkpoint for {SWITCH}; build one with "
            "`hyperfit index build` and add citation_index=FILE"
        )
    cap = options.get("max_overlap_tokens")
    blocker = CitationBlocker(
        CitationIndex.load(path, tokenizer=lm.tokenizer),
        max_overlap_tokens=None if cap is None else whole_number("max_overlap_tokens", cap, least=1),
    )
    plain = lm._model_generate

    def generate(context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
        blocker.reset()  # each batch has prompts of its own
        processors = [*kwargs.pop("logits_processor", ()), blocker]
        return plain(context, max_length, stop, logits_processor=processors, **kwargs)

    lm._model_generate, lm.hyperfit_blocker = generate, blocker
    logger.warning("citation blocking is on in every generate_until task, by %s", path)
