"""The citation lookup in torch operations of fixed shape: for accelerators, without waiting for the device."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch

from ..citation import CitationIndex
from ..citation.stored import INSIDE_WORD, STARTS_WORD


class _Arrays(NamedTuple):
    """The arrays of an index on a device."""

    keys: torch.Tensor
    starts: torch.Tensor
    positions: torch.Tensor
    kinds: torch.Tensor
    tokens: torch.Tensor
    multipliers: torch.Tensor


# One copy for all matchers: an adapter may make a blocker for every call of `generate`.
_COPIES: WeakKeyDictionary[CitationIndex, dict[torch.device, _Arrays]] = WeakKeyDictionary()


def _arrays_on(device: torch.device, index: CitationIndex) -> _Arrays:
    copies = _COPIES.setdefault(index, {})
    if device not in copies:
        # torch.tensor copies: a view of a memory-mapped, read-only array would warn.
        copies[device] = _Arrays(*(torch.tensor(getattr(index, name)).to(device) for name in _Arrays._fields))
    return copies[device]


class DeviceMatcher:
    """`CitationMatcher` on tensors: no operation here depends on a value that the host must wait for.

    Args:
        index: copied to `device`, at most 21 bytes for each corpus token.
        max_overlap_tokens: as for `CitationMatcher`.

    Attributes:
        counts: int64, shape (3,), on the device: rows matched, banned and left unblocked so far.
    """

    def __init__(self, index: CitationIndex, device: torch.device, max_overlap_tokens: int | None = None) -> None:
        self.ngram = index.ngram
        self.max_overlap_tokens = max_overlap_tokens
        self.arrays = _arrays_on(device, index)
        self.within = torch.arange(index.ngram, device=device)
        self.slots = torch.arange(index.header.most_continuations, device=device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)

    def ban_(self, scores: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """Set the scores of banned tokens to -inf, in place.

        Args:
            scores: floating point, shape (B, vocabulary).
            windows: int64, shape (B, window_tokens), as for `CitationMatcher.banned`.
        Returns:
            The rows in which something was banned, bool (B,).
        """
        matched, place = self._find(windows[:, -self.ngram :])
        first, stop = self.arrays.starts[place].long(), self.arrays.starts[place + 1].long()
        entries = first[:, None] + self.slots
        inside = matched[:, None] & (entries < stop[:, None])
        entries.clamp_(max=len(self.arrays.positions) - 1)
        ids = self.arrays.tokens[self.arrays.positions[entries].long() + self.ngram].long()
        kinds = self.arrays.kinds[entries]
        banned = inside & (kinds >= STARTS_WORD)
        if self.max_overlap_tokens is not None:
            at_cap = self._find(windows.unfold(1, self.ngram, 1))[0].all(dim=1)
            banned |= inside & at_cap[:, None] & (kinds >= INSIDE_WORD)
        # One column more than the vocabulary takes the writes of the entries that ban nothing.
        vocabulary = scores.shape[1]
        mask = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
        mask.scatter_(1, torch.where(banned, ids, vocabulary), True)
        mask = mask[:, :vocabulary]
        possible = (~mask & (scores > -torch.inf)).any(dim=1)
        concerned = banned.any(dim=1)
        touched = concerned & possible
        scores.masked_fill_(mask & possible[:, None], -torch.inf)
        self.counts += torch.stack([matched.sum(), touched.sum(), (concerned & ~possible).sum()])
        return touched

    def _find(self, ngrams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For n-grams of shape (..., ngram): do they occur in the corpus, and which key is theirs, shape (...)."""
        keys = (ngrams * self.arrays.multipliers).sum(dim=-1)
        place = torch.searchsorted(self.arrays.keys, keys).clamp_(max=len(self.arrays.keys) - 1)
        positions = self.arrays.positions[self.arrays.starts[place]].long()
        found = self.arrays.tokens[positions[..., None] + self.within]
        return (found == ngrams).all(dim=-1), place
