"""Which tokens of a text repeat what it said before: the colors of the paper's Figure 1."""

from collections.abc import Sequence

import numpy as np


def repeated_lengths(token_ids: Sequence[int]) -> np.ndarray:
    """For each token the length of the longest run it belongs to that stood earlier in the same text.

    A run may overlap its earlier copy, as in a loop. Paper, Figure 1, which colors tokens by how
    repetitive the text is and gives no formula; this is ours.

    Args:
        token_ids: shape (T,); a context may stand before the continuation.
    Returns:
        int64, shape (T,), in tokens; 0 for a token that is new.
    Example:
        repeated_lengths([5, 6, 7, 5, 6, 8]).tolist() == [0, 0, 0, 2, 2, 0]
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    lengths = np.zeros(len(ids), dtype=np.int64)
    # ending[i]: length of the run that ends at the token under way and, earlier, at token i.
    ending = np.zeros(len(ids), dtype=np.int64)
    for place in range(1, len(ids)):
        same = ids[:place] == ids[place]
        ending[1:place] = ending[: place - 1]
        ending[0] = 0
        ending[:place] = np.where(same, ending[:place] + 1, 0)
        longest = int(ending[:place].max())
        if longest:
            run = slice(place - longest + 1, place + 1)
            lengths[run] = np.maximum(lengths[run], longest)
    return lengths
