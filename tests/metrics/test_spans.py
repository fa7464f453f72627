"""Repeated runs: by hand, then against a search over all pairs of runs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperfit_eval.metrics import repeated_lengths


def test_by_hand():
    assert repeated_lengths([5, 6, 7, 5, 6, 8]).tolist() == [0, 0, 0, 2, 2, 0]
    assert repeated_lengths([1, 2, 3]).tolist() == [0, 0, 0]
    assert repeated_lengths([]).tolist() == []
    # A loop of period 2: all of it after the first turn is one run.
    assert repeated_lengths([1, 2, 1, 2, 1, 2]).tolist() == [0, 0, 4, 4, 4, 4]


@given(st.lists(st.integers(0, 3), max_size=24))
def test_parity_with_a_search_over_all_runs(ids):
    expected = np.zeros(len(ids), dtype=int)
    for start in range(1, len(ids)):
        for stop in range(start + 1, len(ids) + 1):
            if any(ids[earlier : earlier + stop - start] == ids[start:stop] for earlier in range(start)):
                expected[start:stop] = np.maximum(expected[start:stop], stop - start)
    assert repeated_lengths(ids).tolist() == expected.tolist()
