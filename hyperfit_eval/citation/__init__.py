"""The citation blocker: which tokens would continue a copy of the hyperfitting dataset (paper, Section 3)."""

from typing import Any

from .index import CitationIndex, Overlap
from .matcher import Bans, CitationMatcher, Counters, ban
from .stored import IndexHeader

__all__ = ["Bans", "CitationBlocker", "CitationIndex", "CitationMatcher", "Counters", "IndexHeader", "Overlap", "ban"]


def __getattr__(name: str) -> Any:
    if name == "CitationBlocker":  # needs torch, which the index and the matcher do without
        from ..engines.transformers import CitationBlocker

        return CitationBlocker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
