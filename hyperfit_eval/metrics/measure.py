"""Every metric of one set of continuations, one value a text, before means and intervals are taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..records import CONTEXT_TOKENS, LONG, SHORT, Continuation, Generation
from .bleu import pairwise_bleu
from .dataset_bleu import dataset_bleu
from .overlap import longest_overlap, novelty_curve
from .repetition import compression_ratio, distinct_n, diversities, repetitions, ttr_curve, zipf_slope
from .signature import PRESETS, Preset, bleu_signature, signature
from .tokens import Corpus, Progress

Report = Callable[[str, int, int], None]
"""Told (what is being computed, done, total) during long work."""

SCENARIOS = {128: SHORT, 256: LONG}
"""Continuation tokens of the paper's scenarios, which are named by the length with the context."""
WINDOW = 96
OVERLAP_TOKENS = 5
NOVELTY_ORDERS = 64


@dataclass(frozen=True)
class TrainingSet:
    """The blocks that a model was trained on.

    Attributes:
        rows: the blocks as token ids, see `Corpus`.
        texts: the same blocks as texts, for the preset `paper`.
        tokenizer: fingerprint; ids are only compared with those of the same tokenizer.
        fingerprint: of the blocks.
    """

    rows: Corpus
    texts: Sequence[str]
    tokenizer: str
    fingerprint: str


@dataclass(frozen=True)
class Texts:
    """The generated or the original continuations of some records.

    Attributes:
        ids: at least 96 token ids each.
        texts, short_texts: of all ids, and of the first 96.
        recipe: fields that every signature of these texts holds.
    """

    ids: list[list[int]]
    texts: list[str]
    short_texts: list[str]
    recipe: dict[str, Any]

    @property
    def shortest(self) -> int:
        """Fewest ids of a text."""
        return min(map(len, self.ids))

    def heads(self, length: int) -> list[list[int]]:
        """The first `length` ids of each text."""
        return [ids[:length] for ids in self.ids]

    def words(self) -> list[list[str]]:
        """Whitespace words of the first 96 tokens of each text."""
        return [text.split() for text in self.short_texts]

    def subset(self, members: np.ndarray) -> "Texts":
        """Some of the texts, by number."""
        ids, texts, short_texts = (
            [column[i] for i in members] for column in (self.ids, self.texts, self.short_texts)
        )
        return Texts(ids, texts, short_texts, self.recipe)


@dataclass(frozen=True)
class Measured:
    """One metric of N texts.

    Attributes:
        values: one for each text, shape (N,), or why there are none.
        unit: "%", "BLEU", "tokens" or "ratio".
        sign: from a number of texts to the signature of their mean.
        words: made from words, and so comparable between tokenizers.
        pairwise: for Self-BLEU the scores of all pairs, shape (N, N).
    """

    values: np.ndarray | str
    unit: str
    sign: Callable[[int], str]
    words: bool = False
    pairwise: np.ndarray | None = field(default=None, repr=False)


def generated_texts(generation: Generation, records: Sequence[Continuation]) -> Texts:
    """The generated continuations.

    Raises:
        HyperfitError: no records, or one of fewer than 96 tokens.
    """
    settings = [f"{k}={v}" for k, v in generation.decoding.items() if k != "method" and not k.endswith("new_tokens")]
    recipe = {
        "ctx": CONTEXT_TOKENS,
        "dec": generation.decoding.get("method", "unknown") + (f"({','.join(settings)})" if settings else ""),
        "block": generation.blocker["ngram"] if generation.blocker else "none",
        "dtype": generation.dtype,
        "seed": generation.seed,
        "texts": generation.texts or None,
        "tok_hash": generation.tokenizer,
    }
    ids = [record.generated_ids for record in records]
    _check_lengths(records, ids, "generated", "rerun with --max-new-tokens 96 or more")
    texts = [record.generated_text for record in records]
    return Texts(ids, texts, [record.generated_text_at_128 for record in records], recipe)


def original_texts(generation: Generation, records: Sequence[Continuation]) -> Texts:
    """The original continuations of the same contexts, the ceiling row; errors as in `generated_texts`."""
    recipe = {
        "ctx": CONTEXT_TOKENS,
        "dec": "original",
        "texts": generation.texts or None,
        "tok_hash": generation.tokenizer,
    }
    ids = [record.original_ids for record in records]
    _check_lengths(records, ids, "original", "choose longer evaluation texts")
    texts = [record.original_text for record in records]
    return Texts(ids, texts, [record.original_text_at_128 for record in records], recipe)


def measure(texts: Texts, training: TrainingSet | None, report: Report | None = None) -> dict[str, Measured]:
    """All metrics that have a value for each text."""
    measured: dict[str, Measured] = {}
    for scenario, length in SCENARIOS.items():
        measured |= _repetition_metrics(texts, scenario, length)
    for preset in PRESETS.values():
        measured |= _bleu_metrics(texts, preset, training, report)
    return measured | _overlap_metrics(texts, training, report)


def whole_set(texts: Texts) -> dict[str, dict[str, Any]]:
    """Metrics of a set of texts as a whole, which have no mean over texts and no interval.

    They depend on the number of texts: compare sets of the same N.
    """
    scenario, length = max((s, n) for s, n in SCENARIOS.items() if n <= texts.shortest)
    heads, entries = texts.heads(length), {}

    def put(name: str, value: float, unit: str, **fields: Any) -> None:
        recipe = {"unit": "ids", "scn": scenario, "len": length, **fields, "N": len(heads), **texts.recipe}
        entries[name] = {"value": value, "n": len(heads), "unit": unit, "signature": signature(name, **recipe)}

    for n in (1, 2, 3):
        put(f"distinct_{n}", 100 * distinct_n(heads, n), "%")
    if len({i for ids in heads for i in ids}) > 1:
        put("zipf_slope", zipf_slope(heads), "slope", ranks=5000)
    put("compression_ratio", compression_ratio(texts.short_texts), "ratio", **_COMPRESSION)
    return entries


def curves(texts: Texts, training: TrainingSet | None, report: Report | None = None) -> dict[str, dict[str, Any]]:
    """TTR against length (paper, Figure 9), and the share of n-grams that the training set lacks."""
    entries: dict[str, dict[str, Any]] = {}
    length = min(texts.shortest, LONG)
    ratios = 100 * ttr_curve(texts.heads(length), WINDOW)
    error = 1.96 * ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else np.full(ratios.shape[1], np.nan)
    return entries


def _repetition_metrics(texts: Texts, scenario: int, length: int) -> dict[str, Measured]:
    heads = texts.heads(length)
    missing = f"{texts.shortest} tokens in the shortest text, {length} are needed" if texts.shortest < length else None

    def metric(compute: Callable[[], np.ndarray], name: str, **fields: Any) -> Measured:
        def sign(count: int) -> str:
            return signature(name, unit="ids", **fields, scn=scenario, N=count, **texts.recipe)

        return Measured(missing or 100 * compute(), "%", sign)

    metrics = {f"ttr_at_{scenario}": metric(lambda: ttr_curve(heads, WINDOW)[:, -1], "ttr", win=WINDOW)}
    for n in (2, 3, 4):
        metrics[f"rep_{n}_at_{scenario}"] = metric(lambda n=n: repetitions(heads, n), "rep", n=n, len=length)
    metrics[f"diversity_at_{scenario}"] = metric(lambda: diversities(heads), "diversity", len=length)
    return metrics
