"""What may be given as sequences and as a corpus, and the chunks that a corpus is read in."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import TokenRows, longest_overlap, self_bleu
from hyperfit_eval.metrics.ngrams import PairTable
from hyperfit_eval.metrics.tokens import encode_with_corpus


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=8).filter(any),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 30),
)
def test_chunks_hold_every_window_once(lengths, window, max_windows, chunk_tokens):
    tokens = np.arange(1, sum(lengths) + 1)
    corpus = TokenRows(tokens, np.cumsum([0, *lengths]))
    _, _, encoded = encode_with_corpus([tokens], corpus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperfit_eval.metrics.tokens.CHUNK_TOKENS", chunk_tokens)
        chunks = list(encoded.chunks(window, max_windows))
    parts = [part for c in chunks for part in np.split(c.codes, np.cumsum(c.lengths)[:-1])]
    assert [begin for c in chunks for begin in c.begins] == [part[0] - 1 for part in parts]
    assert all(len(part) <= max_windows + window - 1 for part in parts)
    found = sorted(tuple(part[s : s + window]) for part in parts for s in range(max(1, len(part) - window + 1)))
    rows = [row.tolist() for row in np.split(tokens, np.cumsum(lengths)[:-1]) if len(row)]
    assert found == sorted(tuple(row[s : s + window]) for row in rows for s in range(max(1, len(row) - window + 1)))
    assert chunks[-1].end == len(tokens)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 2**62)), st.lists(st.integers(0, 2**62)))
def test_pair_table_finds_its_keys_and_no_others(keys, others):
    keys = np.array(sorted(keys), dtype=np.int64)
    asked = np.concatenate([np.array(others, dtype=np.int64), keys, keys])
    places, numbers = PairTable(keys).find(asked)
    assert (keys[numbers] == asked[places]).all()
    assert places.tolist() == np.flatnonzero(np.isin(asked, keys)).tolist()


def test_pair_table_with_many_collisions():
    keys = np.arange(50_000, dtype=np.int64) * 2**40
    places, numbers = PairTable(keys).find(keys[::-1].copy())
    assert (numbers == np.arange(50_000)[::-1]).all()
    assert (places == np.arange(50_000)).all()


@pytest.mark.parametrize("corpus", [[[1, 2, 3], [4]], [np.array([1, 2, 3]), np.array([4], dtype=np.uint8)]])
def test_lists_and_arrays_of_ids(corpus):
    assert longest_overlap([[2, 3, 4]], corpus).tolist() == [2]


def test_ids_beyond_64_bits_are_compared_like_words():
    assert longest_overlap([[2**70, 1, 2]], [[2**70, 1]]).tolist() == [2]


def test_negative_ids_and_ids_outside_the_table():
    assert longest_overlap([[-5, 3]], [[-5, 3, -9, 10**15, -(10**15)]]).tolist() == [2]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("a b", "sequences: the text 'a b', expected a list of tokens; split it into words"),
        (["a b", "c"], "sequences[0]: the text 'a b', expected a list of tokens; split it into words"),
        ([[1, 2], [1.5]], "sequences: token 1.5 is no integer; token ids must be integers"),
        (
            np.zeros((2, 3)),
            "sequences: 2-D array of float64, expected 2-D of integers, or a TokenRows(tokens, offsets) for a 1-D one",
        ),
        (
            np.arange(3),
            "sequences: 1-D array of int64, expected 2-D of integers, or a TokenRows(tokens, offsets) for a 1-D one",
        ),
        ([[1], np.zeros(2)], "sequences[1]: 1-D array of float64, expected 1-D of integers"),
        ([["a", ["b"]], ["a"]], "sequences: a token is not hashable (unhashable type: 'list')"),
        ([1, 2], "sequences[0]: 1, expected a list or array of tokens"),
    ],
)
def test_sequences_that_are_none(sequences, message):
    with pytest.raises(HyperfitError) as error:
        self_bleu(sequences)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("tokens", "offsets", "message"),
    [
        (np.zeros((2, 2), int), [0, 4], "tokens: 2-D array of int64, expected 1-D of integers"),
        (np.zeros(2), [0, 2], "tokens: 1-D array of float64, expected 1-D of integers"),
        (np.zeros(2, int), [0.0, 2.0], "offsets: 1-D array of float64, expected 1-D of integers"),
        (np.zeros(2, int), [0, 3], "offsets: they do not rise from 0 to 2, the number of tokens"),
        (np.zeros(2, int), [0, 2, 1, 2], "offsets: they do not rise from 0 to 2, the number of tokens"),
    ],
)
def test_rows_that_are_none(tokens, offsets, message):
    with pytest.raises(HyperfitError) as error:
        TokenRows(tokens, np.array(offsets))
    assert str(error.value) == message


@pytest.mark.slow
def test_the_metrics_need_numpy_and_scipy_alone():
    code = "import sys, hyperfit_eval.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "huggingface_hub", "sacrebleu", "lm_eval"} & set(loaded)
