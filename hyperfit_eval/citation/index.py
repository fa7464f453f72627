"""The citation index: which token continues which n-gram of the hyperfitting dataset (docs/citation.md)."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from .. import files
from ..errors import HyperfitError
from ..tokenizers import has_fingerprint, tokenizer_fingerprint
from .edges import Edge, word_borders
from .mapped import open_mapped
from .words import CONTEXT, Pieces

FORMAT = "hyperfit-eval/citation-index"
VERSION = 1
NEVER_BANNED, INSIDE_WORD, STARTS_WORD = range(3)
"""Kinds of continuations: no token or a special one, one that goes on with a word, one that starts a word."""
_METADATA = "citation_index"
_ARRAYS = ("keys", "buckets", "starts", "positions", "kinds", "tokens", "multipliers")
_SEPARATOR = -1
_CHUNK = 1 << 16


@dataclass(frozen=True)
class IndexHeader:
    """What an index was made of; written into its file and into the records of blocked generations."""

    ngram: int
    corpus: str
    """Fingerprint of the token ids (`files.fingerprint_ids`)."""
    tokenizer: str
    """Fingerprint of the tokenizer (`tokenizers.tokenizer_fingerprint`)."""
    sequences: int
    tokens: int
    ngrams: int
    """Distinct n-grams."""
    continuations: int
    """Distinct pairs of an n-gram and a token after it."""
    word_starts: int
    """Those of them that start a word: what the blocker bans."""
    most_continuations: int
    """The largest number of entries of one n-gram."""
    widest_bucket: int
    """The largest number of n-grams in one bucket."""
    largest_id: int


class Overlap(NamedTuple):
    """A stretch of `find`'s ids in which every n-gram occurs in the corpus."""

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

    def __init__(self, header: IndexHeader, arrays: dict[str, np.ndarray]) -> None:
        self.header = header
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
        rows = [_ids(row, number) for number, row in enumerate(sequences, start=1)]
        if not any(len(row) >= ngram for row in rows):
            raise HyperfitError(
                f"{len(rows)} sequences, none of {ngram} tokens or more: nothing would ever be blocked; "
                "index the blocks that the model was trained on"
            )
        tokens = _joined(rows)
        keys, positions, multipliers = _sorted_ngrams(tokens, ngram)
        keys, positions = _distinct_continuations(tokens, keys, positions, ngram)
        kinds = _kinds(tokens, positions, ngram, tokenizer)
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1], True])
        keys = keys[starts[:-1]]
        buckets = _buckets(keys)
        header = IndexHeader(
            ngram=ngram,
            corpus=files.fingerprint(row.astype("<i8").tobytes() for row in rows),
            tokenizer=tokenizer_fingerprint(tokenizer),
            sequences=len(rows),
            tokens=len(tokens) - len(rows),
            ngrams=len(keys),
            continuations=int(np.count_nonzero(tokens[positions + ngram] != _SEPARATOR)),
            word_starts=int(np.count_nonzero(kinds == STARTS_WORD)),
            most_continuations=int(np.diff(starts).max()),
            widest_bucket=int(np.diff(buckets).max()),
            largest_id=int(tokens.max()),
        )
        arrays = {"buckets": buckets, "starts": starts, "positions": positions}
        if len(tokens) < 2**31:
            arrays = {name: array.astype(np.int32) for name, array in arrays.items()}
        arrays |= {"keys": keys, "kinds": kinds, "tokens": tokens, "multipliers": multipliers}
        return cls(header, arrays)

    def save(self, path: str | Path) -> None:
        """Write the index as one safetensors file, atomically."""
        # One metadata entry: safetensors writes several in random order, and equal indexes should be equal files.
        header = json.dumps({"format": FORMAT, "version": VERSION, **asdict(self.header)})
        with files.atomic_path(path) as temporary:
            save_file({name: getattr(self, name) for name in _ARRAYS}, temporary, metadata={_METADATA: header})

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any = None) -> "CitationIndex":
        """Open an index memory-mapped: nothing is read but the header, however large the corpus.

        Args:
            tokenizer: when given, it must be the one that the index was built with.
        Raises:
            HyperfitError: missing, truncated or foreign file, another version, another tokenizer.
        """
        metadata, arrays = open_mapped(path)
        try:
            fields = json.loads(metadata.get(_METADATA, "{}"))
            found, version = fields.pop("format", None), fields.pop("version", None)
        except (ValueError, AttributeError, TypeError) as error:
            raise HyperfitError(f"{path}: its header is damaged ({error}); build the index again") from error
        if found != FORMAT:
            raise HyperfitError(f"{path}: format {found!r:.60}, expected '{FORMAT}'")
        if version != VERSION:
            raise HyperfitError(
                f"{path}: version {version!r:.60}, this package reads {VERSION}; "
                "build the index again or pip install -U hyperfit-eval"
            )
        expected = {name: type(value) for name, value in fields.items()}
        if expected != IndexHeader.__annotations__ or set(arrays) != set(_ARRAYS):
            raise HyperfitError(f"{path}: its header is damaged; build the index again")
        header = IndexHeader(**fields)
        sizes = {name: array.size for name, array in arrays.items()}
        fits = sizes["starts"] == sizes["keys"] + 1 == header.ngrams + 1 and sizes["multipliers"] == header.ngram
        bits = (sizes["buckets"] - 1).bit_length() - 1
        if not fits or sizes["positions"] != sizes["kinds"] or sizes["buckets"] != 2**bits + 1:
            raise HyperfitError(f"{path}: its arrays do not fit together; build the index again")
        if tokenizer is not None and not has_fingerprint(tokenizer, header.tokenizer):
            raise HyperfitError(
                f"{path}: built with tokenizer {header.tokenizer}, this one is {tokenizer_fingerprint(tokenizer)}; "
                "use the tokenizer that the model was trained with, or build the index again"
            )
        return cls(header, arrays)

    def __deepcopy__(self, memo: dict) -> "CitationIndex":
        return self  # nothing in it ever changes, and it may be larger than memory

    def sequences(self) -> Iterator[np.ndarray]:
        """The indexed token sequences in order, int32, as views into `tokens`."""
        return map(self.sequence, range(len(self._ends)))

    def sequence(self, number: int) -> np.ndarray:
        """The token sequence of this number, from 0, as `Overlap` counts them."""
        first = self._ends[number - 1] + 1 if number else 0
        return self.tokens[first : self._ends[number]]

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where in `tokens` the separators stand: one after each sequence."""
        return np.flatnonzero(self.tokens == _SEPARATOR)

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
        row = _ids(ids, 1)
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


def _ids(row: Sequence[int] | np.ndarray, number: int) -> np.ndarray:
    ids = np.asarray(row)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise HyperfitError(f"sequence {number}: {ids.dtype} of shape {ids.shape}, expected a list of token ids")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 2**31:
        raise HyperfitError(f"sequence {number}: token ids from {ids.min()} to {ids.max()}, expected 0 to 2**31 - 1")
    return ids.astype(np.int64, copy=False)


def _joined(rows: list[np.ndarray]) -> np.ndarray:
    """The sequences one after the other, int32, a separator after each."""
    tokens = np.full(sum(map(len, rows)) + len(rows), _SEPARATOR, dtype=np.int32)
    start = 0
    for row in rows:
        tokens[start : start + len(row)] = row
        start += len(row) + 1
    return tokens


def _sorted_ngrams(tokens: np.ndarray, ngram: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of all n-grams in order, where each stands, and the multipliers of the keys.

    For random multipliers two given n-grams share a key with a probability of about 2**-64; if any two do,
    other multipliers are taken, so that equal keys mean equal n-grams.
    """
    ends = np.cumsum(tokens == _SEPARATOR, dtype=np.int32)
    last = len(tokens) - ngram
    whole = (ends[ngram - 1 : -1] == ends[:last]) & (tokens[:last] != _SEPARATOR)
    places = np.flatnonzero(whole)
    del ends, whole
    rng = np.random.default_rng(0)
    while True:
        multipliers = rng.integers(-(2**63), 2**63, ngram, dtype=np.int64) | 1
        keys = np.zeros(last, dtype=np.int64)
        for i, multiplier in enumerate(multipliers):
            keys += tokens[i : last + i] * multiplier
        keys = keys[places]
        order = np.argsort(keys)
        keys, positions = keys[order], places[order]
        equal = np.flatnonzero(keys[1:] == keys[:-1])
        one, other = positions[equal], positions[equal + 1]
        if all((tokens[one + i] == tokens[other + i]).all() for i in range(ngram)):
            return keys, positions, multipliers


def _distinct_continuations(
    tokens: np.ndarray, keys: np.ndarray, positions: np.ndarray, ngram: int
) -> tuple[np.ndarray, np.ndarray]:
    """One entry, the earliest, for each n-gram and continuation."""
    equal = keys[1:] == keys[:-1]
    # Most n-grams of a text occur once: only the others need the slower sort by continuation.
    repeated = np.flatnonzero(np.r_[equal, False] | np.r_[False, equal])
    places = positions[repeated]
    order = np.lexsort((places, tokens[places + ngram], keys[repeated]))
    positions[repeated] = places[order]
    continuations = tokens[positions + ngram]
    keep = np.r_[True, ~(equal & (continuations[1:] == continuations[:-1]))]
    return keys[keep], positions[keep]


def _buckets(keys: np.ndarray) -> np.ndarray:
    """Where the keys with each value of their highest bits begin: 4 to 8 keys in a bucket on average."""
    bits = max(1, (len(keys) - 1).bit_length() - 3)
    borders = (np.arange(1 << bits, dtype=np.int64) << (64 - bits)) + np.int64(-(2**63))
    return np.r_[keys.searchsorted(borders), len(keys)]


def _kinds(tokens: np.ndarray, positions: np.ndarray, ngram: int, tokenizer: Any) -> np.ndarray:
    """Kind of the continuation of each entry, uint8 (N,)."""
    pieces = Pieces(tokenizer)
    present = np.zeros(int(tokens.max()) + 2, dtype=bool)
    present[tokens] = True  # the last place is the separator's, by its id of -1
    ids = np.flatnonzero(present[:-1])
    begins, ends = np.full((2, len(present)), Edge.SPECIAL, dtype=np.uint8)
    begins[ids], ends[ids] = pieces.edges(ids)
    begin, end = begins[tokens[positions + ngram]], ends[tokens[positions + ngram - 1]]
    unknown = np.flatnonzero(end == Edge.UNKNOWN)
    if len(unknown):
        within = np.arange(max(0, ngram - CONTEXT), ngram)
        tails, which = np.unique(tokens[positions[unknown][:, None] + within], axis=0, return_inverse=True)
        end[unknown] = np.array([pieces.end_of(tail) for tail in tails], dtype=np.uint8)[which.reshape(-1)]
    kinds = np.where(word_borders(end, begin), np.uint8(STARTS_WORD), np.uint8(INSIDE_WORD))
    kinds[begin == Edge.SPECIAL] = NEVER_BANNED
    return kinds
