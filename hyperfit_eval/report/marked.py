"""A text in pieces that know how repetitive they are and whether they are copied (paper, Figure 1)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..citation import CitationIndex
from ..metrics import repeated_lengths

LEVELS = (4, 8, 16)
"""Tokens of a repeated run from which each level of color begins."""
AROUND_TOKENS = 12
"""Characters of the training text shown on either side of a copied run."""


def marked_pieces(
    tokenizer: Any, context_ids: Sequence[int], continuation_ids: Sequence[int], index: CitationIndex | None = None
) -> list[dict[str, Any]]:
    """Cut a continuation where its color or its source changes.

    Args:
        context_ids: repetitions of it count, too; it is not part of the result.
        index: of the training set, whose copied runs are marked; None marks none.
    Returns:
        Pieces in order: {"text", "repeated": 0 to 3, "copied": length in tokens or 0, "source": (sequence,
        offset) in the training set or None}. Their texts joined are the continuation's text.
    """
    ids = list(continuation_ids)
    lengths = repeated_lengths([*context_ids, *ids])[len(context_ids) :]
    level = np.searchsorted(LEVELS, lengths, side="right")
    copied = np.full(len(ids), -1)
    found = index.find(ids) if index is not None else []
    for number, overlap in enumerate(found):
        copied[overlap.start : overlap.start + overlap.length] = number
    borders = np.flatnonzero((np.diff(level) != 0) | (np.diff(copied) != 0)) + 1
    pieces, before = [], ""
    for start, stop in zip([0, *borders], [*borders, len(ids)], strict=True):
        text = tokenizer.decode(ids[:stop])
        source = found[copied[start]] if copied[start] >= 0 else None
        pieces.append(
            {
                # Half a character at a border belongs to the piece that completes it.
                "text": text[len(before) :].rstrip("\ufffd"),
                "repeated": int(level[start]),
                "copied": source.length if source else 0,
                "source": (source.sequence, source.offset) if source else None,
            }
        )
        before = text.rstrip("\ufffd")
    return pieces


def source_text(tokenizer: Any, index: CitationIndex, sequence: int, offset: int, length: int) -> str:
    """`…before [copied] after…` of a copied run in the training set."""
    row = index.sequence(sequence).tolist()
    cuts = (max(0, offset - AROUND_TOKENS), offset, offset + length, offset + length + AROUND_TOKENS)
    before, copied, after = (tokenizer.decode(row[a:b]) for a, b in pairwise(cuts))
    return f"…{before} [{copied.strip()}]{after}…"
