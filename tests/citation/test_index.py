"""The index and its lookup: by hand, against a dictionary, and with files that are not what they should be."""

import json
import os
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
from hyperfit_eval.citation.building import sorted_ngrams
from hyperfit_eval.citation.stored import write_index
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
    first = sorted_ngrams(np.array([1, 2, 3, -1], dtype=np.int32), 3)[2]
    one = np.full(3, 2**30)
    other = one + colliding_difference(first)
    tokens = np.array([*one, 7, -1, *other, 8, -1], dtype=np.int32)
    keys, positions, multipliers = sorted_ngrams(tokens, 3)
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


def header_of(path):
    raw = path.read_bytes()
    return json.loads(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["citation_index"])


def rewritten(path, drop=(), **fields):
    """The file with other fields in its header (None: without), or without some arrays."""
    header = header_of(path) | fields
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
    rewritten(path, version=3)
    refused("version 3, this package reads 1 and 2; build the index again or pip install -U hyperfit-eval")
    rewritten(path, format="pt")
    refused("format 'pt', expected 'hyperfit-eval/citation-index'")
    for ngram in (None, "five"):
        rewritten(path, ngram=ngram)
        refused("its header is damaged; build the index again")
    rewritten(path, ngram=4)
    refused("its arrays do not fit together; the file is damaged, build the index again")
    rewritten(path, drop=["tokens"])
    refused("tokens is missing, expected int32 of 1 dimension; the file is damaged, build the index again")
    rewritten(path, checksums=None)
    refused("its header is damaged; build the index again")
    rewritten(path, checksums={"keys": 1})
    refused("its header is damaged; build the index again")
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    refused("its tensors are not those of a citation index")
    save_file({"weight": np.zeros(3, dtype=np.int32)}, path)
    refused("format None, expected 'hyperfit-eval/citation-index'")
    for text in ("[1", "[1]", "7", "[" * 100_000):
        save_file({"weight": np.zeros(3, dtype=np.int32)}, path, {"citation_index": text})
        refused("its header is damaged .*; build the index again")
    path.unlink()
    path.mkdir()
    with pytest.raises(HyperfitError, match="not a file, a citation index was expected"):
        CitationIndex.load(path)
    shutil.rmtree(path)
    with pytest.raises(HyperfitError, match=r"index.safetensors: cannot be read \(No such file or directory\)"):
        CitationIndex.load(path)


def test_headers_that_no_library_writes(tmp_path):
    path = tmp_path / "index.safetensors"
    spans = [[0, 4.0], [4, 0], [-4, 0], [0], "ab", None]
    entries = [{"dtype": "I32", "shape": [1], "data_offsets": span} for span in spans]
    entries += [{"dtype": kind, "shape": [1], "data_offsets": [0, 4]} for kind in ("F32", [], None)]
    shapes = [[1.0], ["1"], [True], 1, [2**63]]
    entries += [{"dtype": "I32", "shape": shape, "data_offsets": [0, 4]} for shape in shapes]
    headers = [{"tokens": entry} for entry in (*entries, [], 1)]
    for header in (*headers, {"__metadata__": 1}, {"__metadata__": {"a": 1}}):
        raw = json.dumps(header).encode()
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
        with pytest.raises(HyperfitError, match=r"index\.safetensors: .*(citation index|build)"):
            CitationIndex.load(path)
    raw = b"[" * 500_000
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    with pytest.raises(HyperfitError, match="not a safetensors file"):
        CitationIndex.load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(HyperfitError, match="not a file, a citation index was expected"):
        CitationIndex.load(path)


def set_at(place, value):
    def damage(array):
        array[place] = value
        return array

    return damage


# What contradicts the structure of an index, and what only a checksum shows.
IN_STRUCTURE = {
    "kinds all 0": ("kinds", lambda a: a * 0),
    "kinds all 1": ("kinds", lambda a: a * 0 + 1),
    "kinds of no meaning": ("kinds", set_at(3, 9)),
    "kinds zeroed but for the first 16": ("kinds", set_at(slice(16, None), 0)),
    "kinds too few": ("kinds", lambda a: a[:-1]),
    "kinds of 64 bits": ("kinds", lambda a: a.astype(np.int64)),
    "keys unsorted": ("keys", lambda a: a[::-1].copy()),
    "keys that meet": ("keys", lambda a: np.repeat(a[::2], 2)[: len(a)]),
    "keys zeroed": ("keys", lambda a: a * 0),
    "keys too few": ("keys", lambda a: a[:-1]),
    "no keys": ("keys", lambda a: a[:0]),
    "keys of 32 bits": ("keys", lambda a: a.astype(np.int32)),
    "buckets negative": ("buckets", lambda a: -a),
    "buckets beyond the keys": ("buckets", lambda a: a + 10**6),
    "one bucket moved": ("buckets", set_at(5, 0)),
    "buckets too few": ("buckets", lambda a: a[: len(a) // 2 + 1]),
    "starts zeroed": ("starts", lambda a: a * 0),
    "starts negative": ("starts", lambda a: -a),
    "starts unsorted": ("starts", lambda a: a[::-1].copy()),
    "starts beyond the entries": ("starts", set_at(-1, 10**6)),
    "positions negative": ("positions", lambda a: -a - 1),
    "positions beyond the tokens": ("positions", lambda a: a + 10**6),
    "one position at the end": ("positions", set_at(3, 20 * 65 - 5)),
    "positions too few": ("positions", lambda a: a[:-1]),
    "positions of 8 bits": ("positions", lambda a: a.astype(np.uint8)),
    "an id beyond the vocabulary": ("tokens", set_at(3, 10**6)),
    "an id negative": ("tokens", set_at(3, -2)),
    "a separator gone": ("tokens", set_at(-1, 5)),
    "tokens all separators": ("tokens", lambda a: a * 0 - 1),
    "tokens too few": ("tokens", lambda a: a[:-1]),
    "tokens in two dimensions": ("tokens", lambda a: a.reshape(-1, 65)),
    "multipliers too few": ("multipliers", lambda a: a[:-1]),
}
IN_CHECKSUM = {
    "kinds turned round": ("kinds", lambda a: a[::-1].copy()),
    "positions turned round": ("positions", lambda a: a[::-1].copy()),
    "positions zeroed": ("positions", lambda a: a * 0),
    "one id another": ("tokens", set_at(3, 5)),
    "multipliers zeroed": ("multipliers", lambda a: a * 0),
}


def refusal(path):
    """The message with which a file is refused; "" if it is not."""
    try:
        CitationIndex.load(path)
    except HyperfitError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", [*IN_STRUCTURE, *IN_CHECKSUM])
def test_damaged_arrays_are_refused(saved, name):
    _, index, path = saved
    array, damage = {**IN_STRUCTURE, **IN_CHECKSUM}[name]
    arrays = {**index._arrays, array: damage(index._arrays[array].copy())}
    save_file(arrays, path, {"citation_index": json.dumps(header_of(path))})
    assert refusal(path).endswith("; the file is damaged, build the index again")
    in_structure = name in IN_STRUCTURE
    rewritten(path, version=1, checksums=None)  # as 0.1.0 wrote it
    assert refusal(path).endswith("; the file is damaged, build the index again") == in_structure
    write_index(path, index.header, arrays)  # with checksums that agree
    assert bool(refusal(path)) == in_structure


def test_an_index_written_by_0_1_0_is_read_without_checksums(saved):
    _, index, path = saved
    rewritten(path, version=1, checksums=None)
    loaded = CitationIndex.load(path, TOKENIZER, full=True)
    assert loaded.header == index.header
    assert loaded.not_compared == "written by 0.1.0 without checksums, build the index again to have them"
    assert loaded.find(index.sequence(3)) == [Overlap(0, 64, 3, 0)]
