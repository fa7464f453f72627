"""Dataset BLEU: the highest BLEU of each sequence against any window of a corpus (paper, Section 4.2).

Exact, by branch and bound. A window cannot match more than the whole row that it lies in, so the
score with the matches of the whole row is an upper bound of the scores of all its windows. It is a
tight one on natural text: rows are looked into in the order of their bounds, and after about four of
two thousand the best score is above all bounds that are left. Where the bounds decide little (loops, a
tiny vocabulary) whole rows are scored with all sequences at once, which costs a few seconds at most.
"""

import numpy as np

from ..errors import HyperfitError
from .bleu import Smoothing, match_product, scores, scores_of_products
from .matching import Matcher, Text
from .ngrams import GramIndex, ranks_in_runs
from .tokens import Chunk, Corpus, Progress, TokenRows, encode_with_corpus

_BLOCK_FEATURES = 1 << 24
"""Tokens of some sequences times their number, for those searched for at once: 32 MB of features an order."""
_SCORES_AT_ONCE = 1 << 14
"""Few enough to stay in the processor's cache."""
_PAIRS_AT_ONCE = 1 << 9
_CROWDED = 1 / 16
"""Share of all sequences for which a row is promising, above which it is scored with all of them."""


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
        window: in tokens. Sequences shorter than a window are subject to the brevity penalty.
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
    blocks, corpus_tokens = rows.blocks(_BLOCK_FEATURES), len(encoded.rows.tokens)
    best = np.zeros(len(rows))
    for block, (start, stop) in enumerate(blocks):
        search = _Search(rows.part(start, stop), distinct_tokens, window, smoothing)
        # Twice as many windows as a row needs to hold one: cut up, long rows cost half as much again.
        for chunk in encoded.chunks(window, max_windows=2 * window):
            search.look_into(chunk)
            if progress:
                progress(block * corpus_tokens + chunk.end, len(blocks) * corpus_tokens)
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
        bounds = self._bounds(text, reference_lengths)
        count, tops = len(self.best), 2
        promising = bounds > self.best
        if np.count_nonzero(promising) > _CROWDED * bounds.size:
            # Early on nearly everything looks promising: begin with the best row of each sequence.
            rows, sequences = bounds.argmax(axis=0), np.arange(count)
            self._score_pairs(text, rows, sequences, reference_lengths)
            bounds[rows, sequences] = 0.0
            promising = bounds > self.best
        while promising.any():
            rows, sequences = np.divmod(np.flatnonzero(promising), count)
            crowded = np.flatnonzero(np.bincount(rows) > _CROWDED * count)
            if len(crowded):
                self._score_rows(text, crowded, reference_lengths)
                bounds[crowded] = 0.0
            else:
                order = np.lexsort((-bounds[rows, sequences], sequences))
                order = order[ranks_in_runs(sequences[order]) < tops]
                self._score_pairs(text, rows[order], sequences[order], reference_lengths)
                bounds[rows[order], sequences[order]] = 0.0
                tops *= 4
            promising = bounds > self.best

    def _bounds(self, text: Text, reference_lengths: np.ndarray) -> np.ndarray:
        """Upper bounds of the scores of each sequence in the windows of each row, shape (R, N)."""
        matches = self._matcher.row_matches(text)
        bounds = np.empty(matches[0].shape)
        at_once = max(1, _SCORES_AT_ONCE // len(self.best))
        for start in range(0, len(bounds), at_once):
            some = slice(start, start + at_once)
            references = reference_lengths[some, None]
            bounds[some] = scores([m[some] for m in matches], self._lengths, references, self._smoothing)
        return bounds

    def _score_pairs(self, text: Text, rows: np.ndarray, sequences: np.ndarray, reference_lengths: np.ndarray) -> None:
        """Score all windows of rows, shape (P,), each with one sequence, shape (P,)."""
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            row, sequence = rows[start : start + _PAIRS_AT_ONCE], sequences[start : start + _PAIRS_AT_ONCE]
            matches = self._matcher.pair_matches(text, row, sequence, self._window)
            products = match_product(matches, self._lengths[sequence, None], self._smoothing).max(axis=1)
            best = scores_of_products(products, self._lengths[sequence], reference_lengths[row], self._smoothing)
            np.maximum.at(self.best, sequence, best)

    def _score_rows(self, text: Text, rows: np.ndarray, reference_lengths: np.ndarray) -> None:
        """Score all windows of rows, shape (P,), each with all sequences."""
        at_once = max(1, _SCORES_AT_ONCE // len(self.best))
        for start in range(0, len(rows), at_once):
            row = rows[start : start + at_once]
            products = np.zeros((len(row), len(self.best)))
            for matches in self._matcher.window_matches(text, row, self._window):
                np.maximum(products, match_product(matches, self._lengths, self._smoothing), out=products)
            best = scores_of_products(products, self._lengths, reference_lengths[row, None], self._smoothing)
            np.maximum(self.best, best.max(axis=0), out=self.best)
