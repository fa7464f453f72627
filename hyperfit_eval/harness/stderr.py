"""Standard errors of F1 and Matthews correlation in well under a second.

lm-eval resamples the n (gold, predicted) pairs 100,000 times and scores each resample anew: hours for
QQP. Both scores depend on the pairs only through the confusion matrix, and the confusion matrix of n
pairs drawn with replacement follows a multinomial distribution over its own cells. Drawing that
instead gives the same bootstrap distribution (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 5) at a cost that does not depend on n.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 100_000


def f1_stderr(pairs: Sequence[tuple[int, int]], resamples: int = RESAMPLES, seed: int = 1234) -> float:
    """Bootstrap standard error of binary F1 (positive label 1).

    Args:
        pairs: (gold, predicted) labels, 0 or 1, shape (n, 2).
        resamples: bootstrap size; lm-eval's default is the same.
    """
    _, fp, fn, tp = _resample(pairs, resamples, seed)
    denominator = 2 * tp + fp + fn
    # No positive, gold or predicted: scikit-learn, which lm-eval calls, defines F1 as 0.
    return float(np.divide(2 * tp, denominator, out=np.zeros(resamples), where=denominator > 0).std(ddof=1))


def mcc_stderr(pairs: Sequence[tuple[int, int]], resamples: int = RESAMPLES, seed: int = 1234) -> float:
    """Bootstrap standard error of Matthews correlation for labels 0 and 1; arguments as for `f1_stderr`."""
    tn, fp, fn, tp = _resample(pairs, resamples, seed)
    denominator = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    # One row or column empty: scikit-learn defines the correlation as 0.
    correlation = np.divide(tp * tn - fp * fn, denominator, out=np.zeros(resamples), where=denominator > 0)
    return float(correlation.std(ddof=1))


def _resample(pairs: Sequence[tuple[int, int]], resamples: int, seed: int) -> np.ndarray:
    """Cells tn, fp, fn, tp of `resamples` confusion matrices, shape (4, resamples), float64."""
    gold, predicted = np.asarray(pairs).T
    cells = np.bincount(2 * gold + predicted, minlength=4)
    if len(cells) > 4:
        raise ValueError(f"labels up to {int(max(gold.max(), predicted.max()))}, only 0 and 1 were expected")
    drawn = np.random.default_rng(seed).multinomial(len(gold), cells / len(gold), size=resamples)
    return drawn.T.astype(float)
