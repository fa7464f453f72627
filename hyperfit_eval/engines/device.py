"""The citation lookup in torch operations of fixed shape: for accelerators, without waiting for the device."""

import numpy as np
import torch

from ..citation import CitationIndex


class DeviceMatcher:
    """`CitationMatcher` on tensors: no operation here depends on a value that the host must wait for.

    Args:
        index: copied to `device`, 17 bytes for each corpus token.
        max_overlap_tokens: as for `CitationMatcher`.

    Attributes:
        counts: int64, shape (3,), on the device: rows matched, banned and left unblocked so far.
    """

    def __init__(self, index: CitationIndex, device: torch.device, max_overlap_tokens: int | None = None) -> None:
        def copied(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array).to(device)

        self.ngram = index.ngram
        self.max_overlap_tokens = max_overlap_tokens
        self.keys, self.positions = copied(index.keys), copied(index.positions)
        self.starts_word, self.tokens = copied(index.starts_word), copied(index.tokens)
        self.multipliers = copied(index.multipliers)
        self.within = torch.arange(index.ngram, device=device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        self.slots = torch.arange(index.header.most_continuations, device=device)

    def ban_(self, scores: torch.Tensor, windows: torch.Tensor) -> None:
        """Set the scores of banned tokens to -inf, in place.

        Args:
            scores: floating point, shape (B, vocabulary).
            windows: int64, shape (B, window_tokens), as for `CitationMatcher.banned`.
        """
        matched, first, keys = self._find(windows[:, -self.ngram :])
        entries = first[:, None] + self.slots
        entries.clamp_(max=len(self.keys) - 1)
        ids = self.tokens[self.positions[entries].long() + self.ngram].long()
        banned = self.starts_word[entries]
        if self.max_overlap_tokens is not None:
            ngrams = windows.unfold(1, self.ngram, 1)
            at_cap = self._find(ngrams)[0].all(dim=1)
            banned = banned | at_cap[:, None] & (ids >= 0)
        banned = banned & matched[:, None] & (self.keys[entries] == keys[:, None])
        # One column more than the vocabulary takes the writes of the entries that ban nothing.
        vocabulary = scores.shape[1]
        mask = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
        mask.scatter_(1, torch.where(banned, ids, vocabulary), True)
        mask = mask[:, :vocabulary]
        possible = (~mask & (scores > -torch.inf)).any(dim=1)
        any_banned = banned.any(dim=1)
        scores.masked_fill_(mask & possible[:, None], -torch.inf)
        self.counts += torch.stack([matched.sum(), (any_banned & possible).sum(), (any_banned & ~possible).sum()])

    def _find(self, ngrams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For n-grams of shape (..., ngram): occurs in the corpus, first entry, key; each of shape (...)."""
        keys = (ngrams * self.multipliers).sum(dim=-1)
        first = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        found = self.tokens[self.positions[first].long()[..., None] + self.within]
        return (found == ngrams).all(dim=-1), first, keys
