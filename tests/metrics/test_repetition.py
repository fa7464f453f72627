"""TTR, rep-n, distinct-n, diversity, compression and Zipf slope: by hand and against one-liners."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import (
    compression_ratio,
    distinct_n,
    diversities,
    diversity,
    repetition,
    repetitions,
    ttr_curve,
    type_token_ratio,
    zipf_slope,
)

texts = st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=30), min_size=1, max_size=5)


def grams(row, n):
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def test_type_token_ratio_by_hand():
    assert type_token_ratio([1, 2, 1, 3], window=4) == 0.75
    assert type_token_ratio([9, 9, 9, 1, 2], window=2) == 1.0  # the last two tokens only
    assert type_token_ratio(["to", "be", "or", "not", "to", "be"], window=6) == 4 / 6


def test_ttr_curve_by_hand():
    curve = ttr_curve([[1, 1, 2, 3, 1], [1, 2], [5]], window=2)
    nan = np.nan
    assert curve == pytest.approx(np.array([[0.5, 1, 1, 1], [1, nan, nan, nan], [nan] * 4]), nan_ok=True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts, st.integers(1, 4))
def test_ttr_curve_is_the_ratio_at_each_length(rows, window):
    curve = ttr_curve(rows, window)
    assert curve.shape == (len(rows), max(map(len, rows)) - window + 1)
    for row, ratios in zip(rows, curve, strict=True):
        expected = [type_token_ratio(row[:end], window) for end in range(window, len(row) + 1)]
        assert ratios[: len(expected)] == pytest.approx(expected)
        assert np.isnan(ratios[len(expected) :]).all()


def test_repetition_and_diversity_by_hand():
    # 12 21 12 21: two of four bigrams are new; 121 212 121: two of three trigrams; 1212 2121: both.
    assert repetition([1, 2, 1, 2, 1], n=2) == 0.5
    assert diversity([1, 2, 1, 2, 1]) == pytest.approx(1 / 2 * 2 / 3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts, st.integers(1, 4))
def test_ngram_shares_equal_one_liners(rows, n):
    expected = [1 - len(set(grams(row, n))) / len(grams(row, n)) for row in rows]
    assert repetitions(rows, n) == pytest.approx(expected)
    assert [repetition(row, n) for row in rows] == pytest.approx(expected)
    together = [gram for row in rows for gram in grams(row, n)]
    assert distinct_n(rows, n) == len(set(together)) / len(together)
    assert diversities(rows) == pytest.approx([diversity(row) for row in rows])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(texts.filter(lambda rows: len({token for row in rows for token in row}) > 1), st.integers(2, 10))
def test_zipf_slope_is_that_of_a_regression(rows, max_rank):
    counts = sorted(Counter(token for row in rows for token in row).values(), reverse=True)[:max_rank]
    expected = stats.linregress(np.log(np.arange(1, len(counts) + 1)), np.log(counts)).slope
    assert zipf_slope(rows, max_rank) == pytest.approx(expected)


def test_compression_ratio_grows_with_repetition_within_and_between_texts():
    varied = ["the tide went out", "a lamp in the hall", "nobody spoke of it"]
    assert compression_ratio(["ab" * 100]) > 10
    assert compression_ratio(varied) < compression_ratio(varied * 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: type_token_ratio([1] * 61), "61 tokens, the type-token ratio needs 96; generate longer texts"),
        (lambda: type_token_ratio([1], window=0), "window 0, expected 1 token or more"),
        (lambda: ttr_curve([[1], [1, 2]]), "longest text: 2 tokens, the type-token ratio needs 96"),
        (lambda: repetition([1, 2, 3], n=4), "text 0: 4-grams need at least 4 tokens"),
        (lambda: repetitions([[1, 2], [1]], n=2), "text 1: 2-grams need at least 2 tokens"),
        (lambda: repetition([1, 2], n=0), "n = 0, expected 1 or more"),
        (lambda: distinct_n([[1], [2]], n=2), "no text of 2 tokens, which 2-grams need"),
        (lambda: zipf_slope([[1, 1]]), "1 distinct tokens, a Zipf slope needs at least 2"),
        (lambda: compression_ratio("abc"), "texts: the string 'abc', expected a list of texts"),
        (lambda: compression_ratio([""]), "texts: no characters; a compression ratio needs some"),
    ],
)
def test_errors(call, message):
    with pytest.raises(HyperfitError) as error:
        call()
    assert str(error.value) == message
