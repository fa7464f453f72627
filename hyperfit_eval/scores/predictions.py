"""Predictions of a model along given texts, as scores (paper, Tables 1 and 3)."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..metrics.statistics import mean_interval
from ..records import CONTEXT_TOKENS
from .score import Score
from .signature import prediction_signature

TOP_K = (1, 3, 5)


def prediction_scores(
    nll: np.ndarray, entropy_bits: np.ndarray, top_mass: np.ndarray, first_scored: int, **recipe: Any
) -> dict[str, Score]:
    """Perplexity of texts and of their contexts, entropy and top-k mass: means over texts with intervals.

    Args:
        nll: of each token of each text, nats, shape (N, T).
        entropy_bits: of each prediction, shape (N, T).
        top_mass: probability of the 1, 3 and 5 most probable tokens together, shape (N, T, 3).
        first_scored: index in the texts of the first token: 0 where BOS was read before them, else 1.
        recipe: `dtype`, `texts` and `tok_hash` of the signatures, see `prediction_signature`.
    """
    scores = {
        "context_perplexity": perplexity_score(nll[:, : CONTEXT_TOKENS - first_scored].mean(axis=1)),
        "perplexity": perplexity_score(nll.mean(axis=1)),
        "entropy_bits": Score.of("", mean_interval(entropy_bits.mean(axis=1)), "bits"),
    }
    for column, k in enumerate(TOP_K):
        mass = 100 * top_mass[:, :, column].mean(axis=1)
        scores[f"top_{k}_mass"] = Score.of("", mean_interval(mass), "%")
    return {
        name: replace(
            score, metric=name, signature=prediction_signature(name, N=len(nll), bos=first_scored == 0, **recipe)
        )
        for name, score in scores.items()
    }


def perplexity_score(losses: np.ndarray, metric: str = "", signature: str = "") -> Score:
    """Exp of the mean loss over texts; the interval is that of the mean loss, exponentiated.

    Args:
        losses: mean of each text, nats, shape (N,).
    """
    score = Score.of(metric, mean_interval(losses), "perplexity", signature)
    low, high = score.ends
    return replace(score, value=math.exp(score.value), low=math.exp(low), high=math.exp(high))
