"""Token texts: by hand, then against whole decodings, then stop sequences."""

import citation_tokenizers as kinds
import pytest
from hyperfit_server.engine.text import TextStream, TokenTexts, cut_at_stop
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hyperfit_eval.demo.location import demo_model_dir


@pytest.fixture(scope="module")
def demo():
    return AutoTokenizer.from_pretrained(demo_model_dir())


def pieces(tokenizer, ids, context=()):
    stream = TextStream(TokenTexts(tokenizer), context)
    told = [stream.push(token) for token in ids]
    told.append(stream.finish())
    assert "".join(told) == stream.text
    return told


def test_an_incomplete_character_is_held_back(demo):
    ids = demo.encode("a 你 b", add_special_tokens=False)
    assert len(ids) > 4  # the demo tokenizer has no piece for it
    told = pieces(demo, ids)
    assert "".join(told) == "a 你 b"
    assert sum("你" in piece for piece in told) == 1 and "" in told
    assert all("\ufffd" not in piece for piece in told)


def test_what_never_becomes_a_character_is_told_in_the_end(demo):
    ids = demo.encode("so 你", add_special_tokens=False)[:-1]
    told = pieces(demo, ids)
    assert told[-1] == "\ufffd" and "".join(told) == demo.decode(ids)


def test_a_long_run_of_broken_bytes_does_not_hold_back_what_follows(demo):
    lead = demo.encode("你", add_special_tokens=False)[:1]
    ids = lead * 10 + demo.encode(" well", add_special_tokens=False)
    told = pieces(demo, ids)
    assert "".join(told) == demo.decode(ids)
    assert any(told[:10])


def test_special_tokens_have_no_text(demo):
    ids = demo.encode("one", add_special_tokens=False)
    assert pieces(demo, [*ids, demo.eos_token_id, *ids])[len(ids)] == ""
    assert TokenTexts(demo).alone(demo.eos_token_id) == "<|endoftext|>"


def test_ids_beyond_the_tokenizer_have_no_text(tiny_tokenizer):
    assert "".join(pieces(tiny_tokenizer, [2, 49, 3, 48])) == "the cat"


def test_the_space_before_the_first_word_is_kept_after_a_prompt(tiny_tokenizer):
    the, cat = tiny_tokenizer.convert_tokens_to_ids(["the", "cat"])
    assert pieces(tiny_tokenizer, [cat], context=[the]) == [" cat", ""]


TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("é你👩‍👩‍👧 \n'"), max_size=30)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(prompt=TEXTS, text=TEXTS, cut=st.integers(0, 3))
def test_the_pieces_are_the_text(prompt, text, cut):
    """With any prompt before it, and ended in the middle of a character."""
    tokenizer = kinds.byte_level()
    before = tokenizer.encode(prompt, add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    ids = ids[: len(ids) - cut]
    expected = tokenizer.decode(ids)
    assert "".join(pieces(tokenizer, ids, before)) == expected


def test_stop_sequences_by_hand():
    assert cut_at_stop("one two", 3, ["o"]) == len("one two")
    assert cut_at_stop("one two", 3, ["e"]) is None  # met before: not new
    assert cut_at_stop("one two", 1, ["two"]) == len("one two")  # begins before what is new
    assert cut_at_stop("a.b\nc", 4, ["\n", "."]) == 2  # the first that is complete
    assert cut_at_stop("abc", 3, ["abcd"]) is None
    assert cut_at_stop("abc", 3, []) is None


@pytest.mark.parametrize("kind", [kinds.sentencepiece, kinds.unigram, kinds.byte_level])
def test_prompt_and_pieces_make_the_whole(kind):
    """Also where a decoder drops the space before the first word."""
    tokenizer = kind()
    ids = tokenizer.encode("the brown dog over the barn", add_special_tokens=False)
    whole = tokenizer.decode(ids)
    for cut in range(1, len(ids)):
        told = pieces(tokenizer, ids[cut:], ids[:cut])
        assert tokenizer.decode(ids[:cut]) + "".join(told) == whole
