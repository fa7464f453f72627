"""Self-BLEU and Dataset BLEU: by hand, against sacrebleu itself, and on awkward input."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import TokenRows, dataset_bleu, pairwise_bleu, self_bleu

logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it recommends effective_order at every sentence

SMOOTHINGS = [
    {"smooth_method": method, "smooth_value": value, "effective_order": effective}
    for method, value in [
        ("none", None), ("exp", None), ("floor", None), ("floor", 0.7), ("floor", 0.0), ("floor", 1.0),
        ("add-k", None), ("add-k", 0.4), ("add-k", 0.0),
    ]
    for effective in (False, True)
]  # fmt: skip


def sacrebleu_score(sequence, reference, **smoothing):
    scorer = BLEU(tokenize="none", **smoothing)
    return scorer.sentence_score(" ".join(map(str, sequence)), [" ".join(map(str, reference))]).score


def brute_pairwise(sequences, **smoothing):
    return np.array(
        [
            [-math.inf if i == j else sacrebleu_score(a, b, **smoothing) for j, b in enumerate(sequences)]
            for i, a in enumerate(sequences)
        ]
    )


def brute_dataset(sequences, corpus, window, **smoothing):
    windows = [row[s : s + window] for row in corpus for s in range(max(1, len(row) - window + 1))]
    return np.array([max(sacrebleu_score(a, w, **smoothing) for w in windows) for a in sequences])


tokens = st.one_of(
    st.lists(st.integers(0, 3), max_size=14),  # a tiny vocabulary: every order repeats
    st.builds(lambda loop, times: loop * times, st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 6)),
    st.lists(st.integers(0, 30), max_size=14),
)


def test_self_bleu_by_hand():
    # The first is whole within the second: precisions 1, brevity penalty exp(1 - 5/4). The second
    # against the first has precisions 4/5, 3/4, 2/3 and 1/2, whose product is 1/5.
    expected = [100 * math.exp(-1 / 4), 100 * (1 / 5) ** (1 / 4)]
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5]]) == pytest.approx(expected, abs=1e-9)


def test_dataset_bleu_by_hand():
    # The best of the windows [0 1 2 3 4], [1 2 3 4 5], [2 3 4 5 6] and the short row [1 2 3 4].
    score = dataset_bleu([[1, 2, 3, 4]], [[0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 9]], window=5)
    assert score == pytest.approx([100 * math.exp(-1 / 4)], abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(tokens, min_size=2, max_size=5), st.sampled_from(SMOOTHINGS))
def test_pairwise_bleu_equals_sacrebleu(sequences, smoothing):
    ours = pairwise_bleu(sequences, **smoothing)
    assert ours == pytest.approx(brute_pairwise(sequences, **smoothing), abs=1e-9)
    assert (self_bleu(sequences, **smoothing) == ours.max(axis=1)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(tokens, min_size=1, max_size=4),
    st.lists(tokens, min_size=1, max_size=4).filter(any),
    st.integers(1, 12),
    st.sampled_from(SMOOTHINGS),
)
def test_dataset_bleu_equals_sacrebleu(sequences, corpus, window, smoothing):
    expected = brute_dataset(sequences, corpus, window, **smoothing)
    assert dataset_bleu(sequences, corpus, window, **smoothing) == pytest.approx(expected, abs=1e-9)


def test_words_ids_arrays_and_flat_rows_score_alike():
    rng = np.random.default_rng(0)
    ids, corpus = rng.integers(5, 12, (4, 20)), rng.integers(5, 14, (6, 30))
    flat = TokenRows(corpus.reshape(-1).astype(np.uint16), np.arange(7) * 30)
    words = [[f"w{i}" for i in row] for row in ids], [[f"w{i}" for i in row] for row in corpus]
    expected = dataset_bleu(ids.tolist(), corpus.tolist(), window=10, smooth_method="exp")
    for sequences, rows in [(ids, corpus), (list(ids), flat), words]:
        assert (dataset_bleu(sequences, rows, window=10, smooth_method="exp") == expected).all()
