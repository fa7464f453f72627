"""The arrays of a citation index, made from token sequences in about 32 bytes of memory a token."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import HyperfitError
from .edges import Edge, word_borders
from .stored import INSIDE_WORD, NEVER_BANNED, SEPARATOR, STARTS_WORD
from .words import CONTEXT, Pieces

_CHUNK = 1 << 16
_PARTS = 16
"""The n-grams are sorted in so many parts, by the highest bits of their keys: a sort needs memory of its own."""


def checked_ids(row: Sequence[int] | np.ndarray, number: int) -> np.ndarray:
    """The ids of the sequence of this number, int32 (T,).

    Raises:
        HyperfitError: something else than a list of token ids.
    """
    ids = np.asarray(row)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise HyperfitError(f"sequence {number}: {ids.dtype} of shape {ids.shape}, expected a list of token ids")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 2**31:
        raise HyperfitError(f"sequence {number}: token ids from {ids.min()} to {ids.max()}, expected 0 to 2**31 - 1")
    return ids.astype(np.int32, copy=False)


def joined(sequences: Iterable[Sequence[int] | np.ndarray], ngram: int) -> np.ndarray:
    """The sequences one after the other, int32, a separator after each.

    Raises:
        HyperfitError: none of them has an n-gram.
    """
    rows = [checked_ids(row, number) for number, row in enumerate(sequences, start=1)]
    if not any(len(row) >= ngram for row in rows):
        raise HyperfitError(
            f"{len(rows)} sequences, none of {ngram} tokens or more: nothing would ever be blocked; "
            "index the blocks that the model was trained on"
        )
    tokens = np.full(sum(map(len, rows)) + len(rows), SEPARATOR, dtype=np.int32)
    start = 0
    for row in rows:
        tokens[start : start + len(row)] = row
        start += len(row) + 1
    return tokens


def sorted_ngrams(tokens: np.ndarray, ngram: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of all n-grams in order, where each stands, and the multipliers of the keys.

    For random multipliers two given n-grams share a key with a probability of about 2**-64; if any two do,
    other multipliers are taken, so that equal keys mean equal n-grams.
    """
    places = _ngram_places(tokens, ngram)
    rng = np.random.default_rng(0)
    while True:
        multipliers = rng.integers(-(2**63), 2**63, ngram, dtype=np.int64) | 1
        keys, positions = _sorted_by_key(_keys(tokens, places, multipliers), places)
        equal = np.flatnonzero(keys[1:] == keys[:-1])
        one, other = positions[equal], positions[equal + 1]
        if all((tokens[one + i] == tokens[other + i]).all() for i in range(ngram)):
            return keys, positions, multipliers


def _ngram_places(tokens: np.ndarray, ngram: int) -> np.ndarray:
    """Where an n-gram stands that has no separator in it, int32 while that is enough."""
    last = len(tokens) - ngram
    whole = np.ones(last, dtype=bool)
    for i in range(ngram):
        whole &= tokens[i : last + i] != SEPARATOR
    return np.flatnonzero(whole).astype(np.int32 if len(tokens) < 2**31 else np.int64)


def _keys(tokens: np.ndarray, places: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    keys = np.empty(len(places), dtype=np.int64)
    for first in range(0, len(places), _CHUNK):
        chunk = places[first : first + _CHUNK, None] + np.arange(len(multipliers))
        keys[first : first + _CHUNK] = tokens[chunk] @ multipliers
    return keys


def _sorted_by_key(keys: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = (keys >> 60).astype(np.int8)
    sorted_keys, positions = np.empty_like(keys), np.empty_like(places)
    start = 0
    for part in range(-_PARTS // 2, _PARTS // 2):
        members = np.flatnonzero(parts == part)
        members = members[np.argsort(keys[members])]
        stop = start + len(members)
        sorted_keys[start:stop], positions[start:stop] = keys[members], places[members]
        start = stop
    return sorted_keys, positions


def distinct_continuations(
    tokens: np.ndarray, keys: np.ndarray, positions: np.ndarray, ngram: int
) -> tuple[np.ndarray, np.ndarray]:
    """One entry, the earliest, for each n-gram and continuation; `keys` and `positions` are used up."""
    equal = keys[1:] == keys[:-1]
    # Most n-grams of a text occur once: only the others need the slower sort by continuation.
    repeated = np.flatnonzero(np.r_[equal, False] | np.r_[False, equal])
    places = positions[repeated]
    order = np.lexsort((places, tokens[places + ngram], keys[repeated]))
    positions[repeated] = places[order]
    continuations = tokens[positions + ngram]
    keep = np.r_[True, ~(equal & (continuations[1:] == continuations[:-1]))]
    return compacted(keys, keep), compacted(positions, keep)


def compacted(array: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """`array[keep]` in the memory of `array`."""
    count = 0
    for first in range(0, len(array), _CHUNK):
        part = array[first : first + _CHUNK][keep[first : first + _CHUNK]]
        array[count : count + len(part)] = part
        count += len(part)
    return array[:count]


def kinds_of(tokens: np.ndarray, positions: np.ndarray, ngram: int, tokenizer: Any) -> np.ndarray:
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
