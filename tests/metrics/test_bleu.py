"""Self-BLEU and Dataset BLEU: by hand, against sacrebleu itself, and on awkward input."""

import logging
import math
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import TokenRows, dataset_bleu, pairwise_bleu, self_bleu

# sacrebleu recommends effective_order at every sentence that is scored without it.
logging.getLogger("sacrebleu").setLevel(logging.ERROR)

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


loops = st.builds(
    lambda loop, times: loop * times, st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 6)
)
tiny_vocabulary = st.lists(st.integers(0, 2), max_size=14)
tokens = st.one_of(tiny_vocabulary, loops, st.lists(st.integers(0, 30), max_size=14))


@st.composite
def sequences_and_corpus(draw):
    """Ragged rows, with passages of the corpus planted in the sequences."""
    corpus = draw(st.lists(tokens, min_size=1, max_size=4).filter(any))
    sequences = draw(st.lists(tokens, min_size=1, max_size=3))
    row = draw(st.sampled_from([row for row in corpus if row]))
    start = draw(st.integers(0, len(row) - 1))
    return [*sequences, draw(tiny_vocabulary) + row[start : start + draw(st.integers(1, 12))]], corpus


def test_self_bleu_by_hand():
    # The first is whole within the second: precisions 1, brevity penalty exp(1 - 5/4). The second
    # against the first has precisions 4/5, 3/4, 2/3 and 1/2, whose product is 1/5.
    expected = [100 * math.exp(-1 / 4), 100 * (1 / 5) ** (1 / 4)]
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5]]) == pytest.approx(expected, abs=1e-9)


def test_dataset_bleu_by_hand():
    # The best of the windows 0-4, 1-5 and 2-6 of the first row, and of the short second row.
    score = dataset_bleu([[1, 2, 3, 4]], [[0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 9]], window=5)
    assert score == pytest.approx([100 * math.exp(-1 / 4)], abs=1e-9)


def test_clipping_by_hand():
    # "a a a a" against "a a b b": 2 of 4 unigrams, 1 of 3 bigrams, no trigram.
    expected = 100 * (2 / 4 * 1 / 3 * 0.1 / 2 * 0.1 / 1) ** (1 / 4)
    scores = pairwise_bleu([["a", "a", "a", "a"], ["a", "a", "b", "b"]], smooth_method="floor")
    assert scores[0, 1] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(tokens, min_size=2, max_size=5), st.sampled_from(SMOOTHINGS))
def test_pairwise_bleu_equals_sacrebleu(sequences, smoothing):
    ours = pairwise_bleu(sequences, **smoothing)
    assert ours == pytest.approx(brute_pairwise(sequences, **smoothing), abs=1e-9)
    assert (self_bleu(sequences, **smoothing) == ours.max(axis=1)).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(sequences_and_corpus(), st.integers(1, 12), st.sampled_from(SMOOTHINGS))
@example(([[]], [[1]]), 3, SMOOTHINGS[0])
def test_dataset_bleu_equals_sacrebleu(texts, window, smoothing):
    sequences, corpus = texts
    expected = brute_dataset(sequences, corpus, window, **smoothing)
    assert dataset_bleu(sequences, corpus, window, **smoothing) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(sequences_and_corpus(), st.integers(1, 12), st.sampled_from(SMOOTHINGS[:4]))
def test_small_chunks_and_blocks_change_nothing(texts, window, smoothing):
    sequences, corpus = texts
    expected = dataset_bleu(sequences, corpus, window, **smoothing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperfit_eval.metrics.tokens.CHUNK_TOKENS", 7)
        patch.setattr("hyperfit_eval.metrics.dataset._BLOCK_FEATURES", 20)
        patch.setattr("hyperfit_eval.metrics.dataset._PAIRS_AT_ONCE", 1)
        for crowded in (-1.0, 2.0):  # all rows are scored with all sequences; none is
            patch.setattr("hyperfit_eval.metrics.dataset._CROWDED", crowded)
            assert (dataset_bleu(sequences, corpus, window, **smoothing) == expected).all()
        patch.setattr("hyperfit_eval.metrics.bleu._BLOCK_FEATURES", 20)
        blocks = pairwise_bleu(sequences, **smoothing)
    assert (blocks == pairwise_bleu(sequences, **smoothing)).all()


def test_real_text_equals_sacrebleu():
    """Words of Python's own documentation: 25 texts of 40 words against 60 rows of 90, windows of 40."""
    words = " ".join(topics.values()).split()
    corpus = [words[i : i + 90] for i in range(0, 60 * 90, 90)]
    rng = np.random.default_rng(0)
    sequences = [words[i : i + 40] for i in rng.integers(0, len(words) - 40, 25)]
    for smoothing in ({"smooth_method": "none"}, {"smooth_method": "exp"}):
        ours = pairwise_bleu(sequences, **smoothing)
        assert ours == pytest.approx(brute_pairwise(sequences, **smoothing), abs=1e-9)
    expected = brute_dataset(sequences[:2], corpus, 40, smooth_method="exp")
    assert dataset_bleu(sequences[:2], corpus, 40, smooth_method="exp") == pytest.approx(expected, abs=1e-9)


def test_words_ids_arrays_and_flat_rows_score_alike(tmp_path):
    rng = np.random.default_rng(0)
    ids, corpus = rng.integers(5, 12, (4, 20)), rng.integers(5, 14, (6, 30))
    np.save(tmp_path / "corpus.npy", corpus.astype(np.uint16))
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    flat = TokenRows(mapped.reshape(-1), np.arange(7) * 30)
    words = [[f"w{i}" for i in row] for row in ids], [[f"w{i}" for i in row] for row in corpus]
    far_apart = ids.tolist() + np.int64(10**12) * (ids > 8), corpus + np.int64(10**12) * (corpus > 8)
    expected = dataset_bleu(ids.tolist(), corpus.tolist(), window=10, smooth_method="exp")
    for sequences, rows in [(ids, mapped), (list(ids), flat), words, far_apart]:
        assert (dataset_bleu(sequences, rows, window=10, smooth_method="exp") == expected).all()


def test_no_window_crosses_a_row():
    split = dataset_bleu([[1, 2, 3, 4]], [[1, 2], [3, 4]], window=4, smooth_method="exp")
    whole = dataset_bleu([[1, 2, 3, 4]], [[1, 2, 3, 4]], window=4, smooth_method="exp")
    assert split < whole == pytest.approx([100.0])


def test_degenerate_sequences():
    assert self_bleu([[], [1, 2, 3, 4], [1, 2, 3, 4]]).tolist() == [0, 100, 100]
    assert self_bleu([[7], [7]]).tolist() == [0, 0]  # no 4-gram, as in sacrebleu
    assert self_bleu([[7], [7]], effective_order=True) == pytest.approx([100, 100])
    assert dataset_bleu([[], [1]], [[1], []]).tolist() == [0, 0]
    assert dataset_bleu([[], []], [["a"]]).tolist() == self_bleu([[], []]).tolist() == [0, 0]


def test_progress_ends_at_the_total():
    seen = []
    dataset_bleu([[1, 2, 3]], [[1, 2, 3, 4]] * 5, window=3, progress=lambda *done: seen.append(done))
    self_bleu([[1, 2], [1, 3]], progress=lambda *done: seen.append(done))
    assert seen == [(20, 20), (2, 2)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: self_bleu([]), "sequences: none given, at least one is needed"),
        (lambda: self_bleu([[1, 2]]), "Self-BLEU: 1 sequence, at least 2 are needed"),
        (lambda: self_bleu([[1], [2]], "linear"), "smooth_method 'linear', expected one of none, floor, add-k, exp"),
        (lambda: self_bleu([[1], [2]], "exp", 0.5), "smooth_value 0.5 with smooth_method 'exp', which takes none"),
        (lambda: self_bleu([[1], [2]], "add-k", -1.0), "smooth_value -1.0, expected a number from 0"),
        (
            lambda: self_bleu([[1], [2]], "floor", 2.0),
            "smooth_value 2.0, 'floor' would count a miss above a match; at most 1",
        ),
        (lambda: dataset_bleu([[1]], [[1]], window=0), "window 0, expected 1 token or more"),
        (lambda: dataset_bleu([[1]], []), "corpus: none given, at least one is needed"),
        (lambda: dataset_bleu([[1]], [[], []]), "corpus: no tokens; give the rows of the training set"),
        (
            lambda: dataset_bleu([[1]], [["a"]]),
            "sequences hold ids and the corpus words; give both in the same unit",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(HyperfitError) as error:
        call()
    assert str(error.value) == message
