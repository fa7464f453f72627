"""The n-grams of a few sequences, numbered order by order, and how to find them in much other text.

An (n+1)-gram is the pair of n-grams that begin at two neighboring places. So each order is numbered
from the order before by looking up pairs of numbers: nothing is compared by hash alone, and text that
holds no n-gram of the sequences is dropped before order n + 1 is looked at.

Texts are laid out row after row with one free place after each row. Neighboring places are then always
in the same row, and no n-gram crosses a border.
"""

from dataclasses import dataclass

import numpy as np

from .tokens import TokenRows

_SLOTS_PER_KEY = 8


@dataclass(frozen=True)
class Grams:
    """Where the known n-grams of one order begin in a text.

    Attributes:
        places: shape (P,), int64, ascending.
        ids: shape (P,), int32, the number of the n-gram at each place.
    """

    places: np.ndarray
    ids: np.ndarray


class PairTable:
    """Exact look-up of distinct integer keys: a key's place in the list it was built from.

    A hash table in numpy: of the keys that share a slot one stays, the others move to a further
    table with another hash. With eight slots a key two or three tables hold them all, and nearly all
    look-ups, above all those of absent keys, end at the first one.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._tables: list[tuple[np.uint64, np.uint64, np.ndarray]] = []
        rest = np.arange(len(keys), dtype=np.int32)
        while len(rest):
            # Odd multiples of 2^64 / golden ratio spread neighboring keys (Knuth, vol. 3, 6.4).
            multiplier = np.uint64(0x9E3779B97F4A7C15 * (2 * len(self._tables) + 1) % 2**64)
            bits = (_SLOTS_PER_KEY * len(rest)).bit_length()
            shift = np.uint64(64 - bits)
            table = np.zeros(1 << bits, dtype=np.int32)
            slots = _slots(keys[rest], multiplier, shift)
            table[slots] = rest + 1
            self._tables.append((multiplier, shift, table))
            rest = rest[table[slots] != rest + 1]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of `keys`, int64, are in the table, and as which number: indices (ascending) and int32."""
        numbers = np.zeros(len(keys), dtype=np.int32)
        left: np.ndarray | None = None  # the keys still looked for; all of them at first
        for multiplier, shift, table in self._tables:
            candidates = table[_slots(keys if left is None else keys[left], multiplier, shift)]
            occupied = np.flatnonzero(candidates)
            candidates = candidates[occupied]
            asked = occupied if left is None else left[occupied]
            right = self._keys[candidates - 1] == keys[asked]
            numbers[asked[right]] = candidates[right]
            left = asked[~right]
        found = np.flatnonzero(numbers)
        return found, numbers[found] - 1


def _slots(keys: np.ndarray, multiplier: np.uint64, shift: np.uint64) -> np.ndarray:
    return ((keys.view(np.uint64) * multiplier) >> shift).view(np.int64)


class GramIndex:
    """The distinct n-grams of some coded sequences, numbered for every order that is asked for.

    Args:
        sequences: coded 1..V, see `encode_sequences`.
        distinct_tokens: V.
        repeated: number only the n-grams that occur twice or more in the sequences. Of the others none
            can be in two sequences, nor can a longer n-gram that holds one.
    """

    def __init__(self, sequences: TokenRows, distinct_tokens: int, *, repeated: bool = False) -> None:
        self.starts = row_starts(sequences.lengths)
        """First place of each sequence and the end, shape (N + 1,)."""
        self._repeated = repeated
        self._own: list[Grams] = []
        self._counts: list[int] = []
        self._keys: list[np.ndarray] = []
        self._tables: list[PairTable] = []
        self._add(self.first_order(lay_out(sequences.tokens, sequences.lengths)), distinct_tokens)

    def own(self, order: int) -> Grams:
        """The n-grams of the sequences themselves."""
        while len(self._own) < order:
            first, keys = _pairs(self._own[-1], self._counts[-1])
            distinct, ids = np.unique(keys, return_inverse=True)
            self._keys.append(distinct)
            self._add(Grams(self._own[-1].places[first], ids.astype(np.int32)), len(distinct))
        return self._own[order - 1]

    def count(self, order: int) -> int:
        """How many n-grams of this order are numbered."""
        self.own(order)
        return self._counts[order - 1]

    def first_order(self, codes: np.ndarray) -> Grams:
        """Known tokens in laid-out codes, in which 0 stands for the others and for the free places."""
        places = np.flatnonzero(codes)
        return Grams(places, codes[places] - 1)

    def next_order(self, grams: Grams, order: int) -> Grams:
        """From the known n-grams of a text, n = `order`, to its known (n + 1)-grams."""
        self.own(order + 1)
        while len(self._tables) < order:
            self._tables.append(PairTable(self._keys[len(self._tables)]))
        first, keys = _pairs(grams, self._counts[order - 1])
        found, ids = self._tables[order - 1].find(keys)
        return Grams(grams.places[first[found]], ids)

    def _add(self, grams: Grams, count: int) -> None:
        if self._repeated:
            often = np.bincount(grams.ids, minlength=count) > 1
            kept = often[grams.ids]
            numbers = np.cumsum(often, dtype=np.int32) - 1
            grams, count = Grams(grams.places[kept], numbers[grams.ids[kept]]), int(np.count_nonzero(often))
        self._own.append(grams)
        self._counts.append(count)


def longer_grams(own: Grams, grams: Grams, count: int) -> tuple[Grams, Grams, int]:
    """From the n-grams of some sequences, and their places in a text, to those one token longer.

    Args:
        own, grams: in the sequences, and in the text.
        count: of distinct n-grams.
    Returns:
        The same for n + 1.
    """
    own_first, own_keys = _pairs(own, count)
    distinct, own_ids = np.unique(own_keys, return_inverse=True)
    first, keys = _pairs(grams, count)
    found, ids = PairTable(distinct).find(keys)
    longer_own = Grams(own.places[own_first], own_ids.astype(np.int32))
    return longer_own, Grams(grams.places[first[found]], ids), len(distinct)


def _pairs(grams: Grams, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which n-grams are followed by another at the next place, and a key for each such pair, int64."""
    first = np.flatnonzero(np.diff(grams.places) == 1)
    return first, grams.ids[first].astype(np.int64) * count + grams.ids[first + 1]


def lay_out(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of codes, given back to back, with a 0 after each; shape (T + R,), int32."""
    laid_out = np.zeros(len(codes) + len(lengths), dtype=np.int32)
    laid_out[np.arange(len(codes)) + np.repeat(np.arange(len(lengths)), lengths)] = codes
    return laid_out


def row_starts(lengths: np.ndarray) -> np.ndarray:
    """First place of each row of a layout, and the place after the last row; shape (R + 1,), int64."""
    return np.concatenate([[0], np.cumsum(lengths + 1)])


def ranks_in_runs(values: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal values, shape (T,), int64."""
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return np.arange(len(values)) - np.repeat(begins, np.diff(begins, append=len(values)))
