"""Intervals for means over contexts, and paired tests for two models on the same contexts.

A context is the unit that is sampled: the next evaluation would draw others. TTR, rep-n, Dataset
BLEU, overlap and the like are one independent number for each context, so their means are
bootstrapped over contexts. Self-BLEU is not: each value is a maximum over the other texts, a text
can be the nearest one of many, and a resample that draws a text twice would find a perfect match.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from ..errors import HyperfitError

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over contexts with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """Contexts."""
    method: str
    """How the interval was made, for instance "bca|B:2000|seed:0|conf:0.95"."""

    def as_dict(self) -> dict[str, float | int | str]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Mean of A minus mean of B on the same contexts, its interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    method: str

    def as_dict(self) -> dict[str, float | int | str]:
        return asdict(self)


def mean_interval(
    values: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of one independent value for each context, with a bootstrap interval (BCa; Efron, 1987).

    Args:
        values: shape (N,), N >= 2, finite.
        confidence: coverage aimed at.
        resamples: bootstrap resamples of the contexts.
        seed: of the resampling; the same seed gives the same interval.
    Raises:
        HyperfitError: fewer than two values, or one that is not finite.
    """
    values = _checked(values, "values")
    method = f"bca|B:{resamples}|seed:{seed}|conf:{confidence:g}"
    low, high = _bca(values, confidence, resamples, seed)
    return Interval(float(values.mean()), low, high, len(values), method)


def self_bleu_interval(pairwise: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Mean Self-BLEU with a delete-one jackknife interval.

    Args:
        pairwise: shape (N, N), N >= 3, from `pairwise_bleu`.
        confidence: coverage aimed at.
    """
    pseudo = _pseudo_values(pairwise)
    mean = float(pairwise.max(axis=1).mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(pseudo) - 1) * stats.sem(pseudo))
    method = f"jackknife|conf:{confidence:g}"
    return Interval(mean, max(0.0, mean - half), min(100.0, mean + half), len(pseudo), method)


def paired_test(
    a: np.ndarray,
    b: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Mean difference of two models on the same contexts: BCa interval and sign-flip permutation test.

    Args:
        a, b: shape (N,), one value for each context, in the same order of contexts.
    """
    a, b = _checked(a, "a"), _checked(b, "b")
    if a.shape != b.shape:
        raise HyperfitError(f"{len(a)} and {len(b)} values; a paired test needs the same contexts in both")
    gaps = a - b
    low, high = _bca(gaps, confidence, resamples, seed)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(gaps)))
    p_value = _p_value(abs(gaps.mean()), np.abs(signs @ gaps) / len(gaps))
    method = f"sign-flip|bca|B:{resamples}|seed:{seed}|conf:{confidence:g}"
    return Difference(float(gaps.mean()), low, high, p_value, len(gaps), method)


def self_bleu_paired_test(
    pairwise: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Difference in mean Self-BLEU of two models on the same contexts.

    Args:
        pairwise: shape (2N, 2N), `pairwise_bleu` of the N texts of A followed by the N texts of B.
    """
    size = len(pairwise) // 2
    own_a, own_b = np.arange(size), np.arange(size, 2 * size)
    pseudo = _pseudo_values(pairwise[np.ix_(own_a, own_a)]) - _pseudo_values(pairwise[np.ix_(own_b, own_b)])

    def gap(swap: np.ndarray) -> float:
        first, second = np.where(swap, own_b, own_a), np.where(swap, own_a, own_b)
        means = [pairwise[np.ix_(rows, rows)].max(axis=1).mean() for rows in (first, second)]
        return float(means[0] - means[1])

    observed = gap(np.zeros(size, bool))
    half = float(stats.t.ppf((1 + confidence) / 2, size - 1) * stats.sem(pseudo))
    rng = np.random.default_rng(seed)
    swapped = np.array([gap(rng.random(size) < 0.5) for _ in range(resamples)])
    p_value = _p_value(abs(observed), np.abs(swapped))
    method = f"label-swap|jackknife|B:{resamples}|seed:{seed}|conf:{confidence:g}"
    return Difference(observed, observed - half, observed + half, p_value, size, method)


def _pseudo_values(pairwise: np.ndarray) -> np.ndarray:
    """Jackknife pseudo-values of the mean of row maxima when texts are left out one at a time, (N,)."""
    count = len(pairwise)
    if count < 3:
        raise HyperfitError(f"{count} texts, a jackknife interval of Self-BLEU needs at least 3")
    nearest = pairwise.argmax(axis=1)
    best = pairwise.max(axis=1)
    second = np.partition(pairwise, count - 2, axis=1)[:, count - 2]
    # Without text k, the texts whose nearest one it was fall back to their second nearest.
    lost = np.bincount(nearest, weights=best - second, minlength=count)
    without = (best.sum() - best - lost) / (count - 1)
    return count * best.mean() - (count - 1) * without


def _bca(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _p_value(observed: float, permuted: np.ndarray) -> float:
    """Share of permutations as extreme as the observed value, itself counted (Phipson and Smyth, 2010)."""
    extreme = np.count_nonzero(permuted >= observed * (1 - 1e-12))
    return (extreme + 1) / (len(permuted) + 1)


def _checked(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise HyperfitError(f"{name}: shape {values.shape}, expected one value for each of at least 2 contexts")
    if not np.isfinite(values).all():
        raise HyperfitError(f"{name}: {np.count_nonzero(~np.isfinite(values))} values are not finite")
    return values
