"""Choosing, cutting and storing the evaluation texts."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts import contexts
from hyperfit_eval.texts.contexts import cut, demo_texts, read_texts, select_texts, write_texts
from hyperfit_eval.texts.sources import Document, Tier

# Twelve passages of prose, each long enough by itself, to stand for the texts of a source.
PROSE = [passage.text for passage in demo_texts().passages[:12]]


@pytest.fixture
def source(monkeypatch):
    """Make "news" give the tiers that a test names."""

    def give(*tiers):
        documents = [[Document(None, sections) for sections in tier] for tier in tiers]
        named = [Tier(f"news {number}", each) for number, each in enumerate(documents)]
        monkeypatch.setitem(contexts.SOURCES, "news", lambda: iter(named))

    return give


def chosen(per_source):
    return [passage.text for passage in select_texts(per_source, ["news"]).passages]


def test_texts_are_ordered_by_their_hash_within_a_tier(source):
    source([[[text]] for text in PROSE[:6]], [[[text]] for text in PROSE[6:]])
    everything = chosen(12)
    assert set(everything[:6]) == set(PROSE[:6])
    ids = [re.fullmatch(r"news-([0-9a-f]{8})", p.id)[1] for p in select_texts(12, ["news"]).passages]
    assert ids == sorted(ids[:6]) + sorted(ids[6:])
    source([[[text]] for text in reversed(PROSE[:6])])
    assert chosen(6) == everything[:6]


def test_later_tiers_are_left_unread(source):
    source([[[PROSE[0]]]], [[[PROSE[1]]]])
    assert select_texts(1, ["news"]).origins == {"news": ["news 0"]}


def test_a_passage_grows_by_paragraphs_until_it_is_long_enough(source):
    paragraphs = "\n\n".join(PROSE[:2]).split("\n\n")
    source([[paragraphs]])
    (text,) = chosen(1)
    assert "\n\n".join(paragraphs).startswith(text)
    assert contexts.min_tokens(text) >= 256 > contexts.min_tokens(text.rpartition("\n\n")[0])


def test_a_passage_does_not_cross_sections(source):
    source([[PROSE[0].split("\n\n")[:2], PROSE[1].split("\n\n")]])
    (text,) = chosen(1)
    assert PROSE[1].startswith(text)


def test_what_was_dropped_is_counted_by_reason(source):
    source([[["Short."]], [["<p>" + PROSE[0]]], [[PROSE[1]]], [[PROSE[1]]]])
    with pytest.raises(HyperfitError) as caught:
        select_texts(2, ["news"])
    assert str(caught.value) == (
        "news: 1 texts found, 2 are needed (read: news 0; dropped: 1 too short, 1 does not start at the start of a "
        "sentence, 1 shares 13 words with another); ask for 1 a source or give a fuller copy of the dataset"
    )


def test_one_text_of_each_article(source):
    source([[[PROSE[0]], [PROSE[1]]]])
    with pytest.raises(HyperfitError, match="news: 1 texts found, 2 are needed"):
        select_texts(2, ["news"])


def test_unknown_sources_are_refused():
    with pytest.raises(HyperfitError) as caught:
        select_texts(1, ["poetry"])
    assert str(caught.value) == "unknown source 'poetry'; choose from wikipedia, fiction, news"
    with pytest.raises(HyperfitError, match="0 texts of 1 sources: at least one of each is needed"):
        select_texts(0, ["news"])


def test_cut():
    assert cut([1, 2, 3, 4, 5], context_tokens=2, total_tokens=4) == ([1, 2], [3, 4])
    with pytest.raises(HyperfitError) as caught:
        cut(range(231), name="wikipedia-3f2a9c1b")
    assert str(caught.value) == (
        "wikipedia-3f2a9c1b: 231 tokens, 256 are needed (32 of context and 224 of original continuation); "
        "give a longer text"
    )
    with pytest.raises(HyperfitError, match="4 context tokens of 4: expected 0 < context < total"):
        cut([1, 2, 3, 4], context_tokens=4, total_tokens=4)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=256, max_size=300))
def test_cut_keeps_the_first_256_ids(ids):
    context, original = cut(ids)
    assert (len(context), len(original)) == (32, 224)
    assert context + original == ids[:256]


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "texts.jsonl"
    write_texts(path, demo_texts())
    lines = path.read_text().splitlines()
    for line, changes, message in [
        (3, {"text": "Another."}, ": the texts do not match the fingerprint in line 1; were they edited?"),
        (3, {"text": 5}, ", line 4: field 'text' is 5, expected str"),
        (3, {"id": "fiction-01"}, ", line 4: id 'fiction-01' was on line 2 already"),
        (0, {"version": 2}, ", line 1: version 2 is later than 1; pip install -U hyperfit-eval"),
        (0, {"dropped": {"news": 3}}, ", line 1: field 'news' is 3, expected dict"),
    ]:
        edited = list(lines)
        edited[line] = json.dumps({**json.loads(lines[line]), **changes})
        path.write_text("\n".join(edited) + "\n")
        with pytest.raises(HyperfitError) as caught:
            read_texts(path)
        assert str(caught.value) == f"{path}{message}"
