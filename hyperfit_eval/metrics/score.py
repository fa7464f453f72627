"""From continuation records to a table of metrics: every mean with its interval and its signature."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..records import Continuation, Generation
from . import repetition as rep
from .bleu import Smoothing, pairwise_bleu
from .dataset_bleu import dataset_bleu
from .overlap import longest_overlap, novelty_curve
from .signature import PRESETS, bleu_signature, signature
from .statistics import mean_interval, self_bleu_interval
from .tokens import Corpus, integer_rows

Decode = Callable[[Sequence[int]], str]
Report = Callable[[str, int, int], None]
"""Called with (what is being computed, done, total)."""

CONTEXT = 32
WINDOW = 96
"""Tokens of the texts in Table 2, and of the type-token ratio's window."""
SCENARIOS = {128: 96, 256: 224}
"""Continuation tokens of each scenario: its length less the context."""
NEEDS_DECODE = "needs the tokenizer, to cut the texts at 96 tokens"
NEEDS_CORPUS = "needs the training blocks"


@dataclass(frozen=True)
class TrainingSet:
    """The blocks that a model was trained on, to compare its texts with.

    Attributes:
        rows: the blocks as token ids, see `Corpus`.
        texts: the same blocks as texts, for the preset `paper`; None leaves that preset out.
        fingerprint: of the blocks, for the signatures.
    """

    rows: Corpus
    texts: Sequence[str] | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Measured:
    """One metric of a set of texts.

    Attributes:
        values: one for each text, shape (N,); or why there are none.
        unit: of the values, as printed.
        sign: the signature for a number of texts.
        pairwise: for Self-BLEU the pairs, shape (N, N), whose row maxima are the values.
    """

    values: np.ndarray | str
    unit: str
    sign: Callable[[int], str]
    pairwise: np.ndarray | None = None


def score_records(
    generation: Generation,
    records: Sequence[Continuation],
    *,
    training: TrainingSet | None = None,
    decode: Decode | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """All metrics of the generated and of the original continuations.

    Args:
        generation: how the records came to be; it goes into the signatures.
        records: continuations of at least 96 tokens each.
        training: the training set, for Dataset BLEU, overlap and novelty.
        decode: ids to text, for the words of the first 96 tokens; not needed where a text is no longer.
        report: told of the progress of long work.
    Returns:
        {"contexts": N, "sources": {source: N}, "generated": tables, "original": tables}, ready for JSON.
        Tables map "all" and each source to {metric: {"mean", "low", "high", "max", "n", "unit",
        "method", "signature"}}; a metric that cannot be had is {"unavailable": why}. Metrics of a
        whole set have "value", curves have "values".
    Raises:
        HyperfitError: no records, or one that is too short.
    """
    sources = np.array([record.source for record in records])
    tables: dict[str, Any] = {
        "contexts": len(records),
        "sources": {str(source): int(np.sum(sources == source)) for source in np.unique(sources)},
    }
    for which in ("generated", "original"):
        named = partial(report, which) if report else None
        texts = Texts.of(records, which, decode)
        measured = measure(texts, recipe(generation, which), training, named and _joined(named))
        groups = {"all": np.arange(len(records))}
        groups |= {source: np.flatnonzero(sources == source) for source in tables["sources"]}
        tables[which] = {
            group: {name: summarize(metric, members) for name, metric in measured.items()}
            | whole_set(texts.only(members), recipe(generation, which))
            for group, members in groups.items()
        }
        tables[which]["all"] |= curves(texts, recipe(generation, which), training)
    return tables
