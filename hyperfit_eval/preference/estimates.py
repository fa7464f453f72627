"""Estimates of what one set of judgements says about the models: the tables of `hyperfit preference`."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from ..metrics.statistics import CONFIDENCE, RESAMPLES, Interval, holm, paired_test
from ..scores.measure import TTR_WINDOW
from .agreement import alpha_interval, kappa_interval
from .consensus import ttr_consensus
from .ranking import Ranking, bradley_terry
from .results import Estimate, Estimates, PairedTest, Recipe
from .study import ALL, AVERAGE, Study
from .votes import EQUAL, MODEL_BETTER, ORIGINAL_BETTER, Votes, bca, draws, first_share, percent_interval, too_few


def tables(study: Study, votes: Votes, *, by: str, checks: str, ratings: int) -> Estimates:
    """All estimates from one set of judgements.

    Args:
        study: whose pairs were judged.
        votes: the judgements.
        by, checks, ratings: as in `results.Recipe`.
    """
    recipe = Recipe(study, by, ratings, checks)
    counts = votes.table().sum(axis=1)
    by_length = {str(scenario): votes.select(scenario=scenario) for scenario in study.scenarios}
    rankings = {}
    for length, chosen in (by_length | ({"all": votes} if len(by_length) > 1 else {})).items():
        missing = too_few(chosen)
        signature = recipe.sign("bradley_terry", scn=length)
        rankings[length] = Ranking(unavailable=missing) if missing else bradley_terry(chosen, signature)
    return Estimates(
        annotations=len(votes),
        annotators=len(set(votes.by.tolist())),
        pairs=int((counts > 0).sum()),
        complete_pairs=int((counts >= ratings).sum()),
        contexts=votes.context_count,
        signature=recipe.sign("preference"),
        preference={name: _of_model(recipe, name, votes) for name in study.models},
        paired_tests={str(scenario): _paired(recipe, scenario, votes) for scenario in study.scenarios},
        bradley_terry=rankings,
        agreement={
            "krippendorff_alpha": alpha_interval(votes, recipe.sign("alpha(nominal)")),
            "fleiss_kappa": kappa_interval(votes, ratings, recipe.sign("kappa(fleiss)")),
            "first_position": first_position(recipe, votes),
        },
        ttr_consensus={
            length: ttr_consensus(chosen, ratings, recipe.sign("ttr(consensus)", win=TTR_WINDOW, scn=length))
            for length, chosen in by_length.items()
        },
    )


def first_position(recipe: Recipe, votes: Votes) -> Estimate:
    """How often the continuation shown first is preferred, of the annotations that prefer one: the `first_share`."""
    decided = votes.where(votes.outcome != EQUAL)
    first = np.array([pair.original_first for pair in votes.pairs], dtype=bool)[decided.pair]
    missing = too_few(decided)
    if missing or first.all() or not first.any():
        return Estimate.missing("first_position", missing or "all originals were shown on one side")
    # Columns: the original first, the model first.
    hits = np.column_stack([decided.by_context(decided.first_chosen & side) for side in (first, ~first)])
    totals = np.column_stack([decided.by_context(side.astype(float)) for side in (first, ~first)])
    weights, share = draws(len(totals)), float(first_share(hits.sum(axis=0), totals.sum(axis=0)))
    left_out = first_share(hits.sum(axis=0) - hits, totals.sum(axis=0) - totals)
    # A resample may lack one order; it is left out.
    low, high = bca(share, first_share(weights @ hits, weights @ totals), left_out, CONFIDENCE)
    interval = Interval(share, low, high, len(totals), f"cluster-bca|B:{RESAMPLES}|seed:0|conf:{CONFIDENCE:g}")
    rates = (100 * hits.sum(axis=0) / totals.sum(axis=0)).tolist()
    return Estimate.from_votes(
        "first_position",
        interval,
        len(decided),
        signature=recipe.sign("first_position"),
        by_order=dict(zip(("original", "model"), rates, strict=True)),
        raw=100 * float(decided.first_chosen.mean()),
    )


def _of_model(recipe: Recipe, name: str, votes: Votes) -> dict[str, dict[str, Estimate]]:
    """Percent preferred or equal of one model, by length and source."""
    study = recipe.study
    generation = study.models[name]
    blocker = generation.get("blocker")
    made = {
        "dec": generation.get("decoding", {}).get("method"),
        "block": blocker["ngram"] if blocker else "none",
        "dtype": generation.get("dtype"),
        "tok_hash": generation.get("tokenizer"),
    }
    result = {}
    for scenario in study.scenarios:
        rows = votes.select(other=name, scenario=scenario)
        table = {}
        for source in [ALL, *study.sources]:
            chosen = rows if source == ALL else rows.select(source=source)
            table[source] = _preference(chosen, recipe.sign("preference", scn=scenario, src=source, **made))
        signature = recipe.sign("preference", scn=scenario, src=AVERAGE, **made)
        result[str(scenario)] = table | {AVERAGE: _average(rows, study.sources, signature)}
    return result


def _preference(votes: Votes, signature: str) -> Estimate:
    """Percent preferred or equal."""
    if missing := too_few(votes):
        return Estimate.missing("preference", missing)
    shares = np.bincount(votes.outcome, minlength=3) / len(votes)
    return Estimate.from_votes(
        "preference",
        percent_interval(*_by_context(votes, votes.outcome != ORIGINAL_BETTER)),
        len(votes),
        signature=signature,
        preferred=100 * float(shares[MODEL_BETTER]),
        equal=100 * float(shares[EQUAL]),
    )


def _average(votes: Votes, sources: Sequence[str], signature: str) -> Estimate:
    """Unweighted mean over the sources; contexts are resampled within each.

    Where no resample differs, such as without a single hit, the interval is the exact binomial one of as many contexts
    as the smallest source has, in each (`percent_interval`).
    """
    means, drawn, sizes = [], [], []
    for number, source in enumerate(sources):
        rows = votes.select(source=source)
        if missing := too_few(rows):
            return Estimate.missing("preference", f"{source}: {missing}")
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
    interval = Interval(mean, float(low), float(high), votes.context_count, method)
    return Estimate.from_votes("preference", interval, len(votes), signature=signature)


def _paired(recipe: Recipe, scenario: int, votes: Votes) -> list[PairedTest]:
    """Differences between models on the contexts that both have, A minus B, with p-values that hold together."""
    models = recipe.study.models
    shares = {name: _shares(votes, name, scenario) for name in models}
    tests: list[PairedTest] = []
    for a, b in combinations(models, 2):
        common = sorted(shares[a].keys() & shares[b].keys())
        if len(common) < 2:
            tests.append(PairedTest(a, b, unavailable=f"{len(common)} contexts with annotations of both"))
            continue
        values = [np.array([shares[name][context] for context in common]) for name in (a, b)]
        result = paired_test(values[0], values[1], largest=100)
        tests.append(PairedTest(a, b, result, recipe.sign("preference(a-b)", scn=scenario)))
    together = iter(holm([test.result.p_value for test in tests if test.result]))
    return [replace(test, p_holm=next(together)) if test.result else test for test in tests]


def _shares(votes: Votes, name: str, scenario: int) -> dict[str, float]:
    """Percent preferred or equal on each context."""
    counts = votes.table()
    return {
        pair.context: 100 * (1 - row[ORIGINAL_BETTER] / row.sum())
        for pair, row in zip(votes.pairs, counts, strict=True)
        if pair.other == name and pair.scenario == scenario and row.sum()
    }


def _by_context(votes: Votes, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return votes.by_context(hits), votes.by_context(np.ones(len(votes)))
