"""Ban by the last tokens of each row, wherever the scores are: what all engines share."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from ..citation import CitationIndex, CitationMatcher, Counters, ban
from ..citation.matcher import NO_TOKEN
from ..errors import HyperfitError
from .device import DeviceMatcher

_COUNTED_CALLS = 256
"""An accelerator's counts are read, and waited for, once in so many calls: a growing count of rows left alone warns."""


def on_host(tensor: torch.Tensor) -> bool:
    """Is the tensor where numpy can read it?"""
    return tensor.is_cpu


def check_vocabulary(index: CitationIndex, vocabulary: int) -> None:
    """Raise if a model that scores `vocabulary` tokens cannot be the one that the index is for.

    Raises:
        HyperfitError: the index has larger ids.
    """
    if vocabulary <= index.header.largest_id:
        raise HyperfitError(
            f"the model scores {vocabulary} tokens, the citation index has ids up to {index.header.largest_id}; "
            "use the index that was built with this model's tokenizer"
        )


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
        self._counters = Counters()
        self._device_calls = self._unblocked_before = 0

    @property
    def counters(self) -> Counters:
        """Counts of all calls so far. Waits for an accelerator if one is in use."""
        counters = replace(self._counters)
        if self._device_matcher is not None:
            for name, count in zip(
                ("matched", "banned", "unblocked"), self._device_matcher.counts.tolist(), strict=True
            ):
                setattr(counters, name, getattr(counters, name) + count)
        return counters

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

    def ban_(self, scores: torch.Tensor, windows: torch.Tensor) -> list[int] | torch.Tensor:
        """Set the scores of banned tokens to -inf, in place.

        Args:
            scores: floating point, shape (B, vocabulary).
            windows: from `windows` or `gather`.
        Returns:
            The rows in which something was banned; of scores on an accelerator bool (B,), which nobody waited for.
        Raises:
            HyperfitError: scores of another model than the index is for.
        """
        check_vocabulary(self.index, scores.shape[1])
        self._counters.steps += len(scores)
        return self._ban_on_host(scores, windows) if on_host(scores) else self._ban_on_device(scores, windows)

    def _ban_on_host(self, scores: torch.Tensor, windows: torch.Tensor) -> list[int]:
        # numpy takes about a microsecond for every operation, however few the rows: one row goes without.
        one = len(windows) == 1
        bans = self._matcher.banned_after(windows[0].tolist()) if one else self._matcher.banned(windows.numpy())
        if not bans.matched:
            return []
        # numpy has no bfloat16; float32 holds the same numbers.
        values = scores.float() if scores.dtype is torch.bfloat16 else scores
        rows = ban(values.numpy(), bans, self._counters)
        if values is not scores:
            scores.copy_(values)
        return rows

    def _ban_on_device(self, scores: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        if self._device_matcher is None:
            self._device_matcher = DeviceMatcher(self.index, scores.device, self.max_overlap_tokens)
        touched = self._device_matcher.ban_(scores, windows.to(scores.device, non_blocking=True))
        self._device_calls += 1
        if self._device_calls % _COUNTED_CALLS == 0:
            counters, before = self.counters, self._unblocked_before
            counters.warn_if_unblocked(before)
            self._unblocked_before = counters.unblocked
        return touched
