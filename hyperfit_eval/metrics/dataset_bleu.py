"""Dataset BLEU: the highest BLEU of each sequence against any window of a corpus (paper, Section 4.2).

Exact, by branch and bound. A window cannot match more than the whole row that it lies in, so the
score with the matches of the whole row is an upper bound of the scores of all its windows. It is a
tight one: rows are looked into in the order of their bounds, and after about ten of thousands the
best score is above all bounds that are left.
"""

import numpy as np

from ..errors import HyperfitError
from .bleu import Smoothing, scores
from .matching import Matcher, Text
from .ngrams import GramIndex, ranks_in_runs
from .tokens import Chunk, Corpus, Progress, TokenRows, encode_with_corpus

_BLOCK_FEATURES = 1 << 24
"""Tokens of some sequences times their number, for those searched for at once: 32 MB of features an order."""
_PAIRS_AT_ONCE = 1 << 12


def dataset_bleu(
    sequences: Corpus,
    corpus: Corpus,
    window: int = 96,
    smooth_method: str = "none",
    smooth_value: float | None = None,
    effective_order: bool = False,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """For each sequence the highest BLEU against any window of the corpus.

    Args:
        sequences: N sequences of token ids or words, of any lengths; an empty one scores 0.
        corpus: rows of the same unit. No window crosses from one row into the next; a row shorter
            than the window is one window. A memory-mapped `TokenRows` or 2-D array is read in chunks.
        window: in tokens. Shorter sequences are subject to the brevity penalty.
        smooth_method, smooth_value, effective_order: as in `self_bleu`.
        progress: called with (corpus tokens done, corpus tokens).
    Returns:
        Shape (N,), float64, 0-100.
    Raises:
        HyperfitError: no sequences, an empty corpus, a window below 1, a bad smoothing, or tokens that
            are neither ids nor words.
    Example:
        dataset_bleu([[1, 2, 3, 4]], [[0, 1, 2, 3, 4, 5]], window=5) == [77.88] (rounded)
    """
    if window < 1:
        raise HyperfitError(f"window {window}, expected 1 token or more")
    smoothing = Smoothing(smooth_method, smooth_value, effective_order)
    rows, distinct_tokens, encoded = encode_with_corpus(sequences, corpus)
    blocks = rows.blocks(_BLOCK_FEATURES)
    total = len(blocks) * len(encoded.rows.tokens)
    best, done = np.zeros(len(rows)), 0
    for start, stop in blocks:
        block = rows.part(start, stop)
        search = _Search(block, distinct_tokens, window, smoothing)
        # Twice as many windows as a row needs to hold one: cut up, long rows cost half as much again.
        for chunk in encoded.chunks(window, max_windows=2 * window):
            search.look_into(chunk)
            if progress:
                progress(done + chunk.end, total)
        done += len(encoded.rows.tokens)
        best[start:stop] = search.best
    return best


class _Search:
    """The best scores of some sequences in the text seen so far."""

    def __init__(self, sequences: TokenRows, distinct_tokens: int, window: int, smoothing: Smoothing) -> None:
        self.best = np.zeros(len(sequences))
        self._index = GramIndex(sequences, distinct_tokens)
        self._matcher = Matcher(self._index)
        self._lengths, self._window, self._smoothing = sequences.lengths, window, smoothing

    def look_into(self, chunk: Chunk) -> None:
        """Raise the best scores by those of the windows of these rows."""
        text = Text.read(self._index, chunk.codes, chunk.lengths)
        reference_lengths = np.minimum(chunk.lengths, self._window)
        matches = self._matcher.row_matches(text)
        bounds = scores(matches, self._lengths, reference_lengths[:, None], self._smoothing)
        promising = bounds.argmax(axis=0), np.arange(len(self.best))
        rows, sequences = (pair[bounds[promising] > self.best] for pair in promising)
        self._evaluate(text, rows, sequences, reference_lengths)
        rows, sequences = np.nonzero(bounds > self.best)
        bounds = bounds[rows, sequences]
        order = np.lexsort((-bounds, sequences))
        rows, sequences, bounds = rows[order], sequences[order], bounds[order]
        places = ranks_in_runs(sequences)
        first, last = 0, 1
        while first <= places.max(initial=-1):
            chosen = (places >= first) & (places < last) & (bounds > self.best[sequences])
            self._evaluate(text, rows[chosen], sequences[chosen], reference_lengths)
            first, last = last, 2 * last

    def _evaluate(self, text: Text, rows: np.ndarray, sequences: np.ndarray, reference_lengths: np.ndarray) -> None:
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            row, sequence = rows[pairs], sequences[pairs]
            matches = self._matcher.window_matches(text, row, sequence, self._window)
            window_scores = scores(
                matches, self._lengths[sequence, None], reference_lengths[row, None], self._smoothing
            )
            np.maximum.at(self.best, sequence, window_scores.max(axis=1))
