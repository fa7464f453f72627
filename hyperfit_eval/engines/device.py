"""The citation lookup in torch operations of fixed shape: for accelerators, without waiting for the device."""

import numpy as np
import torch

from ..citation import CitationIndex


class DeviceMatcher:
    """`CitationMatcher` on tensors: no operation here depends on a value that the host must wait for.

    Args:
        index: copied to `device`, at most 21 bytes for each corpus token.
        max_overlap_tokens: as for `CitationMatcher`.

    Attributes:
        counts: int64, shape (3,), on the device: rows matched, banned and left unblocked so far.
    """

    def __init__(self, index: CitationIndex, device: torch.device, max_overlap_tokens: int | None = None) -> None:
        def copied(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array).to(device)

        self.ngram = index.ngram
        self.max_overlap_tokens = max_overlap_tokens
        self.keys, self.starts, self.positions = copied(index.keys), copied(index.starts), copied(index.positions)
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
        matched, place = self._find(windows[:, -self.ngram :])
        first, stop = self.starts[place].long(), self.starts[place + 1].long()
        entries = first[:, None] + self.slots
        inside = matched[:, None] & (entries < stop[:, None])
        entries.clamp_(max=len(self.positions) - 1)
        ids = self.tokens[self.positions[entries].long() + self.ngram].long()
        banned = self.starts_word[entries]
        if self.max_overlap_tokens is not None:
            at_cap = self._find(windows.unfold(1, self.ngram, 1))[0].all(dim=1)
            banned = banned | at_cap[:, None] & (ids >= 0)
        banned = banned & inside
        # One column more than the vocabulary takes the writes of the entries that ban nothing.
        vocabulary = scores.shape[1]
        mask = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
        mask.scatter_(1, torch.where(banned, ids, vocabulary), True)
        mask = mask[:, :vocabulary]
        possible = (~mask & (scores > -torch.inf)).any(dim=1)
        any_banned = banned.any(dim=1)
        scores.masked_fill_(mask & possible[:, None], -torch.inf)
        self.counts += torch.stack([matched.sum(), (any_banned & possible).sum(), (any_banned & ~possible).sum()])

    def _find(self, ngrams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For n-grams of shape (..., ngram): do they occur in the corpus, and which key is theirs, shape (...)."""
        keys = (ngrams * self.multipliers).sum(dim=-1)
        place = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        positions = self.positions[self.starts[place]].long()
        found = self.tokens[positions[..., None] + self.within]
        return (found == ngrams).all(dim=-1), place
