"""Ban by the last tokens of each row, wherever the scores are: what all engines but transformers share."""

from collections.abc import Iterable, Sequence

import torch

from ..citation import CitationIndex, CitationMatcher, Counters, ban
from ..citation.matcher import NO_TOKEN
from ..errors import HyperfitError
from .device import DeviceMatcher


class WindowBlocker:
    """The matcher for tensors on the CPU, and its twin for tensors on an accelerator.

    Args:
        index: the n-grams of the hyperfitting dataset.
        max_overlap_tokens: as for `CitationMatcher`.
    """

    def __init__(self, index: CitationIndex, max_overlap_tokens: int | None = None) -> None:
        self._matcher = CitationMatcher(index, max_overlap_tokens)
        self._device_matcher: DeviceMatcher | None = None
        self.index = index
        self.max_overlap_tokens = max_overlap_tokens
        self.window_tokens = self._matcher.window_tokens
        self.counters = Counters()
        """Of rows on the CPU; those on an accelerator are counted there (`DeviceMatcher.counts`)."""

    def windows(self, rows: int, histories: Iterable[tuple[int, Sequence[int]]]) -> torch.Tensor:
        """The last generated tokens of each row, from lists on the host.

        Args:
            rows: how many rows the scores have.
            histories: of some of them, the row and all its generated ids; the others will not be blocked.
        Returns:
            int64, shape (rows, window_tokens), on the CPU.
        """
        windows = torch.full((rows, self.window_tokens), NO_TOKEN, dtype=torch.int64)
        array = windows.numpy()
        for row, ids in histories:
            tail = ids[-self.window_tokens :]
            if tail:
                array[row, -len(tail) :] = tail
        return windows

    def gather(self, ids: torch.Tensor, rows: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """The last generated tokens of some rows of a table of histories, padded on the right.

        Args:
            ids: integers, shape (R, T), on any device.
            rows: which rows of `ids`, int64, shape (B,), on the same device.
            starts: where the generated tokens of each begin, int64, shape (B,); at `ends` for none.
            ends: one past the last token of each, int64, shape (B,).
        Returns:
            int64, shape (B, window_tokens), on that device; nothing here waits for it.
        """
        columns = ends[:, None] + torch.arange(-self.window_tokens, 0, device=ends.device)
        tails = ids[rows[:, None], columns.clamp_min(0)].long()
        return tails.masked_fill_(columns < starts[:, None], NO_TOKEN)

    def ban_(self, scores: torch.Tensor, windows: torch.Tensor) -> None:
        """Set the scores of banned tokens to -inf, in place.

        Args:
            scores: floating point, shape (B, vocabulary).
            windows: from `windows` or `gather`.
        Raises:
            HyperfitError: scores of another model than the index is for.
        """
        if scores.shape[1] <= self.index.header.largest_id:
            raise HyperfitError(
                f"the model scores {scores.shape[1]} tokens, the citation index has ids up to "
                f"{self.index.header.largest_id}; use the index that was built with this model's tokenizer"
            )
        if scores.is_cpu:
            self._ban_on_host(scores, windows)
            return
        if self._device_matcher is None:
            self._device_matcher = DeviceMatcher(self.index, scores.device, self.max_overlap_tokens)
        self._device_matcher.ban_(scores, windows.to(scores.device, non_blocking=True))

    def _ban_on_host(self, scores: torch.Tensor, windows: torch.Tensor) -> None:
        self.counters.steps += len(scores)
        bans = self._matcher.banned(windows.numpy())
        if not bans.matched:
            return
        if scores.dtype is torch.bfloat16:  # numpy has none; float32 holds the same numbers
            values = scores.float()
            ban(values.numpy(), bans, self.counters)
            scores.copy_(values)
        else:
            ban(scores.numpy(), bans, self.counters)
