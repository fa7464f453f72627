"""Intervals and paired tests: by hand, against scipy and brute force, and by their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import (
    holm,
    mean_interval,
    paired_test,
    pairwise_bleu,
    self_bleu_interval,
    share_interval,
    statistics,
)
from hyperfit_eval.metrics import self_bleu_paired_test as label_swap_test


def random_pairs(rng, count):
    """Scores of pairs, shape (count, count), as `pairwise_bleu` gives them."""
    pairwise = rng.gamma(0.5, 5, (count, count))
    pairwise[np.arange(count), np.arange(count)] = -np.inf
    return pairwise


def texts_with_loops(rng, count, share):
    """Texts of 30 random tokens; in a share of them one of a few popular loops takes over."""
    texts = rng.integers(0, 400, (count, 30))
    for row in np.flatnonzero(rng.random(count) < share):
        loop, start = min(rng.zipf(1.6), 40), rng.integers(2, 28)
        texts[row, start:] = np.tile(1000 + 5 * loop + np.arange(5), 6)[: 30 - start]
    return texts


def test_mean_interval_is_scipys():
    values = np.random.default_rng(0).gamma(1, 2, 80)
    interval = mean_interval(values, seed=3)
    expected = stats.bootstrap((values,), np.mean, n_resamples=2000, rng=np.random.default_rng(3))
    assert (interval.low, interval.high) == tuple(expected.confidence_interval)
    assert interval.as_dict()["method"] == "bca|B:2000|seed:3|conf:0.95"
    assert interval.low < interval.mean == values.mean() < interval.high


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.full(5, 7.0)).as_dict() == {
        "mean": 7.0, "low": 7.0, "high": 7.0, "n": 5, "method": "bca|B:2000|seed:0|conf:0.95"
    }  # fmt: skip


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 40.0]), min_size=2, max_size=12))
def test_mean_interval_is_finite_and_repeatable(values):
    interval = mean_interval(np.array(values), resamples=200)
    assert min(values) <= interval.low <= interval.high <= max(values)
    assert interval == mean_interval(np.array(values), resamples=200)


def test_jackknife_leaves_out_each_text():
    pairwise = random_pairs(np.random.default_rng(0), 12)
    mean, pseudo_values = statistics._jackknife(pairwise)
    for text in range(12):
        others = np.delete(np.arange(12), text)
        without = pairwise[np.ix_(others, others)].max(axis=1).mean()
        assert pseudo_values[text] == pytest.approx(12 * mean - 11 * without)


def test_self_bleu_interval_by_hand():
    # Two pairs of equal texts and one text apart: maxima 100, 100, 100, 100 and 0.
    texts = [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8], [9, 10, 11, 12]]
    # Without one of a pair the mean is 200/4, without the fifth 400/4: pseudo-values 5 * 80 - 4 * 50 or 100.
    error = np.std([200, 200, 200, 200, 0], ddof=1) / np.sqrt(5)
    factor = np.exp(stats.t.ppf(0.975, 4) * error / 80)
    interval = self_bleu_interval(pairwise_bleu(texts))
    assert (interval.mean, interval.low) == pytest.approx((80, 80 / factor))
    assert interval.high == 100.0  # no score is higher


def test_no_similarity_at_all():
    interval = self_bleu_interval(pairwise_bleu([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]))
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_self_bleu_interval_covers_where_a_bootstrap_of_the_maxima_does_not():
    rng = np.random.default_rng(0)
    means, jackknife, naive = [], [], []
    for _ in range(150):
        pairwise = pairwise_bleu(texts_with_loops(rng, 60, share=0.3))
        values = pairwise.max(axis=1)
        half = stats.t.ppf(0.975, 59) * stats.sem(values)
        interval = self_bleu_interval(pairwise)
        means.append(values.mean())
        jackknife.append((interval.low, interval.high))
        naive.append((values.mean() - half, values.mean() + half))
    truth = np.mean(means)
    coverage = [np.mean([low <= truth <= high for low, high in kind]) for kind in (jackknife, naive)]
    assert coverage[0] >= 0.92
    assert coverage[1] <= 0.88


def test_paired_test_by_hand():
    # Signs of (1, 1, 1, 1, 1, 1): 2 of 64 give a mean of 1 or -1.
    a, b = np.arange(6.0) + 1, np.arange(6.0)
    result = paired_test(a, b, resamples=20_000)
    assert (result.difference, result.low, result.high, result.n) == (1.0, 1.0, 1.0, 6)
    assert result.p_value == pytest.approx(2 / 64, abs=0.005)
    assert result.method == "sign-flip+bca|B:20000|seed:0|conf:0.95"


def test_equal_models_do_not_differ():
    values = np.random.default_rng(0).random(30)
    assert paired_test(values, values).p_value == 1.0
    texts = np.random.default_rng(0).integers(0, 9, (10, 20))
    result = label_swap_test(pairwise_bleu(np.concatenate([texts, texts])), resamples=50)
    assert (result.difference, result.p_value) == (0.0, 1.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(3, 12), st.integers(1, 6), st.integers(0, 1000))
def test_label_swap_takes_the_maxima_within_each_half(count, nearest, seed):
    rng = np.random.default_rng(seed)
    pairwise, second = random_pairs(rng, 2 * count), rng.permutation(np.arange(2 * count) % 2 == 1)
    gap = statistics._gap(pairwise, np.argsort(-pairwise, axis=1)[:, :nearest], second)
    halves = [np.flatnonzero(second == half) for half in (False, True)]
    expected = [pairwise[np.ix_(half, half)].max(axis=1).mean() for half in halves]
    assert gap == pytest.approx(expected[0] - expected[1])


def test_label_swap_has_its_level_and_power():
    rng = np.random.default_rng(1)
    rejected = {}
    for share in (0.3, 0.0):
        times = 0
        for _ in range(60):
            texts = np.concatenate([texts_with_loops(rng, 40, 0.3), texts_with_loops(rng, 40, share)])
            times += label_swap_test(pairwise_bleu(texts), resamples=99).p_value <= 0.05
        rejected[share] = times / 60
    assert rejected[0.3] <= 0.12  # 5% expected; 60 trials
    assert rejected[0.0] >= 0.7


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0]), "values: shape (1,), expected one value for each of at least 2 contexts"),
        (lambda: mean_interval([1.0, np.nan]), "values: 1 of 2 values are not finite"),
        (
            lambda: paired_test([1.0, 2.0], [1.0, 2.0, 3.0]),
            "2 and 3 values; a paired test needs the same contexts on both sides",
        ),
        (lambda: self_bleu_interval(np.zeros((2, 2))), "2 texts; an interval of Self-BLEU needs at least 3"),
        (lambda: self_bleu_interval(np.zeros(4)), "pairwise: shape (4,), expected (N, N) from pairwise_bleu"),
        (lambda: label_swap_test(np.zeros((7, 7))), "7 texts; a paired test needs as many of A as of B"),
    ],
)
def test_errors(call, message):
    with pytest.raises(HyperfitError) as error:
        call()
    assert str(error.value) == message


def test_a_share_of_none_still_has_an_interval():
    none = share_interval(np.zeros(30))
    assert (none.mean, none.low) == (0, 0) and none.high == pytest.approx(100 * 3.8415 / (30 + 3.8415), abs=0.01)
    confint = pytest.importorskip("statsmodels.stats.proportion", reason="pip install statsmodels: the reference")
    low, high = confint.proportion_confint(7, 40, method="wilson")
    some = share_interval(100.0 * (np.arange(40) < 7))
    assert (some.mean, some.low, some.high) == pytest.approx((17.5, 100 * low, 100 * high))
    assert some.n == 40 and some.method == "wilson|conf:0.95"
