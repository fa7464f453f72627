"""F1 and MCC standard errors: the bootstrap of lm-eval, without its cost."""

import numpy as np
import pytest
from lm_eval.api.metrics import _bootstrap_internal_no_mp, f1_score, matthews_corrcoef
from sklearn import metrics as sklearn_metrics

from hyperfit_eval.harness import stderr


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 150)
    return list(zip(gold.tolist(), np.where(rng.random(150) < 0.8, gold, 1 - gold).tolist(), strict=True))


def test_two_pairs_by_hand():
    # Resamples of {(1,1), (0,1)}: F1 is 1 with both draws (1,1), 0 with both (0,1), else 2/3:
    # probabilities 1/4, 1/4, 1/2; mean 7/12, variance 1/4 + 2/9 - 49/144 = 19/144.
    assert stderr.f1_stderr([(1, 1), (0, 1)]) == pytest.approx((19 / 144) ** 0.5, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [(stderr.f1_stderr, f1_score), (stderr.mcc_stderr, matthews_corrcoef)])
def test_same_as_the_bootstrap_of_lm_eval(pairs, ours, theirs):
    resampled = _bootstrap_internal_no_mp(theirs, pairs, 800)
    # The standard error of a standard deviation from B resamples is about 1 / sqrt(2 B) of it: 2.5%.
    assert ours(pairs) == pytest.approx(np.std(resampled, ddof=1), rel=0.1)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("cells", [(3, 0, 0, 0), (0, 0, 0, 4), (0, 5, 0, 0), (2, 0, 3, 0), (1, 2, 3, 4)])
def test_degenerate_confusion_matrices_score_as_in_scikit_learn(monkeypatch, cells):
    labels = [(0, 0)] * cells[0] + [(0, 1)] * cells[1] + [(1, 0)] * cells[2] + [(1, 1)] * cells[3]
    gold, predicted = zip(*labels, strict=True)
    doubled = np.array([cells, (1, 2, 3, 4)], dtype=float).T
    monkeypatch.setattr(stderr, "_resample", lambda *_: doubled)
    # Two "resamples", the second known: their standard deviation gives the first back.
    known_f1, known_mcc = 8 / 13, (4 - 6) / (6 * 7 * 3 * 4) ** 0.5
    f1 = sklearn_metrics.f1_score(gold, predicted, zero_division=0.0)
    mcc = sklearn_metrics.matthews_corrcoef(gold, predicted)
    assert stderr.f1_stderr(labels, resamples=2) == pytest.approx(abs(f1 - known_f1) / 2**0.5)
    assert stderr.mcc_stderr(labels, resamples=2) == pytest.approx(abs(mcc - known_mcc) / 2**0.5)


def test_other_labels_are_refused(pairs):
    with pytest.raises(ValueError, match="labels up to 2, only 0 and 1 were expected"):
        stderr.f1_stderr([*pairs, (2, 1)])
