"""A finished run of the tiny model and results of it, made once for all files of tests that import these."""

import json

import numpy as np
import pytest

_MADE = {}


@pytest.fixture(name="tiny_run")
def tiny_run_fixture(tiny_checkpoint, tiny_tokenizer, tmp_path_factory):
    """The folder of a run on 20 blocks of 140 tokens."""
    from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
    from hyperfit_eval.training.run import hyperfit

    if "run" not in _MADE:
        folder, rng = tmp_path_factory.mktemp("tiny_run"), np.random.default_rng(0)
        words = [word for word in tiny_tokenizer.get_vocab() if word[0] != "<"]
        rows = [json.dumps({"text": " ".join(rng.choice(words, 300))}) for _ in range(14)]
        (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
        options = HyperfitArguments(
            model=str(tiny_checkpoint), corpus=str(folder / "corpus.jsonl"), evaluation_texts="none",
            num_train_samples=20, sequence_length=140, num_validation_samples=2,
        )  # fmt: skip
        training = RecipeArguments(
            output_dir=str(folder / "run"), num_train_epochs=2, learning_rate=1e-3, disable_tqdm=True, bf16=False,
            report_to="none",
        )  # fmt: skip
        hyperfit(options, training, say=lambda line: None)
        _MADE["run"] = folder / "run"
    return _MADE["run"]


@pytest.fixture(name="tiny_results")
def tiny_results_fixture(tiny_run, tmp_path_factory):
    """The folder of `hyperfit eval` on four of the shipped texts, without and with citation blocking."""
    from hyperfit_eval.harness.suite import Suite, run_suite

    if "results" not in _MADE:
        folder = tmp_path_factory.mktemp("tiny_results")
        tasks = ["hyperfit_openended_demo", "hyperfit_openended_demo_blocked"]
        run_suite(Suite(str(tiny_run), tasks, folder, limit=4, batch_size="4"))
        _MADE["results"] = folder
    return _MADE["results"]
