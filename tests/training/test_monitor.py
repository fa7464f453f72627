"""Evaluation during training, its history file and its figure."""

import numpy as np
import pytest
import torch

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.monitor import Evaluation, Monitor, mean_ttr, read_history, write_history
from hyperfit_eval.training.plot import plot_history


@pytest.fixture
def blocks():
    return np.random.default_rng(0).integers(2, 50, (5, 140))


def test_predictions_by_hand(tiny_model, blocks):
    found = Monitor(None, blocks, [0], [0], batch_size=2).predictions(tiny_model, blocks)
    ids = torch.cat([torch.zeros(5, 1, dtype=torch.int64), torch.from_numpy(blocks)], dim=1)
    with torch.inference_mode():
        out = tiny_model(ids, labels=ids)
    probabilities = out.logits[:, :-1].softmax(-1)
    assert found.loss == pytest.approx(out.loss.item(), rel=1e-5)
    assert found.accuracy == pytest.approx((probabilities.argmax(-1) == ids[:, 1:]).float().mean().item())
    assert found.top1_mass == pytest.approx(probabilities.max(-1).values.mean().item(), rel=1e-5)
    entropy = -(probabilities * probabilities.log2()).sum(-1).mean().item()
    assert found.entropy_bits == pytest.approx(entropy, rel=1e-4)


def test_without_a_prefix_the_first_token_is_no_target(tiny_model, blocks):
    found = Monitor(None, blocks, [], [0]).predictions(tiny_model, blocks)
    ids = torch.from_numpy(blocks)
    with torch.inference_mode():
        assert found.loss == pytest.approx(tiny_model(ids, labels=ids).loss.item(), rel=1e-5)


def test_ttr_is_of_96_tokens_after_32(tiny_model, blocks):
    monitor = Monitor(None, blocks, [0], [0])
    prompts = torch.cat([torch.zeros(5, 1, dtype=torch.int64), torch.from_numpy(blocks[:, :32])], dim=1)
    with torch.inference_mode():
        out = tiny_model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=96, min_new_tokens=96, do_sample=False
        )
    expected = np.mean([len(set(row)) / 96 for row in out[:, 33:].tolist()])
    assert monitor.ttr(tiny_model) == pytest.approx(expected)
    assert monitor.original_ttr == pytest.approx(np.mean([len(set(row)) / 96 for row in blocks[:, 32:128].tolist()]))
    assert mean_ttr([]) is None


def test_the_history_is_written_at_each_row_and_read_back(tmp_path, tiny_model, blocks):
    path = tmp_path / "history.jsonl"
    monitor = Monitor(path, blocks, [0], [0])
    first = monitor.evaluate(tiny_model, 0, 0.0, None, 0)
    assert read_history(path) == ([first], monitor.original_ttr)
    second = monitor.evaluate(tiny_model, 7, 1.0, 2.5, 56)
    assert read_history(path)[0] == [first, second] == monitor.history
    assert (second.train_loss, second.train_blocks, second.validation_loss) == (2.5, 56, first.validation_loss)


def test_without_validation_blocks_only_training_is_recorded(tiny_model):
    row = Monitor(None, np.empty((0, 140), dtype=np.int64), [0], [0]).evaluate(tiny_model, 1, 0.5, 3.0, 8)
    assert (row.train_loss, row.validation_loss, row.validation_accuracy, row.ttr) == (3.0, None, None, None)


def test_a_damaged_history_is_refused(tmp_path):
    path = tmp_path / "history.jsonl"
    row = Evaluation(1, 1.0, 2.0, 8, 3.0, 0.3, 4.0, 0.2, 0.5, 0.1)
    write_history(path, [row, row], 0.7)
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(HyperfitError, match="line 3: 1 rows of 2, the file is cut off"):
        read_history(path)
    path.write_text(whole.replace('"ttr": 0.5', '"ttr": "high"', 1))
    with pytest.raises(HyperfitError, match="line 2: field 'ttr' is 'high', expected int or float or NoneType"):
        read_history(path)


def test_the_figure_is_drawn_of_any_history(tmp_path):
    rows = [
        Evaluation(0, 0.0, None, 0, 4.0, 0.3, 6.0, 0.2, 0.1, 0.1),
        Evaluation(8, 1.0, 3.0, 64, 4.5, 0.3, 5.0, 0.3, 0.6, 0.1),
    ]
    plot_history(tmp_path / "history.png", rows, 0.7)
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    plot_history(tmp_path / "history.svg", [Evaluation(8, 1.0, 3.0, 64, None, None, None, None, None, 0.0)])
    assert "<svg" in (tmp_path / "history.svg").read_text()
