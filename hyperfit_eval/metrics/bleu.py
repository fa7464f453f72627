"""BLEU of one sequence against another, and Self-BLEU (Papineni et al., 2002; paper, Section 4.2).

The score of a pair is sacrebleu's `sentence_score` of the space-joined tokens with one reference and
`tokenize="none"`, to within rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import HyperfitError
from .matching import MAX_ORDER, Matcher, Text
from .ngrams import GramIndex
from .tokens import Corpus, Progress, encode_sequences

SMOOTHING_DEFAULTS: dict[str, float | None] = {"none": None, "floor": 0.1, "add-k": 1.0, "exp": None}
"""Smoothing methods with sacrebleu's default values (Chen and Cherry, 2014, methods 1 to 3)."""

_BLOCK_FEATURES = 1 << 24
"""Tokens of all sequences times sequences scored at once: at most 32 MB of features an order."""


@dataclass(frozen=True)
class Smoothing:
    """Treatment of an order without matches: sacrebleu's smooth_method, smooth_value, effective_order."""

    method: str = "none"
    value: float | None = None
    effective_order: bool = False

    def __post_init__(self) -> None:
        if self.method not in SMOOTHING_DEFAULTS:
            raise HyperfitError(f"smooth_method {self.method!r}, expected one of {', '.join(SMOOTHING_DEFAULTS)}")
        if self.value is None:
            return
        if SMOOTHING_DEFAULTS[self.method] is None:
            raise HyperfitError(f"smooth_value {self.value} with smooth_method {self.method!r}, which takes none")
        if not 0 <= self.value < np.inf:
            raise HyperfitError(f"smooth_value {self.value}, expected a number from 0")
        if self.method == "floor" and self.value > 1:
            raise HyperfitError(f"smooth_value {self.value}, 'floor' would count a miss above a match; at most 1")

    @property
    def amount(self) -> float:
        """The value, or sacrebleu's default; 0 for the methods that take none."""
        return (SMOOTHING_DEFAULTS[self.method] if self.value is None else self.value) or 0.0

    def as_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the functions of this package, and for `sacrebleu.metrics.BLEU`."""
        return {"smooth_method": self.method, "smooth_value": self.value, "effective_order": self.effective_order}


def scores(
    matches: Sequence[np.ndarray], lengths: np.ndarray, reference_lengths: np.ndarray, smoothing: Smoothing
) -> np.ndarray:
    """BLEU, 0-100, from clipped match counts. No score falls when a count grows.

    Args:
        matches: for each order 1 to 4 an integer array of the same shape (...).
        lengths: tokens of the scored sequences, shape that broadcasts to (...).
        reference_lengths: tokens of the sequences they are scored against, the same.
    Returns:
        Shape (...), float64.
    """
    return scores_of_products(match_product(matches, lengths, smoothing), lengths, reference_lengths, smoothing)


def match_product(matches: Sequence[np.ndarray], lengths: np.ndarray, smoothing: Smoothing) -> np.ndarray:
    """Product of the smoothed match counts, shape (...): all that BLEU takes from them."""
    product = matches[0].astype(float)
    previous = product
    for order, counts in enumerate(matches[1:], start=2):
        correct = counts.astype(float)
        if smoothing.method == "add-k":
            correct += smoothing.amount
        elif smoothing.method == "floor":
            np.maximum(correct, smoothing.amount, out=correct)
        elif smoothing.method == "exp":
            # The first order without a match counts 1/2, the next 1/4, then 1/8.
            fallback = np.minimum(previous, 1.0)
            fallback *= 0.5
            previous = np.maximum(correct, fallback, out=correct)
        if smoothing.effective_order:
            correct = np.where(_totals(lengths, order, smoothing) > 0, correct, 1.0)
        product = product * correct
    return product


def scores_of_products(
    products: np.ndarray, lengths: np.ndarray, reference_lengths: np.ndarray, smoothing: Smoothing
) -> np.ndarray:
    """BLEU, 0-100, from what `match_product` returned; arguments and result as in `scores`."""
    totals, orders = np.ones(np.shape(lengths)), np.zeros(np.shape(lengths))
    for order in range(1, MAX_ORDER + 1):
        total = _totals(lengths, order, smoothing)
        # An order longer than the sequence makes the score 0; under effective order it is left out.
        totals = totals * (np.where(total > 0, total, 1.0) if smoothing.effective_order else total)
        orders = orders + (total > 0)
    # Divided before the root is taken, so that a perfect match is 100 to the last bit.
    shares = np.where(totals > 0, products, 0.0) / np.where(totals > 0, totals, 1.0)
    roots = shares ** (1 / np.maximum(orders, 1)) if smoothing.effective_order else np.sqrt(np.sqrt(shares))
    penalty = np.exp(np.minimum(0.0, 1 - reference_lengths / np.maximum(lengths, 1)))
    return 100 * penalty * roots


def _totals(lengths: np.ndarray, order: int, smoothing: Smoothing) -> np.ndarray:
    """n-grams in sequences of these lengths, as smoothing counts them."""
    added = smoothing.amount if smoothing.method == "add-k" and order > 1 else 0.0
    return np.maximum(lengths - order + 1.0, 0.0) + added


def self_bleu(
    sequences: Corpus,
    smooth_method: str = "none",
    smooth_value: float | None = None,
    effective_order: bool = False,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """For each sequence the highest BLEU against any other one (paper, Section 4.2).

    Args:
        sequences: N >= 2 sequences of token ids or words, of any lengths; an empty one scores 0.
        smooth_method: "none", "floor", "add-k" or "exp", as in sacrebleu.
        smooth_value: for "floor" (default 0.1) and "add-k" (default 1).
        effective_order: leave out the orders that are longer than the sequence.
        progress: called with (sequences done, N).
    Returns:
        Shape (N,), float64, 0-100.
    Raises:
        HyperfitError: fewer than two sequences, a bad smoothing, or tokens that are neither ids nor words.
    Example:
        self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5]]) == [77.88, 66.87] (rounded)
    """
    smoothing = Smoothing(smooth_method, smooth_value, effective_order)
    return np.concatenate([block.max(axis=0) for block in _score_blocks(sequences, smoothing, progress)])


def pairwise_bleu(
    sequences: Corpus,
    smooth_method: str = "none",
    smooth_value: float | None = None,
    effective_order: bool = False,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """BLEU of every sequence against every other one; arguments and errors as in `self_bleu`.

    Returns:
        Shape (N, N), float64; [i, j] scores i with j as its reference. The diagonal is -inf, so that
        the maximum of a row is its Self-BLEU.
    """
    smoothing = Smoothing(smooth_method, smooth_value, effective_order)
    return np.concatenate([block.T for block in _score_blocks(sequences, smoothing, progress)])


def _score_blocks(sequences: Corpus, smoothing: Smoothing, progress: Progress | None) -> Iterator[np.ndarray]:
    """Yield the scores of some of the sequences with all of them as references, shape (N, block)."""
    rows, distinct_tokens = encode_sequences(sequences)
    count, lengths = len(rows), rows.lengths
    if count < 2:
        raise HyperfitError("Self-BLEU: 1 sequence, at least 2 are needed")
    index = GramIndex(rows, distinct_tokens, repeated=True)
    text = Text.own(index)
    size = max(1, _BLOCK_FEATURES // max(1, len(rows.tokens)))
    for start in range(0, count, size):
        stop = min(start + size, count)
        matches = Matcher(index, (start, stop)).row_matches(text)
        block = scores(matches, lengths[start:stop], lengths[:, None], smoothing)
        block[np.arange(start, stop), np.arange(stop - start)] = -np.inf
        if progress:
            progress(stop, count)
        yield block
