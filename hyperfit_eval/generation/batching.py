"""Batches that fit the device, without probing it at a length that is never used."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ..errors import HyperfitError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_batches(
    items: Sequence[Item],
    batch_size: int,
    run: Callable[[Sequence[Item]], list[Result]],
    progress: Callable[[int], None] | None = None,
) -> list[Result]:
    """Run `items` in order, `batch_size` at a time, halving the batch whenever memory runs out.

    Args:
        items: what is to be run.
        batch_size: the first and largest batch tried.
        run: gives one result for each item of a batch.
        progress: called with the number of items just done.
    Raises:
        HyperfitError: a single item does not fit into the device's memory.
    """
    results: list[Result] = []
    while len(results) < len(items):
        batch = items[len(results) : len(results) + batch_size]
        try:
            done = run(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise HyperfitError(
                    "a batch of one text does not fit into the device's memory; try dtype=bfloat16"
                ) from error
            torch.cuda.empty_cache()
            batch_size = len(batch) // 2
            continue
        results += done
        if progress:
            progress(len(done))
    return results
