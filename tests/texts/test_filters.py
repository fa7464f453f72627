"""The filters that stand in for reading 300 texts by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from hyperfit_eval.texts import filters
from hyperfit_eval.texts.contexts import demo_texts

PROSE = "The ferry left two hours late, and nobody on the quay could say why it had waited. "

# How common tokenizers part text before any merge; a token never crosses these borders.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K_WORD = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
O200K = (
    O200K_WORD + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "Llama 3": pre_tokenizers.Split(Regex(CL100K), "isolated"),
    "GPT-4o": pre_tokenizers.Split(Regex(O200K), "isolated"),
    "BERT": pre_tokenizers.BertPreTokenizer(),
}


def test_sure_tokens_counts_words_and_the_marks_after_them():
    assert filters.min_tokens("Well, he came.") == 5
    assert filters.min_tokens('He said, "No!" Then — nothing.') == 9
    assert filters.min_tokens("It cost 1,000 pounds at 3:45") == 6


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_no_common_tokenizer_needs_fewer_than_the_sure_tokens(name):
    for passage in demo_texts().passages:
        pieces = PRE_TOKENIZERS[name].pre_tokenize_str(passage.text)
        assert filters.min_tokens(passage.text) <= len(pieces), passage.id


def test_sure_tokens_holds_for_a_vocabulary_of_whole_words():
    """The extreme case: every pre-token of the text is in the vocabulary."""
    text = demo_texts().passages[0].text
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="?"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS["Llama 3"]
    pieces = {piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    tokenizer.model = models.WordLevel({piece: number for number, piece in enumerate(sorted(pieces))}, unk_token="?")
    assert filters.min_tokens(text) <= len(tokenizer.encode(text).ids)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, "too short"),
        ("and " + PROSE * 20, "does not start at the start of a sentence"),
        ('"Come in," said the captain. ' + PROSE * 20, "opens with speech"),
        ('"It was late.\n\n' + PROSE * 20, "opens with speech"),
        ("Image source, Getty Images\n\n" + PROSE * 20, "boilerplate"),
        ("This video can not be played. " + PROSE * 20, "boilerplate"),
        ("The <b>ferry</b> left. " + PROSE * 20, "markup residue"),
        ("See https://example.org for it. " + PROSE * 20, "markup residue"),
        ("The ferry [[Rupsha]] left. " + PROSE * 20, "markup residue"),
        ("The ferry , which was late , left . " + PROSE * 20, "markup residue"),
        ("The ferry was two @-@ storeyed. " + PROSE * 20, "markup residue"),
        ('He said that "e cannot" go. ' + PROSE * 20, "markup residue"),
        ("He left that year.In May he came back. " + PROSE * 20, "markup residue"),
        ("Chen Shui-bian Following detention it was late. " + PROSE * 20, "sentences run together"),
        ("It was late.\nIt was cold.\n\n" + PROSE * 20, "line breaks of verse, a list or a table"),
        ("It was late.\n\n1. " + PROSE * 20, "list item"),
        ("It was late.\n\nLieber – the leader. " + PROSE * 20, "list item"),
        ("The Ferry\n\n" + PROSE * 20, "paragraph that ends in no sentence (heading, caption or list)"),
        ("It was late.\n\nCAPTAIN: " + PROSE * 20, "dialogue script"),
        ("It was late.\n\nCAPTAIN. " + PROSE * 20, "dialogue script"),
        ("It was late.\n\nMary Ann: " + PROSE * 20, "dialogue script"),
        ("In Kyoto (京都) it was late. " + PROSE * 20, "letters that are not Latin"),
        (PROSE * 5 + "At 45 12 77 03 19 it was 1955 23 54 00 99 1. " * 12, "many digits or signs"),
        ("Der Dampfer kam zwei Stunden zu spät, und keiner wusste warum. " * 25, "few English function words"),
        (PROSE * 20, "repeated sentence"),
    ],
)
def test_each_filter_gives_its_reason(text, reason):
    assert filters.problem(text.strip()) == reason


@pytest.mark.parametrize(
    "opening",
    [
        '"Sailor Mouth" is the first segment of the second season, which was shown at night. ',
        'She said, "It is late," and then ... nothing more was heard of it. ',
        "U.S. officials said that it had been late, and that the boys' mother knew. ",
        "In the years 2000–2005 the rock 'n' roll of the o'clock men was [then] late. ",
        "The Syrian Army — whose leader was late — entered New York, BlackBerry and WrestleMania. ",
        "Mr. Scogan's café—the old one—was open, though he'd said it wasn't; so they went in. ",
        "In The Independent it was said of The Who that The Road was long; Plan A was late. ",
        "The ship (a ferry) cost £8 million (the equivalent of 70% of it) in 1804. ",
    ],
)
def test_ordinary_prose_passes(opening):
    assert filters.problem(opening + demo_texts().passages[0].text) is None


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.text(max_size=200))
def test_filters_are_total(text):
    """Whatever is in a text, each filter answers with None or with a reason."""
    for check in filters.FILTERS:
        assert check(text) is None or check(text)
