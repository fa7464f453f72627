"""Judgements as columns, and intervals that resample the contexts.

The contexts are what was sampled: three annotations of a pair, and the pairs of several models over one
context, depend on each other. Every interval here therefore draws contexts with replacement, each with
all its annotations, and never annotations.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from ..metrics.statistics import CONFIDENCE, RESAMPLES, Interval
from .study import Pair, Study

ORIGINAL_BETTER, EQUAL, MODEL_BETTER = 0, 1, 2
"""Outcomes of an annotation, whatever the order of the sides."""


@dataclass(frozen=True)
class Vote:
    """One judgement of a pair in the order in which it was shown."""

    pair: str
    by: int
    choice: str


@dataclass(frozen=True)
class Votes:
    """Judgements of pairs, attention checks left out.

    Attributes:
        pairs: all pairs of the study that are no checks.
        pair: number of the pair of each judgement, shape (A,).
        by: who judged, shape (A,).
        outcome: ORIGINAL_BETTER, EQUAL or MODEL_BETTER, shape (A,).
    """

    pairs: list[Pair]
    pair: np.ndarray
    by: np.ndarray
    outcome: np.ndarray

    @classmethod
    def of(cls, study: Study, votes: Iterable[Vote]) -> "Votes":
        """Turn choices into outcomes; votes on checks are skipped."""
        pairs = [pair for pair in study.pairs if not pair.is_check]
        numbers = {pair.id: number for number, pair in enumerate(pairs)}
        rows = [
            (numbers[vote.pair], vote.by, outcome(pairs[numbers[vote.pair]], vote.choice))
            for vote in votes
            if vote.pair in numbers
        ]
        columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        return cls(pairs, columns[0], columns[1], columns[2])

    def __len__(self) -> int:
        return len(self.pair)

    def where(self, mask: np.ndarray) -> "Votes":
        """Some of the judgements, by a mask of shape (A,)."""
        return Votes(self.pairs, self.pair[mask], self.by[mask], self.outcome[mask])

    def select(self, *, other: str | None = None, scenario: int | None = None, source: str | None = None) -> "Votes":
        """The judgements of a model, of a length, of a source, or of several of these."""
        chosen = [
            other in (None, pair.other) and scenario in (None, pair.scenario) and source in (None, pair.source)
            for pair in self.pairs
        ]
        return self.where(np.array(chosen, dtype=bool)[self.pair])

    @cached_property
    def contexts(self) -> np.ndarray:
        """Number of the context of each judgement, 0 to C - 1, shape (A,)."""
        names = np.array([pair.context for pair in self.pairs])
        return np.unique(names[self.pair], return_inverse=True)[1] if len(self) else self.pair

    @cached_property
    def context_count(self) -> int:
        """C, contexts with a judgement."""
        return int(self.contexts.max()) + 1 if len(self) else 0

    @cached_property
    def first_chosen(self) -> np.ndarray:
        """Whether the continuation shown first was preferred, shape (A,)."""
        original_first = np.array([pair.original_first for pair in self.pairs], dtype=bool)[self.pair]
        return np.where(original_first, self.outcome == ORIGINAL_BETTER, self.outcome == MODEL_BETTER)

    def table(self) -> np.ndarray:
        """How often each pair got each outcome, shape (P, 3)."""
        size = 3 * len(self.pairs)
        return np.bincount(3 * self.pair + self.outcome, minlength=size).reshape(-1, 3)

    def by_context(self, values: np.ndarray) -> np.ndarray:
        """Sums of a value of each judgement over the contexts, shape (C,)."""
        return np.bincount(self.contexts, weights=values, minlength=self.context_count)


def outcome(pair: Pair, choice: str) -> int:
    """The outcome that "first", "second" or "equal" means for a pair."""
    if choice == "equal":
        return EQUAL
    return ORIGINAL_BETTER if (choice == "first") == pair.original_first else MODEL_BETTER


def draws(contexts: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each context is drawn in each resample, shape (B, C)."""
    drawn = np.random.default_rng(seed).integers(0, contexts, size=(resamples, contexts))
    drawn += contexts * np.arange(resamples)[:, None]
    # Counting is some ten times faster than drawing from a multinomial distribution.
    return np.bincount(drawn.ravel(), minlength=resamples * contexts).reshape(resamples, contexts)


def percent_interval(
    hits: np.ndarray, totals: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentage of annotations that are hits: BCa bootstrap of the contexts.

    Where all contexts have the same share, such as none, no resample differs, and the interval is the exact
    binomial one (Clopper and Pearson, 1934) of as many contexts with one annotation each, the widest that the
    dependence within contexts allows.

    Args:
        hits, totals: of each context, shape (C,), C >= 2, totals above 0.
        confidence, resamples, seed: as in `metrics.statistics.mean_interval`.
    """
    share = hits.sum() / totals.sum()
    count, tail = len(totals), (1 - confidence) / 2
    if np.ptp(hits / totals) == 0:
        low = stats.beta.ppf(tail, share * count, (1 - share) * count + 1) if share > 0 else 0.0
        high = stats.beta.ppf(1 - tail, share * count + 1, (1 - share) * count) if share < 1 else 1.0
        return Interval(100 * float(share), 100 * float(low), 100 * float(high), count, f"exact|conf:{confidence:g}")
    weights = draws(count, resamples, seed)
    left_out = (hits.sum() - hits) / (totals.sum() - totals)
    low, high = bca(share, (weights @ hits) / (weights @ totals), left_out, confidence)
    method = f"cluster-bca|B:{resamples}|seed:{seed}|conf:{confidence:g}"
    return Interval(100 * float(share), 100 * low, 100 * high, count, method)


def bca(estimate: float, resampled: np.ndarray, left_out: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bias-corrected and accelerated limits (Efron, 1987).

    Args:
        estimate: from all contexts.
        resampled: from each bootstrap sample, shape (B,).
        left_out: without each context in turn, shape (C,), for the acceleration.
        confidence: coverage aimed at.
    """
    resampled, left_out = resampled[np.isfinite(resampled)], left_out[np.isfinite(left_out)]
    below = np.mean(resampled < estimate) + np.mean(resampled == estimate) / 2
    if np.ptp(resampled) == 0 or not 0 < below < 1:
        return float(resampled.min()), float(resampled.max())
    bias = stats.norm.ppf(below)
    gaps = left_out.mean() - left_out
    spread = (gaps**2).sum() ** 1.5
    acceleration = (gaps**3).sum() / (6 * spread) if spread else 0.0
    z = bias + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def first_share(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Percentage of choices of the first, the same weight for both orders of the sides.

    Originals win more often, and a coin rarely puts exactly half of them first. So the rate is taken where
    the original stood first and where the model did, and the mean of the two is 50% for annotators who do
    not look at the place, however the coin fell.

    Args:
        hits, totals: choices of the first and of either, with the original first and with the model first,
            shape (..., 2).
    Returns:
        Shape (...), NaN where an order does not occur.
    """
    with np.errstate(invalid="ignore"):
        return 100 * (hits / totals).mean(axis=-1)


def too_few(votes: Votes, contexts: int = 2) -> str | None:
    """Why an estimate has not enough contexts, or None."""
    if votes.context_count >= contexts:
        return None
    return f"{votes.context_count} contexts with annotations, an interval needs {contexts}"
