"""The citation blocker: which tokens would continue a copy of the hyperfitting dataset (paper, Section 3)."""

from importlib import import_module
from typing import Any

from .index import CitationIndex, Overlap
from .matcher import Bans, CitationMatcher, Counters, ban
from .stored import IndexHeader

__all__ = ["Bans", "CitationIndex", "CitationMatcher", "Counters", "IndexHeader", "Overlap", "ban"]


def __getattr__(name: str) -> Any:
    # Where repositories that version 0.1.0 published look for it. It needs torch, which nothing else here does.
    if name == "CitationBlocker":
        return import_module("hyperfit_eval.blocking").CitationBlocker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
