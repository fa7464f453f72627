"""Longest passages that sequences share with a corpus (paper, Section 4.2, Figure 3 and Table 5)."""

import numpy as np

from ..errors import HyperfitError
from .tokens import Corpus, Progress, TokenRows, encode_with_corpus


def longest_overlap(
    sequences: Corpus, corpus: Corpus, *, where: bool = False, progress: Progress | None = None
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Length of the longest run of tokens that each sequence shares with one row of the corpus.

    Args:
        sequences: N sequences of token ids or words.
        corpus: rows of the same unit; a match never crosses from one row into the next.
        where: also return where in the corpus the first of the longest matches begins.
        progress: called with (corpus tokens done, corpus tokens).
    Returns:
        Shape (N,), int64, in tokens; with `where` also shape (N, 2), int64: corpus row and offset in
        it, or -1, -1 where nothing matches.
    Raises:
        HyperfitError: no sequences, an empty corpus, or tokens that are neither ids nor words.
    Example:
        longest_overlap([[7, 1, 2, 3, 9]], [[5], [0, 1, 2, 3]], where=True) == ([3], [[1, 1]])
    """
    rows, lengths, positions, corpus_offsets = _match(sequences, corpus, progress)
    best = np.zeros(len(rows), dtype=np.int64)
    row_of = np.repeat(np.arange(len(rows)), rows.lengths)
    np.maximum.at(best, row_of, lengths)
    if not where:
        return best
    longest = np.flatnonzero((lengths == best[row_of]) & (lengths > 0))
    first = np.full(len(rows), np.iinfo(np.int64).max)
    np.minimum.at(first, row_of[longest], positions[longest])
    corpus_row = np.searchsorted(corpus_offsets, first, side="right") - 1
    found = best > 0
    places = np.full((len(rows), 2), -1, dtype=np.int64)
    places[found, 0] = corpus_row[found]
    places[found, 1] = first[found] - corpus_offsets[corpus_row[found]]
    return best, places


def overlap_rate(
    sequences: Corpus, corpus: Corpus, min_tokens: int = 5, *, progress: Progress | None = None
) -> float:
    """Share of sequences, 0-1, with an overlap of more than `min_tokens` tokens (paper, Table 5)."""
    return float(np.mean(longest_overlap(sequences, corpus, progress=progress) > min_tokens))


def novelty_curve(
    sequences: Corpus, corpus: Corpus, max_n: int = 64, *, progress: Progress | None = None
) -> np.ndarray:
    """Share of the sequences' n-grams, every occurrence counted, that the corpus does not hold.

    Returns:
        Shape (max_n,), float64, 0-1, for n = 1..max_n; NaN where no sequence is n tokens long.
    """
    if max_n < 1:
        raise HyperfitError(f"max_n {max_n}, expected 1 or more")
    rows, lengths, _, _ = _match(sequences, corpus, progress)
    room = np.repeat(rows.offsets[1:], rows.lengths) - np.arange(len(lengths))
    curve = np.full(max_n, np.nan)
    for n in range(1, max_n + 1):
        fits = room >= n
        if fits.any():
            curve[n - 1] = np.mean(lengths[fits] < n)
    return curve


def _match(
    sequences: Corpus, corpus: Corpus, progress: Progress | None
) -> tuple[TokenRows, np.ndarray, np.ndarray, np.ndarray]:
    """Longest match that begins at each position of the sequences, and where the first one is."""
    rows, _, encoded = encode_with_corpus(sequences, corpus)
    corpus_offsets = encoded.rows.offsets
    lengths = np.zeros(len(rows.tokens), dtype=np.int64)
    first = np.full(len(rows.tokens), -1, dtype=np.int64)
    own, own_ids = np.arange(len(rows.tokens)), rows.tokens.astype(np.int64)
    ids = encoded.encode(encoded.rows.tokens).astype(np.int64)
    places = np.flatnonzero(ids)
    ids = ids[places]
    row_of = np.repeat(np.arange(len(rows)), rows.lengths)
    corpus_row = np.searchsorted(corpus_offsets, places, side="right") - 1
    n = 1
    while len(places) and len(own):
        at = np.full(own_ids.max() + 1, -1, dtype=np.int64)
        at[ids[::-1]] = places[::-1]
        found = at[own_ids] >= 0
        lengths[own[found]] = n
        first[own[found]] = at[own_ids[found]]
        own, own_ids = own[found], own_ids[found]
        base = int(own_ids.max(initial=0)) + 1
        pair = np.flatnonzero((np.diff(own) == 1) & (row_of[own[:-1]] == row_of[own[1:]]))
        keys, next_ids = np.unique(own_ids[pair] * base + own_ids[pair + 1], return_inverse=True)
        own, own_ids = own[pair], next_ids
        if not len(keys):
            break
        pair = np.flatnonzero((np.diff(places) == 1) & (corpus_row[:-1] == corpus_row[1:]))
        key = ids[pair] * base + ids[pair + 1]
        spot = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        alive = (keys[spot] == key) & (ids[pair] < base) & (ids[pair + 1] < base)
        places, ids, corpus_row = places[pair][alive], spot[alive], corpus_row[pair][alive]
        n += 1
    if progress:
        progress(len(encoded.rows.tokens), len(encoded.rows.tokens))
    return rows, lengths, first, corpus_offsets
