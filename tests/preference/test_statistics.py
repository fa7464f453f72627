"""Estimates of a study: by hand, against reference implementations, and on annotators with known preferences."""

import dataclasses
import json
import random

import numpy as np
import preference_study as invented
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.agreement import (
    agreement_with_humans,
    alpha_interval,
    fleiss_kappa,
    kappa_interval,
    krippendorff_alpha,
)
from hyperfit_eval.preference.analysis import (
    analyze,
    preference_columns,
    preference_consensus,
)
from hyperfit_eval.preference.annotators import annotator_rows
from hyperfit_eval.preference.consensus import GOOD
from hyperfit_eval.preference.estimates import tables
from hyperfit_eval.preference.ranking import bradley_terry
from hyperfit_eval.preference.store import Answer, Store
from hyperfit_eval.preference.study import ORIGINAL
from hyperfit_eval.preference.votes import (
    EQUAL,
    MODEL_BETTER,
    ORIGINAL_BETTER,
    Vote,
    Votes,
    bca,
    draws,
    percent_interval,
)


def simulated(study, preferences, **settings):
    pairs = [pair for pair in study.pairs if not pair.is_check]
    return Votes.of(study, [Vote(*row) for row in invented.simulate(pairs, preferences, **settings)])


def test_percentages_by_hand():
    study = invented.study(models=("base",), contexts=2, scenarios=[256])
    said = {0: ["model", "equal", "original"], 1: ["original", "original", "equal"]}
    votes = invented.votes_of(study, said)
    assert votes.outcome.tolist() == [MODEL_BETTER, EQUAL, ORIGINAL_BETTER, ORIGINAL_BETTER, ORIGINAL_BETTER, EQUAL]
    result = tables(study, votes, by="human", checks="kept", ratings=3)
    entry = result.preference["base"]["256"]["all"]
    assert (entry.value, entry.preferred, entry.equal) == pytest.approx((50, 100 / 6, 100 / 3))
    assert (entry.n, entry.annotations, entry.unit) == (2, 6, "%")
    assert entry.signature.startswith("preference|by:human|ann:3|checks:kept|scn:256|src:all|dec:greedy|block:none|")
    assert result.preference["base"]["256"]["average"].value == pytest.approx(50)
    assert (result.pairs, result.complete_pairs, result.annotators) == (2, 2, 3)


def test_average_weighs_sources_alike():
    study = invented.study(models=("base",), contexts=4, sources=("fiction", "news"), scenarios=[256])
    pairs = [pair for pair in study.pairs if not pair.is_check]
    said = {}
    for number, pair in enumerate(pairs):  # more annotations of the news, which are all lost
        said[number] = ["original"] * 3 if pair.source == "news" else ["model"]
    table = tables(study, invented.votes_of(study, said), by="human", checks="kept", ratings=3).preference["base"][
        "256"
    ]
    assert table["all"].value == pytest.approx(25)
    assert table["average"].value == pytest.approx(50)
    assert (table["fiction"].value, table["news"].value) == (100, 0)
    # No resample differs; four contexts still cannot exclude 60%. (The exact binomial limits, here in closed form.)
    assert table["news"].low == 0 and table["news"].high == pytest.approx(100 * (1 - 0.025**0.25))
    assert table["fiction"].high == 100 and table["fiction"].low == pytest.approx(100 * 0.025**0.25)


def test_average_of_sources_that_were_all_lost():
    """Eight contexts without a hit cannot exclude a third, whatever a bootstrap of zeros says."""
    study = invented.study(models=("base",), contexts=4, sources=("fiction", "news"), scenarios=[256])
    lost = invented.votes_of(study, {number: ["original"] * 3 for number in range(8)})
    entry = tables(study, lost, by="human", checks="kept", ratings=3).preference["base"]["256"]["average"]
    assert (entry.value, entry.low, entry.n) == (0, 0, 8)
    assert entry.high == pytest.approx(100 * (1 - 0.025 ** (1 / 8))) and entry.method == "exact|conf:0.95"


def test_intervals_resample_contexts_and_not_annotations():
    """Three annotators who always agree are no more evidence than one."""
    study = invented.study(models=("base",), contexts=60, scenarios=[128])
    outcomes = ["model" if number % 3 else "original" for number in range(60)]
    once = invented.votes_of(study, {number: [said] for number, said in enumerate(outcomes)})
    thrice = invented.votes_of(study, {number: [said] * 3 for number, said in enumerate(outcomes)})
    intervals = []
    for votes in (once, thrice):
        hits = votes.by_context(votes.outcome != ORIGINAL_BETTER)
        intervals.append(percent_interval(hits, votes.by_context(np.ones(len(votes)))))
    assert intervals[0] == intervals[1]


def test_bca_is_scipys():
    from scipy import stats

    values = np.random.default_rng(0).exponential(size=40)
    resampled = draws(40, 20000) @ values / 40
    left_out = (values.sum() - values) / 39
    low, high = bca(values.mean(), resampled, left_out, 0.95)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1))
    assert [low, high] == pytest.approx(list(expected.confidence_interval), abs=0.02)


def test_agreement_by_hand():
    # Four units, two raters: three agree. Coincidences: aa 4, bb 2, ab 1, ba 1; n = 8, n_a = 5, n_b = 3.
    assert krippendorff_alpha(np.array([[2, 0], [0, 2], [1, 1], [2, 0]])) == pytest.approx(1 - 7 * 2 / (2 * 5 * 3))
    # Units agree in 1, 1, 1/3, 1/3 of their pairs; both categories have half: (2/3 - 1/2) / (1 - 1/2).
    assert fleiss_kappa(np.array([[3, 0], [0, 3], [2, 1], [1, 2]])) == pytest.approx(1 / 3)
    assert np.isnan(krippendorff_alpha(np.array([[2, 0], [3, 0]])))
    assert np.isnan(krippendorff_alpha(np.array([[1, 0], [0, 1]])))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=12))
def test_alpha_is_the_krippendorff_packages(counts):
    reference = pytest.importorskip("krippendorff", reason="pip install krippendorff: the reference of this test")
    counts = np.array(counts)
    ours = krippendorff_alpha(counts)
    rated = counts[counts.sum(axis=1) > 1]
    if (rated.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(reference.alpha(value_counts=counts, level_of_measurement="nominal"), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=12))
def test_kappa_is_statsmodels(ratings):
    inter_rater = pytest.importorskip(
        "statsmodels.stats.inter_rater", reason="pip install statsmodels: the reference of this test"
    )
    counts = np.stack([np.bincount(row, minlength=3) for row in ratings])
    if (counts.sum(axis=0) > 0).sum() > 1:
        assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)


def test_agreement_intervals():
    study = invented.study(models=("base",), contexts=40, scenarios=[128])
    votes = simulated(study, {"base": (0.4, 0.2)}, spread=0.4)
    alpha, kappa = alpha_interval(votes), kappa_interval(votes, 3)
    assert alpha.value == pytest.approx(krippendorff_alpha(votes.table()))
    assert kappa.value == pytest.approx(fleiss_kappa(votes.table()))
    assert alpha.low < alpha.value < alpha.high and kappa.low < kappa.value < kappa.high
    assert alpha_interval(votes.where(votes.by == 0)).unavailable.startswith("no pair was annotated twice")
    assert kappa_interval(votes.where(votes.by < 2), 3).unavailable == "no pair has 3 annotations"


def test_one_context_gives_agreement_no_interval():
    study = invented.study(models=("base", "hyper"), contexts=1, scenarios=[128, 256])
    votes = invented.votes_of(study, {0: ["model"] * 3, 1: ["original", "original", "equal"], 2: ["equal"] * 3})
    result = tables(study, votes, by="human", checks="kept", ratings=3)
    assert result.agreement["krippendorff_alpha"].to_json() == {
        "unavailable": "1 context with a pair annotated twice, an interval needs 2"
    }
    assert result.agreement["fleiss_kappa"].to_json() == {
        "unavailable": "1 context with a pair that has 3 annotations, an interval needs 2"
    }


def test_models_that_differ_alike_on_all_contexts():
    """Eight contexts without a gap cannot exclude one in a third of all others, which may be 100 points each."""
    study = invented.study(contexts=8, scenarios=[256])
    pairs = [pair for pair in study.pairs if not pair.is_check]
    share = 1 - 0.025 ** (1 / 8)
    lost = ["original"] * 3
    for hyper, gap in ((lost, 0), (["model"] * 3, -100), (["model", "original", "original"], -100 / 3)):
        said = {"base": lost, "hyper": hyper}
        votes = invented.votes_of(study, {number: said[pair.other] for number, pair in enumerate(pairs)})
        (test,) = tables(study, votes, by="human", checks="kept", ratings=3).paired_tests["256"]
        assert test.result.difference == pytest.approx(gap)
        assert test.result.low == pytest.approx((1 - share) * gap - share * 100)
        assert test.result.high == pytest.approx((1 - share) * gap + share * 100)
        assert test.result.method == "sign-flip+exact|B:2000|seed:0|conf:0.95"


def test_bradley_terry_is_the_choix_packages():
    reference = pytest.importorskip("choix", reason="pip install choix: the reference of this test")
    study = invented.study(models=("a", "b", "c"), contexts=20, scenarios=[128])
    votes = simulated(study, {"a": (0.1, 0.1), "b": (0.3, 0.3), "c": (0.6, 0.2)})
    result = bradley_terry(votes)
    names = ["a", "b", "c", ORIGINAL]
    wins = np.zeros((4, 4))
    for i, name in enumerate(names[:3]):
        outcome = votes.select(other=name).outcome
        won = (outcome == MODEL_BETTER).sum() + (outcome == EQUAL).sum() / 2 + 0.5  # and the added tie
        wins[i, 3], wins[3, i] = won, len(outcome) + 1 - won
    strengths = {row.name: row.strength for row in result.rows}
    fitted = reference.ilsr_pairwise_dense(wins, tol=1e-12)
    assert [strengths[name] for name in names] == pytest.approx((fitted - fitted[3]).tolist(), abs=1e-12)
    assert [row.name for row in result.rows] == ["c", ORIGINAL, "b", "a"]
    for row in result.rows:
        assert row.low <= row.strength <= row.high
        assert row.rank_low <= row.rank <= row.rank_high
    lost = bradley_terry(invented.votes_of(study, {0: ["original"] * 3, 1: ["original"] * 3}))
    assert np.isfinite([row.strength for row in lost.rows]).all()


def test_first_position_rate():
    study = invented.study(models=("base", "hyper"), contexts=100, scenarios=[128], seed=4)
    preferences = {"base": (0.1, 0.1), "hyper": (0.5, 0.2)}
    fair, biased = (
        tables(study, simulated(study, preferences, first_bias=bias, seed=5), by="human", checks="kept", ratings=3)
        for bias in (0.0, 0.3)
    )
    fair, biased = fair.agreement["first_position"], biased.agreement["first_position"]
    assert fair.low < 50 < fair.high and biased.low > 50
    # 30% always click the first; the rest prefers a side in 85%, either place as often.
    assert biased.value == pytest.approx(100 * (0.3 + 0.7 * 0.85 / 2) / (0.3 + 0.7 * 0.85), abs=6)
    assert biased.by_order["original"] > biased.by_order["model"]  # originals are better
    assert biased.value == pytest.approx(sum(biased.by_order.values()) / 2)


def test_first_position_rate_does_not_depend_on_how_the_coin_fell():
    """Originals always win and stand second in most pairs: no bias, though "first" is rarely chosen."""
    study = invented.study(models=("base",), contexts=40, scenarios=[128])
    pairs = [dataclasses.replace(pair, original_first=number < 8) for number, pair in enumerate(study.pairs)]
    study = dataclasses.replace(study, pairs=pairs)
    votes = invented.votes_of(study, {number: ["original", "original", "equal"] for number in range(40)})
    rate = tables(study, votes, by="human", checks="kept", ratings=3).agreement["first_position"]
    assert (rate.value, rate.raw) == (50, 20)


def test_simulated_annotators_are_recovered():
    study = invented.study(models=("base", "hyper"), contexts=150, sources=("fiction", "news"), scenarios=[128, 256])
    preferences = {"base": (0.1, 0.1), "hyper": (0.35, 0.2)}
    votes = simulated(study, preferences, spread=0.1)
    result = tables(study, votes, by="human", checks="kept", ratings=3)
    for model, (preferred, equal) in preferences.items():
        for length in ("128", "256"):
            entry = result.preference[model][length]["all"]
            assert entry.value == pytest.approx(100 * (preferred + equal), abs=5)
            assert entry.preferred == pytest.approx(100 * preferred, abs=5)
        strength = next(row for row in result.bradley_terry["all"].rows if row.name == model).strength
        odds = preferred + equal / 2
        assert strength == pytest.approx(np.log(odds / (1 - odds)), abs=0.25)
    assert [row.name for row in result.bradley_terry["256"].rows] == [ORIGINAL, "hyper", "base"]
    (test,) = result.paired_tests["256"]
    assert test.result.difference == pytest.approx(-35, abs=6) and test.p_holm < 0.01
    assert result.agreement["krippendorff_alpha"].value > 0


@pytest.mark.parametrize(("contexts", "share", "spread"), [(60, 0.35, 0.3), (300, 0.1, 0.1)])
def test_intervals_cover_at_the_stated_rate(contexts, share, spread):
    """95% of the studies, give or take three standard deviations of 200 of them."""
    assert 90.5 <= invented.coverage(contexts, share, spread, studies=200, resamples=500)[0] <= 99.5


def test_agreement_of_judge_and_people():
    study = invented.study(models=("base",), contexts=4, scenarios=[128])
    human = invented.votes_of(
        study,
        {0: ["model"] * 3, 1: ["original", "original", "equal"], 2: ["model", "original", "equal"], 3: ["equal"] * 2},
    )
    judge = invented.votes_of(study, {0: ["model"], 1: ["equal"], 2: ["model"]})
    result = agreement_with_humans(study, judge, human, "m")
    assert (result.pairs, result.majority_pairs, result.with_majority.value) == (3, 2, 50)
    assert result.with_annotator.value == pytest.approx(100 * 5 / 9)
    assert result.between_annotators.value == pytest.approx(100 * (6 + 2 + 0) / 18)
    assert result.with_annotator.low < result.with_annotator.value < result.with_annotator.high
    counts = {
        name: getattr(result, name).annotations for name in ("with_majority", "with_annotator", "between_annotators")
    }
    assert counts == {"with_majority": 6, "with_annotator": 9, "between_annotators": 9}
    # Model and model, equal and original: coincidences mm 2, eo 1, oe 1; n = 4, n_m = 2, n_e = n_o = 1.
    alpha = result.alpha
    assert alpha.value == pytest.approx(1 - 3 * 2 / (16 - 6)) and (alpha.n, alpha.annotations) == (2, 6)
    for what, name in (("majority", "with_majority"), ("alpha", "alpha"), ("people", "between_annotators")):
        assert getattr(result, name).signature.startswith(f"agreement({what})|by:judge:m|ann:3|checks:removed|")
    nothing = agreement_with_humans(study, invented.votes_of(study, {}), human, "m")
    assert nothing.with_majority.unavailable == "0 contexts that both judged, an interval needs 2"
    assert not nothing.alpha.available


def test_attention_checks():
    study = invented.study(contexts=10, check_rate=0.3)
    checks = [pair for pair in study.pairs if pair.is_check][:10]
    answers = [
        Answer(pair.id, annotator, invented.choice_of(pair, outcome), None, 0.0)
        for annotator, wrong in ((1, 2), (2, 3))
        for pair, outcome in zip(checks, ["equal"] * wrong + ["original"] * (10 - wrong), strict=True)
    ]
    rows = annotator_rows(study, answers)
    assert [(row.checks, row.checks_failed, row.attentive) for row in rows] == [(10, 2, True), (10, 3, False)]


@pytest.fixture
def annotated(tmp_path):
    """A study that three attentive people and one who clicks at random have finished."""
    folder = tmp_path / "study"
    study = invented.written(folder, contexts=6, sources=("fiction", "news"), check_rate=0.15, annotations=4)
    store = Store(folder, study)
    pairs = study.by_id
    for number in range(4):
        person = store.annotator(store.add_annotator(f"person {number}")).id
        while identifier := store.next(person).pair:
            pair = pairs[identifier]
            model = {"base": 0.1, "hyper": 0.6, "shuffled": 0.0}[pair.other] if number else 0.5
            # The store draws in another order each time: an answer may depend on person and pair alone.
            chance = random.Random(f"{number} {pair.other} {pair.context} {pair.scenario}").random()
            outcome = "model" if chance < model else "original"
            store.answer(person, identifier, invented.choice_of(pair, outcome), seconds=1.0)
    store.close()
    return folder


def test_command(annotated):
    result = CliRunner().invoke(app, ["preference", str(annotated)])
    assert result.exit_code == 0, result.output
    assert "people who passed the attention checks: 144 judgements of 48 pairs" in result.output
    document = json.loads((annotated / "preference.json").read_text())
    human = document["human"]
    assert [row["attentive"] for row in human["annotators"]] == [False, True, True, True]
    assert (human["all"]["annotators"], human["attentive"]["annotators"]) == (4, 3)
    assert human["all"]["complete_pairs"] == 48
    columns = preference_columns(annotated / "preference.json")
    ends = ("at_128", "at_256", "fiction", "news", "average")
    assert list(columns["hyper"]) == [f"preference_{end}" for end in ends]
    assert columns["hyper"]["preference_news"].signature.count("|scn:256|src:news|") == 1
    assert columns["hyper"]["preference_at_256"].to_json() == human["attentive"]["preference"]["hyper"]["256"]["all"]
    assert human["all"]["preference"] != human["attentive"]["preference"]
    text = (annotated / "preference.md").read_text()
    assert "4 annotators; 1 failed more than 20%" in text and "### With them (192 annotations by 4)" in text
    assert not (annotated / "ttr_consensus.png").exists()  # without the fourth no pair has all its annotations
    assert f"signature: {human['attentive']['signature']}" in result.output and "|checks:removed|" in result.output
    assert document["versions"]["scipy"] and len(human["answers"]) == 16
    for entries in (human["all"]["paired_tests"]["256"], [human["all"]["bradley_terry"]["all"]]):
        assert all("|study:" in entry["signature"] and "|seed:0|" in entry["method"] for entry in entries)
    CliRunner().invoke(app, ["preference", str(annotated), "--max-failed", "1", "--out", f"{annotated}/all"])
    assert "![TTR of texts in consensus](ttr_consensus.png)" in (annotated / "all" / "preference.md").read_text()
    assert (annotated / "all" / "ttr_consensus.png").stat().st_size > 10_000
    consensus = preference_consensus(annotated / "all" / "preference.json")
    assert consensus["256"].groups[GOOD].n and consensus.keys() == {"128", "256"}
    whole = {name: dataclasses.asdict(consensus) for name, consensus in preference_consensus(annotated).items()}
    assert whole == human["attentive"]["ttr_consensus"]
    assert preference_consensus(annotated) == preference_consensus(annotated / "preference.json")


def test_refused(tmp_path):
    invented.written(tmp_path / "study")
    with pytest.raises(HyperfitError, match=r"nothing was judged yet; run `hyperfit annotate .*` or `hyperfit judge"):
        analyze(tmp_path / "study")
    with pytest.raises(HyperfitError, match="--max-failed 2: expected a share from 0 to 1"):
        analyze(tmp_path / "study", max_failed=2)
    with pytest.raises(HyperfitError, match="no study there"):
        analyze(tmp_path)
