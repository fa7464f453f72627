"""Exact corpus metrics: pure functions of token ids or words, on numpy and scipy alone (docs/metrics.md)."""

from .bleu import Smoothing, pairwise_bleu, self_bleu
from .dataset_bleu import dataset_bleu
from .overlap import longest_overlap, novelty_curve, overlap_rate
from .repetition import compression_ratio, distinct_n, diversity, repetition, ttr_curve, type_token_ratio, zipf_slope
from .signature import PRESETS, bleu_signature, signature
from .statistics import Difference, Interval, mean_interval, paired_test, self_bleu_interval, self_bleu_paired_test
from .tokens import TokenRows

__all__ = [
    "PRESETS",
    "Difference",
    "Interval",
    "Smoothing",
    "TokenRows",
    "bleu_signature",
    "compression_ratio",
    "dataset_bleu",
    "distinct_n",
    "diversity",
    "longest_overlap",
    "mean_interval",
    "novelty_curve",
    "overlap_rate",
    "paired_test",
    "pairwise_bleu",
    "repetition",
    "self_bleu",
    "self_bleu_interval",
    "self_bleu_paired_test",
    "signature",
    "ttr_curve",
    "type_token_ratio",
    "zipf_slope",
]
