"""Training blocks: random, disjoint, and clear of the evaluation texts."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.blocks import make_blocks, read_blocks, write_blocks
from hyperfit_eval.texts.contamination import refuse_contamination
from hyperfit_eval.texts.contexts import demo_corpus_path, demo_texts
from hyperfit_eval.texts.corpus import Corpus, load_corpus
from hyperfit_eval.tokenizers import plain_ids, tokenizer_fingerprint


def byte_tokenizer(**special):
    """One id a byte; `decode` gives the text back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


TOKENIZER = byte_tokenizer(eos_token="<|end|>")
# Each letter of a text stands for its place, so that a block says where it was cut.
NUMBERED = "".join(chr(0x41 + number % 26) + chr(0x61 + number // 26) for number in range(256))
DEMO = load_corpus(demo_corpus_path())


def test_blocks_of_one_text_are_its_disjoint_parts():
    blocks = make_blocks(Corpus("c", ["abcdefgh"]), TOKENIZER, num_samples=2, sequence_length=4)
    assert sorted(blocks.texts) == ["abcd", "efgh"]
    assert [plain_ids(TOKENIZER, text) for text in blocks.texts] == blocks.ids.tolist()
    assert (blocks.ids.shape, blocks.ids.dtype) == ((2, 4), np.int64)
    assert blocks.validation_ids.shape == (0, 4)
    assert (blocks.tokenizer, blocks.corpus, blocks.seed) == (tokenizer_fingerprint(TOKENIZER), "c", 0)


def test_blocks_do_not_cross_texts_that_are_long_enough():
    blocks = make_blocks(Corpus("c", ["abcdef", "ghijkl", "m"]), TOKENIZER, num_samples=2, sequence_length=4)
    assert sorted(blocks.texts) == ["abcd", "ghij"]


def test_short_texts_are_joined_and_closed_by_eos_where_nothing_else_is_left():
    corpus = Corpus("c", ["abcd", "ef", "ef", "ef", "ef"])
    blocks = make_blocks(corpus, TOKENIZER, num_samples=3, sequence_length=4)
    assert sorted(blocks.texts) == ["abcd", "ef<|end|>e", "ef<|end|>e"]
    assert make_blocks(corpus, TOKENIZER, num_samples=1, sequence_length=4).texts == ["abcd"]
    without_eos = make_blocks(Corpus("c", ["ab", "ab"]), byte_tokenizer(), num_samples=1, sequence_length=4)
    assert without_eos.texts == ["abab"]


def test_the_same_seed_gives_the_same_blocks_and_another_seed_others():
    first, again, other = (make_blocks(DEMO, TOKENIZER, 20, 64, seed=seed, num_validation=4) for seed in (1, 1, 2))
    assert first.order_hash == again.order_hash
    assert first.validation_texts == again.validation_texts
    assert first.fingerprint != other.fingerprint


def test_the_fingerprint_ignores_the_order_and_the_order_hash_does_not():
    whole = [make_blocks(Corpus("c", [NUMBERED]), TOKENIZER, 64, 8, seed=seed) for seed in (0, 1)]
    assert whole[0].fingerprint == whole[1].fingerprint
    assert whole[0].order_hash != whole[1].order_hash


def test_validation_blocks_come_from_other_texts():
    corpus = Corpus("c", [letter * 64 for letter in "abcdefghijklmnop"])
    blocks = make_blocks(corpus, TOKENIZER, num_samples=40, sequence_length=8, num_validation=6)
    assert {text[0] for text in blocks.texts}.isdisjoint(text[0] for text in blocks.validation_texts)
    assert len(blocks.validation_texts) == 6


def test_a_single_text_is_held_out_by_blocks():
    blocks = make_blocks(Corpus("c", [NUMBERED]), TOKENIZER, num_samples=54, sequence_length=8, num_validation=10)
    assert len({*blocks.texts, *blocks.validation_texts}) == 64


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 12), st.integers(2, 30), st.integers(0, 3), st.integers(0, 1000))
def test_blocks_never_overlap(num_samples, sequence_length, num_validation, seed):
    blocks = make_blocks(Corpus("c", [NUMBERED]), TOKENIZER, num_samples, sequence_length, seed, num_validation)
    starts = sorted(NUMBERED.index(text) for text in (*blocks.texts, *blocks.validation_texts))
    assert len(starts) == num_samples + num_validation
    assert all(end - start >= sequence_length for start, end in pairwise(starts))


def test_long_texts_are_sampled_all_over():
    corpus = Corpus("c", ["\n\n".join(DEMO.texts)])
    blocks = make_blocks(corpus, TOKENIZER, num_samples=600, sequence_length=16)
    places = [corpus.texts[0].index(text) / len(corpus.texts[0]) for text in blocks.texts]
    assert min(places) < 0.15 and max(places) > 0.85
    assert places != sorted(places)


def test_blocks_that_share_thirteen_words_are_left_out():
    evaluation = {"fiction-1": DEMO.texts[3]}
    plain = make_blocks(DEMO, TOKENIZER, num_samples=800, sequence_length=128)
    with pytest.raises(HyperfitError, match="evaluation text fiction-1 share '"):
        refuse_contamination(plain.texts, evaluation)
    blocks = make_blocks(DEMO, TOKENIZER, num_samples=800, sequence_length=128, avoid=evaluation)
    refuse_contamination(blocks.texts, evaluation)
    assert 0 < blocks.left_out < 20
    assert plain.left_out == 0


def test_the_demo_corpus_is_clear_of_the_demo_prompts():
    refuse_contamination(make_blocks(DEMO, TOKENIZER, 96, 256).texts, demo_texts().by_id())


@pytest.mark.parametrize(
    ("texts", "asked", "message"),
    [
        (
            ["abcdefghij"],
            {"num_samples": 3},
            "c: 2 blocks of 4 tokens, 3 for training and 0 for validation are needed; type --num_train_samples 2",
        ),
        (
            ["abcdefghij"],
            {"num_samples": 1, "num_validation": 2},
            "c: 2 blocks of 4 tokens, 1 for training and 2 for validation are needed; give a longer corpus",
        ),
        (["ab"], {"num_samples": 1}, "c: 0 blocks of 4 tokens, 1 for training and 0 for validation are needed; give "),
        (["abc"], {"num_samples": 0}, "0 blocks of 4 tokens and 0 for validation: expected at least 1, 2 and 0"),
    ],
)
def test_too_few_blocks(texts, asked, message):
    with pytest.raises(HyperfitError) as caught:
        make_blocks(Corpus("c", texts), TOKENIZER, sequence_length=4, **asked)
    assert str(caught.value).startswith(message)


def test_too_few_blocks_after_leaving_out_says_so():
    with pytest.raises(
        HyperfitError, match=r"0 blocks of 128 tokens and \d+ that share 13 words with evaluation texts"
    ):
        make_blocks(Corpus("c", DEMO.texts[:1]), TOKENIZER, 1, 128, avoid={"fiction-1": DEMO.texts[0]})


@pytest.fixture
def blocks_file(tmp_path):
    path = tmp_path / "blocks.jsonl"
    write_blocks(path, make_blocks(DEMO, TOKENIZER, 3, 16, num_validation=1, avoid=demo_texts().by_id()))
    return path


def test_blocks_survive_a_round_trip(blocks_file):
    written, read = make_blocks(DEMO, TOKENIZER, 3, 16, num_validation=1), read_blocks(blocks_file)
    assert read.ids.tolist() == written.ids.tolist()
    assert read.validation_ids.tolist() == written.validation_ids.tolist()
    assert (read.texts, read.validation_texts) == (written.texts, written.validation_texts)
    assert (read.order_hash, read.corpus_fingerprint) == (written.order_hash, DEMO.fingerprint)
    assert json.loads(blocks_file.read_text().splitlines()[0])["format"] == "hyperfit-eval/blocks"


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (0, {"version": 2}, ", line 1: version 2 is later than 1; pip install -U hyperfit-eval"),
        (0, {"seed": "x"}, ", line 1: field 'seed' is 'x', expected int"),
        (0, {"order_hash": "0"}, ", line 1: field 'order_hash' does not match the blocks; were they edited?"),
        (1, {"part": "test"}, ", line 2: field 'part' is 'test', expected 'train' or 'validation'"),
        (2, {"ids": [1]}, ", line 3: field 'ids' holds 1 ids, expected 16"),
        (2, {"ids": [-1]}, ", line 3: field 'ids' holds something that is no token id"),
        (2, {"ids": [7] * 16}, ", line 1: field 'fingerprint' does not match the blocks; were they edited?"),
        (4, {"text": None}, ", line 5: field 'text' is None, expected str"),
    ],
)
def test_an_edited_file_is_refused(blocks_file, line, changes, message):
    lines = blocks_file.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **changes})
    blocks_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(HyperfitError) as caught:
        read_blocks(blocks_file)
    assert str(caught.value) == f"{blocks_file}{message}"
