"""Where the generated tokens of a row begin, for engines that show a processor nothing but ids.

`generate` of transformers does not say where a prompt ends, nor to which generation a call belongs: beams change
places, groups of beams come one after the other, a drafted text goes back, and several threads may share one
blocker. But every call shows rows that are one token longer than a row shown before, or are shown once more.
So each row is remembered with the place where its generated tokens begin, and a row that follows no remembered
one is a prompt. Where two answers are possible the earlier place is taken, which blocks more.
"""

import threading

import numpy as np
import torch

from ..errors import HyperfitError

REMEMBERED_ROWS = 1 << 14
"""Rows are forgotten in the order of their last call; generations that take turns need so many between them."""
TAIL_TOKENS = 16
"""A row is known again by its length and its last tokens. Rows that agree in these are taken for one, which errs
towards blocking."""


class RowStarts:
    """Starts of rows on the host; may be called from several threads.

    Example:
        starts = RowStarts()
        starts.of(torch.tensor([[7, 8]])) == [2]       # a prompt
        starts.of(torch.tensor([[7, 8, 9]])) == [2]    # one generated token
    """

    def __init__(self) -> None:
        self._starts: dict[tuple[int, bytes], int] = {}
        self._lock = threading.Lock()

    def copy(self) -> "RowStarts":
        """The same memory, which goes its own way from here."""
        copied = RowStarts()
        with self._lock:
            copied._starts = dict(self._starts)
        return copied

    def of(self, ids: torch.Tensor) -> list[int]:
        """Remember the rows of a call.

        Args:
            ids: prompt and generated ids, integers on the CPU, shape (B, T).
        Returns:
            Of each row the column in which its generated tokens begin; T for a prompt.
        """
        rows, length = ids.shape
        _check_rows(rows)
        tails = ids[:, -TAIL_TOKENS - 1 :].numpy()
        # One conversion for all rows, of which bytes are cut: cheaper than a numpy operation for each row.
        data, token = tails.tobytes(), tails.itemsize
        width, dropped = tails.shape[1] * token, (tails.shape[1] > TAIL_TOKENS) * token
        answer = []
        with self._lock:
            starts = self._starts
            for first in (number * width for number in range(rows)):
                stop = first + width
                row, parent = (
                    (length, data[first + dropped : stop]),
                    (length - 1, data[first : max(first, stop - token)]),
                )
                start = min(starts.get(parent, length), starts.pop(row, length))
                starts[row] = start
                answer.append(start)
            while len(starts) > REMEMBERED_ROWS:
                del starts[next(iter(starts))]
        return answer


class DeviceRowStarts:
    """The same in operations of fixed shape, for ids on an accelerator; the host waits for nothing.

    Args:
        device: of the ids.
    """

    def __init__(self, device: torch.device) -> None:
        rng = np.random.default_rng(0)
        multipliers = rng.integers(-(2**63), 2**63, TAIL_TOKENS + 1, dtype=np.int64) | 1
        self._multipliers = torch.from_numpy(multipliers).to(device)
        self._keys = torch.zeros(REMEMBERED_ROWS, dtype=torch.int64, device=device)
        self._starts = torch.full_like(self._keys, torch.iinfo(torch.int64).max)
        self._next = 0
        self._lock = threading.Lock()

    def copy(self) -> "DeviceRowStarts":
        """The same memory, which goes its own way from here."""
        copied = DeviceRowStarts(self._keys.device)
        with self._lock:
            copied._keys, copied._starts, copied._next = self._keys.clone(), self._starts.clone(), self._next
        return copied

    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """As `RowStarts.of`: int64, shape (B,), on the device."""
        rows, length = ids.shape
        _check_rows(rows)
        tails = torch.nn.functional.pad(ids[:, -TAIL_TOKENS - 1 :], (max(0, TAIL_TOKENS + 1 - length), 0), value=-1)
        row, parent = self._key(tails[:, 1:], length), self._key(tails[:, :-1], length - 1)
        with self._lock:
            same = (self._keys == row[:, None]) | (self._keys == parent[:, None])
            starts = self._starts.where(same, length).amin(dim=1)
            slots = torch.arange(self._next, self._next + rows, device=ids.device) % REMEMBERED_ROWS
            self._keys[slots], self._starts[slots] = row, starts
            self._next = (self._next + rows) % REMEMBERED_ROWS
        return starts

    def _key(self, tails: torch.Tensor, length: int) -> torch.Tensor:
        return (tails * self._multipliers[1:]).sum(dim=1) + self._multipliers[0] * length


def _check_rows(rows: int) -> None:
    if rows > REMEMBERED_ROWS // 4:
        raise HyperfitError(
            f"{rows} rows in one call: the citation blocker keeps generations of {REMEMBERED_ROWS // 4} rows apart; "
            "generate in smaller batches, or give the blocker prompt_length"
        )
