"""Continuing contexts and scoring texts with a causal language model (torch, transformers)."""

from .continuing import Decoding, continue_ids
from .passages import continue_texts, cut_passages, describe_blocker
from .scoring import TextScore, score_ids

__all__ = [
    "Decoding",
    "TextScore",
    "continue_ids",
    "continue_texts",
    "cut_passages",
    "describe_blocker",
    "score_ids",
]
