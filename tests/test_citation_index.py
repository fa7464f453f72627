"""The index and its lookup: by hand, against a dictionary, and with files that are not what they should be."""

import json
import shutil
from collections import defaultdict
from itertools import count

import citation_tokenizers as kinds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hyperfit_eval import files
from hyperfit_eval.citation import CitationIndex, CitationMatcher, Overlap
from hyperfit_eval.citation.index import _sorted_ngrams
from hyperfit_eval.citation.words import starts_word
from hyperfit_eval.errors import HyperfitError

TOKENIZER = kinds.byte_level()
THE, T, HE, DOG, DOT, S = TOKENIZER.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog", ".", "'s"])


def continuations(sequences, ngram):
    """The plainest matcher: n-gram -> ids that follow it."""
    table = defaultdict(set)
    for row in sequences:
        for start in range(len(row) - ngram + 1):
            table[tuple(row[start : start + ngram])] |= set(row[start + ngram : start + ngram + 1])
    return table


def pairs(bans):
    return list(zip(bans.rows.tolist(), bans.ids.tolist(), strict=True))


def test_the_sequences_come_back():
    rows = [[THE, T, HE, DOG, DOT], [DOT], [T, HE, DOG, S, DOG]]
    index = CitationIndex.build(rows, TOKENIZER, ngram=2)
    assert [row.tolist() for row in index.sequences()] == rows
    assert [index.sequence(number).tolist() for number in (2, 0)] == [rows[2], rows[0]]


def test_by_hand():
    # The the dog. | the dog's dog       (he and 's do not start a word)
    index = CitationIndex.build([[THE, T, HE, DOG, DOT], [T, HE, DOG, S, DOG]], TOKENIZER, ngram=2)
    matcher = CitationMatcher(index)

    def after(*history):
        bans = matcher.banned_after(history)
        return bans.ids.tolist(), bans.matched

    assert after(HE, DOG) == ([DOT], 1)  # followed by '.' and by 's
    assert after(THE, T) == ([], 1)  # followed by he: matched, nothing to ban
    assert after(THE, THE, T, HE) == ([DOG], 1)  # only the last two count
    assert after(DOG, DOT) == ([], 1)  # end of the first sequence, not joined to the second
    assert after(DOT, T) == ([], 0)
    assert after(HE) == after() == ([], 0)  # too short to match
    assert pairs(matcher.banned(np.array([[HE, DOG], [DOT, T], [T, HE], [-1, DOG]]))) == [(0, DOT), (2, DOG)]
    assert matcher.banned(np.empty((0, 2), dtype=np.int64)).matched == 0

    capped = CitationMatcher(index, max_overlap_tokens=3)
    assert capped.banned_after([T, HE, DOG]).ids.tolist() == sorted([DOT, S])  # he, dog: both matched, so all end
    assert capped.banned_after([HE, DOG]).ids.tolist() == [DOT]  # two tokens so far
    assert capped.banned_after([DOT, HE, DOG]).ids.tolist() == [DOT]  # '. he' is nowhere

    header = index.header
    assert (header.sequences, header.tokens, header.ngrams, header.continuations) == (2, 10, 6, 5)
    assert (header.word_starts, header.most_continuations, header.largest_id) == (3, 2, max(DOG, DOT, S, HE, T, THE))


def test_find_by_hand():
    index = CitationIndex.build([[1, 2, 3, 4, 5, 6, 7], [11, 12, 13, 14, 15, 16]], kinds.byte_level(), ngram=3)
    assert index.find([9, 2, 3, 4, 5, 9, 9, 13, 14, 15, 16, 9]) == [Overlap(1, 4, 0, 1), Overlap(7, 4, 1, 2)]
    assert index.find([6, 7, 11, 12]) == index.find([1, 2]) == index.find([]) == []
    assert index.find(np.array([1, 2, 3])) == [Overlap(0, 3, 0, 0)]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    corpus=st.lists(st.lists(st.integers(4, 11), max_size=25), min_size=1, max_size=6),
    windows=st.lists(st.lists(st.integers(4, 11), min_size=3, max_size=3), min_size=1, max_size=20),
    ngram=st.integers(1, 3),
    data=st.data(),
)
def test_parity_with_a_dictionary(corpus, windows, ngram, data):
    corpus.append(data.draw(st.lists(st.integers(4, 11), min_size=3, max_size=3)))
    index = CitationIndex.build(corpus, kinds.byte_level(), ngram)
    table = continuations(corpus, ngram)
    expected, matched = [], 0
    for row, window in enumerate(windows):
        gram = tuple(window[-ngram:])
        matched += gram in table
        expected += [(row, i) for i in sorted(table.get(gram, ())) if starts_word(kinds.byte_level(), gram, i)]
    bans = CitationMatcher(index).banned(np.array(windows)[:, -ngram:])
    assert (pairs(bans), bans.matched) == (expected, matched)
    one_by_one = [CitationMatcher(index).banned_after(window) for window in windows]
    assert [(row, i) for row, ban in enumerate(one_by_one) for i in ban.ids.tolist()] == expected
    header = index.header
    assert header.ngrams == len(table) and header.continuations == sum(map(len, table.values()))
    overlaps = index.find(windows[0])
    inside = [any(o.start <= i and i + ngram <= o.start + o.length for o in overlaps) for i in range(4 - ngram)]
    assert inside == [tuple(windows[0][i : i + ngram]) in table for i in range(4 - ngram)]
    for overlap in overlaps:
        found = corpus[overlap.sequence][overlap.offset : overlap.offset + ngram]
        assert found == windows[0][overlap.start : overlap.start + ngram]


def test_the_same_by_rows_and_by_batch():
    """Few and many rows take two ways through the lookup."""
    rng = np.random.default_rng(0)
    corpus = rng.integers(4, 40, (50, 64))
    index = CitationIndex.build(corpus, TOKENIZER)
    windows = np.lib.stride_tricks.sliding_window_view(corpus, 7, axis=1).reshape(-1, 7)[::5].copy()
    windows[::3] = rng.integers(4, 40, (len(windows[::3]), 7))
    for cap in (None, 5, 7):
        matcher = CitationMatcher(index, cap)
        inputs = windows[:, -matcher.window_tokens :]
        together = matcher.banned(inputs)
        alone = [matcher.banned_after(window) for window in inputs.tolist()]
        assert together.matched == sum(ban.matched for ban in alone) > 100
        assert pairs(together) == [(row, i) for row, ban in enumerate(alone) for i in ban.ids.tolist()]


def colliding_difference(multipliers):
    """Three small numbers d with sum(d x multipliers) = 0 modulo 2**64."""
    a, b, c = (int(m) for m in multipliers)
    slope = -a * pow(b, -1, 2**64) % 2**64
    short, long = (1, slope), (0, 2**64)
    while True:  # Gauss: the shortest basis of all (x, y) with a x + b y = 0
        if short[0] ** 2 + short[1] ** 2 > long[0] ** 2 + long[1] ** 2:
            short, long = long, short
        product, square = short[0] * long[0] + short[1] * long[1], short[0] ** 2 + short[1] ** 2
        times = (2 * product + square) // (2 * square)
        if times == 0:
            break
        long = (long[0] - times * short[0], long[1] - times * short[1])
    det = short[0] * long[1] - short[1] * long[0]
    for z in count(1):
        y = -c * z * pow(b, -1, 2**64) % 2**64
        u, v = -y * long[0] * 2 // det, y * short[0] * 2 // det
        x, y = [p - (u + 1) // 2 * s - (v + 1) // 2 * q for p, s, q in zip((0, y), short, long, strict=True)]
        if max(abs(x), abs(y)) < 2**30:
            assert (a * x + b * y + c * z) % 2**64 == 0
            return np.array([x, y, z])
    raise AssertionError


def test_a_foreign_ngram_with_the_same_key_is_not_matched():
    index = CitationIndex.build([[5, 6, 7, THE]], TOKENIZER, ngram=3)
    foreign = np.array([5, 6, 7]) + colliding_difference(index.multipliers)
    assert foreign @ index.multipliers in index.keys
    matcher = CitationMatcher(index)
    assert matcher.banned_after([5, 6, 7]).matched == 1
    assert matcher.banned_after(foreign.tolist()).matched == 0
    assert matcher.banned(np.tile(foreign, (20, 1))).matched == 0


def test_keys_are_drawn_again_until_the_corpus_has_no_collision():
    first = _sorted_ngrams(np.array([1, 2, 3, -1], dtype=np.int32), 3)[2]
    one = np.full(3, 2**30)
    other = one + colliding_difference(first)
    tokens = np.array([*one, 7, -1, *other, 8, -1], dtype=np.int32)
    keys, positions, multipliers = _sorted_ngrams(tokens, 3)
    assert (multipliers != first).any()
    assert len(set(keys.tolist())) == len(positions) == 4


def test_no_corpus_to_index():
    for sequences in ([], [[]], [[1, 2, 3, 4], [5, 6, 7, 8]]):
        with pytest.raises(HyperfitError, match="none of 5 tokens or more: nothing would ever be blocked"):
            CitationIndex.build(sequences, TOKENIZER)
    with pytest.raises(HyperfitError, match="ngram=0: at least 1 token is needed"):
        CitationIndex.build([[1]], TOKENIZER, ngram=0)
    with pytest.raises(HyperfitError, match="token id 100000 is not in the tokenizer's vocabulary"):
        CitationIndex.build([[1, 2, 3, 4, 100_000]], TOKENIZER)
    with pytest.raises(HyperfitError, match="sequence 2: token ids from -100 to 4, expected 0"):
        CitationIndex.build([[1, 2, 3, 4, 5], [4, -100]], TOKENIZER)
    with pytest.raises(HyperfitError, match=r"sequence 1: <U1 of shape .*, expected a list of token ids"):
        CitationIndex.build([["a", "b"]], TOKENIZER)
    with pytest.raises(HyperfitError, match="max_overlap_tokens=4: the index matches 5 tokens, expected 5 or more"):
        CitationMatcher(CitationIndex.build([[1, 2, 3, 4, 5]], TOKENIZER), max_overlap_tokens=4)


@pytest.fixture
def saved(tmp_path):
    corpus = np.random.default_rng(0).integers(4, 300, (20, 64))
    index = CitationIndex.build(corpus, TOKENIZER)
    index.save(tmp_path / "index.safetensors")
    return corpus, index, tmp_path / "index.safetensors"


def test_saved_and_loaded(saved):
    corpus, index, path = saved
    loaded = CitationIndex.load(path, TOKENIZER)
    assert loaded.header == index.header
    assert loaded.header.corpus == files.fingerprint_ids(corpus)
    assert not loaded.keys.flags.writeable and loaded.keys.flags.aligned
    assert loaded.find(corpus[3][10:30]) == [Overlap(0, 20, 3, 10)]
    for name, array in load_file(path).items():
        assert (array == getattr(index, name)).all()
    again = path.with_name("again.safetensors")
    CitationIndex.build(corpus.tolist(), TOKENIZER).save(again)
    assert again.read_bytes() == path.read_bytes()  # the same corpus gives the same file


def test_an_open_index_survives_its_replacement(saved):
    corpus, _, path = saved
    loaded = CitationIndex.load(path)
    CitationIndex.build(corpus[:2, :8], TOKENIZER).save(path)
    assert loaded.find(corpus[19]) == [Overlap(0, 64, 19, 0)]
    assert CitationIndex.load(path).header.tokens == 16
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_tokenizer(saved):
    with pytest.raises(HyperfitError, match=r"built with tokenizer [0-9a-f]{16}, this one is [0-9a-f]{16}; use the"):
        CitationIndex.load(saved[2], kinds.wordpiece())


def rewritten(path, drop=(), **fields):
    """The file with other fields in its header (None: without), or without some arrays."""
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    header = json.loads(metadata["citation_index"]) | fields
    header = {name: value for name, value in header.items() if value is not None}
    arrays = {name: array for name, array in load_file(path).items() if name not in drop}
    save_file(arrays, path, {"citation_index": json.dumps(header)})


def test_truncated_foreign_and_other_versions(saved):
    path = saved[2]
    whole = path.read_bytes()

    def refused(match):
        with pytest.raises(HyperfitError, match=match):
            CitationIndex.load(path)
        path.write_bytes(whole)

    for size in (len(whole) - 1, len(whole) // 2):
        path.write_bytes(whole[:size])
        refused(rf"index.safetensors: {size} bytes, its header asks for {len(whole)}; the file is cut off or damaged")
    path.write_bytes(whole + b"x")
    refused("the file is cut off or damaged")
    for size in (0, 4, 8, 100):
        path.write_bytes(whole[:size])
        refused("not a safetensors file, a citation index was expected")
    path.write_text("prose" * 100)
    refused("not a safetensors file, a citation index was expected")
    rewritten(path, version=2)
    refused("version 2, this package reads 1; build the index again or pip install -U hyperfit-eval")
    rewritten(path, format="pt")
    refused("format 'pt', expected 'hyperfit-eval/citation-index'")
    for ngram in (None, "five"):
        rewritten(path, ngram=ngram)
        refused("its header is damaged; build the index again")
    rewritten(path, ngram=4)
    refused("its arrays do not fit together; build the index again")
    rewritten(path, drop=["tokens"])
    refused("its header is damaged; build the index again")
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    refused("its tensors are not those of a citation index")
    save_file({"weight": np.zeros(3, dtype=np.int32)}, path)
    refused("format None, expected 'hyperfit-eval/citation-index'")
    save_file({"weight": np.zeros(3, dtype=np.int32)}, path, {"citation_index": "[1"})
    refused("its header is damaged .*; build the index again")
    path.unlink()
    path.mkdir()
    with pytest.raises(HyperfitError, match="cannot be read"):
        CitationIndex.load(path)
    shutil.rmtree(path)
    with pytest.raises(HyperfitError, match=r"index.safetensors: cannot be read \(No such file or directory\)"):
        CitationIndex.load(path)
