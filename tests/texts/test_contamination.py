"""Training text that shares 13 words in a row with evaluation text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.contamination import Overlap, refuse_contamination, shared_ngrams, word_ngrams

THIRTEEN = "it was the best of times it was the worst of times said"


def test_words_are_compared_without_case_and_punctuation():
    assert word_ngrams("Don’t — STOP, café!", 2) == [("don't", "stop"), ("stop", "café")]
    assert word_ngrams("one two", 3) == []


def test_thirteen_words_are_an_overlap_and_twelve_are_not():
    training = {"block 0": f"And: {THIRTEEN.upper()} he.", "block 1": THIRTEEN.removesuffix(" said")}
    evaluation = {"fiction-1": f"“{THIRTEEN},” she.", "fiction-2": "nothing of the kind"}
    assert shared_ngrams(training, evaluation) == [Overlap("block 0", "fiction-1", THIRTEEN)]


def test_refusal_names_the_first_pair_and_the_count():
    with pytest.raises(HyperfitError) as caught:
        refuse_contamination(["clean", THIRTEEN, f"x {THIRTEEN} y"], {"fiction-1": THIRTEEN})
    assert str(caught.value) == (
        f"training block 1 and evaluation text fiction-1 share '{THIRTEEN}' (2 training blocks overlap); cut the "
        f"blocks again with the evaluation texts left out, or choose another --corpus"
    )
    refuse_contamination(["clean"], {"fiction-1": THIRTEEN})


words = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(st.lists(words, max_size=3), st.lists(words, max_size=3), st.integers(1, 4))
def test_agrees_with_substring_search(training, evaluation, n):
    found = {
        (overlap.training, overlap.evaluation)
        for overlap in shared_ngrams(dict(enumerate(training)), {name: text for name, text in enumerate(evaluation)}, n)
    }
    expected = {
        (i, j)
        for i, text in enumerate(training)
        for j, other in enumerate(evaluation)
        if any(f" {' '.join(gram)} " in f" {other} " for gram in word_ngrams(text, n))
    }
    assert found <= expected
    assert {i for i, _ in found} == {i for i, _ in expected}
