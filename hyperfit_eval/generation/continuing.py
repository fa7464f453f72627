"""Greedy (or sampled) continuations with exact token ids (paper, Section 4)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from ..errors import HyperfitError
from .batching import in_batches


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen. The default is greedy, as in all of the paper but one baseline."""

    new_tokens: int = 224
    """Exactly this many: EOS is masked until then, so that every continuation has the paper's length."""
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 switches it off."""
    min_p: float = 0.0
    """Sampled tokens have at least this share of the most probable one's probability; 0 switches it off."""
    num_beams: int = 1
    repetition_penalty: float = 1.0
    """1 is none (Keskar et al., 2019)."""
    seed: int = 0
    """Only used when sampling."""

    @classmethod
    def top_p_baseline(cls, new_tokens: int = 224, seed: int = 0) -> "Decoding":
        """The paper's strong baseline: nucleus sampling with Top-P 0.9, temperature 0.7, top-k 50."""
        return cls(new_tokens, do_sample=True, temperature=0.7, top_p=0.9, top_k=50, seed=seed)

    def describe(self) -> dict[str, Any]:
        """The settings that matter, for records and signatures."""
        described: dict[str, Any] = {"method": "greedy", "new_tokens": self.new_tokens}
        if self.do_sample:
            sampled = ("temperature", "top_p", "top_k", "seed")
            described |= {"method": "sample", **{name: getattr(self, name) for name in sampled}}
        elif self.num_beams > 1:
            described["method"] = "beam"
        rare = {"min_p": 0.0, "num_beams": 1, "repetition_penalty": 1.0}
        return described | {name: getattr(self, name) for name, off in rare.items() if getattr(self, name) != off}


def continue_ids(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    logits_processor: Callable[..., Any] | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Continue prompts of equal length by exactly `decoding.new_tokens` tokens each.

    Equal lengths mean no padding, so that in float32 a continuation does not depend on the batch it
    was made in. Whatever the model's own generation_config asks for (repetition penalties, sampling,
    forced tokens) is put aside for the call: the decoding is what `decoding` says and nothing else.

    Args:
        model: a transformers causal LM, on its device, in eval mode.
        prompts: token ids, shape (N, P), BOS included where the model wants one.
        logits_processor: for instance a CitationBlocker; called at every step, beside the EOS mask.
        batch_size: largest batch; halved whenever memory runs out.
        progress: called with the number of prompts just finished.
    Returns:
        The new ids alone, shape (N, new_tokens).
    Raises:
        HyperfitError: prompts of differing lengths, more positions than the model has, or an id that it lacks.
    """
    lengths = {len(prompt) for prompt in prompts}
    if not lengths:
        return []
    if len(lengths) > 1:
        raise HyperfitError(
            f"prompts of {sorted(lengths)} tokens, all must be of one length (padding changes the result)"
        )
    prompt_length = lengths.pop()
    # The last new token is never fed back, hence the 1.
    require_positions(model, prompt_length + decoding.new_tokens - 1)
    require_ids(model, prompts)
    settings = GenerationConfig(
        max_new_tokens=decoding.new_tokens,
        min_new_tokens=decoding.new_tokens,
        do_sample=decoding.do_sample,
        num_beams=decoding.num_beams,
        repetition_penalty=decoding.repetition_penalty,
        use_cache=True,
    )
    if decoding.do_sample:
        settings.temperature, settings.top_p, settings.top_k = decoding.temperature, decoding.top_p, decoding.top_k
        settings.min_p = decoding.min_p or None
        torch.manual_seed(decoding.seed)
    processors = LogitsProcessorList([logits_processor] if logits_processor else [])
    device = input_device(model)

    def run(batch: Sequence[Sequence[int]]) -> list[list[int]]:
        ids = torch.tensor([list(prompt) for prompt in batch], device=device)
        reset = getattr(logits_processor, "reset", None)
        if reset:
            reset()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=settings, logits_processor=processors
        )
        return out[:, prompt_length:].tolist()

    with torch.inference_mode(), _plain_generation_config(model):
        return in_batches(prompts, batch_size, run, progress)


def require_positions(model: Any, positions: int) -> None:
    """Raise when the model has fewer positions than a sequence needs."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and limit < positions:
        raise HyperfitError(
            f"the model has {limit} positions, {positions} are needed; choose a model with a longer context"
        )


def require_ids(model: Any, sequences: Iterable[Sequence[int]]) -> None:
    """Raise when a sequence has an id that the model has no embedding for; on a device that would be a crash."""
    largest, embedded = max(map(max, sequences)), model.get_input_embeddings().num_embeddings
    if largest >= embedded:
        raise HyperfitError(
            f"the tokenizer gives ids up to {largest}, the model embeds {embedded}; give a model with its own tokenizer"
        )


def input_device(model: Any) -> torch.device:
    """The device that a model wants its input ids on.

    Under accelerate's dispatch (`device_map`, lm-eval's `parallelize=True`) weights may lie on several devices or, on
    the device "meta", nowhere until they are used: then the hook of the embeddings knows where they will be.
    """
    embeddings = model.get_input_embeddings()
    hook = getattr(embeddings, "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):  # several in a row are one SequentialHook
        if getattr(one, "execution_device", None) is not None:
            return torch.device(one.execution_device)
    return embeddings.weight.device


@contextmanager
def _plain_generation_config(model: Any) -> Iterator[None]:
    """Let `generate` fall back on special token ids alone, not on the model's own decoding habits."""
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        # Nothing is padded here; generate() only wants to be told something.
        pad_token_id=own.pad_token_id if own.pad_token_id is not None else 0,
    )
    try:
        yield
    finally:
        model.generation_config = own
