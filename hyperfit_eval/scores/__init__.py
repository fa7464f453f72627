"""Scores of continuation records: every number with its interval and its signature (docs/formats.md)."""

from .measure import TrainingSet
from .signature import PRESETS, Signature
from .tables import compare_records, score_records
from .training_set import read_training_set, training_set_of

__all__ = [
    "PRESETS",
    "Signature",
    "TrainingSet",
    "compare_records",
    "read_training_set",
    "score_records",
    "training_set_of",
]
