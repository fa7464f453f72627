"""Choosing the next token of each row, by its own settings."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from hyperfit_eval.errors import HyperfitError

from .requests import Sampling

Warper = Callable[[Any, Any], torch.Tensor]


def check_sampling(sampling: Sampling) -> None:
    """Raises: HyperfitError for a value outside its range."""
    limits: list[tuple[str, bool, str]] = [
        ("max_new_tokens", sampling.max_new_tokens >= 0, "0 or more"),
        ("min_new_tokens", 0 <= sampling.min_new_tokens <= sampling.max_new_tokens, "0 to max_new_tokens"),
        ("temperature", sampling.temperature > 0, "more than 0"),
        ("top_k", sampling.top_k >= 0, "0 or more, 0 switches it off"),
        ("top_p", 0 < sampling.top_p <= 1, "more than 0, at most 1"),
        ("typical_p", 0 < sampling.typical_p <= 1, "more than 0, at most 1"),
        ("min_p", 0 <= sampling.min_p <= 1, "0 to 1"),
        # Beyond this a score may become infinite, and nothing could be sampled.
        ("repetition_penalty", 0.01 <= sampling.repetition_penalty <= 100, "0.01 to 100"),
        ("frequency_penalty", -2 <= sampling.frequency_penalty <= 2, "-2 to 2"),
        ("presence_penalty", -2 <= sampling.presence_penalty <= 2, "-2 to 2"),
        ("seed", sampling.seed is None or 0 <= sampling.seed < 2**64, "0 to 2**64 - 1"),
    ]
    for name, fits, expected in limits:
        if not fits:
            raise HyperfitError(f"{name}={getattr(sampling, name)}: expected {expected}")
    if "" in sampling.stop:
        raise HyperfitError("stop: an empty stop sequence ends every text before it begins; leave it out")


def has_penalties(sampling: Sampling) -> bool:
    """Does what was said before change the scores?"""
    return (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1.0, 0.0, 0.0)


def penalize_(scores: torch.Tensor, sampling: Sampling, prompt: Sequence[int], generated: Sequence[int]) -> None:
    """Apply the penalties to one row's scores, shape (vocabulary,), in place.

    The repetition penalty looks at the prompt too (as in transformers and text-generation-inference), the other
    two at the generated tokens alone (as in the OpenAI API).
    """
    if sampling.repetition_penalty != 1.0:
        ids = torch.tensor([[*prompt, *generated]], device=scores.device)
        scores.copy_(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, scores[None])[0])
    if generated and (sampling.frequency_penalty or sampling.presence_penalty):
        counts = Counter(generated)
        times = torch.tensor(list(counts.values()), dtype=scores.dtype, device=scores.device)
        ids = torch.tensor(list(counts), device=scores.device)
        scores[ids] -= sampling.frequency_penalty * times + sampling.presence_penalty


_MOST_TEMPERATURE = 1e6
"""And the least is its inverse: they change nothing any more, and beyond them scores leave the range of float32."""
WarperKey = tuple[float, int, float, float, float]


def _warper_key(sampling: Sampling) -> WarperKey:
    return (
        min(max(sampling.temperature, 1 / _MOST_TEMPERATURE), _MOST_TEMPERATURE),
        sampling.top_k,
        sampling.top_p,
        sampling.typical_p,
        sampling.min_p,
    )


def _warpers(key: WarperKey) -> list[Warper]:
    """Transformers' own, in the order in which `generate` applies them."""
    temperature, top_k, top_p, typical_p, min_p = key
    warpers: list[Warper] = []
    if temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(float(top_p)))
    if min_p > 0.0:
        warpers.append(MinPLogitsWarper(float(min_p)))
    if typical_p < 1.0:
        warpers.append(TypicalLogitsWarper(float(typical_p)))
    return warpers


def choose(scores: torch.Tensor, rows: Iterable[tuple[int, Sampling, torch.Generator]]) -> torch.Tensor:
    """The next token of every row.

    Args:
        scores: float32, shape (B, vocabulary), after penalties and blocking.
        rows: those that sample, each with its own random numbers; the others take the most probable token.
    Returns:
        int64, shape (B,).
    """
    chosen = scores.argmax(dim=-1)
    # Rows of the same settings share the sorting; their random numbers stay their own.
    alike: dict[WarperKey, list[tuple[int, torch.Generator]]] = {}
    for row, sampling, generator in rows:
        alike.setdefault(_warper_key(sampling), []).append((row, generator))
    for key, members in alike.items():
        part = scores[[row for row, _ in members]]
        ids = part.new_empty((len(part), 0), dtype=torch.int64)  # these warpers do not look at the tokens so far
        for warper in _warpers(key):
            part = warper(ids, part)
        for probabilities, (row, generator) in zip(torch.softmax(part, dim=-1), members, strict=True):
            chosen[row] = torch.multinomial(probabilities, 1, generator=generator)[0]
    return chosen
