"""Every metric of one set of continuations, one value a text, before means and intervals are taken."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..metrics.bleu import pairwise_bleu
from ..metrics.dataset import dataset_bleu
from ..metrics.overlap import longest_overlap, novelty_curve
from ..metrics.repetition import compression_ratio, distinct_n, diversities, repetitions, ttr_curve, zipf_slope
from ..metrics.tokens import Corpus, Tokens
from ..records import CONTEXT_TOKENS, LONG, SHORT, Continuation, Generation
from .score import Score
from .signature import PRESETS, Preset, bleu_signature, signature

Report = Callable[[str, int, int], None]
"""Told (what is being computed, done, total) during long work."""

SCENARIOS = {128: SHORT, 256: LONG}
"""Continuation tokens of the paper's scenarios, which are named by the length with the context."""
TTR_WINDOW = 96
OVERLAP_TOKENS = 5
NOVELTY_ORDERS = 64
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class TrainingSet:
    """The blocks that a model was trained on.

    Attributes:
        rows: the blocks as token ids, see `Corpus`.
        texts: the same blocks as texts, for the preset `paper`.
        tokenizer: fingerprint; ids are compared only with those of the same tokenizer.
        fingerprint: of the blocks.
    """

    rows: Corpus
    texts: Sequence[str]
    tokenizer: str
    fingerprint: str

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields in a signature."""
        return {"rows": len(self.rows), "data": self.fingerprint}

    def shares_tokenizer(self, texts: "Texts") -> bool:
        """Whether its ids can be compared with those of the texts."""
        return self.tokenizer in texts.tokenizers


@dataclass(frozen=True)
class Texts:
    """The generated or the original continuations of some records.

    Attributes:
        ids: at least 96 token ids each.
        texts, short_texts: of all the ids, and of the first 96.
        recipe: fields of every signature of these texts.
        tokenizers: fingerprints of the tokenizer of the ids.
    """

    ids: list[list[int]]
    texts: list[str]
    short_texts: list[str]
    recipe: dict[str, Any]
    tokenizers: frozenset[str]

    @property
    def shortest(self) -> int:
        """Fewest ids of a text."""
        return min(map(len, self.ids))

    def heads(self, length: int) -> list[list[int]]:
        """The first `length` ids of each text."""
        return [ids[:length] for ids in self.ids]

    def rows(self, preset: Preset) -> Sequence[Tokens]:
        """The first 96 tokens of each text in the preset's unit."""
        return [text.split() for text in self.short_texts] if preset.unit == "words" else self.heads(SHORT)

    def subset(self, members: np.ndarray) -> "Texts":
        """Some of the texts, by number."""
        return replace(
            self,
            ids=[self.ids[i] for i in members],
            texts=[self.texts[i] for i in members],
            short_texts=[self.short_texts[i] for i in members],
        )


@dataclass(frozen=True)
class Measured:
    """One metric of N texts.

    Attributes:
        values: one for each text, shape (N,); none where they are `unavailable`.
        unit: "%", "BLEU" or "tokens".
        sign: from a number of texts to the signature of their mean.
        in_words: made from words, and so comparable between tokenizers.
        pairwise: for Self-BLEU the scores of all pairs, shape (N, N), whose row maxima are the values.
        share: whether the values are 0 or 100, for what a text has or has not.
        unavailable: why there are no values.
    """

    values: np.ndarray
    unit: str
    sign: Callable[[int], str]
    in_words: bool = False
    pairwise: np.ndarray | None = None
    share: bool = False
    unavailable: str | None = None

    @classmethod
    def missing(cls, why: str, unit: str, sign: Callable[[int], str]) -> "Measured":
        """A metric that these texts cannot have."""
        return cls(np.empty(0), unit, sign, unavailable=why)


def generated_texts(generation: Generation, records: Sequence[Continuation]) -> Texts:
    """The generated continuations.

    Raises:
        HyperfitError: no records, or one of fewer than 96 tokens.
    """
    settings = [f"{k}={v}" for k, v in generation.decoding.items() if k != "method" and not k.endswith("new_tokens")]
    recipe = {
        "ctx": CONTEXT_TOKENS,
        "dec": generation.decoding.get("method", "unknown") + (f"({','.join(settings)})" if settings else ""),
        "block": _block(generation.blocker),
        "bos": None if generation.bos else "no",
        "dtype": generation.dtype,
        "seed": generation.seed,
        "texts": generation.texts or None,
        "tok_hash": generation.tokenizer,
    }
    _check_lengths({r.id: r.generated_ids for r in records}, "generated", "generate again with --max-new-tokens 96")
    return Texts(
        [record.generated_ids for record in records],
        [record.generated_text for record in records],
        [record.generated_text_at_128 for record in records],
        recipe,
        generation.tokenizers,
    )


def _block(blocker: dict[str, Any] | None) -> str:
    """As in `5`, `5+prompt` or `5+cap24`: n-gram length and what differs from the paper's rule."""
    if not blocker:
        return "none"
    cap = blocker.get("max_overlap_tokens")
    prompt = "+prompt" if blocker.get("include_prompt") else ""
    return f"{blocker['ngram']}{prompt}" + (f"+cap{cap}" if cap else "")


def original_texts(generation: Generation, records: Sequence[Continuation]) -> Texts:
    """The original continuations of the same contexts, the ceiling of the tables; errors as `generated_texts`."""
    recipe = {"ctx": CONTEXT_TOKENS, "dec": "original", "texts": generation.texts or None}
    _check_lengths({r.id: r.original_ids for r in records}, "original", "take longer evaluation texts")
    return Texts(
        [record.original_ids for record in records],
        [record.original_text for record in records],
        [record.original_text_at_128 for record in records],
        recipe | {"tok_hash": generation.tokenizer},
        generation.tokenizers,
    )


def measure(texts: Texts, training: TrainingSet | None = None, report: Report | None = None) -> dict[str, Measured]:
    """All metrics that have a value for each text: repetition, Self-BLEU, Dataset BLEU and overlap.

    Names are those of the report: `ttr_at_128`, `self_bleu` (preset `paper`), `self_bleu_token`, and so
    on. Shares are in percent. Without a training set the metrics that need one are left out.
    """
    measured: dict[str, Measured] = {}
    for scenario, length in SCENARIOS.items():
        measured |= _repetition(texts, scenario, length)
    for preset in PRESETS.values():
        measured |= _self_bleu(texts, preset, report)
    if training:
        for preset in PRESETS.values():
            measured |= _dataset_bleu(texts, preset, training, report)
        measured |= _overlap(texts, training, report)
    return measured


def whole_set(texts: Texts) -> dict[str, Score]:
    """Metrics of a set of texts as a whole: no mean over texts, so no interval.

    They depend on the number of texts: compare sets of the same N.
    """
    length = max(n for n in SCENARIOS.values() if n <= texts.shortest)
    heads = texts.heads(length)
    scores: dict[str, Score] = {}

    def put(name: str, value: float, scale: str, **fields: Any) -> None:
        recipe = {**fields, "N": len(heads), **texts.recipe}
        scores[name] = Score(name, value, scale, signature(name, **recipe), n=len(heads))

    for n in (1, 2, 3):
        put(f"distinct_{n}", 100 * distinct_n(heads, n), "%", unit="ids", len=length)
    if len({token for ids in heads for token in ids}) > 1:
        put("zipf_slope", zipf_slope(heads), "slope", unit="ids", len=length, ranks=5000)
    longest = max(map(len, texts.ids))
    lengths = longest if longest == texts.shortest else f"{texts.shortest}-{longest}"
    if any(texts.texts):
        # The format is fixed, but not how hard an implementation looks for repetitions.
        put("compression_ratio", compression_ratio(texts.texts), "ratio", len=lengths, zlib=zlib.ZLIB_RUNTIME_VERSION)
    return scores


def curves(texts: Texts, training: TrainingSet | None = None, report: Report | None = None) -> dict[str, Any]:
    """Type-token ratio against length (paper, Figure 9), and the share of n-grams the training set lacks.

    Returns:
        {name: {"first": what the first value belongs to, "values", "unit", "n", "signature"}}; the
        ratios with a normal interval for each length.
    """
    length, count = min(texts.shortest, LONG), len(texts.ids)
    ratios = 100 * ttr_curve(texts.heads(length), TTR_WINDOW)
    mean, common = ratios.mean(axis=0), {"N": count, **texts.recipe}
    curve: dict[str, Any] = {"first": TTR_WINDOW, "values": mean.tolist(), "unit": "%", "n": count}
    curve["signature"] = signature("ttr", unit="ids", win=TTR_WINDOW, **common)
    if count > 1:
        half = NORMAL_95 * ratios.std(axis=0, ddof=1) / np.sqrt(count)
        curve |= {"low": (mean - half).tolist(), "high": (mean + half).tolist(), "method": "normal|conf:0.95"}
    entries = {"ttr_curve": curve}
    if training and training.shares_tokenizer(texts):
        progress = partial(report, "novelty") if report else None
        shares = 100 * novelty_curve(texts.heads(length), training.rows, NOVELTY_ORDERS, progress=progress)
        recipe = {"unit": "ids", "len": length, **training.fields, **common}
        entries["novelty"] = {"first": 1, "values": shares.tolist(), "unit": "%", "n": count}
        entries["novelty"]["signature"] = signature("novelty", **recipe)
    return entries


def _repetition(texts: Texts, scenario: int, length: int) -> dict[str, Measured]:
    measured = {}
    for name in ("ttr", "rep_2", "rep_3", "rep_4", "diversity"):
        window = TTR_WINDOW if name == "ttr" else None
        sign = _signer(texts, name, unit="ids", scn=scenario, len=length, win=window)
        if texts.shortest < length:
            metric = Measured.missing(_too_short(texts, length), "%", sign)
        else:
            metric = Measured(100 * _REPETITION[name](texts.heads(length)), "%", sign)
        measured[f"{name}_at_{scenario}"] = metric
    return measured


_REPETITION: dict[str, Callable[[list[list[int]]], np.ndarray]] = {
    "ttr": lambda heads: ttr_curve(heads, TTR_WINDOW)[:, -1],
    "rep_2": partial(repetitions, n=2),
    "rep_3": partial(repetitions, n=3),
    "rep_4": partial(repetitions, n=4),
    "diversity": diversities,
}


def _self_bleu(texts: Texts, preset: Preset, report: Report | None) -> dict[str, Measured]:
    name, rows = f"self_bleu{preset.suffix}", texts.rows(preset)
    sign = _signer(texts, "self_bleu", preset, unit=preset.unit, agg="max-pair", len=SHORT)
    if len(rows) < 2:
        return {name: Measured.missing(ALONE, "BLEU", sign)}
    progress = partial(report, f"Self-BLEU of {preset.unit}") if report else None
    pairwise = pairwise_bleu(rows, **preset.smoothing.as_arguments(), progress=progress)
    return {name: Measured(pairwise.max(axis=1), "BLEU", sign, preset.unit == "words", pairwise)}


def _dataset_bleu(texts: Texts, preset: Preset, training: TrainingSet, report: Report | None) -> dict[str, Measured]:
    name, in_words = f"dataset_bleu{preset.suffix}", preset.unit == "words"
    fields = {"unit": preset.unit, "agg": "max-window", "len": SHORT, "win": SHORT, **training.fields}
    sign = _signer(texts, "dataset_bleu", preset, **fields)
    if not in_words and not training.shares_tokenizer(texts):
        return {name: Measured.missing(_OTHER_TOKENIZER, "BLEU", sign)}
    corpus: Corpus = [text.split() for text in training.texts] if in_words else training.rows
    progress = partial(report, f"Dataset BLEU of {preset.unit}") if report else None
    values = dataset_bleu(texts.rows(preset), corpus, SHORT, **preset.smoothing.as_arguments(), progress=progress)
    return {name: Measured(values, "BLEU", sign, in_words)}


def _overlap(texts: Texts, training: TrainingSet, report: Report | None) -> dict[str, Measured]:
    """Longest overlap of the first 96 tokens (Table 2), and whether 224 overlap by more than 5 (Table 5)."""
    common = {"unit": "ids", **training.fields}
    signs = {
        "dataset_overlap": _signer(texts, "dataset_overlap", agg="longest", len=SHORT, **common),
        "overlap_rate": _signer(texts, "overlap_rate", more_than=OVERLAP_TOKENS, len=LONG, **common),
    }
    measured = {}
    for (name, sign), unit, length in zip(signs.items(), ("tokens", "%"), (SHORT, LONG), strict=True):
        if not training.shares_tokenizer(texts):
            measured[name] = Measured.missing(_OTHER_TOKENIZER, unit, sign)
        elif texts.shortest < length:
            measured[name] = Measured.missing(_too_short(texts, length), unit, sign)
        else:
            progress = partial(report, f"overlap of {length} tokens") if report else None
            longest = longest_overlap(texts.heads(length), training.rows, progress=progress)
            values = longest if name == "dataset_overlap" else 100 * (longest > OVERLAP_TOKENS)
            measured[name] = Measured(values, unit, sign, share=name == "overlap_rate")
    return measured


ALONE = "1 text, Self-BLEU needs others to compare it with"
_OTHER_TOKENIZER = (
    "the training set was cut with another tokenizer (one of version 0.1.0 is recognized without add_bos_token alone)"
)


def _too_short(texts: Texts, length: int) -> str:
    return f"the shortest text has {texts.shortest} tokens, {length} are needed"


def _signer(texts: Texts, name: str, preset: Preset | None = None, **fields: Any) -> Callable[[int], str]:
    """The signature of a metric as a function of the number of texts."""
    if preset:
        return lambda count: bleu_signature(name, preset.smoothing, **fields, N=count, **texts.recipe)
    return lambda count: signature(name, **fields, N=count, **texts.recipe)


def _check_lengths(ids: dict[str, list[int]], side: str, advice: str) -> None:
    if not ids:
        raise HyperfitError("no continuation records, at least one is needed")
    for name, row in ids.items():
        if len(row) < SHORT:
            raise HyperfitError(f"{name}: {len(row)} {side} tokens, the metrics need {SHORT}; {advice}")
