"""From the last tokens of each row to the tokens that must not come next. No torch: engines adapt this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import HyperfitError
from .index import CitationIndex

NO_TOKEN = -1
"""Fills the left of a window where a row has no token yet; matches nothing."""


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
    """What a blocker did, in positions: one is one row in one step."""

    steps: int = 0
    matched: int = 0
    """The last n-gram occurs in the corpus."""
    banned: int = 0
    """At least one token was banned."""
    unblocked: int = 0
    """Left alone, since nothing else was possible: all other tokens had probability zero already."""


class CitationMatcher:
    """Looks up the last tokens of each row; keeps no state between calls.

    Args:
        index: the n-grams of the hyperfitting dataset.
        max_overlap_tokens: with a number K, a row whose last K tokens consist of n-grams of the corpus may
            not take any continuation, inside a word or not; so no copied run is longer than K tokens.
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
        """The same as `banned` for one row: `history` is its generated ids, of any length."""
        window = list(history[-self.window_tokens :])
        return self._few([[NO_TOKEN] * (self.window_tokens - len(window)) + window])

    def banned(self, windows: np.ndarray) -> Bans:
        """Tokens that must not follow.

        Args:
            windows: int64, shape (B, window_tokens): the last ids of each row, NO_TOKEN on the left where a
                row has fewer.
        """
        if len(windows) <= _FEW_ROWS:
            return self._few(windows.tolist())
        index = self.index
        rows, first = index.lookup(windows[:, -index.ngram :])
        if not len(rows):
            return _NOTHING
        counts = index.keys.searchsorted(index.keys[first], side="right") - first
        matched = len(rows)
        at_cap = None if self.max_overlap_tokens is None else self._at_cap(windows[rows]).repeat(counts)
        entries = _ranges(first, counts)
        rows = rows.repeat(counts)
        banned = index.starts_word[entries]
        if at_cap is not None:
            banned |= at_cap & (index.tokens[index.positions[entries] + index.ngram] != NO_TOKEN)
        return Bans(rows[banned], index.tokens[index.positions[entries[banned]] + index.ngram], matched)

    def _few(self, windows: list[list[int]]) -> Bans:
        """`banned` without numpy's fixed cost of about a microsecond for each operation."""
        index = self.index
        rows, ids, matched = [], [], 0
        for row, window in enumerate(windows):
            first, stop = index.entries_of(window[-index.ngram :])
            if first == stop:
                continue
            matched += 1
            at_cap = self.max_overlap_tokens is not None and self._at_cap(np.array([window]))[0]
            continuations = index.tokens[index.positions[first:stop] + index.ngram]
            banned = continuations[(continuations != NO_TOKEN) if at_cap else index.starts_word[first:stop]]
            rows += [row] * len(banned)
            ids += banned.tolist()
        if not matched:
            return _NOTHING
        return Bans(np.array(rows, dtype=np.int64), np.array(ids, dtype=np.int32), matched)

    def _at_cap(self, windows: np.ndarray) -> np.ndarray:
        """Rows all of whose n-grams occur in the corpus, bool (B,)."""
        ngrams = np.lib.stride_tricks.sliding_window_view(windows, self.index.ngram, axis=1)
        found = np.zeros(ngrams.shape[:2], dtype=bool)
        found.reshape(-1)[self.index.lookup(ngrams.reshape(-1, self.index.ngram))[0]] = True
        return found.all(axis=1)


def ban(scores: np.ndarray, bans: Bans, counters: Counters) -> None:
    """Set the banned scores to -inf in place, except in rows where nothing else would be left.

    Args:
        scores: floating point, shape (B, vocabulary), logits or log-probabilities.
        bans: for these B rows.
        counters: counts the rows.
    """
    rows, ids = bans.rows, bans.ids
    counters.matched += bans.matched
    if not len(rows):
        return
    before = scores[rows, ids]
    scores[rows, ids] = -np.inf
    touched = rows[np.r_[True, rows[1:] != rows[:-1]]]
    # Nearly always some of the first tokens is possible; only where none is must a row be read to its end.
    doubtful = touched[scores[touched, :64].max(axis=1) == -np.inf]
    stuck = [row for row in doubtful.tolist() if scores[row].max() == -np.inf]
    if stuck:
        restored = np.isin(rows, stuck)
        scores[rows[restored], ids[restored]] = before[restored]
    counters.banned += len(touched) - len(stuck)
    counters.unblocked += len(stuck)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The integers of [start, start + count) for each pair, one range after the other."""
    if counts.max() == 1:
        return starts
    ends = counts.cumsum()
    return np.arange(ends[-1]) + (starts - ends + counts).repeat(counts)


_FEW_ROWS = 8
_NOTHING = Bans(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32), 0)
