"""Token sequences as flat integer arrays, and a corpus in the codes of the sequences compared with it.

Everything that compares sequences with a corpus first gives the distinct tokens of the sequences the
codes 1..V. A corpus token that no sequence holds can take part in no match: its code is 0.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from ..errors import HyperfitError

Tokens = Sequence[Hashable] | np.ndarray
"""One sequence: token ids or words, a list or a 1-D integer array."""

Progress = Callable[[int, int], None]
"""Called with (done, total) during long work, the last time with done == total."""

CHUNK_TOKENS = 1 << 19
"""Corpus tokens worked on at a time: enough to make calls cheap, few enough for some tens of MB of memory."""

_WIDEST_TABLE = 1 << 24
"""Token ids that span more than this are coded by binary search instead of a table."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of integer tokens, one after another in one array, which may be memory-mapped.

    Attributes:
        tokens: shape (T,), any integer dtype.
        offsets: shape (R + 1,), int64; row r is tokens[offsets[r] : offsets[r + 1]].
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        tokens, offsets = self.tokens, np.asarray(self.offsets)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise HyperfitError(f"tokens: {tokens.ndim}-D array of {tokens.dtype}, expected 1-D of integers")
        if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
            raise HyperfitError(f"offsets: {offsets.ndim}-D array of {offsets.dtype}, expected 1-D of integers")
        offsets = offsets.astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
            raise HyperfitError(f"offsets: they do not rise from 0 to {len(tokens)}, the number of tokens")
        object.__setattr__(self, "offsets", offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row, shape (R,), int64."""
        return np.diff(self.offsets)

    def part(self, start: int, stop: int) -> "TokenRows":
        """Rows start to stop, sharing the tokens."""
        first, last = self.offsets[start], self.offsets[stop]
        return TokenRows(self.tokens[first:last], self.offsets[start : stop + 1] - first)

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """Ranges of rows, each with at most `size` as its number of tokens times its number of rows."""
        blocks, start = [], 0
        while start < len(self):
            products = (self.offsets[start + 1 :] - self.offsets[start]) * np.arange(1, len(self) - start + 1)
            stop = start + max(1, int(np.searchsorted(products, size, side="right")))
            blocks.append((start, stop))
            start = stop
        return blocks


Corpus = Sequence[Tokens] | np.ndarray | TokenRows
"""Rows of tokens: a list of sequences, a 2-D integer array of one row each, or a `TokenRows`."""


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus beside the coded sequences it is compared with.

    Attributes:
        rows: the corpus as given when it holds ids (so that a memory map stays one), else coded words.
        encode: maps a slice of `rows.tokens` to codes, int32; 0 for a token that no sequence holds.
    """

    rows: TokenRows
    encode: Callable[[np.ndarray], np.ndarray]

    def chunks(self, window: int, max_windows: int) -> Iterator["Chunk"]:
        """The corpus, half a million tokens at a time, with long rows cut into overlapping parts.

        Args:
            window: tokens; every run of so many tokens of a row lies within one part.
            max_windows: a part has at most max_windows + window - 1 tokens.
        """
        row_lengths = self.rows.lengths
        parts = -(-np.maximum(row_lengths - window + 1, row_lengths > 0) // max_windows)
        row = np.repeat(np.arange(len(parts)), parts)
        skipped = (np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)) * max_windows
        begins = self.rows.offsets[row] + skipped
        lengths = np.minimum(row_lengths[row] - skipped, max_windows + window - 1)
        stops = np.cumsum(lengths)
        edges = np.flatnonzero(np.diff((stops - 1) // CHUNK_TOKENS, prepend=-1))
        for first, last in zip(edges, [*edges[1:], len(lengths)], strict=True):
            some, begin, end = slice(first, last), begins[first], begins[last - 1] + lengths[last - 1]
            codes = self.encode(self.rows.tokens[begin:end])
            size = int(lengths[some].sum())
            if size != len(codes):  # parts overlap: copy them apart
                shifts = begins[some] - begin - (np.cumsum(lengths[some]) - lengths[some])
                codes = codes[np.arange(size) + np.repeat(shifts, lengths[some])]
            yield Chunk(codes, lengths[some], begins[some], int(end))


@dataclass(frozen=True)
class Chunk:
    """Some rows, or parts of rows, of a coded corpus.

    Attributes:
        codes: the rows back to back, shape (T,), int32.
        lengths: shape (R,), int64, none of them 0.
        begins: where each row begins in the corpus, shape (R,), int64.
        end: corpus tokens up to the end of this chunk.
    """

    codes: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    end: int


def encode_sequences(sequences: Corpus) -> tuple[TokenRows, int]:
    """Code the distinct tokens of `sequences` 1..V.

    Returns:
        The coded rows, int32, and V.
    Raises:
        HyperfitError: no sequences, a text in place of a list of words, numbers that are not integers.
    """
    rows = _rows(sequences, "sequences")
    if isinstance(rows, TokenRows):
        ids = _distinct(rows.tokens)
        return TokenRows(_encoder(ids)(rows.tokens), rows.offsets), len(ids)
    vocabulary = _word_codes(rows)
    return _encode_words(rows, vocabulary), len(vocabulary)


def encode_with_corpus(sequences: Corpus, corpus: Corpus) -> tuple[TokenRows, int, EncodedCorpus]:
    """Code the distinct tokens of `sequences` 1..V and the corpus by the same codes.

    Returns:
        The coded sequences, int32; V; the corpus.
    Raises:
        HyperfitError: no corpus tokens, words on one side and ids on the other, and as `encode_sequences`.
    """
    rows, corpus_rows = _rows(sequences, "sequences"), _rows(corpus, "corpus")
    if isinstance(corpus_rows, TokenRows):
        if len(corpus_rows.tokens) == 0:
            raise HyperfitError("corpus: no tokens; give the rows of the training set")
        if not isinstance(rows, TokenRows):
            raise HyperfitError("sequences hold words and the corpus ids; give both in the same unit")
        ids = _distinct(rows.tokens)
        encode = _encoder(ids)
        return TokenRows(encode(rows.tokens), rows.offsets), len(ids), EncodedCorpus(corpus_rows, encode)
    if isinstance(rows, TokenRows):
        if len(rows.tokens):
            raise HyperfitError("sequences hold ids and the corpus words; give both in the same unit")
        rows = [[]] * len(rows)  # sequences without a token may be taken for words as well
    vocabulary = _word_codes(rows)
    coded_corpus = EncodedCorpus(_encode_words(corpus_rows, vocabulary), np.asarray)
    return _encode_words(rows, vocabulary), len(vocabulary), coded_corpus


def _rows(sequences: Corpus, name: str) -> TokenRows | Sequence[Tokens]:
    """Sequences of ids as one flat array with offsets; sequences of words as they are."""
    if isinstance(sequences, TokenRows):
        rows: TokenRows | Sequence[Tokens] = sequences
    elif isinstance(sequences, np.ndarray) and sequences.dtype != object:
        if sequences.ndim != 2 or sequences.dtype.kind not in "iu":
            raise HyperfitError(
                f"{name}: {sequences.ndim}-D array of {sequences.dtype}, expected 2-D of integers, or a "
                "TokenRows(tokens, offsets) for a 1-D one"
            )
        starts = np.arange(len(sequences) + 1, dtype=np.int64) * sequences.shape[1]
        rows = TokenRows(sequences.reshape(-1), starts)
    else:
        rows = _listed_rows(sequences, name)
    if len(rows) == 0:
        raise HyperfitError(f"{name}: none given, at least one is needed")
    return rows


def _listed_rows(sequences: Sequence[Tokens] | np.ndarray, name: str) -> TokenRows | Sequence[Tokens]:
    for place, row in [(name, sequences), *((f"{name}[{number}]", row) for number, row in enumerate(sequences))]:
        if isinstance(row, str | bytes):
            raise HyperfitError(f"{place}: the text {row[:20]!r}, expected a list of tokens; split it into words")
        if not isinstance(row, Sequence | np.ndarray):
            raise HyperfitError(f"{place}: {row!r:.20}, expected a list or array of tokens")
        if isinstance(row, np.ndarray) and row.dtype != object and (row.ndim != 1 or row.dtype.kind not in "iuU"):
            raise HyperfitError(f"{place}: {row.ndim}-D array of {row.dtype}, expected 1-D of integers")
    rows: list[Tokens] = [*sequences]
    arrays = [row for row in rows if isinstance(row, np.ndarray) and row.dtype.kind in "iu"]
    if arrays and len(arrays) == len(rows):
        return TokenRows(np.concatenate(arrays), _offsets(rows))
    kinds = set(map(type, chain.from_iterable(rows)))
    if any(issubclass(kind, float | complex | np.inexact) for kind in kinds):
        value = next(t for t in chain.from_iterable(rows) if isinstance(t, float | complex | np.inexact))
        raise HyperfitError(f"{name}: token {value!r} is no integer; token ids must be integers")
    if all(issubclass(kind, int | np.integer) for kind in kinds):
        try:
            return TokenRows(np.array([*chain.from_iterable(rows)], dtype=np.int64), _offsets(rows))
        except OverflowError:
            pass  # beyond 64 bits: compared by hash, like words
    return rows


def _offsets(sequences: Sequence[Tokens]) -> np.ndarray:
    return np.cumsum([0, *map(len, sequences)], dtype=np.int64)


def _word_codes(sequences: Sequence[Tokens]) -> dict[Hashable, int]:
    try:
        return {word: code for code, word in enumerate(dict.fromkeys(chain.from_iterable(sequences)), start=1)}
    except TypeError as error:
        raise HyperfitError(f"sequences: a token is not hashable ({error})") from error


def _encode_words(sequences: Sequence[Tokens], vocabulary: dict[Hashable, int]) -> TokenRows:
    codes = map(vocabulary.get, chain.from_iterable(sequences), repeat(0))
    return TokenRows(np.fromiter(codes, dtype=np.int32), _offsets(sequences))


def _distinct(tokens: np.ndarray) -> np.ndarray:
    """The distinct values of `tokens`, ascending."""
    if len(tokens) == 0:
        return tokens
    lowest, span = int(tokens.min()), int(tokens.max()) - int(tokens.min()) + 1
    if span > _WIDEST_TABLE:
        return np.unique(tokens)
    seen = np.zeros(span, dtype=bool)
    seen[tokens.astype(np.int64) - lowest] = True
    return (np.flatnonzero(seen) + lowest).astype(tokens.dtype)


def _encoder(ids: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function from tokens to 1 + their place in the sorted `ids`, or 0."""
    if len(ids) == 0:
        return lambda tokens: np.zeros(len(tokens), dtype=np.int32)
    lowest, span = int(ids[0]), int(ids[-1]) - int(ids[0]) + 1
    if span > _WIDEST_TABLE:

        def search(tokens: np.ndarray) -> np.ndarray:
            places = np.minimum(np.searchsorted(ids, tokens), len(ids) - 1)
            return np.where(ids[places] == tokens, places + 1, 0).astype(np.int32)

        return search
    # An empty entry at either end takes all tokens beyond.
    table = np.zeros(span + 2, dtype=np.int32)
    table[ids.astype(np.int64) - lowest + 1] = np.arange(1, len(ids) + 1)
    return lambda tokens: table.take(tokens.astype(np.int64) - (lowest - 1), mode="clip")
