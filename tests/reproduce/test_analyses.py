"""The analyses' own formulas: by hand, and against a plain computation."""

from random import Random

import numpy as np
import pytest
import torch

from hyperfit_eval.metrics.calibration import calibration_error, reliability
from hyperfit_eval.reproduce.experiments.beyond_dimensions import participation_ratios
from hyperfit_eval.reproduce.experiments.beyond_sharpening import mean_entropies
from hyperfit_eval.reproduce.experiments.figure5 import agreement
from hyperfit_eval.reproduce.experiments.table8 import by_label, stratified


def test_reliability_by_hand():
    confidence = np.array([[0.9, 0.2], [0.8, 0.1]])
    right = np.array([[True, False], [False, True]])
    mean, share, weight = reliability(confidence, right, bins=2)
    np.testing.assert_allclose(mean, [0.15, 0.85])
    np.testing.assert_allclose(share, [0.5, 0.5])
    np.testing.assert_allclose(weight, [0.5, 0.5])
    # Expected calibration error: 0.5 * 0.35 + 0.5 * 0.35.
    assert (weight * np.abs(mean - share)).sum() == pytest.approx(0.35)
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0.35)


def test_a_calibrated_model_has_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    mean, share, weight = reliability(confidence, rng.random(200_000) < confidence)
    assert len(weight) == 15
    assert (weight * np.abs(mean - share)).sum() < 0.01


def test_agreement():
    first, second = np.array([[1, 2, 3, 4], [1, 1, 1, 1]]), np.array([[1, 2, 0, 0], [1, 1, 1, 1]])
    assert agreement(first, second).tolist() == [50, 100]


def test_entropy_at_a_temperature(tiny_model):
    rows = [[3, 9, 4, 7, 1], [5, 5, 2, 8, 6]]
    got = mean_entropies(tiny_model, rows, [0], np.array([0.5, 1.0, 2.0]), batch_size=1)
    with torch.inference_mode():
        logits = tiny_model(torch.tensor([[0, *row[:-1]] for row in rows])).logits.double()
    for value, temperature in zip(got, (0.5, 1.0, 2.0), strict=True):
        p = torch.softmax(logits / temperature, -1)
        assert value == pytest.approx(float(-(p * p.log2()).sum(-1).mean()), rel=1e-5)
    assert got[0] < got[1] < got[2]


def test_participation_ratio_against_eigenvalues(tiny_model):
    rows = torch.randint(1, 50, (3, 20), generator=torch.Generator().manual_seed(0)).tolist()
    got = participation_ratios(tiny_model, rows, [0], batch_size=2)
    with torch.inference_mode():
        ids = torch.tensor([[0, *row] for row in rows])
        states = tiny_model(input_ids=ids, output_hidden_states=True).hidden_states
    for value, state in zip(got, states, strict=True):
        flat = state[:, 1:].flatten(0, 1).double().numpy()
        eigenvalues = np.linalg.eigvalsh(np.cov(flat.T, bias=True))
        assert value == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-6)
    assert len(got) == tiny_model.config.num_hidden_layers + 1


def test_examples_follow_the_labels():
    docs = [{"label": label, "text": str(i)} for i, label in enumerate("a" * 60 + "b" * 30 + "c" * 10)]
    random = Random(0)
    drawn = [stratified(by_label(docs), 4, random, but=docs[0]) for _ in range(3000)]
    assert all(len(prompt) == 4 == len({doc["text"] for doc in prompt}) for prompt in drawn)
    assert not any(doc is docs[0] for prompt in drawn for doc in prompt)
    # 4 x 0.6 = 2.4, 4 x 0.3 = 1.2, 4 x 0.1 = 0.4: at least two of a and one of b in every prompt.
    labels = [[doc["label"] for doc in prompt] for prompt in drawn]
    assert all(prompt.count("a") >= 2 and prompt.count("b") >= 1 for prompt in labels)
    share = sum(prompt.count("c") for prompt in labels) / (4 * len(labels))
    assert share == pytest.approx(0.1, abs=0.01)
