"""What a set of judgements says about the models: the tables of `hyperfit preference`."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..metrics.statistics import CONFIDENCE, RESAMPLES, Interval, holm, paired_test
from ..records import CONTEXT_TOKENS
from ..scores.measure import TTR_WINDOW
from ..scores.signature import signature
from .agreement import alpha_interval, kappa_interval
from .consensus import ttr_consensus
from .pairs import CLEANING
from .ranking import bradley_terry
from .study import ALL, AVERAGE, Study
from .votes import EQUAL, MODEL_BETTER, ORIGINAL_BETTER, Votes, bca, draws, entry, percent_interval, too_few


def tables(study: Study, votes: Votes, *, by: str, checks: str, ratings: int) -> dict[str, Any]:
    """All estimates from one set of judgements, ready for JSON (docs/preference.md).

    Args:
        study: whose pairs were judged.
        votes: the judgements.
        by: "human" or "judge:NAME", for the signatures.
        checks: "kept" or "removed", for those who failed attention checks, for the signatures.
        ratings: judgements that a complete pair has.
    """
    recipe = {"by": by, "ann": ratings, "checks": checks}
    counts = votes.table().sum(axis=1)
    result: dict[str, Any] = {
        "annotations": len(votes),
        "annotators": len(set(votes.by.tolist())),
        "pairs": int((counts > 0).sum()),
        "complete_pairs": int((counts >= ratings).sum()),
        "contexts": votes.context_count,
        "signature": sign_of(study, "preference", recipe),
        "preference": {name: _of_model(study, name, votes, recipe) for name in study.models},
        "paired_tests": {str(scenario): _paired(study, scenario, votes, recipe) for scenario in study.scenarios},
        "bradley_terry": {},
    }
    by_length = {str(scenario): votes.select(scenario=scenario) for scenario in study.scenarios}
    for length, chosen in (by_length | ({"all": votes} if len(by_length) > 1 else {})).items():
        sign = sign_of(study, "bradley_terry", recipe, scn=length)
        result["bradley_terry"][length] = too_few(chosen) or bradley_terry(chosen) | {"signature": sign}
    result["krippendorff_alpha"] = _agreement(study, alpha_interval(votes), votes, "alpha(nominal)", recipe)
    result["fleiss_kappa"] = _agreement(study, kappa_interval(votes, ratings), votes, "kappa(fleiss)", recipe)
    result["first_position"] = first_position(study, votes, recipe)
    result["ttr_consensus"] = {
        length: ttr_consensus(chosen, ratings, sign_of(study, "ttr(consensus)", recipe, win=TTR_WINDOW, scn=length))
        for length, chosen in by_length.items()
    }
    return result


def first_share(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Percentage of choices of the first, the same weight for both orders of the sides.

    Originals win more often, and a coin rarely puts exactly half of them first. So the rate is taken where
    the original stood first and where the model did, and the mean of the two is 50% for annotators who do
    not look at the place, however the coin fell.

    Args:
        hits, totals: choices of the first and of either, with the original first and with the model first,
            shape (..., 2).
    Returns:
        Shape (...), NaN where an order does not occur.
    """
    with np.errstate(invalid="ignore"):
        return 100 * (hits / totals).mean(axis=-1)


def first_position(study: Study, votes: Votes, recipe: dict[str, Any]) -> dict[str, Any]:
    """How often the continuation shown first is preferred, of the annotations that prefer one.

    Returns:
        The entry of the `first_share`, with "by_order" (its two rates) and "raw", the plain share.
    """
    decided = votes.where(votes.outcome != EQUAL)
    first = np.array([pair.original_first for pair in votes.pairs], dtype=bool)[decided.pair]
    missing = too_few(decided)
    if missing or first.all() or not first.any():
        return missing or {"unavailable": "all originals were shown on one side"}
    # Columns: the original first, the model first.
    hits = np.column_stack([decided.by_context(decided.first_chosen & side) for side in (first, ~first)])
    totals = np.column_stack([decided.by_context(side.astype(float)) for side in (first, ~first)])
    weights, share = draws(len(totals)), float(first_share(hits.sum(axis=0), totals.sum(axis=0)))
    left_out = first_share(hits.sum(axis=0) - hits, totals.sum(axis=0) - totals)
    # A resample may lack one order; it is left out.
    low, high = bca(share, first_share(weights @ hits, weights @ totals), left_out, CONFIDENCE)
    interval = Interval(share, low, high, len(totals), f"cluster-bca|B:{RESAMPLES}|seed:0|conf:{CONFIDENCE:g}")
    rates = (100 * hits.sum(axis=0) / totals.sum(axis=0)).tolist()
    return {
        **entry(interval, decided, "%", sign_of(study, "first_position", recipe)),
        "by_order": dict(zip(("original", "model"), rates, strict=True)),
        "raw": 100 * float(decided.first_chosen.mean()),
    }


def _of_model(study: Study, name: str, votes: Votes, recipe: dict[str, Any]) -> dict[str, Any]:
    """Percent preferred or equal of one model, by length and source."""
    generation = study.models[name]
    blocker = generation.get("blocker")
    made = {
        "dec": generation.get("decoding", {}).get("method"),
        "block": blocker["ngram"] if blocker else "none",
        "dtype": generation.get("dtype"),
        "tok_hash": generation.get("tokenizer"),
    }
    result: dict[str, Any] = {}
    for scenario in study.scenarios:
        rows = votes.select(other=name, scenario=scenario)
        table: dict[str, Any] = {}
        for source in [ALL, *study.sources]:
            chosen = rows if source == ALL else rows.select(source=source)
            sign = sign_of(study, "preference", recipe, scn=scenario, src=source, **made)
            interval = too_few(chosen)
            table[source] = interval or _preference(chosen) | {"unit": "%", "signature": sign}
        sign = sign_of(study, "preference", recipe, scn=scenario, src=AVERAGE, **made)
        table[AVERAGE] = _average(rows, study.sources, sign)
        result[str(scenario)] = table
    return result


def _preference(votes: Votes) -> dict[str, Any]:
    shares = np.bincount(votes.outcome, minlength=3) / len(votes)
    return {
        **_percent(votes, votes.outcome != ORIGINAL_BETTER).as_dict(),
        "annotations": len(votes),
        "preferred": 100 * float(shares[MODEL_BETTER]),
        "equal": 100 * float(shares[EQUAL]),
    }


def _average(votes: Votes, sources: Sequence[str], sign: str) -> dict[str, Any]:
    """Unweighted mean over the sources; contexts are resampled within each.

    Where no resample differs, such as without a single hit, the interval is the exact binomial one of as many contexts
    as the smallest source has, in each (`percent_interval`).
    """
    means, drawn, sizes = [], [], []
    for number, source in enumerate(sources):
        rows = votes.select(source=source)
        if missing := too_few(rows):
            return {"unavailable": f"{source}: {missing['unavailable']}"}
        hits, totals = _by_context(rows, rows.outcome != ORIGINAL_BETTER)
        weights = draws(len(totals), seed=number)
        sizes.append(len(totals))
        means.append(100 * hits.sum() / totals.sum())
        drawn.append(100 * (weights @ hits) / (weights @ totals))
    mean, drawn_means = float(np.mean(means)), np.mean(drawn, axis=0)
    low, high = np.quantile(drawn_means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    method = f"stratified-percentile|B:{RESAMPLES}|seed:0-{len(sources) - 1}|conf:{CONFIDENCE:g}"
    if np.ptp(drawn_means) < 1e-9:
        alike = np.full(len(sizes) * min(sizes), mean / 100)
        exact = percent_interval(alike, np.ones(len(alike)))
        low, high, method = exact.low, exact.high, exact.method
    return entry(Interval(mean, float(low), float(high), votes.context_count, method), votes, "%", sign)


def _paired(study: Study, scenario: int, votes: Votes, recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Differences between models on the contexts that both have, A minus B, with p-values that hold together."""
    shares = {name: _shares(votes, name, scenario) for name in study.models}
    tests: list[dict[str, Any]] = []
    for a, b in combinations(study.models, 2):
        common = sorted(shares[a].keys() & shares[b].keys())
        if len(common) < 2:
            tests.append({"a": a, "b": b, "unavailable": f"{len(common)} contexts with annotations of both"})
            continue
        values = [np.array([shares[name][context] for context in common]) for name in (a, b)]
        test = paired_test(values[0], values[1], largest=100)
        sign = sign_of(study, "preference(a-b)", recipe, scn=scenario)
        tests.append({"a": a, "b": b, **test.as_dict(), "unit": "%", "signature": sign})
    tested = [row for row in tests if "p_value" in row]
    for row, p_value in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = p_value
    return tests


def _shares(votes: Votes, name: str, scenario: int) -> dict[str, float]:
    """Percent preferred or equal on each context."""
    counts = votes.table()
    return {
        pair.context: 100 * (1 - row[ORIGINAL_BETTER] / row.sum())
        for pair, row in zip(votes.pairs, counts, strict=True)
        if pair.other == name and pair.scenario == scenario and row.sum()
    }


def _agreement(
    study: Study, interval: Interval | str, votes: Votes, metric: str, recipe: dict[str, Any]
) -> dict[str, Any]:
    if isinstance(interval, str):
        return {"unavailable": interval}
    return entry(interval, votes, "", sign_of(study, metric, recipe))


def _by_context(votes: Votes, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return votes.by_context(hits), votes.by_context(np.ones(len(votes)))


def _percent(votes: Votes, hits: np.ndarray) -> Interval:
    return percent_interval(*_by_context(votes, hits))


def sign_of(study: Study, metric: str, recipe: dict[str, Any], **fields: Any) -> str:
    """Signature of a number: who judged (`recipe`), which study, and what else decides it."""
    own = {"ctx": CONTEXT_TOKENS, "clean": CLEANING, "study": study.fingerprint, "texts": study.texts or None}
    return signature(metric, **recipe, **fields, **own)
