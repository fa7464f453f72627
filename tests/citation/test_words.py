"""Where words start: the rule by hand, then real tokenizers of every kind."""

import citation_tokenizers as kinds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.citation.edges import Edge, word_borders
from hyperfit_eval.citation.words import Pieces, starts_word
from hyperfit_eval.errors import HyperfitError


def words(tokenizer, text):
    """`text` cut before every token that starts a word."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    groups = [ids[:1]]
    for i in range(1, len(ids)):
        if starts_word(tokenizer, ids[:i], ids[i]):
            groups.append([])
        groups[-1].append(ids[i])
    return [tokenizer.decode(group, clean_up_tokenization_spaces=False) for group in groups]


def test_by_hand():
    tokenizer = kinds.byte_level()
    pieces = tokenizer.get_vocab()

    def starts(*row):
        *previous, index = [pieces[piece] for piece in row]
        return starts_word(tokenizer, previous, index)

    assert starts("The", "Ġt")  # a space marker ends the word before it
    assert not starts("Ġt", "he")
    assert starts("Ċ", "T")  # no marker, but a new line before it
    assert starts('"', "A") and starts("Ġ", "A") and starts("-", "w")
    assert starts("e", ".") and starts(".", ".")  # punctuation ends a word
    assert starts("e", "Ċ")
    assert not starts("1", "9") and not starts("v", "2") and starts("Ġ", "1")  # digits are letters of a number
    assert not starts("n", "'") and not starts("n", "'", "t")  # don't
    assert starts("Ġ", "'") and starts("Ġ", "'", "t") and not starts("'", "t")  # a quotation mark, if a space says so
    assert not starts("n", "'s") and starts(".", "'s")
    assert not starts("d", "</s>") and not starts(".", "<pad>") and starts("</s>", "T")  # special: never banned
    assert not starts("Ð", "ŀ")  # the rest of a character
    assert not starts("Ð", "ŀ", "Ð") and not starts(
        "ŀ", "Ð"
    )  # a Cyrillic letter after one, and after no one knows what
    assert starts("ä", "º", "º", "a") and starts("a", "ä")  # a Latin letter after an ideograph, and before one
    assert not starts("n", "â") and starts(",", "â")  # perhaps don’t, surely not ,’t
    assert starts("Ġ", "â", "Ģ", "ľ", "W")  # a letter after a curly quotation mark
    assert not starts("n", "â", "Ģ", "Ļ", "t")  # don’t
    assert starts("a", "ÿ") and starts("ÿ", "a")  # bytes that occur in no text


@pytest.mark.parametrize(
    ("previous", "begin", "expected"),
    [
        (Edge.LETTER, Edge.LETTER, False),
        (Edge.LETTER, Edge.IDEOGRAPH, True),
        (Edge.IDEOGRAPH, Edge.IDEOGRAPH, True),
        (Edge.IDEOGRAPH, Edge.LETTER, True),
        (Edge.IDEOGRAPH, Edge.JOINED, False),
        (Edge.APOSTROPHE, Edge.APOSTROPHE, True),
        (Edge.APOSTROPHE, Edge.LETTER, False),
        (Edge.PUNCTUATION, Edge.APOSTROPHE, True),
        (Edge.JOINED, Edge.LETTER, False),
        (Edge.SPACE, Edge.SPACE, True),
    ],
)
def test_table(previous, begin, expected):
    assert word_borders(previous, begin) == expected


def test_byte_level():
    tokenizer = kinds.byte_level()
    assert words(tokenizer, "The foxes don't jump, said \"Anna\" in 1984.\nThe well-known end: snake_case dogs'.") == [
        *["The", " foxes", " don't", " jump", ",", " said", " ", '"', "Anna", '"', " in", " ", "1984", ".", "\n"],
        *["The", " well", "-", "known", " end", ":", " ", "snake", "_", "case", " dogs'", "."],
    ]
    # Every one of these letters is two or more tokens here.
    assert words(tokenizer, "Straße читала 한국어 हिन्दी café") == [
        *["Straße", " ", "читала", " ", "한국어", " ", "हिन्दी", " ", "café"]
    ]
    assert words(tokenizer, "人工 ひらがな") == ["人", "工", " ", "ひ", "ら", "が", "な"]
    assert words(tokenizer, "กขค") == ["ก", "ข", "ค"]
    assert words(tokenizer, "“Well,” he’d said—“naïve…”") == [
        # After a letter the first byte of a curly sign may be that of an apostrophe.
        *["“", "Well", ",", "”", " ", "he’d", " said—", "“", "naïve…", "”"]
    ]


def test_sentencepiece():
    tokenizer = kinds.sentencepiece()
    assert words(tokenizer, 'The foxes don\'t, said "Anna".\nThe 19') == [
        *["The", "foxes", "don't", ",", "said", "", '"', "Anna", '"', ".", "\n", "The", "", "19"]
    ]
    assert words(tokenizer, "Straße 人工") == ["", "Straße", "", "人", "工"]  # bytes as <0x..>


def test_unigram():
    assert words(kinds.unigram(), "The foxes don't 人工") == ["", "The", "", "foxes", "don't", "", "人", "工"]
    assert words(kinds.unigram(), "สวัสดี") == ["", "ส", "วั", "ส", "ดี"]  # vowel marks stay with their letter


def test_wordpiece():
    # The pieces themselves say that an apostrophe and what follows it are words of their own.
    assert words(kinds.wordpiece(), "The foxes don't jump, 1984 人工") == [
        *["The", "foxes", "don", "'", "t", "jump", ",", "1984", "人", "工"]
    ]


def test_end_of_word_suffix():
    assert words(kinds.suffixed(), "The foxes jump, the dog") == ["The", "foxes", "jump", ",", "the", "dog"]


def test_word_level_and_characters():
    assert words(kinds.word_level(), "The dog don't jump.") == ["The", "dog", "don", "'", "t", "jump", "."]
    assert words(kinds.characters(), "foxes don't jump.") == ["foxes", " ", "don't", " ", "jump", "."]


def test_special_and_added_tokens():
    tokenizer = kinds.byte_level()
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    tokenizer.add_tokens(["  ", "ation"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    spaces, suffix, user, end = tokenizer.convert_tokens_to_ids(["  ", "ation", "<|user|>", "</s>"])
    begins, _ = Pieces(tokenizer).edges([spaces, suffix, user, end])
    assert begins.tolist() == [Edge.SPACE, Edge.LETTER, Edge.SPECIAL, Edge.SPECIAL]


def test_refused():
    with pytest.raises(HyperfitError, match="a BPE model whose pieces carry neither spaces, a marker"):
        Pieces(kinds.unmarked())
    with pytest.raises(HyperfitError, match="token id 99999 is not in the tokenizer's vocabulary"):
        Pieces(kinds.byte_level()).edges([99999])


@settings(deadline=None, derandomize=True, max_examples=200)
@given(text=st.text(min_size=1, max_size=20), kind=st.sampled_from(["byte_level", "sentencepiece"]))
def test_no_word_starts_inside_a_character(text, kind):
    """Banning there would leave half a character: every segment between two word starts is whole UTF-8."""
    tokenizer = getattr(kinds, kind)()
    if kind == "sentencepiece":
        text = text.replace("▁", "")
    assert not any("\ufffd" in word for word in words(tokenizer, text.replace("\ufffd", "")) or [""])
