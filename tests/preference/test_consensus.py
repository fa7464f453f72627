"""Figure 9 left: TTR by what all annotators said."""

import dataclasses

import numpy as np
import preference_study as invented
import pytest
from preference_study import votes_of
from scipy import stats

from hyperfit_eval.preference.consensus import BAD, GOOD, SPLIT, draw_consensus, ttr_consensus
from hyperfit_eval.preference.estimates import tables


def test_ttr_against_consensus_by_hand():
    study = invented.study(models=("base",), contexts=5, scenarios=[256])
    votes = votes_of(
        study,
        {
            0: ["model", "equal", "equal"], 1: ["original"] * 3, 2: ["model"] * 3,
            3: ["original", "original", "equal"], 4: ["original"] * 2,
        },
    )  # fmt: skip
    ttr = [100 * pair.ttr for pair in study.pairs]
    result = ttr_consensus(votes, 3)
    assert result.groups[GOOD].values == sorted([ttr[0], ttr[2]])
    assert result.groups[BAD].values == [ttr[1]]
    assert result.groups[SPLIT].values == [ttr[3]]  # the fifth pair has two annotations
    good = result.groups[GOOD]
    assert (good.n, good.contexts, good.mean) == (2, 2, pytest.approx((ttr[0] + ttr[2]) / 2))
    assert good.low <= good.mean <= good.high
    bad = result.groups[BAD]
    assert (bad.mean, bad.low, bad.method) == (pytest.approx(ttr[1]), None, None)  # of one context
    expected = np.mean([0.5 if ttr[i] == ttr[1] else float(ttr[i] > ttr[1]) for i in (0, 2)])
    assert result.auc.mean == pytest.approx(100 * expected)


def test_ttr_that_decides_is_seen():
    """Annotators who go by TTR alone: what they all like has the higher one, beyond the intervals."""
    study = invented.study(models=("base", "hyper"), contexts=60, scenarios=[256])
    ttr = np.random.default_rng(0).uniform(0.2, 0.8, len(study.pairs))
    study = dataclasses.replace(
        study, pairs=[dataclasses.replace(pair, ttr=value) for pair, value in zip(study.pairs, ttr, strict=True)]
    )
    said = {i: ["model" if value > 0.5 else "original"] * 3 for i, value in enumerate(ttr)}
    said[0] = ["model", "original", "equal"]
    result = tables(study, votes_of(study, said), by="human", checks="kept", ratings=3).ttr_consensus["256"]
    assert result.groups[GOOD].low > 50 > result.groups[BAD].high
    assert result.auc.mean == result.auc.low == 100 and result.groups[SPLIT].n == 1
    assert result.signature.startswith("ttr(consensus)|by:human|ann:3|checks:kept|win:96|scn:256|ctx:32|clean:1|")
    # 120 texts over 60 contexts: the contexts are drawn, so the two texts of one come together.
    group = ttr_consensus(votes_of(study, {i: ["model"] * 3 for i in range(120)}), 3).groups[GOOD]
    assert (group.n, group.contexts) == (120, 60) and group.method == "cluster-t|conf:0.95"
    assert group.low < 100 * ttr.mean() < group.high
    # One text a context: the interval of a mean, as in any textbook.
    once = ttr_consensus(votes_of(study, {i: ["model"] * 3 for i in first_of_each_context(study)}), 3).groups[GOOD]
    expected = stats.ttest_1samp(once.values, 0).confidence_interval(0.95)
    assert (once.low, once.high) == pytest.approx((expected.low, expected.high))


def first_of_each_context(study):
    """Numbers of the first pair of each context."""
    return list({pair.context: number for number, pair in reversed(list(enumerate(study.pairs)))}.values())


def test_an_empty_group_is_drawn_as_such():
    from matplotlib.figure import Figure

    study = invented.study(models=("base",), contexts=3, scenarios=[256])
    axes = Figure().subplots()
    draw_consensus(axes, ttr_consensus(votes_of(study, {0: ["original"] * 3}), 3))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["original\npreferred\n(n = 1)", "no\nconsensus\n(n = 0)", "preferred\nor equal\n(n = 0)"]
