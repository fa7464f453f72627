"""Where words begin, read from a tokenizer's own pieces (docs/citation.md).

The paper blocks a continuation "as soon as the current word is completed". No state is needed for
that: a token which stays inside the current word is left legal, and the n-gram shifted by that token
matches again one step later. So all that must be known of a continuation is whether it starts a word,
and that follows from how the token before it ends and how it begins itself.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import HyperfitError


class Edge(IntEnum):
    """What stands at the beginning or at the end of a piece."""

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
    """Alone or before a letter: don't, dog's."""
    PUNCTUATION = 6
    """Everything else that is visible: hyphens, underscores, symbols, emoji."""
    IDEOGRAPH = 7
    """Letters of scripts without spaces between words: each may be a word."""


def _word_border_table() -> np.ndarray:
    """bool [end of a piece, beginning of the next]: does a word start between them?"""
    table = np.ones((len(Edge), len(Edge)), dtype=bool)
    table[:, [Edge.SPECIAL, Edge.JOINED]] = False
    # UAX #29: no word boundary between letters, between digits, between the two, and around an apostrophe.
    inside = [Edge.LETTER, Edge.DIGIT, Edge.APOSTROPHE]
    table[np.ix_(inside, [Edge.LETTER, Edge.DIGIT])] = False
    table[[Edge.LETTER, Edge.DIGIT], Edge.APOSTROPHE] = False
    table[Edge.JOINED, [Edge.LETTER, Edge.DIGIT, Edge.APOSTROPHE, Edge.PUNCTUATION]] = False
    return table


_WORD_BORDERS = _word_border_table()

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
_APOSTROPHES = "'\u2019\u02bc\uff07"
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def piece_edges(tokenizer: Any, ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the pieces of `ids` begin and end.

    Args:
        tokenizer: a transformers tokenizer (byte-level BPE, SentencePiece, WordPiece, word level, or BPE
            with an end-of-word suffix).
        ids: token ids, shape (N,).
    Returns:
        Two uint8 arrays of shape (N,), values of `Edge`: beginnings and ends.
    Raises:
        HyperfitError: the pieces do not show where words begin, or an id is not in the vocabulary.
    """
    edges_of_piece = _reader(tokenizer)
    special, added = _added_tokens(tokenizer)
    ids = np.asarray(ids, dtype=np.int64).tolist()
    begins, ends = bytearray(), bytearray()
    for index, piece in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if piece is None:
            raise HyperfitError(f"token id {index} is not in the tokenizer's vocabulary; use the tokenizer of the ids")
        if index in special or not piece:
            begin = end = Edge.SPECIAL
        elif index in added:
            begin, end = _text_edges(piece.encode())
        else:
            begin, end = edges_of_piece(piece)
        begins.append(begin)
        ends.append(end)
    return np.frombuffer(begins, dtype=np.uint8), np.frombuffer(ends, dtype=np.uint8)


def word_borders(ends: np.ndarray | Edge, begins: np.ndarray | Edge) -> np.ndarray:
    """Does a piece that begins so start a word after one that ends so? bool, shape of the arguments."""
    return _WORD_BORDERS[ends, begins]


def starts_word(tokenizer: Any, previous_id: int, token_id: int) -> bool:
    """Does `token_id` start a word when it follows `previous_id`?"""
    begins, ends = piece_edges(tokenizer, [previous_id, token_id])
    return bool(word_borders(ends[0], begins[1]))


def _reader(tokenizer: Any) -> Callable[[str], tuple[Edge, Edge]]:
    """The function from a piece to its two edges, by the conventions that the tokenizer declares."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary = tokenizer.get_vocab()
        if any(piece.startswith("▁") for piece in vocabulary):
            return _sentencepiece_reader("<0x00>" in vocabulary)
        raise _no_words(tokenizer, "a slow tokenizer without '▁' pieces")
    model = backend.model
    kind = type(model).__name__
    parts = set().union(*map(_component_types, (backend.normalizer, backend.pre_tokenizer, backend.decoder)))
    if "ByteLevel" in parts:
        return _byte_level_edges
    if "Metaspace" in parts or "▁" in parts:
        return _sentencepiece_reader(bool(getattr(model, "byte_fallback", False)) or "ByteFallback" in parts)
    suffix = getattr(model, "end_of_word_suffix", None)
    if suffix:
        return lambda piece: _suffix_edges(piece, suffix)
    prefix = getattr(model, "continuing_subword_prefix", None)
    if prefix:
        return lambda piece: _prefix_edges(piece, prefix)
    if kind == "WordLevel":
        return lambda piece: (Edge.SPACE, _text_edges(piece.encode())[1])
    if any(" " in piece for piece in tokenizer.get_vocab()):
        return lambda piece: _text_edges(piece.encode())
    raise _no_words(tokenizer, f"a {kind} model whose pieces carry neither spaces, a marker, a prefix nor a suffix")


def _no_words(tokenizer: Any, what: str) -> HyperfitError:
    return HyperfitError(
        f"{type(tokenizer).__name__}: the pieces do not show where words begin ({what}); use a tokenizer with "
        "byte-level, SentencePiece or WordPiece pieces"
    )


def _component_types(component: Any) -> set[str]:
    """Type names in a normalizer, pre-tokenizer or decoder, sequences unfolded; '▁' where one writes that marker."""
    if component is None:
        return set()
    found: set[str] = set()
    pending = [json.loads(component.__getstate__())]
    while pending:
        part = pending.pop()
        found.add(part["type"])
        for inner in ("normalizers", "pretokenizers", "decoders"):
            pending += part.get(inner, [])
        if part["type"] == "Replace" and part["pattern"].get("String") == "▁":
            found.add("▁")
    return found


def _added_tokens(tokenizer: Any) -> tuple[set[int], set[int]]:
    """Ids of special tokens, and of the other added tokens, whose content is plain text."""
    special: set[int] = set(tokenizer.all_special_ids)
    added: set[int] = set()
    for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
        (special if token.special else added).add(index)
    return special, added - special


def _text_edges(data: bytes) -> tuple[Edge, Edge]:
    """Edges of a piece given as UTF-8, which may begin or end inside a character."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _broken_text_edges(data)
    begin, end = _outer_edge(text[:2]), _outer_edge(text[:-3:-1])
    return begin, Edge.LETTER if end is Edge.JOINED else end


def _broken_text_edges(data: bytes) -> tuple[Edge, Edge]:
    head = 0
    while head < len(data) and data[head] & 0xC0 == 0x80:
        head += 1
    if head:
        # The rest of a character whose script is unknown here: as an end it counts as a letter, so that a
        # word of letters is never cut; the price is one more token of a script without spaces.
        return Edge.JOINED, _text_edges(data[head:])[1] if head < len(data) else Edge.LETTER
    text = data.decode("utf-8", errors="ignore")
    tail = _unfinished(data)
    if not text and not tail:
        return Edge.PUNCTUATION, Edge.PUNCTUATION  # bytes that occur in no UTF-8 text
    begin = _outer_edge(text[:2]) if text else _partial_edge(tail)
    end = _partial_edge(tail) if tail else _outer_edge(text[:-3:-1])
    return begin, Edge.LETTER if end is Edge.JOINED else end


@lru_cache(maxsize=65536)
def _outer_edge(text: str) -> Edge:
    """Edge of the outermost of two characters; an apostrophe with no letter beside it is a quotation mark."""
    edge = _character_edge(text[0])
    if edge is Edge.APOSTROPHE and len(text) > 1 and _character_edge(text[1]) is not Edge.LETTER:
        return Edge.PUNCTUATION
    return edge


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
    """What most characters are that begin with the bytes `data`; punctuation where none do."""
    missing = (2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4) - len(data)
    code = data[0] & (0x1F if data[0] < 0xE0 else 0x0F if data[0] < 0xF0 else 0x07)
    for byte in data[1:]:
        code = code << 6 | byte & 0x3F
    first, count = code << 6 * missing, 1 << 6 * missing
    characters = map(chr, range(first, min(first + count, 0x110000), max(1, count // 4096)))
    votes = Counter(_character_edge(c) for c in characters if unicodedata.category(c) not in ("Cn", "Cs", "Co"))
    return votes.most_common(1)[0][0] if votes else Edge.PUNCTUATION


# A byte-level piece is written in GPT-2's alphabet: the visible bytes of Latin-1 stand for themselves, the other 68
# for the characters from 256 on, in order.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = {256 + n: byte for n, byte in enumerate(sorted({*range(256)} - {*_VISIBLE}))}


def _byte_level_edges(piece: str) -> tuple[Edge, Edge]:
    text = piece.replace("Ġ", " ")
    if text.isascii():  # most pieces, spared the slow translation
        return _text_edges(text.encode())
    try:
        return _text_edges(piece.translate(_HIDDEN).encode("latin-1"))
    except UnicodeEncodeError:  # not in that alphabet: a plain text put into the vocabulary by hand
        return _text_edges(piece.encode())


def _sentencepiece_reader(byte_fallback: bool) -> Callable[[str], tuple[Edge, Edge]]:
    def edges(piece: str) -> tuple[Edge, Edge]:
        byte = _BYTE_PIECE.fullmatch(piece) if byte_fallback else None
        return _text_edges(bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode())

    return edges


def _prefix_edges(piece: str, prefix: str) -> tuple[Edge, Edge]:
    """WordPiece: every piece without the prefix starts a word, by the tokenizer's own decision."""
    if not piece.startswith(prefix) or piece == prefix:
        return Edge.SPACE, _text_edges(piece.encode())[1]
    begin, end = _text_edges(piece[len(prefix) :].encode())
    return begin if begin is Edge.IDEOGRAPH else Edge.JOINED, end


def _suffix_edges(piece: str, suffix: str) -> tuple[Edge, Edge]:
    """BPE with '</w>' or the like: a word ends with the piece that carries the suffix, and only there."""
    text = piece.removesuffix(suffix)
    begin = _text_edges(text.encode())[0] if text else Edge.LETTER
    return begin if begin is Edge.IDEOGRAPH else Edge.PUNCTUATION, Edge.SPACE if text != piece else Edge.JOINED
