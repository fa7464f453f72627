"""The citation index: which token continues which n-gram of the hyperfitting dataset (docs/citation.md)."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import files
from ..errors import HyperfitError
from ..tokenizers import has_fingerprint, tokenizer_fingerprint
from .building import checked_ids, compacted, distinct_continuations, joined, kinds_of, sorted_ngrams
from .stored import (
    SEPARATOR,
    STARTS_WORD,
    IndexHeader,
    bucket_bits,
    bucket_starts,
    read_index,
    write_index,
)

_CHUNK = 1 << 16


class Overlap(NamedTuple):
    """A segment of `find`'s ids in which every n-gram occurs in the corpus."""

    start: int
    """Position of its first token in the ids."""
    length: int
    """In tokens, at least `ngram`."""
    sequence: int
    """Corpus sequence in which its first n-gram stands (one of them, if there are several)."""
    offset: int
    """Position of that n-gram in the sequence."""


class CitationIndex:
    """n-grams of a corpus with their continuations, in sorted arrays that can be memory-mapped.

    An n-gram is found by a key of 64 bits. No two n-grams of the corpus share a key (the build looks for
    multipliers for which that holds), and a lookup compares the n-gram itself, so that a foreign n-gram with
    the same key is never taken for one of the corpus. An entry is a pair of an n-gram and a token after it.

    Arrays (G n-grams, N entries, T corpus tokens and separators):
        keys: int64 (G,), sorted; a key is the sum of token x multiplier modulo 2**64.
        buckets: int32 or int64 (2**bits + 1,), where the keys with each value of their highest bits begin, so
            that a lookup in a corpus larger than the caches reads two places of memory and not twenty.
        starts: int32 or int64 (G + 1,), where the entries of each n-gram begin.
        positions: int32 or int64 (N,), where the n-gram stands in `tokens`, with its continuation after it.
        kinds: uint8 (N,), NEVER_BANNED, INSIDE_WORD or STARTS_WORD.
        tokens: int32 (T,), the sequences, -1 after each.
        multipliers: int64 (ngram,).
    """

    def __init__(self, header: IndexHeader, arrays: dict[str, np.ndarray], not_compared: str = "") -> None:
        self.header = header
        self.not_compared = not_compared
        """Why its checksums were not compared when it was read; "" if they were, or if it was just built."""
        self._arrays = arrays
        self.ngram = header.ngram
        self.keys = arrays["keys"]
        self.buckets = arrays["buckets"]
        self.starts = arrays["starts"]
        self.positions = arrays["positions"]
        self.kinds = arrays["kinds"]
        self.tokens = arrays["tokens"]
        self.multipliers = arrays["multipliers"]
        self._multiplier_list = self.multipliers.tolist()
        self._within = np.arange(self.ngram)
        # Not more than there are keys: with them wrapped around, no key is seen twice.
        self._in_bucket = np.arange(min(header.widest_bucket, header.ngrams))
        self._bits = (len(self.buckets) - 1).bit_length() - 1
        # One element of a memoryview is read in a third of the time that numpy takes for it.
        arrays_read = (self.keys, self.buckets, self.starts, self.positions, self.tokens)
        self._views = tuple(memoryview(array.data) for array in arrays_read)

    @classmethod
    def build(cls, sequences: Iterable[Sequence[int] | np.ndarray], tokenizer: Any, ngram: int = 5) -> "CitationIndex":
        """Index the n-grams of `sequences`; they never join across the ends of the sequences.

        Args:
            sequences: token ids of the hyperfitting dataset, one list or array for each training block.
            tokenizer: the tokenizer of those ids; its pieces tell which continuations start a word.
            ngram: matched length in tokens (paper, Section 3: 5).
        Raises:
            HyperfitError: nothing to index, ids outside the vocabulary, or pieces without word borders.
        """
        if ngram < 1:
            raise HyperfitError(f"ngram={ngram}: at least 1 token is needed, the paper uses 5")
        tokens = joined(sequences, ngram)
        keys, positions, multipliers = sorted_ngrams(tokens, ngram)
        keys, positions = distinct_continuations(tokens, keys, positions, ngram)
        kinds = kinds_of(tokens, positions, ngram, tokenizer)
        first = np.r_[True, keys[1:] != keys[:-1]]
        starts = np.flatnonzero(first).astype(positions.dtype)
        starts = np.append(starts, starts.dtype.type(len(keys)))
        keys = compacted(keys, first)
        bits = bucket_bits(len(keys))
        buckets = np.r_[bucket_starts(keys, bits, 0, 1 << bits), len(keys)].astype(positions.dtype)
        arrays = {
            "buckets": buckets,
            "starts": starts,
            "positions": positions,
            "keys": keys,
            "kinds": kinds,
            "tokens": tokens,
            "multipliers": multipliers,
        }
        ends = np.flatnonzero(tokens == SEPARATOR)
        header = IndexHeader(
            ngram=ngram,
            corpus=files.fingerprint(row.astype("<i8").tobytes() for row in _sequences(tokens, ends)),
            tokenizer=tokenizer_fingerprint(tokenizer),
            sequences=len(ends),
            tokens=len(tokens) - len(ends),
            ngrams=len(keys),
            continuations=int(np.count_nonzero(tokens[positions + ngram] != SEPARATOR)),
            word_starts=int(np.count_nonzero(kinds == STARTS_WORD)),
            most_continuations=int(np.diff(starts).max()),
            widest_bucket=int(np.diff(buckets).max()),
            largest_id=int(tokens.max()),
        )
        return cls(header, arrays)

    def save(self, path: str | Path) -> None:
        """Write the index as one safetensors file, atomically."""
        write_index(path, self.header, self._arrays)

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any = None, full: bool = False) -> "CitationIndex":
        """Open an index memory-mapped, and check it.

        Types, order and bounds of all arrays are always checked, which reads the file once; their checksums if
        the file has at most 1 GiB.

        Args:
            tokenizer: when given, it must be the one that the index was built with.
            full: compare checksums whatever the size.
        Raises:
            HyperfitError: missing, damaged or foreign file, another version, another tokenizer.
        """
        header, arrays, not_compared = read_index(path, full)
        if tokenizer is not None and not has_fingerprint(tokenizer, header.tokenizer):
            raise HyperfitError(
                f"{path}: built with tokenizer {header.tokenizer}, this one is {tokenizer_fingerprint(tokenizer)}; "
                "use the tokenizer that the model was trained with, or build the index again"
            )
        return cls(header, arrays, not_compared)

    def __deepcopy__(self, memo: object) -> "CitationIndex":
        return self  # nothing in it ever changes, and it may be larger than memory

    def sequences(self) -> Iterator[np.ndarray]:
        """The indexed token sequences in order, int32, as views into `tokens`."""
        return _sequences(self.tokens, self._ends)

    def sequence(self, number: int) -> np.ndarray:
        """The token sequence of this number, from 0, as `Overlap` counts them."""
        first = self._ends[number - 1] + 1 if number else 0
        return self.tokens[first : self._ends[number]]

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where in `tokens` the separators stand: one after each sequence."""
        return np.flatnonzero(self.tokens == SEPARATOR)

    def entries_of(self, ngram: Sequence[int]) -> tuple[int, int]:
        """The entries of one n-gram, as first and one past the last; equal if it does not occur."""
        keys, buckets, starts, positions, tokens = self._views
        key = sum(map(mul, ngram, self._multiplier_list)) & 0xFFFFFFFFFFFFFFFF
        key -= key >> 63 << 64
        bucket = (key >> (64 - self._bits)) + (1 << (self._bits - 1))
        end = buckets[bucket + 1]
        place = bisect_left(keys, key, buckets[bucket], end)
        if place == end or keys[place] != key:
            return 0, 0
        first = starts[place]
        position = positions[first]
        if tokens[position : position + self.ngram].tolist() != list(ngram):
            return 0, 0
        return first, starts[place + 1]

    def lookup(self, ngrams: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find many n-grams.

        Args:
            ngrams: int64, shape (B, ngram); an id of -1 occurs in no n-gram of the corpus.
        Returns:
            The H rows that occur in the corpus, ascending, and for each its first entry and one past its last.
        """
        keys = ngrams @ self.multipliers
        bucket = (keys >> (64 - self._bits)) + (1 << (self._bits - 1))
        places = self.buckets.take(bucket)[:, None] + self._in_bucket
        hits = (self.keys.take(places, mode="wrap") == keys[:, None]).ravel().nonzero()[0]
        if not len(hits):
            return hits, hits, hits
        rows, place = hits // len(self._in_bucket), places.take(hits)
        first, stop = self.starts.take(place), self.starts.take(place + 1)
        same = self.tokens.take(self.positions.take(first)[:, None] + self._within) == ngrams[rows]
        if same.all():
            return rows, first, stop
        whole = same.all(axis=1)
        return rows[whole], first[whole], stop[whole]

    def find(self, ids: Sequence[int] | np.ndarray) -> list[Overlap]:
        """Where `ids` repeat the corpus for `ngram` tokens or more, whole words or not."""
        row = checked_ids(ids, 1).astype(np.int64)
        if len(row) < self.ngram:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(row, self.ngram)
        chunks = range(0, len(windows), _CHUNK)
        found = [self.lookup(windows[chunk : chunk + _CHUNK]) for chunk in chunks]
        starts = np.concatenate([rows + chunk for chunk, (rows, _, _) in zip(chunks, found, strict=True)])
        entries = np.concatenate([first for _, first, _ in found])
        if not len(starts):
            return []
        opens = np.flatnonzero(np.r_[True, np.diff(starts) > 1])
        lengths = np.diff(np.r_[opens, len(starts)]) + self.ngram - 1
        places = self.positions[entries[opens]]
        # A separator stands after each sequence, so the sequence number is the number of separators before.
        numbers = self._ends.searchsorted(places)
        offsets = places - np.where(numbers > 0, self._ends[numbers - 1] + 1, 0)
        columns = (starts[opens], lengths, numbers, offsets)
        return [Overlap(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _sequences(tokens: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """The parts of `tokens` between the separators at `ends`."""
    start = 0
    for end in ends.tolist():
        yield tokens[start:end]
        start = end + 1
