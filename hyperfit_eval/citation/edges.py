"""Characters at the two ends of a piece of text, and whether a word starts between two pieces."""

import unicodedata
from collections import Counter
from enum import IntEnum
from functools import lru_cache

import numpy as np


class Edge(IntEnum):
    """Kind of character at the beginning or at the end of a piece."""

    SPECIAL = 0
    """BOS, EOS, padding, chat markers: no text. As a continuation never banned: it cites nothing."""
    JOINED = 1
    """At the beginning: cannot stand apart from what precedes it (##ing, a combining mark, the rest of a
    character). At the end: the word goes on in the next piece (tokenizers that mark the end of a word)."""
    SPACE = 2
    """White space, newlines and the markers of them."""
    LETTER = 3
    DIGIT = 4
    APOSTROPHE = 5
    """Between letters, or where it may be so: don't, dog's."""
    PUNCTUATION = 6
    """Everything else that is visible: hyphens, underscores, quotation marks, symbols, emoji."""
    IDEOGRAPH = 7
    """Letters of scripts without spaces between words: each may be a word."""
    UNKNOWN = 8
    """At the end only: a lone apostrophe, mark or rest of a character, which the pieces before it explain."""


def _word_border_table() -> np.ndarray:
    """Bool [end of a piece, beginning of the next]: does a word start between them?"""
    table = np.ones((len(Edge), len(Edge)), dtype=bool)
    table[:, [Edge.SPECIAL, Edge.JOINED]] = False
    # UAX #29: no word boundary between letters, between digits, between the two, and around an apostrophe.
    for end in (Edge.LETTER, Edge.DIGIT):
        table[end, [Edge.LETTER, Edge.DIGIT, Edge.APOSTROPHE]] = False
    table[Edge.APOSTROPHE, [Edge.LETTER, Edge.DIGIT]] = False
    table[Edge.JOINED, [Edge.LETTER, Edge.DIGIT, Edge.APOSTROPHE, Edge.PUNCTUATION]] = False
    # Where nothing explains the end, a word of letters must not be cut.
    table[Edge.UNKNOWN] = table[Edge.LETTER]
    return table


_WORD_BORDERS = _word_border_table()


def word_borders(ends: np.ndarray | Edge, begins: np.ndarray | Edge) -> np.ndarray:
    """Does a piece that begins so start a word after one that ends so? bool, shape of the arguments."""
    return _WORD_BORDERS[ends, begins]


def text_edges(data: bytes) -> tuple[Edge, Edge]:
    """Beginning and end of a piece given as UTF-8, which may begin or end inside a character."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _broken_text_edges(data)
    return _beginning(text[:2]), _end(text)


def _broken_text_edges(data: bytes) -> tuple[Edge, Edge]:
    whole = data.lstrip(_REST_OF_A_CHARACTER)
    if len(whole) < len(data):
        return Edge.JOINED, text_edges(whole)[1] if whole else Edge.UNKNOWN
    text, tail = data.decode("utf-8", errors="ignore"), _unfinished(data)
    if not text and not tail:
        return Edge.PUNCTUATION, Edge.PUNCTUATION  # bytes that occur in no UTF-8 text
    begin = _beginning(text[:2]) if text else _partial_edge(tail)
    return begin, _partial_edge(tail) if tail else _end(text)


_REST_OF_A_CHARACTER = bytes(range(0x80, 0xC0))


@lru_cache(maxsize=65536)
def _beginning(text: str) -> Edge:
    """Edge of the first of one or two characters; an apostrophe before no letter is a quotation mark."""
    edge = _character_edge(text[0])
    if edge is Edge.APOSTROPHE and len(text) > 1 and _character_edge(text[1]) is not Edge.LETTER:
        return Edge.PUNCTUATION
    return edge


def _end(text: str) -> Edge:
    """Edge of the last character that is no mark or joiner; an apostrophe after no letter is a quotation mark."""
    last = len(text) - 1
    while last >= 0 and _character_edge(text[last]) is Edge.JOINED:
        last -= 1
    edge = _character_edge(text[last]) if last >= 0 else Edge.UNKNOWN
    if edge is not Edge.APOSTROPHE:
        return edge
    if last == 0:
        return Edge.UNKNOWN
    return Edge.APOSTROPHE if _character_edge(text[last - 1]) is Edge.LETTER else Edge.PUNCTUATION


@lru_cache(maxsize=65536)
def _character_edge(character: str) -> Edge:
    if character.isspace() or character == "\u200b":
        return Edge.SPACE
    if character in _APOSTROPHES:
        return Edge.APOSTROPHE
    category = unicodedata.category(character)
    # Combining marks belong to the letter before them, joiners and soft hyphens to the word around them.
    if category[0] == "M" or category == "Cf":
        return Edge.JOINED
    if category[0] == "L":
        code = ord(character)
        return Edge.IDEOGRAPH if any(low <= code <= high for low, high in _WITHOUT_SPACES) else Edge.LETTER
    return Edge.DIGIT if category[0] == "N" else Edge.PUNCTUATION


def _unfinished(data: bytes) -> bytes:
    """The bytes at the end of `data` that begin a character without completing it; b"" if none do."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 2 if 0xC2 <= byte < 0xE0 else 3 if 0xE0 <= byte < 0xF0 else 4 if 0xF0 <= byte < 0xF5 else 1
            return data[-back:] if length > back else b""
    return b""


@lru_cache(maxsize=65536)
def _partial_edge(data: bytes) -> Edge:
    """Edge of a character of which only the bytes `data` are there.

    An apostrophe if it can become one, so that don\u2019t is not cut; else what most such characters are.
    """
    missing = (2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4) - len(data)
    code = data[0] & (0x1F if data[0] < 0xE0 else 0x0F if data[0] < 0xF0 else 0x07)
    for byte in data[1:]:
        code = code << 6 | byte & 0x3F
    first, count = code << 6 * missing, 1 << 6 * missing
    if any(first <= ord(apostrophe) < first + count for apostrophe in _APOSTROPHES):
        return Edge.APOSTROPHE
    characters = map(chr, range(first, min(first + count, 0x110000), max(1, count // 4096)))
    votes = Counter(_character_edge(c) for c in characters if unicodedata.category(c) not in ("Cn", "Cs", "Co"))
    return votes.most_common(1)[0][0] if votes else Edge.PUNCTUATION


_APOSTROPHES = "'\u2019\u02bc\uff07"

# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Khmer symbols, Tai Tham, Balinese, Bopomofo and kana and
# CJK, Yi, Javanese, Myanmar and Tai Viet extensions, compatibility ideographs, half-width kana, Tangut to
# kana supplements, ideographs beyond the first plane. Hangul is not here: Korean writes spaces.
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),
    (0x0F00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19FF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF),
    (0xA980, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x16FE0, 0x18DFF),
    (0x1AFF0, 0x1B2FF),
    (0x20000, 0x3FFFF),
)
