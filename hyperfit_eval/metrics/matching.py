"""Clipped n-gram matches of some sequences with rows of text, and with every window of a row.

The matches of n-gram g between a sequence and a text are min(h, c), its counts in both. Written as
min(h, c) = sum over k >= 1 of [h >= k][c >= k], the matches of all pairs of sequences and rows are one
product of two binary matrices, whose features are the pairs (g, k).

The windows of a row differ by one n-gram that enters and one that leaves. The k-th occurrence of g to
enter a window adds [h >= k] to the matches of each sequence, and takes it away when it leaves as the
last but k - 1 of those inside: the matches of all windows are running sums of the same features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .ngrams import GramIndex, Grams, lay_out, ranks_in_runs, row_starts

MAX_ORDER = 4


@dataclass(frozen=True)
class Text:
    """Rows of text by the known n-grams in them.

    Attributes:
        starts: first place of each row and the end, shape (R + 1,), see `lay_out`.
        grams: by order, 1 to 4.
    """

    starts: np.ndarray
    grams: list[Grams]

    @classmethod
    def read(cls, index: GramIndex, codes: np.ndarray, lengths: np.ndarray) -> "Text":
        """Find the n-grams of `index` in rows of codes that follow one another."""
        grams = [index.first_order(lay_out(codes, lengths))]
        while len(grams) < MAX_ORDER:
            grams.append(index.next_order(grams[-1], order=len(grams)))
        return cls(row_starts(lengths), grams)

    @classmethod
    def own(cls, index: GramIndex) -> "Text":
        """The sequences of `index` themselves."""
        return cls(index.starts, [index.own(order) for order in range(1, MAX_ORDER + 1)])


class Matcher:
    """Counts the matches of the sequences of an index with texts.

    Args:
        index: of the sequences.
        part: first and last + 1 of those that are matched, by default all N of them.
    """

    def __init__(self, index: GramIndex, part: tuple[int, int] | None = None) -> None:
        start, stop = part or (0, len(index.starts) - 1)
        own = Text.own(index)
        # Matches are at most a sequence's tokens, and sums of many small integers are fastest in small ones.
        dtype = np.int16 if np.diff(index.starts).max() < 2**15 else np.int32
        self._features = [
            _Features(grams, own.starts[start : stop + 1], index.count(order), dtype)
            for order, grams in enumerate(own.grams, start=1)
        ]

    def row_matches(self, text: Text) -> list[np.ndarray]:
        """Matches with whole rows, for each order an integer array of shape (R, N)."""
        return [
            features.multiply(grams, text.starts) for features, grams in zip(self._features, text.grams, strict=True)
        ]

    def pair_matches(self, text: Text, rows: np.ndarray, sequences: np.ndarray, window: int) -> list[np.ndarray]:
        """Matches of pairs of a row and a sequence with every window of the row.

        Args:
            rows, sequences: shape (P,), the pairs.
            window: in tokens.
        Returns:
            For each order shape (P, S), with S the windows of the longest row. Past the last window of
            a row there is what is left of the row.
        """
        distinct, row_of_pair = np.unique(rows, return_inverse=True)
        matches = []
        for order, (features, enter, leave) in enumerate(self._window_features(text, distinct, window), start=1):
            steps = enter.shape[1] - window + 1
            inside = np.zeros((len(rows), steps), dtype=features.held.dtype)
            if order <= window:
                inside += features.look_up(enter[row_of_pair], sequences)[:, window - order :][:, :steps]
                inside[:, 1:] -= features.look_up(leave[row_of_pair, : steps - 1], sequences)
            matches.append(inside)
        return matches

    def window_matches(self, text: Text, rows: np.ndarray, window: int) -> Iterator[list[np.ndarray]]:
        """Matches of all sequences with the first window of some rows, then with the second, and so on.

        The work for one pair is a fraction of that of `pair_matches`: look-ups and sums run over whole
        rows of features.

        Args:
            rows: shape (R,), distinct and ascending.
            window: in tokens.
        Yields:
            For each order an array of shape (R, N), as many times as the longest row has windows: the
            same arrays, brought up to date. Past the last window of a row as in `pair_matches`.
        """
        tables = self._window_features(text, rows, window)[:window]
        matches = [
            np.zeros((len(rows), features.held.shape[1]), dtype=features.held.dtype) for features in self._features
        ]
        for order, (features, enter, _) in enumerate(tables, start=1):
            for offset in range(window - order):
                matches[order - 1] += features.held.take(enter[:, offset], axis=0)
        for start in range(tables[0][1].shape[1] - window + 1):
            for order, (features, enter, leave) in enumerate(tables, start=1):
                matches[order - 1] += features.held.take(enter[:, start + window - order], axis=0)
                if start:
                    matches[order - 1] -= features.held.take(leave[:, start - 1], axis=0)
            yield matches

    def _window_features(
        self, text: Text, rows: np.ndarray, window: int
    ) -> list[tuple["_Features", np.ndarray, np.ndarray]]:
        """For each order the features that enter and leave with the n-gram at each offset, (R, width)."""
        width = max(window, int((text.starts[rows + 1] - text.starts[rows]).max()) - 1)
        return [
            (features, *features.of_windows(grams, text.starts, rows, width, window - order))
            for order, (features, grams) in enumerate(zip(self._features, text.grams, strict=True), start=1)
        ]


class _Features:
    """The features (g, k) of one order, and which of the sequences have them.

    Attributes:
        first: number of the feature (g, 1) of each n-gram g, shape (G,).
        most: the highest count of each n-gram in a sequence, shape (G,).
        held: [h >= k] for each feature and sequence, shape (F + 1, N); the last row is empty.
    """

    def __init__(self, own: Grams, starts: np.ndarray, count: int, dtype: type) -> None:
        sequences = len(starts) - 1
        bounds = np.searchsorted(own.places, starts)
        column = np.repeat(np.arange(sequences), np.diff(bounds))
        keys = own.ids[bounds[0] : bounds[-1]] * np.int64(sequences) + column
        keys.sort()
        ids, column = np.divmod(keys, sequences)
        ranks = ranks_in_runs(keys)
        self.most = np.zeros(count, dtype=np.int32)
        begins = np.flatnonzero(np.diff(ids, prepend=-1))
        self.most[ids[begins]] = np.maximum.reduceat(ranks + 1, begins) if len(begins) else 0
        self.first = np.cumsum(self.most, dtype=np.int32) - self.most
        self.held: np.ndarray = np.zeros((int(self.most.sum()) + 1, sequences), dtype=dtype)
        self.held[self.first[ids] + ranks, column] = 1

    def multiply(self, grams: Grams, starts: np.ndarray) -> np.ndarray:
        """Matches with each row of a text, shape (R, N)."""
        rows = len(starts) - 1
        bounds = np.searchsorted(grams.places, starts)
        fits = rows * len(self.most) < 2**31
        row_base = np.repeat((np.arange(rows) * len(self.most)).astype(np.int32 if fits else np.int64), np.diff(bounds))
        keys = row_base + grams.ids
        keys.sort()
        ids, ranks = keys - row_base, ranks_in_runs(keys)
        kept = ranks < self.most[ids]
        columns = self.first[ids[kept]] + ranks[kept]
        bounds = np.concatenate([[0], np.cumsum(kept)])[bounds]
        counts = sparse.csr_array(
            (np.ones(len(columns), dtype=self.held.dtype), columns.astype(np.int32), bounds.astype(np.int32)),
            shape=(rows, len(self.held)),
        )
        return counts @ self.held

    def look_up(self, features: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        """Running sums over T of [h >= k], for features of shape (P, T) and sequences (P,); shape (P, T)."""
        places = features * self.held.shape[1] + sequences[:, None]
        return self.held.reshape(-1).take(places).cumsum(axis=1, dtype=self.held.dtype)

    def of_windows(
        self, grams: Grams, starts: np.ndarray, rows: np.ndarray, width: int, reach: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The features that enter and that leave with the n-gram at each offset of some rows.

        Args:
            rows: shape (R,), ascending.
            width: tokens of the longest of them, at least.
            reach: from the first to the last n-gram of a window.
        Returns:
            Two arrays of shape (R, width), int64; the empty feature where no known n-gram begins.
        """
        bounds = np.searchsorted(grams.places, starts)
        sizes = np.diff(bounds)[rows]
        row = np.repeat(np.arange(len(rows)), sizes)
        events = np.arange(len(row)) + np.repeat(bounds[rows] - (np.cumsum(sizes) - sizes), sizes)
        # One sorted integer for each event: row, n-gram, offset. Events of the same row and n-gram differ
        # by less than the width, all others by more.
        offset_bits, id_bits = (2 * width).bit_length(), len(self.most).bit_length()
        keys = row << id_bits | grams.ids[events]
        keys = keys << offset_bits | (grams.places[events] - starts[rows][row])
        keys.sort()
        earlier = np.zeros(len(keys), dtype=np.int32)
        later = np.zeros(len(keys), dtype=np.int32)
        for rank in range(1, min(int(self.most.max(initial=0)), reach) + 1):
            together = keys[rank:] - keys[:-rank] <= reach
            if not together.any():
                break
            earlier[rank:] += together
            later[:-rank] += together
        row, ids = keys >> (offset_bits + id_bits), (keys >> offset_bits) & ((1 << id_bits) - 1)
        offsets = keys & ((1 << offset_bits) - 1)
        tables = np.full((2, len(rows), width), len(self.held) - 1)
        for table, ranks in zip(tables, (earlier, later), strict=True):
            table[row, offsets] = np.where(ranks < self.most[ids], self.first[ids] + ranks, len(self.held) - 1)
        return tables[0], tables[1]
