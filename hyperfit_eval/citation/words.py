"""Where words begin, read from a tokenizer's own pieces (docs/citation.md).

The paper blocks a continuation "as soon as the current word is completed". No state is needed for
that: a token which stays inside the current word is left legal, and the n-gram shifted by that token
matches again one step later. So all that must be known of a continuation is whether it starts a word,
and that follows from how the n-gram before it ends and how it begins itself.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import HyperfitError
from .edges import Edge, text_edges, word_borders

CONTEXT = 4
"""Pieces that explain how the last of them ends: a character has at most 4 bytes."""


class Pieces:
    """The pieces of a tokenizer, each with its two edges.

    Args:
        tokenizer: a transformers tokenizer: byte-level BPE, SentencePiece, WordPiece, word level, or BPE
            with an end-of-word suffix.
    Raises:
        HyperfitError: its pieces do not show where words begin.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bytes_of, self._edges_of = _conventions(tokenizer)
        self._special, self._added = _added_tokens(tokenizer)

    def edges(self, ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How each piece begins and ends: two uint8 arrays of shape (N,), values of `Edge`.

        Raises:
            HyperfitError: an id is not in the vocabulary.
        """
        begins, ends = bytearray(), bytearray()
        for index, piece in self._pieces(ids):
            if index in self._special or not piece:
                begin = end = Edge.SPECIAL
            elif index in self._added:
                begin, end = text_edges(piece.encode())
            else:
                begin, end = self._edges_of(piece)
            begins.append(begin)
            ends.append(end)
        return np.frombuffer(begins, dtype=np.uint8), np.frombuffer(ends, dtype=np.uint8)

    def end_of(self, ids: Sequence[int]) -> Edge:
        """How the last of several pieces ends, by all of them."""
        data = b""
        for index, piece in self._pieces(ids):
            if index in self._special:
                data += b" "  # nothing joins across it
            else:
                data += piece.encode() if index in self._added else self._bytes_of(piece)
        return text_edges(data)[1]

    def _pieces(self, ids: Sequence[int] | np.ndarray) -> list[tuple[int, str]]:
        listed = np.asarray(ids, dtype=np.int64).tolist()
        pieces = self._tokenizer.convert_ids_to_tokens(listed)
        if None in pieces:
            unknown = listed[pieces.index(None)]
            raise HyperfitError(
                f"token id {unknown} is not in the tokenizer's vocabulary; use the tokenizer of the ids"
            )
        return list(zip(listed, pieces, strict=True))


def starts_word(tokenizer: Any, previous_ids: Sequence[int], token_id: int) -> bool:
    """Does `token_id` start a word after `previous_ids`, of which the last `CONTEXT` are looked at?"""
    pieces = Pieces(tokenizer)
    begins, ends = pieces.edges([*previous_ids[-1:], token_id])
    end = Edge(int(ends[0]))
    if end is Edge.UNKNOWN:
        end = pieces.end_of(previous_ids[-CONTEXT:])
    return bool(word_borders(end, Edge(int(begins[-1]))))


BytesOf = Callable[[str], bytes]
EdgesOf = Callable[[str], tuple[Edge, Edge]]


def _conventions(tokenizer: Any) -> tuple[BytesOf, EdgesOf]:
    """How the tokenizer writes its pieces: from a piece to its bytes, and to its edges."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary = tokenizer.get_vocab()
        if any(piece.startswith("▁") for piece in vocabulary):
            return _by_bytes(_sentencepiece_bytes("<0x00>" in vocabulary))
        raise _no_words(tokenizer, "a slow tokenizer without '▁' pieces")
    model = backend.model
    kind = type(model).__name__
    parts = set().union(*map(_component_types, (backend.normalizer, backend.pre_tokenizer, backend.decoder)))
    if "ByteLevel" in parts:
        return _by_bytes(_byte_level_bytes)
    if "Metaspace" in parts or "▁" in parts:
        return _by_bytes(_sentencepiece_bytes(bool(getattr(model, "byte_fallback", False)) or "ByteFallback" in parts))
    suffix = getattr(model, "end_of_word_suffix", None)
    if suffix:
        return str.encode, lambda piece: _suffix_edges(piece, suffix)
    prefix = getattr(model, "continuing_subword_prefix", None)
    if prefix:
        return str.encode, lambda piece: _prefix_edges(piece, prefix)
    if kind == "WordLevel":
        return str.encode, lambda piece: (Edge.SPACE, Edge.SPACE)
    if any(" " in piece for piece in tokenizer.get_vocab()):
        return _by_bytes(str.encode)
    raise _no_words(tokenizer, f"a {kind} model whose pieces carry neither spaces, a marker, a prefix nor a suffix")


def _by_bytes(bytes_of: BytesOf) -> tuple[BytesOf, EdgesOf]:
    return bytes_of, lambda piece: text_edges(bytes_of(piece))


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


# A byte-level piece is written in GPT-2's alphabet: the visible bytes of Latin-1 stand for themselves, the other 68
# for the characters from 256 on, in order.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = {256 + n: byte for n, byte in enumerate(sorted({*range(256)} - {*_VISIBLE}))}


def _byte_level_bytes(piece: str) -> bytes:
    text = piece.replace("Ġ", " ")
    if text.isascii():  # most pieces, spared the slow translation
        return text.encode()
    try:
        return piece.translate(_HIDDEN).encode("latin-1")
    except UnicodeEncodeError:  # not in that alphabet: a plain text put into the vocabulary by hand
        return piece.encode()


_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def _sentencepiece_bytes(byte_fallback: bool) -> BytesOf:
    def bytes_of(piece: str) -> bytes:
        byte = _BYTE_PIECE.fullmatch(piece) if byte_fallback else None
        return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()

    return bytes_of


def _prefix_edges(piece: str, prefix: str) -> tuple[Edge, Edge]:
    """WordPiece: every piece without the prefix starts a word, by the tokenizer's own decision."""
    if not piece.startswith(prefix) or piece == prefix:
        return Edge.SPACE, Edge.LETTER
    begin = text_edges(piece[len(prefix) :].encode())[0]
    return begin if begin is Edge.IDEOGRAPH else Edge.JOINED, Edge.LETTER


def _suffix_edges(piece: str, suffix: str) -> tuple[Edge, Edge]:
    """BPE with '</w>' or the like: a word ends with the piece that carries the suffix, and only there."""
    text = piece.removesuffix(suffix)
    begin = text_edges(text.encode())[0] if text else Edge.LETTER
    return begin if begin is Edge.IDEOGRAPH else Edge.PUNCTUATION, Edge.SPACE if text != piece else Edge.JOINED
