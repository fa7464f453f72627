"""Passages that sequences share word for word with a corpus (paper, Section 4.2, Figure 3, Table 5)."""

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from ..errors import HyperfitError
from .ngrams import GramIndex, Grams, lay_out, longer_grams, row_starts
from .tokens import CHUNK_TOKENS, Chunk, Corpus, Progress, TokenRows, encode_with_corpus

_NUMBERED_ORDERS = 4
"""Up to this order all n-grams of the sequences are numbered, once; beyond, those that a chunk holds."""


@overload
def longest_overlap(
    sequences: Corpus, corpus: Corpus, *, where: Literal[False] = False, progress: Progress | None = None
) -> np.ndarray: ...


@overload
def longest_overlap(
    sequences: Corpus, corpus: Corpus, *, where: Literal[True], progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]: ...


def longest_overlap(
    sequences: Corpus, corpus: Corpus, *, where: bool = False, progress: Progress | None = None
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Length of the longest run of tokens that each sequence shares with a row of the corpus.

    Args:
        sequences: N sequences of token ids or words.
        corpus: rows of the same unit. No match crosses from one row into the next. A memory-mapped
            `TokenRows` or 2-D array is read in chunks.
        where: also return where in the corpus the longest match is, the first one if there are several.
        progress: called with (corpus tokens done, corpus tokens).
    Returns:
        Shape (N,), int64, in tokens; with `where` also shape (N, 2), int64: corpus row and offset in
        this row, -1 and -1 where nothing matches.
    Raises:
        HyperfitError: no sequences, an empty corpus, or tokens that are neither ids nor words.
    Example:
        longest_overlap([[7, 1, 2, 3, 9]], [[5], [0, 1, 2, 3]], where=True) == ([3], [[1, 1]])
    """
    found = _find_matches(sequences, corpus, progress)
    row = np.repeat(np.arange(len(found.sequences)), found.sequences.lengths)
    best = np.zeros(len(found.sequences), dtype=np.int64)
    np.maximum.at(best, row, found.lengths)
    if not where:
        return best
    longest = np.flatnonzero((found.lengths == best[row]) & (found.lengths > 0))
    position = np.full(len(best), np.iinfo(np.int64).max)
    np.minimum.at(position, row[longest], found.positions[longest])
    corpus_row = np.searchsorted(found.corpus_offsets, position, side="right") - 1
    places = np.stack([corpus_row, position - found.corpus_offsets[corpus_row]], axis=1)
    return best, np.where(best[:, None] > 0, places, -1)


def overlap_rate(sequences: Corpus, corpus: Corpus, min_tokens: int = 5, *, progress: Progress | None = None) -> float:
    """Share of the sequences that overlap with the corpus by more than `min_tokens` tokens (paper, Table 5).

    Returns:
        Fraction in [0, 1]; arguments and errors as in `longest_overlap`.
    Example:
        overlap_rate([[1, 2, 3], [1, 2, 9]], [[1, 2, 3]], min_tokens=2) == 0.5
    """
    return float(np.mean(longest_overlap(sequences, corpus, progress=progress) > min_tokens))


def novelty_curve(
    sequences: Corpus, corpus: Corpus, max_n: int = 64, *, progress: Progress | None = None
) -> np.ndarray:
    """Share of the sequences' n-grams that the corpus does not hold (McCoy et al., 2023), n = 1..max_n.

    Every occurrence of an n-gram counts; n-grams do not cross from one sequence, or row, into the next.

    Returns:
        Shape (max_n,), float64, in [0, 1]; NaN from the n on of which no sequence has as many tokens.
    Raises:
        HyperfitError: max_n below 1, and as in `longest_overlap`.
    Example:
        novelty_curve([[1, 2, 3]], [[1, 2], [2, 3]], max_n=4) == [0, 0, 1, nan]
    """
    if max_n < 1:
        raise HyperfitError(f"max_n {max_n}, expected 1 or more")
    found = _find_matches(sequences, corpus, progress)
    room = np.repeat(found.sequences.offsets[1:], found.sequences.lengths) - np.arange(len(found.lengths))
    # An n-gram is in the corpus exactly if the longest match that begins with it has n tokens or more.
    all_grams = np.bincount(room, minlength=max_n + 1)[::-1].cumsum()[::-1][1 : max_n + 1]
    known = np.bincount(found.lengths, minlength=max_n + 1)[::-1].cumsum()[::-1][1 : max_n + 1]
    return np.where(all_grams > 0, 1 - known / np.maximum(all_grams, 1), np.nan)


@dataclass(frozen=True)
class _Matches:
    """The longest match that begins at each token of some sequences.

    Attributes:
        sequences: the coded sequences, T tokens in all.
        lengths: tokens of the longest match, shape (T,), int64.
        positions: where its first occurrence begins in the corpus, shape (T,), int64; -1 for length 0.
        corpus_offsets: of the corpus rows, shape (R + 1,).
    """

    sequences: TokenRows
    lengths: np.ndarray
    positions: np.ndarray
    corpus_offsets: np.ndarray


def _find_matches(sequences: Corpus, corpus: Corpus, progress: Progress | None) -> _Matches:
    rows, distinct_tokens, encoded = encode_with_corpus(sequences, corpus)
    index = GramIndex(rows, distinct_tokens)
    lengths = np.zeros(int(index.starts[-1]), dtype=np.int64)
    positions = np.full(len(lengths), -1, dtype=np.int64)
    longest = max(1, int(rows.lengths.max()))
    for chunk in encoded.chunks(window=longest, max_windows=CHUNK_TOKENS):
        _extend_matches(index, chunk, lengths, positions)
        if progress:
            progress(chunk.end, len(encoded.rows.tokens))
    inside = np.arange(len(rows.tokens)) + np.repeat(np.arange(len(rows)), rows.lengths)
    return _Matches(rows, lengths[inside], positions[inside], encoded.rows.offsets)


def _extend_matches(index: GramIndex, chunk: Chunk, lengths: np.ndarray, positions: np.ndarray) -> None:
    """Raise the match lengths at all places of the sequences to those with a chunk of the corpus."""
    starts = row_starts(chunk.lengths)
    own, order = index.own(1), 1
    grams, count = index.first_order(lay_out(chunk.codes, chunk.lengths)), index.count(1)
    while len(grams.places):
        first_place = np.full(count, -1)
        first_place[grams.ids[::-1]] = grams.places[::-1]  # the last assignment, of the first place, stays
        matched = first_place[own.ids]
        longer = np.flatnonzero((matched >= 0) & (lengths[own.places] < order))
        place = matched[longer]
        row = np.searchsorted(starts, place, side="right") - 1
        lengths[own.places[longer]] = order
        positions[own.places[longer]] = chunk.begins[row] + place - starts[row]
        if order < _NUMBERED_ORDERS:
            grams, order = index.next_order(grams, order), order + 1
            own, count = index.own(order), index.count(order)
        else:
            kept = matched >= 0
            own, grams, count = longer_grams(Grams(own.places[kept], own.ids[kept]), grams, count)
            order += 1
