"""Exact corpus metrics: pure functions of token ids or words, on numpy and scipy alone (docs/metrics.md)."""

from .bleu import Smoothing, pairwise_bleu, self_bleu
from .dataset import dataset_bleu
from .overlap import longest_overlap, novelty_curve, overlap_rate
from .repetition import (
    compression_ratio,
    distinct_n,
    diversities,
    diversity,
    repetition,
    repetitions,
    ttr_curve,
    type_token_ratio,
    zipf_slope,
)
from .spans import repeated_lengths
from .statistics import (
    Difference,
    Interval,
    holm,
    mean_interval,
    paired_test,
    self_bleu_interval,
    self_bleu_paired_test,
    share_interval,
)
from .tokens import TokenRows

__all__ = [
    "Difference",
    "Interval",
    "Smoothing",
    "TokenRows",
    "compression_ratio",
    "dataset_bleu",
    "distinct_n",
    "diversities",
    "diversity",
    "holm",
    "longest_overlap",
    "mean_interval",
    "novelty_curve",
    "overlap_rate",
    "paired_test",
    "pairwise_bleu",
    "repeated_lengths",
    "repetition",
    "repetitions",
    "self_bleu",
    "self_bleu_interval",
    "self_bleu_paired_test",
    "share_interval",
    "ttr_curve",
    "type_token_ratio",
    "zipf_slope",
]
