"""The keys and values of the running requests: rows come and go while the others go on."""

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM_COLUMNS = 128
"""Spare columns: the cache is copied once in so many steps, where transformers' DynamicLayer copies it in each."""


class JoinPolicy(Enum):
    """When a request may join those that are running, as far as the model's cache allows it."""

    ANY_TIME = "any time"
    """Attention over everything: columns may be added and removed on the left."""
    WHEN_EMPTY = "when the batch has ended"
    """Sliding windows: what has left the window cannot be aligned with a newcomer."""
    EQUAL_LENGTHS = "when the batch has ended, with prompts of its length"
    """Recurrent and other states, in which padding might leave a trace."""


def join_policy_of(model: Any) -> JoinPolicy:
    """Decided by the layers that transformers makes for this model's cache."""
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if kinds == {DynamicLayer}:
        return JoinPolicy.ANY_TIME
    if kinds and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return JoinPolicy.WHEN_EMPTY
    return JoinPolicy.EQUAL_LENGTHS


def new_cache(model: Any, join_policy: JoinPolicy) -> Any:
    """An empty cache, for `RunningCache`."""
    cache = DynamicCache(config=model.config)
    if join_policy is JoinPolicy.ANY_TIME:
        cache.layers = [GrowingLayer() for _ in cache.layers]
    return cache


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer, (B, heads, columns, size), in buffers with room on the right and for more rows.

    The columns in use end where the newest is; those of rows that have left are given up on the left. So a row that
    comes or goes costs the copy of one row, and a step that of one column.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns; returns all of them."""
        rows, _, new, _ = key_states.shape
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rows, self._start, self._end = rows, 0, 0
            self._buffers = [_zeros(states, rows, new + ROOM_COLUMNS) for states in (key_states, value_states)]
        if self._end + new > self._buffers[0].shape[2]:
            self._move(rows, self._end - self._start, new + ROOM_COLUMNS)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, self._end : self._end + new] = states
        self._end += new
        return self._show()

    def keep(self, rows: int, targets: list[int], sources: list[int], columns: int) -> None:
        """Go on with the first `rows` rows, once `sources` have taken the places of `targets`."""
        used = slice(self._start, self._end)
        for buffer in self._buffers:
            for target, source in zip(targets, sources, strict=True):
                buffer[target, :, used] = buffer[source, :, used]
        self._rows, self._start = rows, self._end - columns
        self._show()

    def join(self, newcomers: "GrowingLayer", columns: int) -> None:
        """Add rows below; `columns` are then in use."""
        new: list[Any] = [newcomers.keys, newcomers.values]
        rows, length = len(new[0]), new[0].shape[2]
        if columns > self._end or self._rows + rows > len(self._buffers[0]):
            self._move(self._rows + rows, columns, ROOM_COLUMNS)
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[self._rows : self._rows + rows, :, self._end - length : self._end] = states
        self._rows, self._start = self._rows + rows, self._end - columns
        self._show()

    def _move(self, rows: int, columns: int, room: int) -> None:
        """To new buffers of `rows` rows and as many columns, with room on the right."""
        buffers = []
        for old in self._buffers:
            used = min(columns, self._end - self._start)
            buffer = _zeros(old, rows, columns + room)
            buffer[: self._rows, :, columns - used : columns] = old[: self._rows, :, self._end - used : self._end]
            buffers.append(buffer)
        self._buffers, self._start, self._end = buffers, 0, columns

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = (buffer[: self._rows, :, self._start : self._end] for buffer in self._buffers)
        return self.keys, self.values


def _zeros(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    # Zeros, since what is masked is multiplied by 0: it may be the rest of another row, but not infinite.
    return like.new_zeros(rows, like.shape[1], columns, like.shape[3])


class RunningCache:
    """The cache of a batch and how much of it belongs to each row.

    Rows end at the same column, the newest; a row's columns before its first token are masked.

    Attributes:
        lengths: tokens of each row in the cache.
        columns: of the cache, at least the longest length.
    """

    def __init__(self, cache: Any, join_policy: JoinPolicy, lengths: Sequence[int], columns: int) -> None:
        self.cache, self.join_policy = cache, join_policy
        self.lengths, self.columns = list(lengths), columns

    def next_inputs(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention mask, int64 (B, columns + 1), and positions, int64 (B, 1), of the next column.

        It is counted in from now on.
        """
        positions = torch.tensor(self.lengths, device=device)[:, None]
        self.columns += 1
        self.lengths = [length + 1 for length in self.lengths]
        mask = torch.arange(self.columns, device=device) >= self.columns - 1 - positions
        return mask.long(), positions

    def keep(self, order: Sequence[int]) -> None:
        """Go on with some rows: row i is then the one that was `order[i]` (see `without`)."""
        self.lengths = [self.lengths[row] for row in order]
        if self.join_policy is not JoinPolicy.ANY_TIME:
            self.cache.reorder_cache(torch.tensor(order))
            return
        self.columns = max(self.lengths)
        targets = [row for row, source in enumerate(order) if source != row]
        for layer in self.cache.layers:
            layer.keep(len(order), targets, [order[row] for row in targets], self.columns)

    def join(self, newcomers: "RunningCache") -> None:
        """Add rows below; only where they may join at any time."""
        self.lengths += newcomers.lengths
        self.columns = max(self.lengths)
        for layer, other in zip(self.cache.layers, newcomers.cache.layers, strict=True):
            layer.join(other, self.columns)


def without(rows: int, gone: Collection[int]) -> list[int]:
    """Order of what is left of `rows` rows, in an order that moves as few as possible: the last ones fill the gaps."""
    left = rows - len(gone)
    last = (row for row in range(left, rows) if row not in gone)
    return [next(last) if row in gone else row for row in range(left)]
