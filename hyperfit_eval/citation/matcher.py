"""From the last tokens of each row to the tokens that must not come next. No torch: engines adapt this."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import HyperfitError
from .index import CitationIndex
from .stored import INSIDE_WORD, STARTS_WORD

NO_TOKEN = -1
"""Fills the left of a window where a row has no token yet; matches nothing."""

logger = logging.getLogger("hyperfit_eval.citation")


class Bans(NamedTuple):
    """Tokens to ban, as the coordinates of a (B, vocabulary) array: `scores[bans.rows, bans.ids] = -inf`."""

    rows: np.ndarray
    """int64 (K,), ascending."""
    ids: np.ndarray
    """int32 (K,)."""
    matched: int
    """Rows whose last n-gram occurs in the corpus, with or without a token to ban."""


@dataclass
class Counters:
    """Counts of a blocker's work, in positions: one is one row in one step."""

    steps: int = 0
    matched: int = 0
    """The last n-gram occurs in the corpus."""
    banned: int = 0
    """At least one token was banned."""
    unblocked: int = 0
    """Left alone, since nothing else was possible: all other tokens had probability zero already."""

    def warn_if_unblocked(self, before: int) -> None:
        """Warn of rows left alone whenever their number has doubled.

        Args:
            before: `unblocked` when this was called last.
        """
        if self.unblocked.bit_length() > before.bit_length():
            logger.warning(
                "%d of %d tokens were chosen without the citation blocker, since all others had probability zero "
                "already; other logits processors, a grammar or top_k leave too few",
                self.unblocked,
                self.steps,
            )


class CitationMatcher:
    """Looks up the last tokens of each row; keeps no state between calls.

    Args:
        index: the n-grams of the hyperfitting dataset.
        max_overlap_tokens: with a number K, a row whose last K tokens consist of n-grams of the corpus may
            not take any continuation, inside a word or not; so no copied run is longer than K tokens. Special
            tokens stay free.
    """

    def __init__(self, index: CitationIndex, max_overlap_tokens: int | None = None) -> None:
        if max_overlap_tokens is not None and max_overlap_tokens < index.ngram:
            raise HyperfitError(
                f"max_overlap_tokens={max_overlap_tokens}: the index matches {index.ngram} tokens, "
                f"expected {index.ngram} or more"
            )
        self.index = index
        self.max_overlap_tokens = max_overlap_tokens
        self.window_tokens = max_overlap_tokens or index.ngram
        """How many of a row's last tokens a lookup needs."""

    def banned_after(self, history: Sequence[int]) -> Bans:
        """The same as `banned` for one row: `history` is its generated ids, of any length.

        A lookup of its own, since numpy takes about a microsecond for every operation on one row.
        """
        index = self.index
        first, stop = index.entries_of(history[-index.ngram :])
        if first == stop:
            return _NOTHING
        lowest = STARTS_WORD
        if self.max_overlap_tokens is not None and self._at_cap(np.array([history[-self.max_overlap_tokens :]]))[0]:
            lowest = INSIDE_WORD
        if stop - first == 1:  # as most n-grams have
            if index.kinds.item(first) < lowest:
                return _MATCHED
            ids = np.array([index.tokens.item(index.positions.item(first) + index.ngram)], dtype=np.int32)
            return Bans(_FIRST_ROW, ids, 1)
        ids = index.tokens[index.positions[first:stop][index.kinds[first:stop] >= lowest] + index.ngram]
        return Bans(_FIRST_ROW.repeat(len(ids)), ids, 1)

    def banned(self, windows: np.ndarray) -> Bans:
        """Tokens that must not follow.

        Args:
            windows: int64, shape (B, window_tokens): the last ids of each row, NO_TOKEN on the left where a
                row has fewer.
        """
        index = self.index
        rows, first, stop = index.lookup(windows[:, -index.ngram :])
        matched = len(rows)
        if not matched:
            return _NOTHING
        counts = stop - first
        lowest: int | np.ndarray = STARTS_WORD
        if self.max_overlap_tokens is not None:
            lowest = np.where(self._at_cap(windows[rows]), INSIDE_WORD, STARTS_WORD).repeat(counts)
        entries = first
        if max(counts.tolist()) > 1:  # otherwise each n-gram has one entry
            ends = counts.cumsum()
            entries = np.arange(ends[-1]) + (first - ends + counts).repeat(counts)
            rows = rows.repeat(counts)
        banned = index.kinds.take(entries) >= lowest
        return Bans(rows[banned], index.tokens.take(index.positions.take(entries[banned]) + index.ngram), matched)

    def _at_cap(self, windows: np.ndarray) -> np.ndarray:
        """Rows of max_overlap_tokens tokens whose n-grams all occur in the corpus, bool (B,)."""
        if windows.shape[1] < self.window_tokens:
            return np.zeros(len(windows), dtype=bool)
        ngrams = np.lib.stride_tricks.sliding_window_view(windows, self.index.ngram, axis=1)
        found = np.zeros(ngrams.shape[:2], dtype=bool)
        found.reshape(-1)[self.index.lookup(ngrams.reshape(-1, self.index.ngram))[0]] = True
        return np.logical_and.reduce(found, axis=1)


def ban(scores: np.ndarray, bans: Bans, counters: Counters) -> list[int]:
    """Set the banned scores to -inf in place, except in rows where nothing else would be left.

    Args:
        scores: floating point, shape (B, vocabulary), logits or log-probabilities.
        bans: for these B rows.
        counters: counts the rows.
    Returns:
        The rows in which something was banned.
    """
    rows, ids = bans.rows, bans.ids
    counters.matched += bans.matched
    if not len(rows):
        return []
    before = scores[rows, ids]
    scores[rows, ids] = -np.inf
    touched = dict.fromkeys(rows.tolist())
    # An arbitrary token is nearly always possible; only where it is not must a row be read as a whole.
    sample = scores.shape[1] // 2
    stuck = [row for row in touched if scores.item(row, sample) == -np.inf and scores[row].max() == -np.inf]
    if stuck:
        restored = np.isin(rows, stuck)
        scores[rows[restored], ids[restored]] = before[restored]
    counters.banned += len(touched) - len(stuck)
    counters.unblocked += len(stuck)
    counters.warn_if_unblocked(counters.unblocked - len(stuck))
    return [row for row in touched if row not in stuck] if stuck else list(touched)


_NOTHING = Bans(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32), 0)
_MATCHED = _NOTHING._replace(matched=1)
_FIRST_ROW = np.zeros(1, dtype=np.int64)
