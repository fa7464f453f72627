"""Tables of metrics from continuation records: every mean with its interval and its signature."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..metrics.bleu import pairwise_bleu
from ..metrics.statistics import (
    holm,
    mean_interval,
    paired_test,
    self_bleu_interval,
    self_bleu_paired_test,
    share_interval,
)
from ..records import Continuation, Generation
from .measure import (
    ALONE,
    Measured,
    Report,
    Texts,
    TrainingSet,
    curves,
    generated_texts,
    measure,
    original_texts,
    whole_set,
)
from .score import Score
from .signature import PRESETS


def score_records(
    generation: Generation,
    records: Sequence[Continuation],
    *,
    training: TrainingSet | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """All metrics of the generated and of the original continuations, ready for JSON.

    Args:
        generation: how the records came to be; it goes into the signatures.
        records: continuations of at least 96 tokens each.
        training: the training set, for Dataset BLEU, overlap and novelty; None leaves these out.
        report: told (what, done, total) during long work.
    Returns:
        {"contexts": N, "sources": {source: N}, "generated": tables, "original": tables}, where tables
        map "all" and each source to {metric: entry}. An entry is
        {"mean", "low", "high", "max", "n", "unit", "method", "signature"}; for a metric of the whole set
        {"value", "n", "unit", "signature"}; for a mean over too few texts for an interval the same with "max";
        for a curve, in "all" alone, {"first", "values", ...}; for what cannot be had {"unavailable": why}.
    Raises:
        HyperfitError: no records, or a continuation that is too short.
    """
    sides = {"generated": generated_texts(generation, records), "original": original_texts(generation, records)}
    groups = _groups(records)
    tables: dict[str, Any] = {
        "contexts": len(records),
        "sources": {group: len(members) for group, members in groups.items() if group != "all"},
    }
    for side, texts in sides.items():
        progress = _named(report, side)
        measured = measure(texts, training, progress)
        tables[side] = {
            group: {
                score.metric: score.to_json()
                for score in (
                    *(_score(name, metric, members) for name, metric in measured.items()),
                    *whole_set(texts.subset(members)).values(),
                )
            }
            for group, members in groups.items()
        }
        tables[side]["all"] |= curves(texts, training, progress)
    return tables


def compare_records(
    run_a: tuple[Generation, Sequence[Continuation]],
    run_b: tuple[Generation, Sequence[Continuation]],
    *,
    training: TrainingSet | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Paired differences of two models on the same contexts, A minus B, ready for JSON.

    Args:
        run_a, run_b: how the records came to be, and the records; both of the same contexts, in any order.
        training, report: as in `score_records`.
    Returns:
        {"contexts": N, "sources": {source: N}, "all" and each source: {metric: entry}}. An entry is
        {"a", "b", "difference", "low", "high", "p_value", "p_holm", "n", "unit", "method",
        "signature_a", "signature_b"}, with a and b the means and p_holm corrected for the number of metrics of the
        table; for too few contexts for an interval without "low", "high", "method" and the p-values; or
        {"unavailable": why}.
    Raises:
        HyperfitError: different contexts, no records, or a continuation that is too short.
    """
    (generation_a, records_a), (generation_b, records_b) = run_a, run_b
    records_b = _in_order_of(records_a, records_b)
    texts_a, texts_b = generated_texts(generation_a, records_a), generated_texts(generation_b, records_b)
    measured_a = measure(texts_a, training, _named(report, "A"))
    measured_b = measure(texts_b, training, _named(report, "B"))
    same_tokenizer = bool(generation_a.tokenizers & generation_b.tokenizers)
    joint = _joint_pairs(texts_a, texts_b, same_tokenizer)
    groups = _groups(records_a)
    tables: dict[str, Any] = {
        "contexts": len(records_a),
        "sources": {group: len(members) for group, members in groups.items() if group != "all"},
    }
    for group, members in groups.items():
        table = {}
        for name, a in measured_a.items():
            if same_tokenizer or a.in_words:
                table[name] = _difference(a, measured_b[name], joint.get(name), members)
            else:
                table[name] = {"unavailable": "the models have different tokenizers"}
        tested = [entry for entry in table.values() if "p_value" in entry]
        for entry, p_value in zip(tested, holm([entry["p_value"] for entry in tested]), strict=True):
            entry["p_holm"] = p_value
        tables[group] = table
    return tables


def _groups(records: Sequence[Continuation]) -> dict[str, np.ndarray]:
    """Numbers of all records, and of those of each source in the order of their appearance."""
    sources = [record.source for record in records]
    if "all" in sources:
        raise HyperfitError("source 'all': the name stands for all sources together; rename it")
    by_source = {s: np.flatnonzero([s == source for source in sources]) for s in dict.fromkeys(sources)}
    return {"all": np.arange(len(records)), **by_source}


def _score(name: str, metric: Measured, members: np.ndarray) -> Score:
    """Mean over some of the texts; Self-BLEU is computed anew within them."""
    if metric.unavailable:
        return Score.missing(name, metric.unavailable)
    if metric.pairwise is not None and len(members) < 2:
        return Score.missing(name, ALONE)
    pairwise = None if metric.pairwise is None else metric.pairwise[np.ix_(members, members)]
    values = metric.values[members] if pairwise is None else pairwise.max(axis=1)
    sign, highest = metric.sign(len(members)), float(values.max())
    if metric.share:
        interval = share_interval(values)
    elif not _enough(metric, members):
        return Score(name, float(values.mean()), metric.unit, sign, n=len(members), highest=highest)
    else:
        interval = mean_interval(values) if pairwise is None else self_bleu_interval(pairwise)
    return Score.of(name, interval, metric.unit, sign, highest)


def _difference(a: Measured, b: Measured, joint: np.ndarray | None, members: np.ndarray) -> dict[str, Any]:
    if why := a.unavailable or b.unavailable:
        return {"unavailable": why}
    values_a, values_b, count = a.values[members], b.values[members], len(members)
    if joint is not None:
        if count < 2:
            return {"unavailable": ALONE}
        both = np.concatenate([members, members + len(joint) // 2])
        pairwise = joint[np.ix_(both, both)]
        values_a, values_b = pairwise[:count, :count].max(axis=1), pairwise[count:, count:].max(axis=1)
    result: dict[str, Any]
    if not _enough(a, members):
        result = {"difference": float(values_a.mean() - values_b.mean()), "n": count}
    elif joint is None:
        result = paired_test(values_a, values_b).as_dict()
    else:
        result = self_bleu_paired_test(pairwise).as_dict()
    return {
        "a": float(values_a.mean()),
        "b": float(values_b.mean()),
        **result,
        "unit": a.unit,
        "signature_a": a.sign(len(members)),
        "signature_b": b.sign(len(members)),
    }


def _enough(metric: Measured, members: np.ndarray) -> bool:
    """Whether there are enough texts for an interval; the mean is defined without."""
    return len(members) >= (2 if metric.pairwise is None else 3)


def _joint_pairs(texts_a: Texts, texts_b: Texts, same_tokenizer: bool) -> dict[str, np.ndarray]:
    """BLEU of all pairs among the texts of both models, by metric."""
    return {
        f"self_bleu{preset.suffix}": pairwise_bleu(
            [*texts_a.rows(preset), *texts_b.rows(preset)], **preset.smoothing.as_arguments()
        )
        for preset in PRESETS.values()
        if same_tokenizer or preset.unit == "words"
    }


def _in_order_of(records_a: Sequence[Continuation], records_b: Sequence[Continuation]) -> list[Continuation]:
    by_id = {record.id: record for record in records_b}
    missing = [record.id for record in records_a if record.id not in by_id]
    extra = sorted(set(by_id) - {record.id for record in records_a})
    if missing or extra:
        example, lacking = (missing[0], "second") if missing else (extra[0], "first")
        raise HyperfitError(
            f"{len(missing) + len(extra)} contexts are in one run only, such as '{example}', which the {lacking} run "
            "lacks; compare runs over the same texts"
        )
    for record in records_a:
        if record.context_text != by_id[record.id].context_text:
            raise HyperfitError(f"context '{record.id}' differs between the runs; compare runs over the same texts")
    return [by_id[record.id] for record in records_a]


def _named(report: Report | None, side: str) -> Report | None:
    if report is None:
        return None
    return lambda what, done, total: report(f"{side}: {what}", done, total)
