"""The citation blocker over the rows of a running batch."""

from collections.abc import Sequence

import numpy as np
import torch

from ..citation import CitationIndex, CitationMatcher, Counters, ban
from ..citation.matcher import NO_TOKEN
from ..engines.device import DeviceMatcher


class RowBlocker:
    """Bans, for each row that asks for it, what would continue a copy of the hyperfitting dataset.

    On an accelerator the lookup itself runs there; what it did is read back once a step.

    Args:
        include_prompt: let the prompt's tokens count as generated (in the paper they do not).
        max_overlap_tokens: also bound copies inside long words, see `CitationMatcher`.
    """

    def __init__(
        self, index: CitationIndex, device: torch.device, max_overlap_tokens: int | None, include_prompt: bool
    ) -> None:
        self.index = index
        self.counters = Counters()
        """Of the engine since it started; read it from any thread."""
        self.include_prompt = include_prompt
        self.matcher = CitationMatcher(index, max_overlap_tokens)
        self.window_tokens = self.matcher.window_tokens
        """How many of a row's last ids are looked at."""
        self.device_matcher = None if device.type == "cpu" else DeviceMatcher(index, device, max_overlap_tokens)

    def ban_(self, scores: torch.Tensor, rows: Sequence[int], histories: Sequence[Sequence[int]]) -> set[int]:
        """Set the banned scores to -inf, in place.

        Args:
            scores: float32, shape (B, vocabulary), logits.
            rows: the rows that ask for it.
            histories: of each of these, the ids that count as generated, or their last `window_tokens`.
        Returns:
            The rows in which something was banned.
        """
        if not rows:
            return set()
        width = self.window_tokens
        windows = np.full((len(rows), width), NO_TOKEN, dtype=np.int64)
        for window, history in zip(windows, histories, strict=True):
            tail = history[-width:]
            if tail:
                window[-len(tail) :] = tail
        self.counters.steps += len(rows)
        if self.device_matcher is not None:
            return self._ban_on_device(scores, rows, windows)
        bans = self.matcher.banned(windows)
        if len(rows) < len(scores):
            bans = bans._replace(rows=np.asarray(rows)[bans.rows])
        values = scores.numpy()
        ban(values, bans, self.counters)
        # Where nothing else was possible `ban` gives the scores back.
        return set(bans.rows[values[bans.rows, bans.ids] == -np.inf].tolist())

    def _ban_on_device(self, scores: torch.Tensor, rows: Sequence[int], windows: np.ndarray) -> set[int]:
        matcher = self.device_matcher
        if matcher is None:
            raise AssertionError("no accelerator")
        chosen = torch.tensor(rows, device=scores.device)
        part = scores[chosen]
        possible = (part > -torch.inf).sum(dim=1)
        matcher.ban_(part, torch.from_numpy(windows).to(scores.device))
        touched = (part > -torch.inf).sum(dim=1) < possible
        scores[chosen] = part
        told = torch.cat([matcher.counts, touched.long()]).tolist()
        self.counters.matched, self.counters.banned, self.counters.unblocked = told[:3]
        return {row for row, was in zip(rows, told[3:], strict=True) if was}
