"""Overlap and novelty: by hand and against a brute-force matcher."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import TokenRows, longest_overlap, novelty_curve, overlap_rate

tokens = st.one_of(
    st.lists(st.integers(0, 2), max_size=20),
    st.builds(lambda loop, n: loop * n, st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(1, 8)),
    st.lists(st.integers(0, 30), max_size=20),
)
corpora = st.lists(tokens, min_size=1, max_size=4).filter(any)


def grams(row, n):
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def brute_overlap(sequence, corpus):
    """The longest match and its first place: by length, then corpus row, then offset."""
    for n in range(len(sequence), 0, -1):
        own = set(grams(sequence, n))
        for r, row in enumerate(corpus):
            for offset, gram in enumerate(grams(row, n)):
                if gram in own:
                    return n, (r, offset)
    return 0, (-1, -1)


def brute_novelty(sequences, corpus, n):
    known = {gram for row in corpus for gram in grams(row, n)}
    own = [gram for row in sequences for gram in grams(row, n)]
    return np.mean([gram not in known for gram in own]) if own else np.nan


def test_longest_overlap_by_hand():
    lengths, where = longest_overlap([[7, 1, 2, 3, 9], [8]], [[5], [0, 1, 2, 3]], where=True)
    assert lengths.tolist() == [3, 0]
    assert where.tolist() == [[1, 1], [-1, -1]]


def test_no_match_crosses_a_row():
    assert longest_overlap([[1, 2, 3, 4]], [[1, 2], [3, 4]]).tolist() == [2]
    assert longest_overlap([[1, 2], [3, 4]], [[1, 2, 3, 4]]).tolist() == [2, 2]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(tokens, min_size=1, max_size=4), corpora, st.integers(3, 50))
def test_longest_overlap_equals_brute_force(sequences, corpus, chunk_tokens):
    with pytest.MonkeyPatch.context() as patch:  # chunks so small that long rows are cut up
        patch.setattr("hyperfit_eval.metrics.tokens.CHUNK_TOKENS", chunk_tokens)
        patch.setattr("hyperfit_eval.metrics.overlap.CHUNK_TOKENS", chunk_tokens)
        lengths, where = longest_overlap(sequences, corpus, where=True)
    expected = [brute_overlap(sequence, corpus) for sequence in sequences]
    assert [(length, tuple(place)) for length, place in zip(lengths, where.tolist(), strict=True)] == expected
    assert (longest_overlap(sequences, corpus) == lengths).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(tokens, min_size=1, max_size=4), corpora)
def test_novelty_curve_equals_brute_force(sequences, corpus):
    expected = [brute_novelty(sequences, corpus, n) for n in range(1, 25)]
    assert novelty_curve(sequences, corpus, max_n=24) == pytest.approx(expected, nan_ok=True)


def test_a_long_copy_is_found_whole():
    rng = np.random.default_rng(0)
    corpus = rng.integers(0, 1000, (40, 300))
    sequences = rng.integers(0, 1000, (5, 224))
    sequences[2, 10:210] = corpus[33, 50:250]
    lengths, where = longest_overlap(sequences, TokenRows(corpus.reshape(-1), np.arange(41) * 300), where=True)
    assert lengths[2] == 200
    assert where[2].tolist() == [33, 50]
    assert overlap_rate(sequences, corpus, min_tokens=5) == 0.2


def test_overlap_rate_is_strict():
    assert overlap_rate([[1, 2, 3], [1, 2, 9]], [[1, 2, 3]], min_tokens=2) == 0.5


def test_novelty_curve_by_hand():
    assert novelty_curve([[1, 2, 3]], [[1, 2], [2, 3]], max_n=4) == pytest.approx([0, 0, 1, np.nan], nan_ok=True)


def test_words_of_text():
    lengths = longest_overlap([["to", "be", "or", "not"]], [["it", "is", "to", "be", "or", "so"]])
    assert lengths.tolist() == [3]


def test_sequences_without_a_token():
    lengths, where = longest_overlap([[], []], [["a"]], where=True)
    assert (lengths.tolist(), where.tolist()) == ([0, 0], [[-1, -1], [-1, -1]])
    assert np.isnan(novelty_curve([[]], [[1]], max_n=3)).all()


def test_progress_ends_at_the_total():
    seen = []
    longest_overlap([[1, 2]], [[1, 2, 3]] * 4, progress=lambda *done: seen.append(done))
    assert seen == [(12, 12)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: longest_overlap([[1]], [[]]), "corpus: no tokens; give the rows of the training set"),
        (lambda: novelty_curve([[1]], [[1]], max_n=0), "max_n 0, expected 1 or more"),
    ],
)
def test_errors(call, message):
    with pytest.raises(HyperfitError) as error:
        call()
    assert str(error.value) == message
