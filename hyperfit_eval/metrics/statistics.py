"""Intervals for means over contexts, and paired tests for two models on the same contexts.

A context is the unit that is sampled: another evaluation would draw others. TTR, rep-n, Dataset BLEU,
overlap and the like are one independent number a context (the corpus is fixed), so their means are
bootstrapped over contexts.

Self-BLEU is not: each value is a maximum over the other texts, one odd text can be the nearest of
many, and the nearest texts come in pairs. A bootstrap of the N maxima takes them for independent and
covers 84 to 90% in place of 95 (docs/metrics.md); a bootstrap of the texts would put copies of a text
beside it, with a BLEU of 100. The mean of the maxima is, however, a symmetric function of N
independent texts, and for those leaving out one text at a time gives a variance that is not too small
on average (Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9, 1981).
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from ..errors import HyperfitError

CONFIDENCE = 0.95
RESAMPLES = 2000
_NEAREST = 32
_SAME = 1e-9
"""Differences this close are the same but for rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean over contexts with its confidence interval.

    Attributes:
        n: contexts.
        method: how the interval was made, for instance "bca|B:2000|seed:0|conf:0.95".
    """

    mean: float
    low: float
    high: float
    n: int
    method: str

    def as_dict(self) -> dict[str, float | int | str]:
        """The fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Mean of A minus mean of B on the same contexts, its interval, and a p-value.

    Attributes:
        p_value: two-sided, of the hypothesis that the models can be exchanged in every context.
        n: contexts.
        method: how p-value and interval were made.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    method: str

    def as_dict(self) -> dict[str, float | int | str]:
        """The fields, ready for JSON."""
        return asdict(self)


def mean_interval(
    values: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of one independent value a context, with a BCa bootstrap interval (Efron, 1987).

    Args:
        values: shape (N,), N >= 2, finite.
        confidence: coverage aimed at.
        resamples: of the contexts.
        seed: the same one gives the same interval.
    Raises:
        HyperfitError: fewer than two values, or one that is not finite.
    """
    values = _checked(values, "values")
    low, high = _bca(values, confidence, resamples, seed)
    return Interval(float(values.mean()), low, high, len(values), _method("bca", confidence, resamples, seed))


def share_interval(values: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Percentage of contexts that have a property, with Wilson's interval (1927).

    Where all or none have it, resampling gives an interval without width; this one has the width that so many
    contexts leave open.

    Args:
        values: 0 or 100 for each context, shape (N,), N >= 1.
    Raises:
        HyperfitError: no values, or one that is not finite.
    """
    values = _checked(values, "values", least=1)
    return wilson_interval(int(np.count_nonzero(values)), len(values), confidence=confidence)


def wilson_interval(hits: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Percentage that `hits` are of `n`, with Wilson's interval (1927).

    Example:
        wilson_interval(0, 50) has the ends 0.0 and 7.1; wilson_interval(1, 10) has 1.8 and 40.4
    """
    ends = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return Interval(100 * hits / n, 100 * float(ends.low), 100 * float(ends.high), n, f"wilson|conf:{confidence:g}")


def self_bleu_interval(pairwise: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Mean Self-BLEU with a delete-one jackknife interval for the expected mean of N such texts.

    The interval is symmetric on the scale of the logarithm (delta method): the mean is positive and
    skewed to the right. In simulations with 60 to 300 texts it covers 94 to 97% (docs/metrics.md).

    Args:
        pairwise: shape (N, N), N >= 3, from `pairwise_bleu`.
        confidence: coverage aimed at.
    Raises:
        HyperfitError: another shape, or fewer than three texts.
    """
    mean, pseudo_values = _jackknife(_square(pairwise))
    factor = np.exp(_half_width(pseudo_values, confidence) / mean) if mean else 1.0
    return Interval(
        mean, mean / float(factor), min(100.0, mean * float(factor)), len(pairwise), f"jackknife|conf:{confidence:g}"
    )


def paired_test(
    a: np.ndarray,
    b: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    largest: float | None = None,
) -> Difference:
    """Mean difference of two models, one independent value a context: BCa interval, sign-flip test.

    Where the models can be exchanged, the sign of each difference is a coin toss: the p-value is the
    share of random signs whose mean difference is as far from 0 as the observed one.

    Args:
        a, b: shape (N,), N >= 2, finite, the contexts in the same order.
        confidence, resamples, seed: as in `mean_interval`.
        largest: the farthest from 0 that a difference can be. If given, the interval has a width where all contexts
            differ alike and no resample does (`_alike`).
    Raises:
        HyperfitError: different numbers of values, fewer than two, or one that is not finite.
    """
    a, b = _checked(a, "a"), _checked(b, "b")
    if len(a) != len(b):
        raise HyperfitError(f"{len(a)} and {len(b)} values; a paired test needs the same contexts on both sides")
    gaps = a - b
    if largest is not None and np.ptp(gaps) < _SAME:
        interval, (low, high) = "exact", _alike(gaps, largest, confidence)
    else:
        interval, (low, high) = "bca", _bca(gaps, confidence, resamples, seed)
    signs = np.random.default_rng(seed).integers(0, 2, size=(resamples, len(gaps))) * 2 - 1
    p_value = _p_value(float(gaps.mean()), signs @ gaps / len(gaps))
    method = _method(f"sign-flip+{interval}", confidence, resamples, seed)
    return Difference(float(gaps.mean()), low, high, p_value, len(gaps), method)


def self_bleu_paired_test(
    pairwise: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Difference in mean Self-BLEU of two models: jackknife interval, label-swap test.

    Where the models can be exchanged, so can the two texts of each context: the p-value is the share of
    random exchanges after which the two sets differ as much as observed. Unlike the sign-flip test this
    recomputes the maxima within the new sets.

    Args:
        pairwise: shape (2N, 2N), N >= 3, `pairwise_bleu` of the N texts of A and then the N texts of B,
            the contexts in the same order.
        confidence, resamples, seed: as in `mean_interval`.
    Raises:
        HyperfitError: another shape, or fewer than three contexts.
    """
    count = len(_square(pairwise)) // 2
    if 2 * count != len(pairwise):
        raise HyperfitError(f"{len(pairwise)} texts; a paired test needs as many of A as of B")
    mean_a, pseudo_a = _jackknife(pairwise[:count, :count])
    mean_b, pseudo_b = _jackknife(pairwise[count:, count:])
    half = _half_width(pseudo_a - pseudo_b, confidence)
    swaps = np.random.default_rng(seed).integers(0, 2, size=(resamples, count)).astype(bool)
    nearest = np.argsort(-pairwise, axis=1)[:, :_NEAREST]
    gaps = np.array([_gap(pairwise, nearest, np.concatenate([swap, ~swap])) for swap in swaps])
    gap = mean_a - mean_b
    method = _method("label-swap+jackknife", confidence, resamples, seed)
    return Difference(gap, gap - half, gap + half, _p_value(gap, gaps), count, method)


def holm(p_values: list[float]) -> list[float]:
    """p-values of several tests that hold together (Holm, 1979), in the order given.

    Example:
        holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return adjusted.tolist()


def _jackknife(pairwise: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of the row maxima, and its pseudo-values when texts are left out one at a time, (N,)."""
    count = len(pairwise)
    if count < 3:
        raise HyperfitError(f"{count} texts; an interval of Self-BLEU needs at least 3")
    nearest = pairwise.argmax(axis=1)
    second, best = np.partition(pairwise, count - 2, axis=1)[:, -2:].T
    # Without text k its own maximum is gone, and the texts nearest to it fall back on their second.
    lost = np.bincount(nearest, weights=best - second, minlength=count)
    without = (best.sum() - best - lost) / (count - 1)
    return float(best.mean()), count * best.mean() - (count - 1) * without


def _half_width(pseudo_values: np.ndarray, confidence: float) -> float:
    quantile = stats.t.ppf((1 + confidence) / 2, len(pseudo_values) - 1)
    return float(quantile * stats.sem(pseudo_values))


def _gap(pairwise: np.ndarray, nearest: np.ndarray, second: np.ndarray) -> float:
    """Mean Self-BLEU of one half of the texts less that of the other half.

    Args:
        pairwise: shape (2N, 2N).
        nearest: the texts with the highest scores for each text, highest first, shape (2N, K).
        second: whether a text is in the other half, shape (2N,).
    """
    together = second[nearest] == second[:, None]
    rank = together.argmax(axis=1)
    every = np.arange(len(pairwise))
    best = pairwise[every, nearest[every, rank]]
    for text in np.flatnonzero(~together[every, rank]):  # all K nearest are in the other half: look at the rest
        best[text] = pairwise[text, second == second[text]].max()
    return float(best[~second].mean() - best[second].mean())


def _bca(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    generator = np.random.default_rng(seed)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, confidence_level=confidence, method="BCa", rng=generator
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _alike(gaps: np.ndarray, largest: float, confidence: float) -> tuple[float, float]:
    """Limits on the mean where all contexts drawn differ alike, and some of the others may not.

    Clopper and Pearson (1934) say how large a share these may be; their differences lie between -largest and largest.
    """
    share = 1 - ((1 - confidence) / 2) ** (1 / len(gaps))
    middle = (1 - share) * float(gaps.mean())
    return middle - share * largest, middle + share * largest


def _p_value(observed: float, permuted: np.ndarray) -> float:
    """Share of differences as far from 0 as the observed one, which is counted too (Phipson and Smyth, 2010)."""
    as_far = np.count_nonzero(np.abs(permuted) >= abs(observed) * (1 - 1e-12))
    return float(as_far + 1) / (len(permuted) + 1)


def _method(name: str, confidence: float, resamples: int, seed: int) -> str:
    return f"{name}|B:{resamples}|seed:{seed}|conf:{confidence:g}"


def _checked(values: np.ndarray, name: str, least: int = 2) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < least:
        raise HyperfitError(f"{name}: shape {values.shape}, expected one value for each of at least {least} contexts")
    if not np.isfinite(values).all():
        raise HyperfitError(f"{name}: {np.count_nonzero(~np.isfinite(values))} of {len(values)} values are not finite")
    return values


def _square(pairwise: np.ndarray) -> np.ndarray:
    if pairwise.ndim != 2 or pairwise.shape[0] != pairwise.shape[1]:
        raise HyperfitError(f"pairwise: shape {pairwise.shape}, expected (N, N) from pairwise_bleu")
    return pairwise
